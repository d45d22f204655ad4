//! `bellows kill`: a signal for a workload.

use std::process::ExitCode;

use clap::Args;

use super::order::Target;
use crate::workload::life::SignalNumber;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The signal, by name or number. TERM goes to its command; KILL to every process in its cgroup.
    #[arg(short, long, default_value = "TERM")]
    signal: SignalNumber,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { target, signal: SignalNumber(signal) } = arguments;
    target.client().signal(target.tenant.as_str(), target.name.as_str(), signal).await?;
    if target.json {
        let Target { tenant, name, .. } = target;
        println!("{}", serde_json::json!({ "tenant": tenant, "name": name, "signal": signal }));
    }
    Ok(ExitCode::SUCCESS)
}
