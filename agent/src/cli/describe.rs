//! `bellows describe`: everything about one workload. The words are `api::words`.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use super::explain::workload_named;
use crate::api::types::Described;
use crate::api::words;
use crate::client::Client;

/// `explain` tells how it fares; this adds what the kernel has, in its words: limits, pressure, namespaces.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The workload; the tenant `default` may be left out.
    #[arg(value_name = "TENANT/NAME")]
    what: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let (tenant, name) = workload_named(&arguments.what)?;
    let explained = client.explain_workload(tenant.as_str(), name.as_str()).await?;
    let detail = match client.workload(tenant.as_str(), name.as_str()).await {
        Ok(detail) => Some(detail),
        // The journal remembers longer.
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let described = Described { detail, explained };
    if arguments.json {
        println!("{}", serde_json::to_string(&described)?);
    } else {
        print!("{}", words::describe::text(&described));
    }
    Ok(ExitCode::SUCCESS)
}
