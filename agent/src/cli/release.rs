//! `bellows release --all`: opens all limits. Through the agent where one answers, by hand where none does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::Connection;
use crate::agent;
use crate::api::types::Released;
use crate::client::Client;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// All workloads; there is no other choice yet, and it must be said.
    #[arg(long, required = true)]
    all: bool,
    /// The agent's root, for when no agent answers.
    #[arg(long, value_name = "CGROUP")]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let released = match client.release().await {
        Ok(released) => released,
        // An agent that answers and refuses goes on governing: opening behind its back would not last.
        Err(error) if error.is_refusal() => return Err(error.into()),
        // No agent answers: with a root named, the tree itself is enough.
        Err(error) => match &arguments.root {
            Some(root) => {
                let (workloads, failed) = agent::release_without_agent(Some(root))?;
                Released { workloads, failed }
            }
            None => {
                return Err(anyhow::Error::new(error)
                    .context("or name the agent's root with --root, to open the limits without it"));
            }
        },
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&released)?);
    } else {
        println!("opened {} workloads, {} failed", released.workloads, released.failed);
    }
    Ok(if released.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
