//! A takeover: the agent is killed with `kill -9`, and another is started at once. Meanwhile the watchdog of the first opens
//! all limits, which the second one waits for: that is part of the time.
//!
//! *Answering* is the first answer of the API. *Governed* is the last workload whose limits stand again as they did: by the
//! journal of the second agent. Whoever does not run any more under the same pid is lost.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bellows::journal::{Record, What};
use bellows::kernel::clock;
use bellows_policies::Reason;

use crate::agent::Agent;
use crate::cell::Cell;
use crate::stats::Samples;

const ROUNDS: usize = 3;
/// The bar: so many are governed again after so many milliseconds, in each round.
const MANY: usize = 1000;
const MANY_MS: f64 = 2000.0;
const DEADLINE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);
/// The journal shows a record at most so late.
const JOURNAL: Duration = Duration::from_millis(300);

/// Kills and replaces the agent a few times.
pub(crate) fn measure(agent: &mut Agent<'_>, count: usize, cell: &mut Cell) -> anyhow::Result<()> {
    let (mut answering, mut taken, mut governed) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut lost = 0;
    for _ in 0..ROUNDS {
        let before = running(agent)?;
        ensure!(before.len() == count, "{} of {count} workloads run", before.len());
        let (started, answered) = agent.replace()?;
        await_governed(agent, count)?;
        lost += before.difference(&running(agent)?).count();
        let ahead = clock::unix_nanoseconds().saturating_sub(clock::now().0);
        let records = agent.records()?;
        let latest = |is_counted: fn(&What) -> bool| {
            let times = records.iter().filter(|record| is_counted(&record.what)).map(|r: &Record| r.unix_ns);
            times.max().unwrap_or(0).saturating_sub(ahead).saturating_sub(started.0)
        };
        answering.push(answered.0 - started.0);
        taken.push(latest(|what| matches!(what, What::TakenOver { .. })));
        governed.push(latest(|what| matches!(what, What::LimitsMoved { reason: Reason::Rearmed, .. })));
    }
    cell.samples(&format!("answering_{count}"), &format!("{count}: until it answers, ms"), &answering);
    cell.samples(&format!("taken_over_{count}"), &format!("{count}: until all are found, ms"), &taken);
    cell.samples(&format!("governed_{count}"), &format!("{count}: until all are governed, ms"), &governed);
    if count == MANY {
        let slowest = governed.percentile_us(1.0) / 1000.0;
        cell.bar("slowest_1000", "1000: until all are governed at most, ms", slowest, MANY_MS);
    }
    cell.bar(&format!("lost_{count}"), &format!("{count}: workloads lost"), lost as f64, 0.0);
    Ok(())
}

/// Names and pids of those that run.
fn running(agent: &Agent<'_>) -> anyhow::Result<HashSet<(String, i32)>> {
    let workloads = agent.workloads()?.into_iter();
    Ok(workloads.filter(|w| w.state == "running").map(|w| (w.name, w.pid)).collect())
}

/// Until no tripwire stands open, and the journal shows it.
fn await_governed(agent: &Agent<'_>, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let workloads = agent.workloads()?;
        let open = workloads.iter().filter(|w| w.memory_high.is_none()).count();
        if workloads.len() == count && open == 0 {
            sleep(JOURNAL);
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{open} of {} limits stand open still", workloads.len());
        sleep(PAUSE);
    }
}
