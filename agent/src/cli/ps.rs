//! `bellows ps`: the workloads, one line each.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use super::client::Client;
use super::text::{age, left, table};
use crate::api::types::WorkloadView;
use bellows_policies::units::Bytes;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let mut workloads: Vec<WorkloadView> = client.get("/api/v1/workloads").await?;
    workloads.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
    if arguments.json {
        println!("{}", serde_json::to_string(&workloads)?);
        return Ok(ExitCode::SUCCESS);
    }
    let limit = |l: Option<Bytes>| l.map_or_else(|| "max".to_owned(), |b| b.to_string());
    let rows = workloads.iter().map(|w| {
        vec![
            format!("{}/{}", w.tenant, w.name),
            w.class.clone(),
            if w.is_frozen { "frozen".to_owned() } else { w.state.clone() },
            w.pid.to_string(),
            w.memory_current.to_string(),
            limit(w.memory_high),
            limit(w.memory_max),
            w.memory.to_string(),
            w.cpu_quota.map_or_else(
                || "max".to_owned(),
                |cpus| format!("{cpus}{}", if w.lends_cpu { " (lent)" } else { "" }),
            ),
            w.cpu.map_or_else(|| "-".to_owned(), |bounds| bounds.to_string()),
            (w.limit_moves + w.quota_moves).to_string(),
            w.pin.map_or_else(|| "-".to_owned(), |pin| left(pin.until_unix_ns)),
            age(w.started_unix_ns),
        ]
    });
    let head = [
        "WORKLOAD", "CLASS", "STATE", "PID", "USED", "GRANTED", "MAX", "RANGE", "CPUS", "RANGE", "MOVES",
        "PINNED", "AGE",
    ];
    print!("{}", table(&head, rows));
    Ok(ExitCode::SUCCESS)
}
