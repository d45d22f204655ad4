//! What the threads of a process cost, from `/proc`: cpu time to the nanosecond, wake-ups, reads and writes.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;
use nix::unistd::Pid;
use serde_json::{Value, json};

/// What one thread, or all threads of one name, have cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// On a cpu.
    pub(crate) cpu_ns: u64,
    /// Times that it slept and was woken.
    pub(crate) wakes: u64,
    /// System calls that read or write, but not those on sockets, eventfds and epolls.
    pub(crate) reads_writes: u64,
}

/// The costs of a process by the names of its threads.
pub(crate) type Costs = BTreeMap<String, Cost>;

impl Cost {
    pub(crate) fn add(&mut self, other: Self) {
        self.cpu_ns += other.cpu_ns;
        self.wakes += other.wakes;
        self.reads_writes += other.reads_writes;
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wakes: self.wakes.saturating_sub(earlier.wakes),
            reads_writes: self.reads_writes.saturating_sub(earlier.reads_writes),
        }
    }

    /// Per second of `seconds`; cpu as a share of one, in per cent.
    pub(crate) fn json(self, seconds: f64) -> Value {
        json!({
            "cpu_percent": self.cpu_ns as f64 / seconds / 1e7,
            "wakes_per_s": self.wakes as f64 / seconds,
            "reads_writes_per_s": self.reads_writes as f64 / seconds,
        })
    }
}

/// What all threads have cost so far, those of one name together.
pub(crate) fn costs(pid: Pid) -> anyhow::Result<Costs> {
    let mut costs = Costs::new();
    for (thread, name) in named(pid)? {
        let cost = cost(pid, thread).with_context(|| format!("the cost of {name}"))?;
        costs.entry(name).or_default().add(cost);
    }
    Ok(costs)
}

/// The sum over all threads.
pub(crate) fn total(costs: &Costs) -> Cost {
    let mut sum = Cost::default();
    for &cost in costs.values() {
        sum.add(cost);
    }
    sum
}

/// The threads of a process: their ids and names.
pub(crate) fn named(pid: Pid) -> anyhow::Result<Vec<(Pid, String)>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        // The kernel cuts names to 15 bytes.
        let name = fs::read_to_string(task.path().join("comm"))?.trim_end().to_owned();
        found.push((Pid::from_raw(task.file_name().to_string_lossy().parse()?), name));
    }
    Ok(found)
}

fn cost(pid: Pid, thread: Pid) -> anyhow::Result<Cost> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/task/{thread}/{file}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let (schedstat, status, io) = (read("schedstat")?, read("status")?, read("io")?);
    Ok(Cost {
        cpu_ns: schedstat.split(' ').next().and_then(|t| t.parse().ok()).context("schedstat")?,
        wakes: field(&status, "voluntary_ctxt_switches:")?,
        reads_writes: field(&io, "syscr:")? + field(&io, "syscw:")?,
    })
}

/// The number behind `key` in lines of key and value.
pub(crate) fn field(text: &str, key: &str) -> anyhow::Result<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key}"))?;
    rest.split_whitespace().next().and_then(|n| n.parse().ok()).with_context(|| format!("{key} {rest}"))
}
