//! What a box costs who lives in it: the memory of its keepers, and the time of a fork and an execution inside.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::agent::Agent;
use crate::cell::Cell;
use crate::stats::Samples;
use crate::threads::field;
use crate::tree::Place;

use super::ways::{PROGRAM, Yard};

/// Boxes whose keepers are looked at; what they share is shared by so many.
const STAY: usize = 16;
/// Forks of one turn of a side, and turns.
const FORKS: usize = 25;
const TURNS: usize = 40;
/// The bars: private memory of a keeper, KiB, and a fork inside against one outside.
const KEEPER_KIB: f64 = 200.0;
const FORK: f64 = 1.02;

/// A program that forks on order.
struct Forker {
    orders: File,
    answers: File,
}

impl Forker {
    /// One turn.
    fn fork(&mut self, samples: &mut Samples) -> anyhow::Result<()> {
        for _ in 0..FORKS {
            self.orders.write_all(b"f")?;
            let mut answer = [0; 8];
            self.answers.read_exact(&mut answer).context("a forking program gave no answer")?;
            samples.push(u64::from_ne_bytes(answer));
        }
        Ok(())
    }
}

/// Measures both.
pub(super) fn measure(place: &Place, agent: &Agent<'_>, yard: &Yard, cell: &mut Cell) -> anyhow::Result<()> {
    memory(agent, yard, cell)?;
    forks(place, agent, yard, cell)
}

/// Of inits, and of what writes the logs of detached ones.
fn memory(agent: &Agent<'_>, yard: &Yard, cell: &mut Cell) -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (input, end) = pipe2(OFlag::O_CLOEXEC)?;
    let (mut inits, mut logs) = (Vec::new(), Vec::new());
    let mut ids = Vec::new();
    for n in 0..STAY {
        let stdio = [input.as_fd(), null.as_fd(), null.as_fd()];
        let name = format!("stay{n}");
        ids.push(agent.launch_boxed(&name, yard.isolation(true), "/", &[PROGRAM, "stay"], stdio)?);
        // A detached one's input is at its end: it stays by itself.
        let argv = [PROGRAM, "sleep"];
        agent.detach_boxed(&format!("log{n}"), yard.isolation(true), "/", &argv)?;
    }
    for (n, launched) in ids.iter().enumerate() {
        inits.push(private(launched.pid)?);
        let cgroup = agent.cgroup_of(&format!("bench/log{n}"))?;
        let is_log = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|&b| b == 0).nth(1) == Some(b"--log")
        };
        let log = cgroup.processes()?.into_iter().find(is_log).context("nobody writes the log")?;
        logs.push(private(log)?);
    }
    let most = |all: &[u64]| all.iter().copied().max().unwrap_or(0) as f64;
    cell.bar("init_kib", "init, private memory at most, KiB", most(&inits), KEEPER_KIB);
    cell.bar("log_kib", "what writes a log, the same, KiB", most(&logs), KEEPER_KIB);
    drop(end);
    for launched in &ids {
        agent.wait(launched.id)?;
    }
    Ok(())
}

/// Pages that nobody else has, KiB.
fn private(pid: i32) -> anyhow::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(field(&rollup, "Private_Clean:")? + field(&rollup, "Private_Dirty:")?)
}

/// In turns: in a box, in a cgroup as deep as the box's with nothing else around it, and in no cgroup but the root.
fn forks(place: &Place, agent: &Agent<'_>, yard: &Yard, cell: &mut Cell) -> anyhow::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (input, orders) = pipe2(OFlag::O_CLOEXEC)?;
    let (answers, output) = pipe2(OFlag::O_CLOEXEC)?;
    let stdio = [input.as_fd(), output.as_fd(), null.as_fd()];
    let argv = [PROGRAM, "fork"];
    let launched = agent.launch_boxed("fork", yard.isolation(true), "/bin", &argv, stdio)?;
    drop((input, output));
    let boxed = Forker { orders: File::from(orders), answers: File::from(answers) };
    let deep = place.floor.create_child("fork")?.path().display().to_string();
    let (deep, mut deep_child) = outside(yard, Some(&deep))?;
    let (shallow, mut shallow_child) = outside(yard, None)?;
    let mut sides = [boxed, deep, shallow];
    let mut samples = [Samples::default(), Samples::default(), Samples::default()];
    for turn in 0..TURNS {
        for side in 0..sides.len() {
            let side = (turn + side) % sides.len();
            sides[side].fork(&mut samples[side])?;
        }
    }
    drop(sides);
    agent.wait(launched.id)?;
    deep_child.wait()?;
    shallow_child.wait()?;
    place.floor.remove_child("fork")?;
    let [boxed, deep, shallow] = samples;
    cell.samples("fork_inside", "fork and execution inside, us", &boxed);
    cell.samples("fork_outside", "the same in a cgroup alone, us", &deep);
    cell.samples("fork_root", "the same in the bench's own, us", &shallow);
    cell.bar("fork_ratio", "inside of outside, medians", boxed.p50_us() / deep.p50_us(), FORK);
    Ok(())
}

/// The same program without a box, in the cgroup at `path` or in this process' own.
fn outside(yard: &Yard, path: Option<&str>) -> anyhow::Result<(Forker, Child)> {
    let mut command = Command::new("./word");
    command.arg("fork").current_dir(yard.root.join("bin")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the forking program")?;
    if let Some(path) = path {
        fs::write(format!("{path}/cgroup.procs"), child.id().to_string())
            .with_context(|| format!("cannot move it to {path}"))?;
    }
    let orders = OwnedFd::from(child.stdin.take().context("piped")?);
    let answers = OwnedFd::from(child.stdout.take().context("piped")?);
    Ok((Forker { orders: orders.into(), answers: answers.into() }, child))
}
