//! `bellows exec`: a command beside a workload.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::Connection;
use super::run::Signals;
use super::terminal::{Ordered, Seat};
use crate::api::manifest::PATH;
use crate::api::types::ExecRequest;
use crate::client::{Client, ClientError};
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
    /// Who it is, by number or by a name inside [default: who the workload's own command is].
    #[arg(long, value_name = "WHO[:GROUP]")]
    user: Option<String>,
    /// Give it a terminal: the one at standard input.
    #[arg(long, short)]
    terminal: bool,
    #[command(flatten)]
    connection: Connection,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tenant, name, cwd, env, user, terminal, connection, command } = arguments;
    let client = Client::new(&connection.runtime_dir);
    // Before it is started: a signal that comes meanwhile is for it.
    let mut signals = Signals::listen()?;
    let (ordered, instead) = terminal.then(Ordered::new).transpose()?.unzip();
    let (mut line, theirs) = line()?;
    let (stdio, _descriptors) = client.pass_stdio(instead, Some(theirs))?;
    let env = with_the_usual(env);
    let request = ExecRequest { argv: command, env, cwd, stdio: stdio.clone(), terminal, user };
    let end = client.exec(tenant.as_str(), name.as_str(), &request);
    tokio::pin!(end);
    let mut seat: Option<Seat> = None;
    let mut is_awaited = terminal;
    let mut early = None;
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended,
            taken = sit_down(ordered.as_ref()), if is_awaited => {
                is_awaited = false;
                seat = taken?;
            }
            number = signals.next() => early = pass_on(&client, &stdio, number).await,
            number = again(early), if early.is_some() => early = pass_on(&client, &stdio, number).await,
        }
    };
    let code = match ended {
        Err(error) if !error.is_refusal() => without_agent(&mut line, &mut signals)
            .await
            .with_context(|| format!("{error}; how the command ended is not known, nor whether it began")),
        ended => ended.map(|executed| executed.code).map_err(anyhow::Error::new),
    };
    if let Some(seat) = seat {
        seat.stand_up().await;
    }
    Ok(ExitCode::from(u8::try_from(code? & 0xff).unwrap_or(1)))
}

/// Passes a signal on; gives it back where the command has not begun yet, or has ended.
async fn pass_on(client: &Client, token: &str, number: i32) -> Option<i32> {
    match client.signal_exec(token, number).await {
        Ok(()) => None,
        Err(ClientError::Problem { status: 404, .. }) => Some(number),
        Err(error) => {
            eprintln!("bellows: signal {number} is not passed on: {error}");
            None
        }
    }
}

/// A signal that came too early, a moment later.
async fn again(early: Option<i32>) -> i32 {
    tokio::time::sleep(Duration::from_millis(50)).await;
    early.unwrap_or_default()
}

/// A line to who waits for the command: it hears of our end by it, and we of the command's.
fn line() -> anyhow::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Only the agent is gone: the command goes on, to its end or ours. Its code, unless it has none or never began.
async fn without_agent(line: &mut UnixStream, signals: &mut Signals) -> Option<i32> {
    // The terminal may be one that does not return by itself.
    eprint!("bellows: lost the agent; the command goes on\r\n");
    tokio::select! {
        code = line.read_u8() => code.ok().map(i32::from),
        number = signals.next() => Some(128 + number),
    }
}

async fn sit_down(ordered: Option<&Ordered>) -> anyhow::Result<Option<Seat>> {
    match ordered {
        Some(ordered) => ordered.sit_down().await,
        None => Ok(None),
    }
}

/// What was asked for, which comes last and counts, and what everybody needs. Whoever is in the workload can read it.
pub(super) fn with_the_usual(asked: Vec<String>) -> Vec<String> {
    let passed_on = PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    std::iter::once(format!("PATH={PATH}")).chain(passed_on).chain(asked).collect()
}
