//! `bellows agent`, and the watchdog that it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{self, OnExit, Overrides};

/// Flags override the configuration: `/etc/bellows/config.toml`, `--config`, `BELLOWS__SECTION__KEY`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

/// What an agent may be told by flags.
#[derive(Debug, Args)]
pub(super) struct Flags {
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
    /// The agent is in a container and governs a cgroup of the host, which it makes where it is missing: docs/kubernetes.md.
    #[arg(long)]
    in_container: bool,
    /// The mount namespace that workloads begin in, where the agent is given one of its own: /proc/1/ns/mnt [default: the agent's].
    #[arg(long, value_name = "FILE")]
    host_mounts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct WatchdogArguments {
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    apart: bool,
}

impl Flags {
    /// As a layer of the configuration.
    pub(super) fn overrides(self) -> Overrides {
        let on_exit = self.on_exit.map(|o| match o {
            OnExit::Keep => "keep".to_owned(),
            OnExit::Stop => "stop".to_owned(),
        });
        let path = |p: PathBuf| p.display().to_string();
        let values = [
            ("root", "--root", self.root.map(path)),
            ("runtime_dir", "--runtime-dir", self.runtime_dir.map(path)),
            ("policies", "--policies", self.policies.map(path)),
            ("http.listen", "--listen", self.listen.map(|l| l.to_string())),
            ("node.capacity", "--capacity", self.capacity),
            ("node.reserve", "--reserve", self.reserve),
            ("agent.on_exit", "--on-exit", on_exit),
            ("agent.in_container", "--in-container", self.in_container.then(|| "true".to_owned())),
            ("agent.host_mounts", "--host-mounts", self.host_mounts.map(path)),
        ];
        let given = values.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?)));
        Overrides { file: self.config, values: given.collect() }
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    crate::agent::run(&config::load(&arguments.flags.overrides())?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn hold() -> anyhow::Result<ExitCode> {
    crate::agent::hold()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn watchdog(arguments: &WatchdogArguments) -> anyhow::Result<ExitCode> {
    crate::watchdog::run(&arguments.root, arguments.apart)?;
    Ok(ExitCode::SUCCESS)
}
