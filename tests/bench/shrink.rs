//! Taking back, with a law that is in a hurry.
//!
//! # One workload that frees
//! It holds 256 MiB, frees 200 of them and says when. What follows is in the journal: `memory.high` after a hold of which no
//! part saw the old use (so between one and two holds, and the pace of the slow pass), `memory.max` when that has settled.
//!
//! # Fifty shrinks a second
//! Sleepers breathe in turns, 25 breaths a second: each takes four huge pages, as much as its first limit, which raises both its limits, and frees them,
//! which lowers both. Meanwhile a generator breaches, block by block, with and without. What it costs to shrink on the control
//! thread is in two figures: the turn that lowers `memory.max`, from wake to write, and the cpu time of a breath, growth
//! and all looks included.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bellows::journal::{Record, What};
use bellows::kernel::clock;
use bellows_policies::units::Bytes;
use bellows_policies::{Reason, Verb};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::agent::{Agent, Range, Setup};
use crate::cell::Cell;
use crate::cpu::CONTROL;
use crate::crew::{CEILING, FIRST_LIMIT};
use crate::governed::{Condition, Governed, PER_BLOCK, Reaction, SETTLE, told};
use crate::reaction::MORE_THAN_THERE_IS;
use crate::stats::Samples;
use crate::threads;
use crate::tree::Place;

const HOLD_MS: u64 = 500;
/// What grew by gigabytes a second is left room for 100 ms of that, until it is forgotten by halves: here a round in which huge
/// pages were quick would wait until a part of that is forgotten, and the pace is in question, not the room.
const FREEING: Setup = Setup {
    name: "freeing",
    config: "[memory]\nslack_hold_ms = 500\nslack_grace_ms = 0\nregrow_soon_ms = 1\nmax_horizon_ms = 10\n\
             rate_horizon_ms = 10\n",
    flags: &[],
};
const FREES: usize = 8;
const DEADLINE: Duration = Duration::from_secs(20);

/// Steps as the reaction has them, and slack from 1 MiB on.
const BREATHING: Setup = Setup {
    name: "breathing",
    config: "[memory]\nstep_min = 262144\nstep_factor = 0.0\nrate_horizon_ms = 1\ncalm_near_ms = 20\nlaunch_threads = 1\n\
             slack_hold_ms = 200\nslack_grace_ms = 0\nregrow_soon_ms = 1\nslack_min = 1048576\nmax_horizon_ms = 1\n\
             headroom_min = 262144\nheadroom_share = 0.01\nmax_share = 0.01\n",
    flags: MORE_THAN_THERE_IS,
};
const ONE: Condition = Condition { crew: 1, sleepers: 0, life: 400, spinners: 0 };
const BREATHERS: usize = 64;
/// Between two breaths: 25 a second, so that each breather has 2.5 s for its own.
const BREATH: Duration = Duration::from_millis(40);
/// After breathing: what has been freed is taken back.
const REST: Duration = Duration::from_secs(3);
/// `wake_to_write` while others shrink, against the same while nobody does.
const RATIO_P99: f64 = 1.5;

/// Measures both; `wanted` breaches of each side.
pub(crate) fn measure(place: &Place, wanted: usize, cell: &mut Cell) -> anyhow::Result<()> {
    freeing(place, cell).context("a workload that frees")?;
    breathing(place, wanted, cell).context("many that breathe")
}

fn freeing(place: &Place, cell: &mut Cell) -> anyhow::Result<()> {
    let mut agent = Agent::start(place, &FREEING)?;
    let ((stdin, orders), (answers, stdout)) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
    let (mut orders, mut answers, stderr) = (File::from(orders), File::from(answers), std::io::stderr());
    let range = Range::of_memory(Bytes::mib(16), Bytes::mib(512))?;
    let streams = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let (name, _) = agent.launch(range, &["swell"], streams)?;
    let mut order = || {
        let mut answer = [0; 8];
        orders.write_all(b"o")?;
        answers.read_exact(&mut answer).context("the workload has ended")?;
        anyhow::Ok(u64::from_le_bytes(answer))
    };
    let (mut high, mut max, mut between) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..FREES {
        order()?;
        sleep(SETTLE);
        agent.records()?;
        let freed = order()?;
        let (lowered, narrowed) = shrunk(&mut agent, &name)?;
        high.push(lowered.saturating_sub(freed));
        max.push(narrowed.saturating_sub(freed));
        between.push(narrowed.saturating_sub(lowered));
    }
    cell.figure("hold_ms", "hold of slack, ms", HOLD_MS as f64);
    cell.samples("freed_to_high", "200 of 256 MiB freed to memory.high, ms", &high);
    cell.samples("freed_to_max", "  to memory.max, ms", &max);
    cell.samples("high_to_max", "  from one to the other, ms", &between);
    agent.stop()
}

/// When both limits were lowered, by the journal; for good, that is memory.max after memory.high.
fn shrunk(agent: &mut Agent<'_>, name: &str) -> anyhow::Result<(u64, u64)> {
    let (deadline, mut lowered) = (Instant::now() + DEADLINE, None);
    while Instant::now() < deadline {
        sleep(SETTLE);
        let ahead = clock::unix_nanoseconds().saturating_sub(clock::now().0);
        for record in agent.records()?.iter().filter(|r| *r.workload == *name) {
            let at = record.unix_ns.saturating_sub(ahead);
            match (shrink(record), lowered) {
                (Some((Reason::SlackTaken, _)), _) => lowered = Some(at),
                (Some((Reason::BandTaken, _)), Some(lowered)) => return Ok((lowered, at)),
                (Some(_) | None, _) => {}
            }
        }
    }
    anyhow::bail!("the limits of {name} are not lowered")
}

