//! `bellows set`: changes what a running workload is governed by.

use std::process::ExitCode;

use bellows_policies::CpuBounds;
use bellows_policies::units::{Bounds, Bytes};
use clap::Args;

use super::order::Target;
use crate::workload::change::{Change, Setting};
use crate::workload::spec::Name;

/// What is not given stays. A value of the workload's own stays with it over reloads of policies and restarts of the agent;
/// `class` gives the value back to its class.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    wanted: Wanted,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Wanted {
    /// Its class: latency, standard, batch, or one of the agent's policies.
    #[arg(long)]
    class: Option<Name>,
    /// Floor and ceiling of its memory limit, for example 64M..1G; within those of its class.
    #[arg(long, value_name = "FLOOR..CEILING|class")]
    memory: Option<Setting<Bounds>>,
    /// Floor and ceiling of its cpu quota, for example 0.1..2; only of a workload that was launched with a quota.
    #[arg(long, value_name = "FLOOR..CEILING|class")]
    cpu: Option<Setting<CpuBounds>>,
    /// Its share of memory and cpu beside others, from 1 to 10000.
    #[arg(long, value_name = "WEIGHT|class")]
    weight: Option<Setting<u32>>,
    /// The most processes and threads that it has; within what its class allows.
    #[arg(long, value_name = "N|class")]
    pids: Option<Setting<u64>>,
    /// The most of it that may be swapped out, 0 for nothing; within what its class allows.
    #[arg(long, value_name = "SIZE|class")]
    swap: Option<Setting<Bytes>>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Wanted { class, memory, cpu, weight, pids, swap } = arguments.wanted;
    arguments.target.give("set", &Change { class, memory, cpu, weight, pids, swap }).await
}
