//! Does a shrink that is stuck disturb a grow? The agent's shrinking threads are held by `ptrace` for ten seconds, which is
//! stronger than any reclaim: not even a signal reaches them. Meanwhile a workload breaches; the same number of breaches
//! comes without, before and after in turns, so that neither has the fresh generators for itself.

use std::sync::mpsc::channel;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::governed::{Condition, Governed, PER_BLOCK, Reaction, SETTLE};
use crate::reaction::SETUP;
use crate::threads;
use crate::tree::Place;

/// What the names of the agent's shrinking threads begin with.
const SHRINKER: &str = "bellows-shrink";
/// And how many there are: all have to be held.
const SHRINKERS: usize = 2;
/// The least time that they are held for in one turn.
const STUCK: Duration = Duration::from_secs(10);
const ONE: Condition = Condition { crew: 1, sleepers: 0, life: 400, spinners: 0 };

/// The same agent, without and with threads that are stuck.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    pub(crate) free: Reaction,
    pub(crate) stuck: Reaction,
    /// How long threads were held, in all.
    pub(crate) held: Duration,
    /// How many threads that was.
    pub(crate) threads: usize,
}

/// Measures until each side has `wanted` breaches, in turns of twice [`PER_BLOCK`].
pub(crate) fn measure(place: &Place, wanted: usize) -> anyhow::Result<Isolation> {
    let mut governed = Governed::start(place, &SETUP, &ONE)?;
    let mut isolation = Isolation::default();
    for turn in 0..wanted.div_ceil(2 * PER_BLOCK) {
        governed.replace_spent(&ONE)?;
        sleep(SETTLE);
        let Isolation { free, stuck, held, threads } = &mut isolation;
        let shrinkers = shrinkers(governed.agent.pid()?)?;
        *threads = shrinkers.len();
        let is_free_first = turn % 2 == 0;
        if is_free_first {
            two_blocks(&mut governed, free)?;
        }
        *held += while_stuck(&shrinkers, || two_blocks(&mut governed, stuck))?;
        if !is_free_first {
            two_blocks(&mut governed, free)?;
        }
        eprintln!("bellows-bench: stuck shrinks: {} of {wanted} breaches", (turn + 1) * 2 * PER_BLOCK);
    }
    governed.end()?;
    Ok(isolation)
}

fn two_blocks(governed: &mut Governed<'_>, reaction: &mut Reaction) -> anyhow::Result<()> {
    governed.block(reaction)?;
    governed.block(reaction)
}

fn shrinkers(pid: Pid) -> anyhow::Result<Vec<Pid>> {
    let mut found = threads::named(pid)?;
    found.retain(|(_, name)| name.starts_with(SHRINKER));
    ensure!(found.len() == SHRINKERS, "the agent has {} threads {SHRINKER}*", found.len());
    Ok(found.into_iter().map(|(thread, _)| thread).collect())
}

/// Runs `work` while `threads` are held, and holds them for [`STUCK`] at least; returns for how long.
fn while_stuck(threads: &[Pid], work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let (held, is_held) = channel();
    let (done, is_done) = channel::<()>();
    scope(|scope| {
        // Whoever holds a thread must let go of it, and only one thread may do either.
        let holder = scope.spawn(move || {
            threads.iter().try_for_each(|&thread| hold(thread)).context("cannot hold a thread")?;
            let since = Instant::now();
            let _ = held.send(());
            // Its end of the channel is dropped after the work, however that ended.
            let _ = is_done.recv();
            sleep(STUCK.saturating_sub(since.elapsed()));
            let time = since.elapsed();
            threads.iter().try_for_each(|&thread| ptrace::detach(thread, None::<Signal>))?;
            anyhow::Ok(time)
        });
        let result = match is_held.recv() {
            Ok(()) => work(),
            // It says itself why.
            Err(_) => Ok(()),
        };
        drop(done);
        let time = holder.join().map_err(|_| anyhow!("the holding thread panicked"))??;
        result.map(|()| time)
    })
}

fn hold(thread: Pid) -> anyhow::Result<()> {
    ptrace::seize(thread, ptrace::Options::empty())?;
    ptrace::interrupt(thread)?;
    let status = waitpid(thread, Some(WaitPidFlag::__WALL))?;
    let is_held = matches!(status, WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..));
    ensure!(is_held, "thread {thread}: {status:?}");
    Ok(())
}
