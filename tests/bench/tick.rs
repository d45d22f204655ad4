//! What a tick of the cpu loop costs: by its own histogram, and by the cpu time of its thread.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::agent::{Agent, Range};
use crate::cell::Cell;
use crate::crew::{CEILING, FIRST_LIMIT};
use crate::threads;

/// The cpu loop's thread.
const THREAD: &str = "bellows-cpu";
const WATCH: Duration = Duration::from_secs(10);
/// Workloads that are throttled in each period. Their quotas are small, so that the machine is not busy.
const HOT: usize = 10;
const HOT_CPU: &str = "0.02..0.05";
/// They have grown to their ceilings.
const SETTLE: Duration = Duration::from_secs(5);

/// How long they may take to be gone, and the pause between two looks.
const GONE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Watches the ticks for a while.
pub(crate) fn measure(agent: &Agent<'_>, key: &str, text: &str, cell: &mut Cell) -> anyhow::Result<()> {
    let pid = agent.pid()?;
    let cpu = || anyhow::Ok(threads::costs(pid)?.get(THREAD).copied().unwrap_or_default());
    let turns = || agent.metrics(["bellows_cpu_turn_seconds_count ", "bellows_cpu_turn_seconds_sum "]);
    let ([count, seconds], cost) = (turns()?, cpu()?);
    sleep(WATCH);
    let ([count_after, seconds_after], cost) = (turns()?, cpu()?.since(cost));
    let ticks = count_after - count;
    let (wall, thread) = ((seconds_after - seconds) * 1e6 / ticks, cost.cpu_ns as f64 / 1e3 / ticks);
    cell.figure(&format!("tick_us_{key}"), &format!("a tick with {text}, us"), wall);
    cell.figure(&format!("tick_cpu_us_{key}"), "  cpu time of its thread, us", thread);
    Ok(())
}

/// The same with some more that are throttled all the time.
pub(crate) fn with_hot_ones(agent: &mut Agent<'_>, cell: &mut Cell) -> anyhow::Result<()> {
    let range = Range::of_memory(FIRST_LIMIT, CEILING)?.and_cpu(HOT_CPU)?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    let mut hot = Vec::new();
    for _ in 0..HOT {
        hot.push(agent.launch(range, &["spin"], [null.as_fd(); 3])?.0);
    }
    sleep(SETTLE);
    measure(agent, &format!("hot_{HOT}"), &format!("{HOT} hot ones besides"), cell)?;
    for name in &hot {
        agent.cgroup_of(name)?.kill()?;
    }
    // What comes next counts workloads.
    let end = Instant::now() + GONE;
    while agent.workloads()?.iter().any(|w| hot.contains(&format!("{}/{}", w.tenant, w.name))) {
        ensure!(Instant::now() < end, "the hot ones are still there");
        sleep(PAUSE);
    }
    Ok(())
}
