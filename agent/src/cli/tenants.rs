//! `bellows tenants`: what each tenant is promised and allowed, and what it has, one line each.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use crate::api::words::text::table;
use crate::client::Client;

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
    let mut tenants = client.tenants().await?;
    tenants.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    if arguments.json {
        println!("{}", serde_json::to_string(&tenants)?);
        return Ok(ExitCode::SUCCESS);
    }
    let rows = tenants.iter().map(|t| {
        vec![
            t.tenant.clone(),
            t.workloads.to_string(),
            t.floors.to_string(),
            t.granted.to_string(),
            t.guarantee.to_string(),
            t.cap.map_or_else(|| "-".to_owned(), |cap| cap.to_string()),
            t.waiting.to_string(),
        ]
    });
    let head = ["TENANT", "WORKLOADS", "FLOORS", "GRANTED", "GUARANTEE", "CAP", "WAITING"];
    print!("{}", table(&head, rows));
    Ok(ExitCode::SUCCESS)
}
