//! `bellows run`: starts a workload and stays with it, or leaves it to the agent.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bellows_policies::CpuBounds;
use bellows_policies::units::Bounds;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::exec;
use super::terminal::Ordered;
use super::{Connection, resources};
use crate::api::manifest::{Flags, LifeFlags};
use crate::api::types::LaunchRequest;
use crate::client::Client;
use crate::control::Ended;
use crate::workload::isolation::{Isolation, Root, Whose};
use crate::workload::life::Life;
use crate::workload::records::{self, Exit};
use crate::workload::spec::{Asked, Name, Spec};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its owner.
    #[arg(long, default_value = "default")]
    tenant: Name,
    /// Its name, unique within the tenant.
    #[arg(long)]
    name: Name,
    /// Floor and ceiling of its memory limit, for example 64M..1G; within those of its class [default: those].
    #[arg(long, value_name = "FLOOR..CEILING")]
    memory: Option<Bounds>,
    /// Floor and ceiling of its cpu quota, for example 0.1..2; within those of its class [default: those, and if it has
    /// none, its weight alone decides].
    #[arg(long, value_name = "FLOOR..CEILING")]
    cpu: Option<CpuBounds>,
    /// Its class: latency, standard, batch, or one of the agent's policies [default: by the policies' rules, or standard].
    #[arg(long)]
    class: Option<Name>,
    /// Start it and leave it alone: its output goes to a log (`bellows logs`), and the agent remembers how it ended.
    #[arg(long, short)]
    detach: bool,
    /// Give it a terminal: the one at standard input, or with --detach one that `bellows attach` sits down at.
    #[arg(long, short)]
    terminal: bool,
    /// A variable of its environment, which otherwise is this command's; of a box with users of its own, that is PATH, and this
    /// command's TERM, LANG and LC_ALL. Repeatable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Its working directory, as it sees it [default: this command's; / in a root file system or among mounts of somebody else].
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    #[command(flatten)]
    life: LifeFlags,
    /// Print how it ended as JSON on standard error; of a detached one, that it was started, on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    resources: resources::Flags,
    #[command(flatten)]
    isolation: Flags,
    #[command(flatten)]
    connection: Connection,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Starts it, and leaves it to the agent.
async fn detach(client: &Client, spec: Spec<Asked>, is_json: bool) -> anyhow::Result<ExitCode> {
    let Asked { tenant, name, .. } = spec.identity.clone();
    let launched = client.launch(&LaunchRequest { spec, stdio: None }).await?;
    if is_json {
        println!("{}", serde_json::json!({ "tenant": tenant, "name": name, "pid": launched.pid }));
    } else {
        println!("{tenant}/{name}: started as pid {}", launched.pid);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let (tenant, name) = (arguments.tenant.clone(), arguments.name.clone());
    let Arguments { tenant: owner, name: own, memory, cpu, class, .. } = arguments;
    let resources = arguments.resources.resources();
    let identity = Asked { tenant: owner, name: own, class, memory, cpu, resources };
    let life = Life { terminal: arguments.terminal, ..arguments.life.life() };
    let isolation = arguments.isolation.isolation();
    let cwd = arguments.cwd.map_or_else(|| directory(&isolation), Ok)?;
    let env = environment(&isolation, arguments.env);
    let spec = Spec { identity, argv: arguments.command, env, cwd, isolation, life };
    if arguments.detach {
        return detach(&client, spec, arguments.json).await;
    }
    // Before the launch: a signal that comes meanwhile is for the workload.
    let mut signals = Signals::listen()?;
    let (terminal, instead) = arguments.terminal.then(Ordered::new).transpose()?.unzip();
    let (stdio, connection) = client.pass_stdio(instead, None)?;
    let request = LaunchRequest { spec, stdio: Some(stdio) };
    let launched = client.launch(&request).await.map_err(|error| {
        if error.is_refusal() {
            return error.into();
        }
        anyhow::Error::new(error)
            .context(format!("{tenant}/{name} may have been started or not: `bellows ps` tells"))
    })?;
    drop(connection);
    let seat = match &terminal {
        Some(terminal) => terminal.sit_down().await?,
        None => None,
    };

    let label = format!("{tenant}/{name}");
    let wait = wait_for_end(&client, &label, launched.id);
    tokio::pin!(wait);
    let ended = loop {
        tokio::select! {
            ended = &mut wait => break ended?,
            number = signals.next() => {
                if let Err(error) = client.signal(tenant.as_str(), name.as_str(), number).await {
                    eprintln!("bellows: signal {number} is not passed on: {error}");
                }
            }
        }
    };
    if let Some(seat) = seat {
        seat.stand_up().await;
    }
    if arguments.json {
        eprintln!("{}", serde_json::to_string(&ended)?);
    } else if !matches!(ended.exit, Exit::Exited { .. }) {
        eprintln!("bellows: {tenant}/{name}: {}", ended.text);
    }
    Ok(ExitCode::from(u8::try_from(ended.code & 0xff).unwrap_or(1)))
}

/// Waits for the end. An agent that goes away leaves the workload running: the next one knows how it ended, and so may its
/// exit record, should none come.
pub(super) async fn wait_for_end(client: &Client, label: &str, id: u64) -> anyhow::Result<Ended> {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = FIRST_PAUSE;
    let mut is_lost = false;
    loop {
        let error = match client.exit(id).await {
            Ok(ended) => return Ok(ended),
            Err(error) => error,
        };
        if let Some(ended) = records::without_agent(client.directory(), id) {
            return Ok(ended);
        }
        if error.is_refusal() && !error.is_passing() {
            return Err(anyhow::Error::new(error).context(format!("cannot learn how {label} ended")));
        }
        if !is_lost {
            eprintln!("bellows: lost the agent; waiting for it to come back (the workload goes on)");
            is_lost = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where it begins. In a root of another directory, there is no reason why ours should be there, nor among somebody else's mounts.
fn directory(isolation: &Isolation) -> anyhow::Result<String> {
    Ok(match &isolation.root {
        Root::Host if isolation.namespaces.mount.is_new() => {
            let own = std::env::current_dir().context("the working directory is gone")?;
            own.to_string_lossy().into_owned()
        }
        Root::Host | Root::Directory { .. } => "/".to_owned(),
    })
}

/// This process' environment, as far as it is text, and what was asked for, which counts. A box with users of its own gets no more of it than
/// a command beside it does: whoever is in there can read it.
fn environment(isolation: &Isolation, asked: Vec<String>) -> Vec<String> {
    if isolation.namespaces.user != Whose::Host {
        return exec::with_the_usual(asked);
    }
    std::env::vars_os()
        .filter_map(|(key, value)| Some(format!("{}={}", key.into_string().ok()?, value.into_string().ok()?)))
        .chain(asked)
        .collect()
}

/// The signals that are passed on.
pub(super) struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    user1: tokio::signal::unix::Signal,
    user2: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    pub(super) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.hangup.recv() => libc::SIGHUP,
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.quit.recv() => libc::SIGQUIT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.user1.recv() => libc::SIGUSR1,
            _ = self.user2.recv() => libc::SIGUSR2,
        }
    }
}
