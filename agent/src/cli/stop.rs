//! `bellows stop`, `freeze`, `thaw` and `rm`: an operator's word about whether a workload runs, and is remembered.

use std::process::ExitCode;

use clap::Args;

use super::order::Target;
use super::run::wait_for_end;
use crate::api::grace_of;
use crate::api::types::StopRequest;
use crate::api::words::text;
use crate::journal::{Deed, What};
use crate::workload::life::SignalNumber;

/// Its command is sent a signal. What has not ended after a while is killed, with everything else in its cgroup. A frozen one is
/// thawed for it.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The signal, by name or number [default: that which it was started with, or TERM].
    #[arg(short, long)]
    signal: Option<SignalNumber>,
    /// How long it may take to end, for example 90s, 5m; an hour at most [default: as it was started with, or 10s].
    #[arg(long, value_name = "DURATION", value_parser = grace_of)]
    grace: Option<u64>,
    /// Do not wait until it has ended.
    #[arg(long)]
    no_wait: bool,
}

/// A frozen workload takes no cpu and keeps its memory. It stays frozen when the agent dies or comes back, and no law moves its
/// limits. It is thawed by `bellows thaw` and by `bellows stop`, and by nobody else.
#[derive(Debug, Args)]
pub(super) struct FreezeArguments {
    #[command(flatten)]
    target: Target,
}

/// It is not started again, and its log is gone.
#[derive(Debug, Args)]
pub(super) struct RmArguments {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { target, signal, grace, no_wait } = arguments;
    let request = StopRequest { signal: signal.map(|number| number.0), grace_seconds: grace };
    if no_wait {
        return target.give("stop", &request).await;
    }
    let client = target.client();
    let done = target.order("stop", &request).await?;
    let label = format!("{}/{}", target.tenant, target.name);
    let What::Life(Deed::StopOrdered { cgroup, .. }) = done else {
        println!("{label}: {}", text::what(&done));
        return Ok(ExitCode::SUCCESS);
    };
    if !target.json {
        println!("{label}: {}", text::what(&done));
    }
    let ended = wait_for_end(&client, &label, cgroup).await?;
    if target.json {
        println!("{}", serde_json::to_string(&ended)?);
    } else {
        println!("{label}: {}", ended.text);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn freeze(arguments: FreezeArguments) -> anyhow::Result<ExitCode> {
    arguments.target.give("freeze", &()).await
}

pub(super) async fn rm(arguments: RmArguments) -> anyhow::Result<ExitCode> {
    arguments.target.give("rm", &()).await
}

pub(super) async fn thaw(arguments: FreezeArguments) -> anyhow::Result<ExitCode> {
    arguments.target.give("thaw", &()).await
}
