//! The command line: one file per verb, all of them clients of the API, but for `agent`, `watchdog` and `doctor`.

mod agent;
mod apply;
mod attach;
mod config;
mod describe;
mod doctor;
mod events;
mod exec;
mod explain;
mod figures;
mod kill;
mod logs;
mod order;
mod pages;
mod pin;
mod policy;
mod ps;
mod record;
mod release;
mod resources;
mod run;
mod set;
mod simulate;
mod stop;
mod tenants;
mod terminal;
mod top;
mod unpack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, FromArgMatches, Parser, Subcommand};

pub use self::apply::parse as workload_files;
use crate::agent::NotReady;
use crate::api::API_SOCKET;
use crate::client::ClientError;
use crate::config::{Mistakes, SYSTEM_RUNTIME_DIR, runtime_dir};

/// Exit codes besides 0 and 1; 2 (usage) is clap's.
const CHECK_FAILED: u8 = 3;
const NOT_FOUND: u8 = 4;
const REFUSED: u8 = 5;

const AFTER_HELP: &str = "\
Exit codes: 0 ok, 1 failure, 2 usage, 3 a check found problems, 4 not found, 5 refused.
`run` and `exec` exit as their command does: its code, or 128 + the signal that ended it (137 when the kernel's OOM killer did).";

/// bellows: elastic memory limits for cgroup v2 workloads.
#[derive(Debug, Parser)]
#[command(name = "bellows", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Govern a delegated cgroup v2 subtree.
    Agent(agent::Arguments),
    /// Start a workload and stay with it: its output, its signals, its exit code.
    Run(Box<run::Arguments>),
    /// Have detached workloads run as files say.
    Apply(apply::Arguments),
    /// Run a command beside a workload, in its namespaces and its cgroup.
    Exec(exec::Arguments),
    /// Sit down at the terminal of a detached workload.
    Attach(attach::Arguments),
    /// Show what a detached workload has said.
    Logs(logs::Arguments),
    /// List workloads.
    Ps(ps::Arguments),
    /// Watch workloads as they change; freeze, thaw, kill.
    Top(top::Arguments),
    /// List tenants: what each is promised, allowed and granted.
    Tenants(tenants::Arguments),
    /// Show what happened: limits moved, workloads started and ended.
    Events(events::Arguments),
    /// Write down what workloads use, as a trace to simulate policies with.
    Record(record::Arguments),
    /// Tell everything about one workload: what bounds it, what it uses, who decided, what happened.
    Describe(describe::Arguments),
    /// Tell why: what a record was decided by, or how a workload fares.
    Explain(explain::Arguments),
    /// Tell a workload to end, and see to it that it does.
    Stop(stop::Arguments),
    /// Forget a detached workload that has ended, and its log.
    Rm(stop::RmArguments),
    /// Let a workload stand still, until it is thawed.
    Freeze(stop::FreezeArguments),
    /// Let a frozen workload run again.
    Thaw(stop::FreezeArguments),
    /// Signal a workload.
    Kill(kill::Arguments),
    /// Change what a running workload is governed by: its bounds, its class, its weight.
    Set(set::Arguments),
    /// Pin the limits of a workload: no law moves them for a while.
    Pin(pin::Arguments),
    /// Lift a pin before its time.
    Unpin(pin::UnpinArguments),
    /// Unpack the tar of a root file system, as `docker export` writes it; works without an agent.
    Unpack(unpack::Arguments),
    /// Open all limits to their ceilings and stop governing; works without an agent too.
    Release(release::Arguments),
    /// Check whether this machine is ready, and say what to do where it is not.
    Doctor(doctor::Arguments),
    /// Check and show the agent's configuration; works without an agent.
    Config(config::Arguments),
    /// Check, show, test and simulate policies; works without an agent.
    Policy(policy::Arguments),
    /// Print what a shell completes words by.
    Completion(pages::CompletionArguments),
    /// Print the manual page, or write those of all verbs.
    Man(pages::ManArguments),
    /// Started by systemd: keeps a delegated cgroup for the agent.
    #[command(hide = true)]
    Hold,
    /// Started by the agent: opens limits when the agent dies or hangs.
    #[command(hide = true)]
    Watchdog(agent::WatchdogArguments),
}

/// The verbs that scripts start again and again. To make up all verbs with all their flags takes longer than anything else that
/// `bellows run` does until it asks the agent, so these are looked for alone.
#[derive(Debug, Subcommand)]
enum Frequent {
    /// Start a workload and stay with it: its output, its signals, its exit code.
    Run(Box<run::Arguments>),
    /// Run a command beside a workload, in its namespaces and its cgroup.
    Exec(exec::Arguments),
}

impl Frequent {
    fn command() -> clap::Command {
        Self::augment_subcommands(clap::Command::new("bellows"))
    }
}

