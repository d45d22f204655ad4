//! `bellows attach`: sits down at the terminal of a detached workload.
//!
//! Past the agent, to the process that keeps the terminal: so it works without one, and the end of one breaks off nothing.

use std::io;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::terminal::{self, Left};
use super::{Connection, Failure, NOT_FOUND, REFUSED};
use crate::kernel::terminal as kernel;
use crate::workload::shelf;
use crate::workload::spec::Name;

/// Ctrl-P Ctrl-Q leaves it, and so does the end of this command; the workload goes on. Several may be attached at a time: each
/// sees all that is said from then on, and types for the workload; the last one who has changed his window's size decides about
/// that. What was said before is in the log. Needs no agent.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The workload's owner.
    #[arg(long, default_value = "default")]
    tenant: Name,
    /// The workload's name.
    name: Name,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tenant, name, connection } = arguments;
    let directory = shelf::log_directory(&connection.runtime_dir, &tenant, &name);
    let called = kernel::call(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let text = format!(
                "only the agent's user may sit down at the terminal of {tenant}/{name}: do it as that user (`bellows exec -t` starts a \
                 command with a terminal beside it)"
            );
            anyhow!(Failure { text, code: REFUSED })
        }
        _ => anyhow!(error).context(format!("cannot reach the terminal of {tenant}/{name}")),
    })?;
    let Some(keeper) = called else {
        let text = format!(
            "there is no terminal of {tenant}/{name} to attach to: it has to run, and to have been started by \
             `bellows run --detach -t` or a file with terminal = true"
        );
        return Err(anyhow!(Failure { text, code: NOT_FOUND }));
    };
    match terminal::attend(keeper).await? {
        Left::Ended => eprintln!("bellows: {tenant}/{name}: nobody is at its terminal any more"),
        Left::Detached => eprintln!("bellows: {tenant}/{name}: left; it goes on"),
    }
    Ok(ExitCode::SUCCESS)
}
