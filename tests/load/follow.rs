//! Does what a trace says of one workload (docs/simulate.md), each part as the simulator's model has it, so that the model and
//! the kernel can be shown the very same (`tests/plant`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bellows::policy::Source;
use bellows::simulate::read_trace;
use bellows_simulator::trace::{Life, Row};
use clap::Args;
use nix::time::{ClockId, clock_gettime};

use super::churn::fill;

/// Time between two looks at what is wanted: a tick of the model's cpu.
const TICK: Duration = Duration::from_millis(10);
/// How fast files are read, as in the model.
const READ_PER_TICK: usize = (64 << 20) / 100;
/// What the program and its init use themselves, about: the model counts as much for the cgroup's own, as a part of need.
const OWN_MIB: usize = 1;
/// Threads that share the work: as many as the model has for up to one cpu.
const THREADS: u64 = 2;
/// Work that a thread has not come to for so long is lost, as in the model.
const WAITS: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Follow {
    /// A trace.
    trace: PathBuf,
    /// Whom of it: its name.
    workload: String,
    /// When the trace begins, nanoseconds of the monotonic clock.
    #[arg(long)]
    begins_ns: u64,
    /// What is read as page cache.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// What is wanted, and when.
#[derive(Clone)]
struct Wanted {
    life: Life,
    begins: u64,
    ends: u64,
}

/// Follows the trace to the workload's end.
pub(crate) fn follow(arguments: &Follow) -> Result<()> {
    let name = arguments.trace.display().to_string();
    let text = std::fs::read_to_string(&arguments.trace).with_context(|| format!("cannot read {name}"))?;
    let trace = read_trace(&Source { name, text }).map_err(|_| anyhow!("the trace is wrong"))?;
    let life = trace.lives.iter().find(|life| life.name == arguments.workload);
    let life = life.cloned().context("the trace has no such workload")?;
    let ends = arguments.begins_ns + life.ends.unwrap_or(trace.ends);
    let wanted = Wanted { begins: arguments.begins_ns, ends, life };
    let wants = |of: fn(&Row) -> bool| wanted.life.rows.iter().any(of);
    let mut workers = Vec::new();
    if wants(|row| row.cores.0 > 0) {
        workers.extend((0..THREADS).map(|_| {
            let wanted = wanted.clone();
            thread::spawn(move || work(&wanted))
        }));
    }
    if wants(|row| row.cache.0 > 0) {
        let (wanted, file) = (wanted.clone(), arguments.file.clone().context("there is no file to read")?);
        workers.push(thread::spawn(move || read(&wanted, &file)));
    }
    let mut held = Vec::new();
    while let Some((row, next)) = wanted.now() {
        let target = usize::try_from(row.need.0 >> 20)?.saturating_sub(OWN_MIB);
        held.truncate(target);
        fill(&mut held, target);
        rest(next);
    }
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a thread has panicked"))??;
    }
    println!("followed {} to its end", wanted.life.full_name());
    Ok(())
}

impl Wanted {
    /// What is wanted, and the instant from which on it may be something else; none after the end. Nothing is wanted before the
    /// beginning.
    fn now(&self) -> Option<(Row, u64)> {
        let now = nanoseconds(ClockId::CLOCK_MONOTONIC).unwrap_or(u64::MAX);
        let begun = now.checked_sub(self.begins);
        let changes = self.life.rows.iter().map(|row| self.begins + row.at).chain([self.ends]);
        let next = changes.filter(|at| *at > now).min()?;
        (now < self.ends).then(|| (begun.map_or_else(Row::default, |at| self.life.row(at)), next))
    }
}

/// Sleeps until then: whoever wakes up before is not idle.
fn rest(until: u64) {
    let now = nanoseconds(ClockId::CLOCK_MONOTONIC).unwrap_or(u64::MAX);
    thread::sleep(Duration::from_nanos(until.saturating_sub(now)));
}

/// Uses a thread's share of the cpu time that is wanted.
fn work(wanted: &Wanted) -> Result<()> {
    let (mut waiting, mut last) = (0, nanoseconds(ClockId::CLOCK_MONOTONIC)?);
    while let Some((row, next)) = wanted.now() {
        let now = nanoseconds(ClockId::CLOCK_MONOTONIC)?;
        if row.cores.0 == 0 && waiting == 0 {
            last = now;
            rest(next);
            continue;
        }
        waiting += (now - last) / 1000 * row.cores.0 / 1000 / THREADS;
        waiting = waiting.min(nanos(WAITS));
        last = now;
        let before = nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        let used = loop {
            let used = nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before;
            if used >= waiting.min(nanos(TICK)) {
                break used;
            }
            (0..1000).for_each(|round| {
                std::hint::black_box(round);
            });
        };
        waiting = waiting.saturating_sub(used);
        thread::sleep(TICK.saturating_sub(Duration::from_nanos(used)));
    }
    Ok(())
}

/// Reads as much of a file as is wanted, again and again.
fn read(wanted: &Wanted, path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut buffer, mut at) = (vec![0_u8; READ_PER_TICK], 0);
    while let Some((row, next)) = wanted.now() {
        if row.cache.0 == 0 {
            rest(next);
            continue;
        }
        if at >= row.cache.0 {
            at = 0;
        }
        at += file.read_at(&mut buffer, at)? as u64;
        thread::sleep(TICK);
    }
    Ok(())
}

fn nanoseconds(clock: ClockId) -> Result<u64> {
    Ok(nanos(clock_gettime(clock)?.into()))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
