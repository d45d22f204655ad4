//! Generators of breaches, from the outside: started, ordered, and replaced when they have grown too much.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, ensure};
use bellows_policies::units::{Bytes, Instant};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::agent::{Agent, Range};
use crate::floor::Target;
use crate::tree::{self, Place};

/// Limits to begin with: little memory, so that many generators fit.
pub(crate) const FIRST_LIMIT: Bytes = Bytes::mib(8);
/// More than any generator comes to in its life.
pub(crate) const CEILING: Bytes = Bytes::mib(256);
/// How long an answer may take, with both cpus busy.
const ANSWER_DEADLINE_MS: u16 = 20_000;

/// One generator.
#[derive(Debug)]
pub(crate) struct Generator {
    orders: File,
    answers: File,
    /// What its moves are recorded under.
    pub(crate) name: String,
    child: Option<Child>,
    used: usize,
}

/// Both ends of a generator's standard input and output.
struct Pipes {
    orders: OwnedFd,
    answers: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
}

impl Generator {
    /// Starts one as a workload of the agent. The first breach fills what its floor grants.
    pub(crate) fn under_agent(place: &Place, agent: &mut Agent<'_>) -> anyhow::Result<Self> {
        let pipes = Pipes::new()?;
        let range = Range::of_memory(FIRST_LIMIT, CEILING)?;
        let stderr = std::io::stderr();
        let stdio = [pipes.stdin.as_fd(), pipes.stdout.as_fd(), stderr.as_fd()];
        let (name, _) = agent.launch(range, &["breach", &place.own_events], stdio)?;
        Self::warmed(pipes.orders, pipes.answers, name, None)
    }

    /// Starts one in a plain cgroup for the floor, which has to hear it from `warm_up` on.
    pub(crate) fn under_floor(place: &Place, name: &str) -> anyhow::Result<(Self, Target)> {
        let cgroup = place.floor.create_child(name)?;
        let target = Target::new(&cgroup, FIRST_LIMIT)?;
        let pipes = Pipes::new()?;
        let path = cgroup.path().display().to_string();
        let child = Command::new(&place.program)
            .args(["breach", &format!("{path}/memory.events.local"), &path])
            .stdin(pipes.stdin)
            .stdout(pipes.stdout)
            .spawn()
            .context("cannot start a generator")?;
        let generator = Self::warmed(pipes.orders, pipes.answers, name.to_owned(), Some(child))?;
        Ok((generator, target))
    }

    /// The first breach is not counted: it comes after the long way up to the first limit.
    fn warmed(orders: OwnedFd, answers: OwnedFd, name: String, child: Option<Child>) -> anyhow::Result<Self> {
        let mut generator = Self { orders: orders.into(), answers: answers.into(), name, child, used: 0 };
        generator.breach().with_context(|| format!("the first breach of {}", generator.name))?;
        generator.used = 0;
        Ok(generator)
    }

    /// Has it cross its tripwire; returns when it did.
    pub(crate) fn breach(&mut self) -> anyhow::Result<Instant> {
        self.used += 1;
        self.orders.write_all(b"b")?;
        let mut fds = [PollFd::new(self.answers.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(ANSWER_DEADLINE_MS))?;
        ensure!(ready > 0, "{} did not cross its tripwire in time", self.name);
        let mut answer = [0; 8];
        self.answers.read_exact(&mut answer).with_context(|| format!("{} has ended", self.name))?;
        Ok(Instant(u64::from_le_bytes(answer)))
    }

    /// Whether it has `needed` more breaches of `life` left.
    pub(crate) fn has_left(&self, needed: usize, life: usize) -> bool {
        self.used + needed <= life
    }

    /// Ends it: the end of its orders is its own end. The agent clears its workload away by itself.
    pub(crate) fn end(self, place: &Place) -> anyhow::Result<()> {
        drop(self.orders);
        if let Some(mut child) = self.child {
            tree::clear(&place.floor, &self.name)?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Pipes {
    fn new() -> anyhow::Result<Self> {
        let (stdin, orders) = pipe2(OFlag::O_CLOEXEC)?;
        let (answers, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self { orders, answers, stdin, stdout })
    }
}

/// Until a breach has been answered for and forgotten: the agent looks hot for 20 ms, and the kernel tells of one change
/// per file and 10 ms.
pub(crate) const CALM: Duration = Duration::from_millis(40);
