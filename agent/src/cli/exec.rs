//! `bellows exec`: a command beside a workload.

use std::process::ExitCode;

use clap::Args;

use super::Connection;
use super::apply::PATH;
use super::client::Client;
use super::run::Signals;
use crate::api::types::{ExecRequest, Executed, SignalRequest};
use crate::workload::spec::Name;

/// Variables that say how to talk to who sits here, and nothing about him.
const PASSED_ON: [&str; 3] = ["LANG", "LC_ALL", "TERM"];

/// It sees what the workload sees, may do what the workload may, and what it uses is on the workload's account: its memory, its
/// cpu, its number of processes. It has this command's standard input, output and error; signals are passed on. It ends with the
/// workload, and with this command.
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
    /// A variable of its environment, which otherwise is PATH, and this command's TERM, LANG and LC_ALL; repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tenant, name, cwd, env, connection, command } = arguments;
    let client = Client::new(&connection.runtime_dir);
    // Before it is started: a signal that comes meanwhile is for it.
    let mut signals = Signals::listen()?;
    let (stdio, _descriptors) = client.pass_stdio()?;
    let request = ExecRequest { argv: command, env: with_the_usual(env), cwd, stdio: stdio.clone() };
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

/// What was asked for, which comes last and counts, and what everybody needs. Whoever is in the workload can read it.
fn with_the_usual(asked: Vec<String>) -> Vec<String> {
    let passed_on = PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    std::iter::once(format!("PATH={PATH}")).chain(passed_on).chain(asked).collect()
}
