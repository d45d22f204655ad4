//! `bellows exec`: a command beside a workload.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use super::client::Client;
use super::run::{Signals, environment};
use crate::api::types::{ExecRequest, Executed, SignalRequest};
use crate::workload::spec::Name;

/// It sees what the workload sees, and what it uses is on the workload's account: its memory, its cpu, its number of processes. It
/// has this command's environment, standard input, output and error; signals are passed on. It ends with the workload, and
/// with this command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The workload's owner.
    #[arg(long, default_value = "default")]
    tenant: Name,
    /// The workload's name.
    name: Name,
    /// Its working directory, as the workload sees it.
    #[arg(long, value_name = "DIR", default_value = "/")]
    cwd: String,
    #[command(flatten)]
    connection: Connection,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tenant, name, cwd, connection, command } = arguments;
    let client = Client::new(&connection.runtime_dir);
    // Before it is started: a signal that comes meanwhile is for it.
    let mut signals = Signals::listen()?;
    let (stdio, _descriptors) = client.pass_stdio()?;
    let request = ExecRequest { argv: command, env: environment(), cwd, stdio: stdio.clone() };
    let path = format!("/api/v1/workloads/{tenant}/{name}/exec");
    let end = client.post::<Executed>(&path, &request);
    tokio::pin!(end);
    let Executed { code } = loop {
        tokio::select! {
            ended = &mut end => break ended?,
            number = signals.next() => {
                let path = format!("/api/v1/execs/{stdio}/signal");
                if let Err(error) = client.order(&path, &SignalRequest { signal: number }).await {
                    eprintln!("bellows: signal {number} is not passed on: {error:#}");
                }
            }
        }
    };
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}
