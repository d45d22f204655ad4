//! `bellows agent`, and the watchdog that it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{self, OnExit, Overrides};

/// Flags override the configuration: `/etc/bellows/config.toml`, `--config`, `BELLOWS__SECTION__KEY`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The delegated cgroup to govern [default: the one that the agent is started in].
    #[arg(long, value_name = "CGROUP")]
    root: Option<PathBuf>,
    /// A configuration file (TOML), read after /etc/bellows/config.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sockets and exit records [default: /run/bellows].
    #[arg(long, value_name = "DIR", env = "BELLOWS_RUNTIME_DIR")]
    runtime_dir: Option<PathBuf>,
    /// The directory of policies [default: /etc/bellows/policies.d].
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Loopback address for metrics and reading [default: 127.0.0.1:9464].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What the node can grant from [default: the root's memory.max, or the machine's memory].
    #[arg(long, value_name = "SIZE")]
    capacity: Option<String>,
    /// What is never granted [default: a tenth of the capacity].
    #[arg(long, value_name = "SIZE")]
    reserve: Option<String>,
    /// What becomes of workloads when the agent is told to end [default: keep].
    #[arg(long, value_enum)]
    on_exit: Option<OnExit>,
}

#[derive(Debug, Args)]
pub(super) struct WatchdogArguments {
    #[arg(long)]
    root: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let on_exit = arguments.on_exit.map(|o| match o {
        OnExit::Keep => "keep".to_owned(),
        OnExit::Stop => "stop".to_owned(),
    });
    let path = |p: PathBuf| p.display().to_string();
    let values = [
        ("root", arguments.root.map(path)),
        ("runtime_dir", arguments.runtime_dir.map(path)),
        ("policies", arguments.policies.map(path)),
        ("http.listen", arguments.listen.map(|l| l.to_string())),
        ("node.capacity", arguments.capacity),
        ("node.reserve", arguments.reserve),
        ("agent.on_exit", on_exit),
    ];
    let values = values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let config = config::load(&Overrides { file: arguments.config, values })?;
    crate::agent::run(&config)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn watchdog(arguments: &WatchdogArguments) -> anyhow::Result<ExitCode> {
    crate::watchdog::run(&arguments.root)?;
    Ok(ExitCode::SUCCESS)
}
