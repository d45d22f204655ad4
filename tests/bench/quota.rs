//! The quota: how soon throttling is relieved, what a hog gets beyond its ceiling, and how many writes that takes.
//!
//! # Relief
//! Workloads that have slept burn all cpu that they get, one after the other. The kernel counts a period as throttled when it
//! ends; from the moment that this is seen in `cpu.stat` it takes as long as the journal says until a higher quota was
//! written. Periods are those that were throttled until that write. Where the looks themselves, 2 ms apart, come late by more
//! than half a period, the machine stood still (a guest, on a host that is busy): such a round is told and not counted.
//!
//! # Hog
//! Two threads that never sleep, at the ceiling. What the group uses beyond it are the refills that writes give away.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bellows::journal::What;
use bellows::kernel::{Cgroup, clock};
use bellows_policies::Verb;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::agent::{Agent, Range, Setup};
use crate::cell::Cell;
use crate::crew::{CEILING, FIRST_LIMIT};
use crate::stats::Samples;
use crate::threads::field;
use crate::tree::Place;

const SETUP: Setup = Setup { name: "quota", config: "", flags: &[] };
/// The node's guard would hold back growth on a machine whose cpus the benchmark itself keeps busy: it spares this class.
const SPARED: &str = "latency";
const ROUNDS: usize = 30;
const RANGE: &str = "0.2..1";
/// How long one burns, milliseconds.
const BURN_MS: &str = "800";
/// What is throttled is relieved within this.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time between two looks at `cpu.stat`, and one that no machine makes that goes on.
const PAUSE: Duration = Duration::from_millis(2);
const STANDSTILL: Duration = Duration::from_millis(50);
/// Launches are over; and the journal shows what happened.
const SETTLE: Duration = Duration::from_secs(2);

const HOG: (&str, f64) = ("0.1..0.5", 0.5);
/// It has come to its ceiling; and for how long it is watched.
const HOG_GROWS: Duration = Duration::from_secs(8);
const HOG_WATCH: Duration = Duration::from_secs(20);

/// Measures both.
pub(crate) fn measure(place: &Place, cell: &mut Cell) -> anyhow::Result<()> {
    let mut agent = Agent::start(place, &SETUP)?;
    relief(&mut agent, cell)?;
    hog(&mut agent, cell)?;
    agent.stop()
}

fn relief(agent: &mut Agent<'_>, cell: &mut Cell) -> anyhow::Result<()> {
    let range = Range::of_memory(FIRST_LIMIT, CEILING)?.and_cpu(RANGE)?.of_class(SPARED);
    let mut crew: Vec<(String, OwnedFd)> = Vec::new();
    for _ in 0..ROUNDS {
        let (stdin, orders) = pipe2(OFlag::O_CLOEXEC)?;
        let (null, stderr) = (std::fs::File::options().write(true).open("/dev/null")?, std::io::stderr());
        let streams = [stdin.as_fd(), null.as_fd(), stderr.as_fd()];
        crew.push((agent.launch(range, &["burn", BURN_MS], streams)?.0, orders));
    }
    sleep(SETTLE);
    let (mut waited, mut periods, mut standstills) = (Samples::default(), Samples::default(), 0);
    for (name, orders) in crew {
        let cgroup = agent.cgroup_of(&name)?;
        agent.records()?;
        let throttled = || anyhow::Ok(field(&cgroup.read("cpu.stat")?, "nr_throttled ")?);
        let before = throttled()?;
        let floor = quota(&cgroup)?;
        std::fs::File::from(orders).write_all(b"b")?;
        let mut longest = await_that(&name, || Ok(throttled()? > before))?;
        let seen = clock::now();
        longest = longest.max(await_that(&name, || Ok(quota(&cgroup)? > floor))?);
        let count = throttled()? - before;
        // It burns on until then.
        sleep(SETTLE / 2);
        if longest > STANDSTILL {
            standstills += 1;
            continue;
        }
        periods.push(count * 1000);
        let ahead = clock::unix_nanoseconds().saturating_sub(clock::now().0);
        let records = agent.records()?;
        let is_relief = |what: &What| matches!(what, What::QuotaMoved { verb: Verb::Grow, .. });
        let relieved = records.iter().find(|r| *r.workload == *name && is_relief(&r.what));
        let at = relieved.context("the journal knows of no relief")?.unix_ns.saturating_sub(ahead);
        waited.push(at.saturating_sub(seen.0));
    }
    cell.samples("relief", "throttled to relief, ms", &waited);
    cell.samples("relief_periods", "  throttled periods until then", &periods);
    cell.figure("relief_standstills", "  rounds in which the machine stood still", f64::from(standstills));
    cell.bar("relief_periods_max", "  the most of them", periods.percentile_us(1.0), 2.0);
    Ok(())
}

fn hog(agent: &mut Agent<'_>, cell: &mut Cell) -> anyhow::Result<()> {
    let range = Range::of_memory(FIRST_LIMIT, CEILING)?.and_cpu(HOG.0)?.of_class(SPARED);
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let (name, _) = agent.launch(range, &["hog"], [null.as_fd(); 3])?;
    sleep(HOG_GROWS);
    agent.records()?;
    let cgroup = agent.cgroup_of(&name)?;
    let used = || anyhow::Ok(field(&cgroup.read("cpu.stat")?, "usage_usec ")? as f64 / 1e6);
    let (start, before) = (Instant::now(), used()?);
    sleep(HOG_WATCH);
    let (seconds, share) = {
        let used = used()? - before;
        let seconds = start.elapsed().as_secs_f64();
        (seconds, used / seconds / HOG.1)
    };
    let records = agent.records()?;
    let writes = records.iter().filter(|r| matches!(r.what, What::QuotaMoved { .. })).count();
    cgroup.kill()?;
    cell.bar("overshoot_percent", "a hog beyond its ceiling, %", (share - 1.0) * 100.0, 2.0);
    cell.figure("writes_per_minute", "  quota writes a minute", writes as f64 * 60.0 / seconds);
    Ok(())
}

/// The quota, microseconds of a period.
fn quota(cgroup: &Cgroup) -> anyhow::Result<u64> {
    field(&cgroup.read("cpu.max")?, "")
}

/// Returns the longest time between two looks.
fn await_that(name: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + DEADLINE;
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while !is_so()? {
        ensure!(Instant::now() < deadline, "{name} is not throttled, or not relieved");
        sleep(PAUSE);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    Ok(longest.max(last.elapsed()))
}
