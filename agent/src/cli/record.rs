//! `bellows record`: what workloads use, second by second, as a trace that `bellows policy simulate` plays.
//!
//! Only what has changed is written. What a limit held back was not used, and so is not in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use bellows_policies::{Bytes, Cpus};
use bellows_simulator::trace::{self, Life, Line, Row};
use clap::Args;

use super::Connection;
use crate::api::types::WorkloadView;
use crate::client::Client;
use crate::workload::lifecycle::State;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Changes below these are none.
const LEAST_BYTES: u64 = 256 << 10;
const LEAST_CORES: u64 = 10_000;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to write it: CSV (docs/simulate.md).
    file: PathBuf,
    /// Stop after so long [default: at Ctrl-C].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

/// A workload as it was written last.
struct Seen {
    life: Life,
    row: Row,
    /// Cpu time used, microseconds, and when that was looked at.
    used: (u64, u64),
    started_unix_ns: u64,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let path = &arguments.file;
    let context = || format!("cannot write {}", path.display());
    let mut out = BufWriter::new(File::create(path).with_context(context)?);
    writeln!(out, "{}", trace::header()).with_context(context)?;
    let (begun, mut seen, mut ticks) = (Instant::now(), BTreeMap::new(), tokio::time::interval(EVERY));
    let last = arguments.seconds.map_or(Duration::MAX, Duration::from_secs);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            stop = tokio::signal::ctrl_c() => {
                stop?;
                break;
            }
        }
        let workloads = client.workloads().await?;
        let at = nanoseconds(begun.elapsed());
        for line in look(at, &workloads, &mut seen) {
            writeln!(out, "{line}").with_context(context)?;
        }
        out.flush().with_context(context)?;
        if begun.elapsed() >= last {
            break;
        }
    }
    // The ends say when the trace is over.
    for line in look(nanoseconds(begun.elapsed()), &[], &mut seen) {
        writeln!(out, "{line}").with_context(context)?;
    }
    out.flush().with_context(context)?;
    Ok(ExitCode::SUCCESS)
}

/// The lines of what has changed since the last look.
fn look(at: u64, workloads: &[WorkloadView], seen: &mut BTreeMap<(String, String), Seen>) -> Vec<String> {
    let mut lines = Vec::new();
    let running: BTreeMap<_, _> = workloads
        .iter()
        .filter(|workload| workload.state == State::Running.as_str())
        .map(|workload| ((workload.tenant.clone(), workload.name.clone()), workload))
        .collect();
    seen.retain(|key, seen| {
        // Another one may have come under the name.
        let is_there = running.get(key).is_some_and(|now| now.started_unix_ns == seen.started_unix_ns);
        if !is_there {
            lines.push(Line { at, life: &seen.life, row: None, is_first: false }.to_string());
        }
        is_there
    });
    for (key, workload) in running {
        let before = seen.get(&key);
        let row = row(at, workload, before);
        if before.is_some_and(|before| !differs(&before.row, &row)) {
            continue;
        }
        let is_first = before.is_none();
        let life = life(workload);
        lines.push(Line { at, life: &life, row: Some(row), is_first }.to_string());
        let used = (workload.cpu_usage_us, at);
        seen.insert(key, Seen { life, row, used, started_unix_ns: workload.started_unix_ns });
    }
    lines
}

fn life(workload: &WorkloadView) -> Life {
    Life {
        tenant: workload.tenant.clone(),
        name: workload.name.clone(),
        class: Some(workload.class.clone()),
        memory: Some(workload.memory),
        cpu: workload.cpu,
        rows: [].into(),
        ends: None,
    }
}

fn row(at: u64, workload: &WorkloadView, before: Option<&Seen>) -> Row {
    // Need is known as of the last look into memory.stat, which may be older than use.
    let need = workload.memory_need.min(workload.memory_current);
    // Without a quota it is looked at for scrapes alone, and nothing in a replay comes of it.
    let cores = before.filter(|_| workload.cpu.is_some()).map_or(Cpus::ZERO, |before| {
        let (used_us, since) = before.used;
        let fresh_us = workload.cpu_usage_us.saturating_sub(used_us);
        Cpus::used(fresh_us, Duration::from_nanos(at.saturating_sub(since)))
    });
    Row { at, need, cache: workload.memory_current.saturating_sub(need), cores, piece_us: 0 }
}

fn differs(a: &Row, b: &Row) -> bool {
    let bytes = |a: Bytes, b: Bytes| a.0.abs_diff(b.0) >= LEAST_BYTES;
    bytes(a.need, b.need) || bytes(a.cache, b.cache) || a.cores.0.abs_diff(b.cores.0) >= LEAST_CORES
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Source;
    use crate::simulate::read_trace;

    fn view(name: &str, current: u64, need: u64, cpu_usage_us: u64) -> WorkloadView {
        let text = serde_json::json!({
            "tenant": "acme", "name": name, "class": "standard", "mode": "enforce", "state": "running", "pid": 1,
            "memory_current": current << 20, "memory_high": null, "memory_max": null, "memory_need": need << 20,
            "memory": "32M..1G".parse::<bellows_policies::Bounds>().unwrap(), "limit_moves": 0, "oom_kills": 0,
            "cpu_quota": null, "cpu": "0.1..4".parse::<bellows_policies::CpuBounds>().unwrap(), "cpu_usage_us": cpu_usage_us,
            "quota_moves": 0, "started_unix_ns": 7,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn only_changes_are_written_and_what_is_written_is_a_trace() {
        let (mut seen, second) = (BTreeMap::new(), 1_000_000_000);
        let mut lines = vec![trace::header()];
        let looks = [
            vec![view("web", 64, 50, 0)],
            vec![view("web", 64, 50, 1000), view("db", 100, 100, 0)],
            vec![view("web", 96, 80, 2_001_000), view("db", 100, 100, 0)],
            vec![view("db", 100, 100, 0)],
            vec![],
        ];
        for (at, workloads) in looks.iter().enumerate() {
            lines.extend(look(at as u64 * second, workloads, &mut seen));
        }
        let text = lines.join("\n");
        insta::assert_snapshot!(text);
        let trace = read_trace(&Source { name: "a test".to_owned(), text }).expect("a trace");
        assert_eq!((trace.lives.len(), trace.ends), (2, 4 * second));
    }
}