impl Verb {
    fn of_the_command_line() -> Self {
        let first = std::env::args_os().nth(1).unwrap_or_default();
        if first != "run" && first != "exec" {
            return Cli::parse().verb;
        }
        let verb = Frequent::from_arg_matches(&Frequent::command().get_matches());
        match verb.unwrap_or_else(|error| error.exit()) {
            Frequent::Run(arguments) => Self::Run(arguments),
            Frequent::Exec(arguments) => Self::Exec(arguments),
        }
    }
}

/// Where the agent is.
#[derive(Debug, Args)]
struct Connection {
    /// The agent's runtime directory, with its sockets.
    #[arg(long, value_name = "DIR", env = "BELLOWS_RUNTIME_DIR", default_value_os_t = nearest())]
    runtime_dir: PathBuf,
}

/// An ordinary user talks to an agent of its own, and where there is none to the system's, which says what it may do.
fn nearest() -> PathBuf {
    let own = runtime_dir();
    let system = PathBuf::from(SYSTEM_RUNTIME_DIR);
    let has_agent = |directory: &Path| directory.join(API_SOCKET).exists();
    if !has_agent(&own) && has_agent(&system) { system } else { own }
}

/// A failure of the command line's own, with an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failure {
    text: String,
    code: u8,
}

/// Parses the command line and carries it out.
#[must_use]
pub fn main() -> ExitCode {
    die_on_panic();
    let result = match Verb::of_the_command_line() {
        Verb::Agent(arguments) => agent::run(arguments),
        Verb::Hold => agent::hold(),
        Verb::Watchdog(arguments) => agent::watchdog(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Config(arguments) => Ok(config::run(arguments)),
        Verb::Policy(arguments) => policy::run(&arguments),
        Verb::Run(arguments) => on_runtime(run::run(*arguments)),
        Verb::Ps(arguments) => on_runtime(ps::run(arguments)),
        Verb::Top(arguments) => on_runtime(top::run(arguments)),
        Verb::Completion(arguments) => pages::completion(&arguments),
        Verb::Man(arguments) => pages::man(&arguments),
        Verb::Tenants(arguments) => on_runtime(tenants::run(arguments)),
        Verb::Events(arguments) => on_runtime(events::run(arguments)),
        Verb::Record(arguments) => on_runtime(record::run(arguments)),
        Verb::Describe(arguments) => on_runtime(describe::run(arguments)),
        Verb::Explain(arguments) => on_runtime(explain::run(arguments)),
        Verb::Stop(arguments) => on_runtime(stop::run(arguments)),
        Verb::Apply(arguments) => on_runtime(apply::run(arguments)),
        Verb::Attach(arguments) => on_runtime(attach::run(arguments)),
        Verb::Exec(arguments) => on_runtime(exec::run(arguments)),
        Verb::Logs(arguments) => on_runtime(logs::run(arguments)),
        Verb::Rm(arguments) => on_runtime(stop::rm(arguments)),
        Verb::Freeze(arguments) => on_runtime(stop::freeze(arguments)),
        Verb::Thaw(arguments) => on_runtime(stop::thaw(arguments)),
        Verb::Kill(arguments) => on_runtime(kill::run(arguments)),
        Verb::Set(arguments) => on_runtime(set::run(arguments)),
        Verb::Pin(arguments) => on_runtime(pin::run(arguments)),
        Verb::Unpin(arguments) => on_runtime(pin::unpin(arguments)),
        Verb::Unpack(arguments) => unpack::run(&arguments),
        Verb::Release(arguments) => on_runtime(release::run(arguments)),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bellows: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(Failure { code, .. }) = error.downcast_ref() {
        return *code;
    }
    if error.is::<NotReady>() || error.is::<Mistakes>() {
        return CHECK_FAILED;
    }
    match error.downcast_ref() {
        Some(ClientError::Problem { status: 404, .. }) => NOT_FOUND,
        Some(
            ClientError::Problem { status: 403 | 409 | 422 | 507, .. }
            | ClientError::Forbidden(_)
            | ClientError::StdioRefused,
        ) => REFUSED,
        Some(
            ClientError::Problem { .. }
            | ClientError::Unreachable { .. }
            | ClientError::BrokeOff { .. }
            | ClientError::StdioBusy
            | ClientError::NotUnderstood(_),
        )
        | None => 1,
    }
}

/// A panic in any thread ends the process: an agent without its control loop must be dead, so that its watchdog sees it.
fn die_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // What `println!` says where `bellows ps | head` has read enough.
        let said = info.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(0);
        }
        report(info);
        std::process::abort();
    }));
}

fn on_runtime(verb: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(verb)
}

/// `bellows events | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// What is looked for alone is the same command, word for word.
    #[test]
    fn a_frequent_verb_is_as_among_all() {
        let (mut frequent, mut all) = (Frequent::command(), Cli::command());
        frequent.build();
        all.build();
        for verb in frequent.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let among_all = all.find_subcommand_mut(verb.get_name()).expect("it is a verb");
            let (alone, beside) =
                (verb.render_long_help().to_string(), among_all.render_long_help().to_string());
            assert!(alone == beside && alone.contains("Usage: bellows "), "{alone}{beside}");
        }
    }
}
