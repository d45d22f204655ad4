//! `bellows ps`: the workloads, one line each.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use crate::api::types::{DetachedView, WorkloadView};
use crate::api::words::text::{age, left, table};
use crate::client::Client;
use bellows_policies::units::Bytes;

#[derive(Debug, Args)]
#[command(
    after_help = "Limits in brackets are those that an observed workload would have: nothing is written."
)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let mut workloads = client.workloads().await?;
    workloads.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
    if arguments.json {
        println!("{}", serde_json::to_string(&workloads)?);
        return Ok(ExitCode::SUCCESS);
    }
    // In brackets what is not in force.
    let limit = |would: Option<Bytes>, limit: Option<Bytes>| match (would, limit) {
        (Some(would), _) => format!("({would})"),
        (None, Some(limit)) => limit.to_string(),
        (None, None) => "max".to_owned(),
    };
    let rows = workloads.iter().map(|w| {
        vec![
            format!("{}/{}", w.tenant, w.name),
            w.class.clone(),
            w.mode.clone(),
            state(w),
            if w.pid > 0 { w.pid.to_string() } else { "-".to_owned() },
            w.memory_current.to_string(),
            limit(w.would_high, w.memory_high),
            limit(w.would_max, w.memory_max),
            if w.memory.ceiling > Bytes::ZERO { w.memory.to_string() } else { "-".to_owned() },
            w.cpu_quota.map_or_else(
                || "max".to_owned(),
                |cpus| format!("{cpus}{}", if w.lends_cpu { " (lent)" } else { "" }),
            ),
            w.cpu.map_or_else(|| "-".to_owned(), |bounds| bounds.to_string()),
            (w.limit_moves + w.quota_moves + w.would_moves).to_string(),
            w.pin.map_or_else(|| "-".to_owned(), |pin| left(pin.until_unix_ns)),
            if w.started_unix_ns > 0 { age(w.started_unix_ns) } else { "-".to_owned() },
        ]
    });
    let head = [
        "WORKLOAD", "CLASS", "MODE", "STATE", "PID", "USED", "GRANTED", "MAX", "RANGE", "CPUS", "RANGE",
        "MOVES", "PINNED", "AGE",
    ];
    print!("{}", table(&head, rows));
    Ok(ExitCode::SUCCESS)
}

/// With what is to be known of one that has ended, and of one that has been started again.
fn state(workload: &WorkloadView) -> String {
    let state = match workload {
        WorkloadView { is_frozen: true, .. } => "frozen",
        WorkloadView { adopted: true, .. } => "adopted",
        other => &other.state,
    };
    match &workload.detached {
        Some(DetachedView { is_waiting: true, restarts, .. }) => {
            format!("{state} (again soon, restarts: {restarts})")
        }
        Some(DetachedView { restarts: count @ 1.., .. }) => format!("{state} (restarts: {count})"),
        Some(_) | None => state.to_owned(),
    }
}
