//! What an agent costs that has nothing to do: a thousand workloads that sleep, and twenty seconds of watching it.
//!
//! The cost of the whole process is the sum over its threads; the cgroup's own account has the watchdog in it, too.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::agent::Agent;
use crate::threads::{self, Cost, Costs, field};

const WATCH: Duration = Duration::from_secs(20);

/// What it cost.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) workloads: usize,
    pub(crate) seconds: f64,
    /// By the names of threads.
    pub(crate) threads: Costs,
    pub(crate) total: Cost,
    /// The supervisor cgroup's cpu time: agent and watchdog.
    pub(crate) supervisor_ns: u64,
    /// Turns of the control loop.
    pub(crate) turns: u64,
    /// A reading of everybody's `cpu.pressure`, as each of our scrapes has one follow.
    pub(crate) pressure_read_ms: f64,
    pub(crate) memory: Memory,
}

/// Of the agent's process, KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Resident, pages of the program's file included.
    pub(crate) rss: u64,
    /// Of these, anonymous: heap and stacks.
    pub(crate) anonymous: u64,
    /// Resident, with shared pages divided by who shares them.
    pub(crate) pss: u64,
}

impl Idle {
    /// Per cent of one cpu.
    pub(crate) fn cpu_percent(&self) -> f64 {
        self.total.cpu_ns as f64 / self.seconds / 1e7
    }
}

/// Watches an agent with this many workloads that sleep.
pub(crate) fn watch(agent: &Agent<'_>, workloads: usize) -> anyhow::Result<Idle> {
    let pid = agent.pid()?;
    let supervisor = agent.supervisor()?;
    let used = || anyhow::Ok(field(&supervisor.read("cpu.stat")?, "usage_usec ")? * 1000);
    let (turns, start) = (agent.turns()?, Instant::now());
    let (costs, used_before) = (threads::costs(pid)?, used()?);
    sleep(WATCH);
    let seconds = start.elapsed().as_secs_f64();
    let supervisor_ns = used()?.saturating_sub(used_before);
    let threads: Costs = threads::costs(pid)?
        .into_iter()
        .map(|(name, cost)| {
            let before = costs.get(&name).copied().unwrap_or_default();
            (name, cost.since(before))
        })
        .collect();
    let [count, sum] =
        agent.metrics(["bellows_pressure_read_seconds_count ", "bellows_pressure_read_seconds_sum "])?;
    Ok(Idle {
        pressure_read_ms: sum * 1e3 / count,
        workloads,
        seconds,
        total: threads::total(&threads),
        threads,
        supervisor_ns,
        turns: agent.turns()?.saturating_sub(turns),
        memory: resident(pid)?,
    })
}

fn resident(pid: Pid) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(Memory {
        rss: field(&status, "VmRSS:")?,
        anonymous: field(&status, "RssAnon:")?,
        pss: field(&rollup, "Pss:")?,
    })
}
