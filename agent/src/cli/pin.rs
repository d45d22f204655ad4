//! `bellows pin` and `unpin`: the operator's word above the laws.

use std::process::ExitCode;

use bellows_policies::{Bytes, Cpus};
use clap::Args;

use super::order::Target;
use crate::api::seconds_of;
use crate::api::types::{PIN_SECONDS, PinRequest};

/// With neither --high nor --cpu what there is is pinned where it is: memory.high, and the cpu quota if it has one.
///
/// While it is pinned no law moves the limit: not when the workload hits it, not for others who wait. What still holds: its bounds
/// and the budget, which it is charged to; it is never put below use. A workload that wants more is throttled until the pin
/// ends, and not ended by the stall rule.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Pin memory.high here; memory.max goes a band above it.
    #[arg(long, value_name = "SIZE")]
    high: Option<Bytes>,
    /// Pin the cpu quota here.
    #[arg(long, value_name = "CORES")]
    cpu: Option<Cpus>,
    /// For how long, for example 90s, 5m, 2h; a day at most [default: 1h].
    #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
    time: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct UnpinArguments {
    #[command(flatten)]
    target: Target,
}

fn seconds(text: &str) -> Result<u64, String> {
    seconds_of(text).ok_or_else(|| format!("{text:?} is not a duration: 90s, 5m, 2h, 1d"))
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { target, high, cpu, time } = arguments;
    target.give("pin", &PinRequest { high, cpu, seconds: time.unwrap_or(PIN_SECONDS) }).await
}

pub(super) async fn unpin(arguments: UnpinArguments) -> anyhow::Result<ExitCode> {
    arguments.target.give("unpin", &()).await
}