/// Why a limit was lowered, and from wake to write.
fn shrink(record: &Record) -> Option<(Reason, Duration)> {
    let What::LimitsMoved { verb: Verb::Shrink, reason, wake_to_write_us, .. } = record.what else {
        return None;
    };
    Some((reason, Duration::from_micros(wake_to_write_us)))
}

fn breathing(place: &Place, wanted: usize, cell: &mut Cell) -> anyhow::Result<()> {
    let mut governed = Governed::start(place, &BREATHING, &ONE)?;
    let range = Range::of_memory(FIRST_LIMIT, CEILING)?;
    let (stdin, orders) = pipe2(OFlag::O_CLOEXEC)?;
    let (null, stderr) = (File::options().write(true).open("/dev/null")?, std::io::stderr());
    for _ in 0..BREATHERS {
        governed.agent.launch(range, &["breathe"], [stdin.as_fd(), null.as_fd(), stderr.as_fd()])?;
    }
    let mut orders = File::from(orders);
    let (mut quiet, mut busy, mut turns) = (Reaction::default(), Reaction::default(), Samples::default());
    let (mut quiet_cost, mut busy_cost) = ((0, Duration::ZERO), (0, Duration::ZERO));
    let (mut shrinks, mut breaths) = (0, 0);
    for block in 0..wanted.div_ceil(PER_BLOCK) {
        governed.replace_spent(&ONE)?;
        sleep(REST);
        cost_of(&mut governed, &mut quiet, &mut quiet_cost)?;
        let stop = AtomicBool::new(false);
        let since = governed.agent.records()?.last().map_or(0, |r| r.id);
        breaths += scope(|scope| {
            let breather = scope.spawn(|| breathe(&mut orders, &stop));
            // The first ones have taken a breath and are being taken back from.
            sleep(REST);
            let result = cost_of(&mut governed, &mut busy, &mut busy_cost);
            stop.store(true, Ordering::Release);
            let breaths = breather.join().map_err(|_| anyhow::anyhow!("the breathing thread panicked"))?;
            result.and(breaths)
        })?;
        for (reason, took) in governed.agent.records_since(since)?.iter().filter_map(shrink) {
            shrinks += 1;
            // The other one is written by the slow lane.
            if reason == Reason::BandTaken {
                turns.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        eprintln!("bellows-bench: shrinks: {} of {wanted} breaches", (block + 1) * PER_BLOCK);
    }
    ensure!(turns.len() > 0, "nothing was shrunk:\n{}", told(&governed.agent.records_since(0)?));
    governed.end()?;
    let blocks = wanted.div_ceil(PER_BLOCK) as f64;
    let busy_seconds = busy_cost.1.as_secs_f64();
    let per_second = |(cpu_ns, time): (u64, Duration)| cpu_ns as f64 / 1e3 / time.as_secs_f64();
    cell.samples("quiet", "wake to write, nobody shrinks, us", &quiet.wake_to_write);
    cell.samples("shrinking", "  while others shrink, us", &busy.wake_to_write);
    let ratio = |share| busy.wake_to_write.percentile_us(share) / quiet.wake_to_write.percentile_us(share);
    cell.figure("ratio_p50", "  ratio of p50", ratio(0.5));
    cell.bar("ratio_p99", "  ratio of p99", ratio(0.99), RATIO_P99);
    cell.figure("missed", "  missed breaches", (quiet.missed + busy.missed) as f64);
    let time = busy_seconds + blocks * REST.as_secs_f64();
    cell.figure("shrinks_per_s", "shrinks a second", f64::from(shrinks) / time);
    cell.samples("turn", "a turn that lowers memory.max, us", &turns);
    let rate = breaths as f64 / time;
    let cost = (per_second(busy_cost) - per_second(quiet_cost)) / rate;
    cell.figure("breath_cpu_us", "control thread, cpu time of a breath, us", cost);
    Ok(())
}

/// One block of breaches, and what the control thread cost meanwhile.
fn cost_of(
    governed: &mut Governed<'_>,
    reaction: &mut Reaction,
    cost: &mut (u64, Duration),
) -> anyhow::Result<()> {
    let pid = governed.agent.pid()?;
    let control = || anyhow::Ok(threads::costs(pid)?.get(CONTROL).copied().unwrap_or_default());
    let (start, before) = (Instant::now(), control()?);
    governed.block(reaction)?;
    cost.0 += control()?.since(before).cpu_ns;
    cost.1 += start.elapsed();
    Ok(())
}

/// Has whoever waits longest take a breath, again and again; returns how often. One pipe is read by all, and the kernel wakes
/// its readers in turn.
fn breathe(orders: &mut File, stop: &AtomicBool) -> anyhow::Result<u64> {
    let (start, mut breaths) = (Instant::now(), 0);
    while !stop.load(Ordering::Acquire) {
        orders.write_all(b"b")?;
        breaths += 1;
        let next = BREATH * u32::try_from(breaths).unwrap_or(u32::MAX);
        sleep(next.saturating_sub(start.elapsed()));
    }
    Ok(breaths)
}
