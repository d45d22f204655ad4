//! Growth at full speed, from 32 MiB to 512 MiB: under the agent, between limits of 32 MiB and 768 MiB, and without any limit,
//! in turns. Once by touching page after page, once by having the kernel populate 4 MiB at a time, which grows several
//! times as fast. The agent has its default law. The time is the grower's own; a kill is what the agent says of the end.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use bellows::workload::records::Exit;
use bellows_policies::units::Bytes;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::agent::{Agent, Range, Setup};
use crate::stats::median;
use crate::tree::{self, Place};

/// Runs of each way on each side: 20 under the agent in all.
const RUNS: usize = 10;
const UNLIMITED: &str = "unlimited";

/// One way of growing, on both sides.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Runs under the agent.
    pub(crate) runs: usize,
    /// Of these, ended by the kernel's OOM killer.
    pub(crate) kills: usize,
    /// Seconds of those that survived.
    pub(crate) agent: Vec<f64>,
    /// Seconds without limits.
    pub(crate) unlimited: Vec<f64>,
}

/// Both ways of growing.
#[derive(Debug, Default)]
pub(crate) struct Growths {
    pub(crate) touch: Growth,
    pub(crate) populate: Growth,
}

impl Growth {
    /// How much longer it takes under the agent.
    pub(crate) fn time_ratio(&self) -> f64 {
        median(self.agent.clone()) / median(self.unlimited.clone())
    }
}

/// Measures all runs.
pub(crate) fn measure(place: &Place) -> anyhow::Result<Growths> {
    let mut agent = Agent::start(place, &Setup { name: "growth", config: "", flags: &[] })?;
    place.cgroup.create_child(UNLIMITED)?;
    let mut growths = Growths::default();
    // Not counted: the first run reads the program, and finds the machine's memory as others left it.
    without_limits(place, "touch")?;
    for run in 0..RUNS {
        for (way, growth) in [("touch", &mut growths.touch), ("populate", &mut growths.populate)] {
            growth.unlimited.push(without_limits(place, way)?);
            growth.runs += 1;
            match under_agent(&mut agent, way)? {
                Some(seconds) => growth.agent.push(seconds),
                None => growth.kills += 1,
            }
        }
        eprintln!("bellows-bench: growth: {} of {RUNS} runs", run + 1);
    }
    tree::clear(&place.cgroup, UNLIMITED)?;
    agent.stop()?;
    Ok(growths)
}

fn without_limits(place: &Place, way: &str) -> anyhow::Result<f64> {
    let path = place.cgroup.child(UNLIMITED)?.path().display().to_string();
    // It ends by itself, in seconds; the harness has a deadline for everything.
    let output = Command::new(&place.program)
        .args(["grow", way, &path])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "a grower without limits: {}", output.status);
    seconds(&output.stdout)
}

/// `None` when it was killed.
fn under_agent(agent: &mut Agent<'_>, way: &str) -> anyhow::Result<Option<f64>> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    let (null, stderr) = (std::fs::File::open("/dev/null")?, std::io::stderr());
    let range = Range::of_memory(Bytes::mib(32), Bytes::mib(768))?;
    let stdio = [null.as_fd(), theirs.as_fd(), stderr.as_fd()];
    let (name, id) = agent.launch(range, &["grow", way], stdio)?;
    drop(theirs);
    let ended = agent.wait(id)?;
    match ended.exit {
        Exit::Exited { code: 0 } => {
            let mut text = Vec::new();
            std::fs::File::from(ours).read_to_end(&mut text)?;
            Ok(Some(seconds(&text)?))
        }
        Exit::OutOfMemory | Exit::Signaled { signal: libc::SIGKILL } => {
            eprintln!("bellows-bench: {name}: {}", ended.text);
            Ok(None)
        }
        Exit::Exited { .. } | Exit::Signaled { .. } | Exit::Vanished => bail!("{name}: {}", ended.text),
    }
}

fn seconds(text: &[u8]) -> anyhow::Result<f64> {
    let text = String::from_utf8_lossy(text);
    let nanoseconds: u64 = text.trim().parse().with_context(|| format!("{text:?} is not a time"))?;
    Ok(nanoseconds as f64 / 1e9)
}
