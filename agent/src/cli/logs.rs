//! `bellows logs`: what a detached workload has said.
//!
//! Its files are read here, without the agent. Who may not open them asks the agent, which shows a tenant's callers what is theirs.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use http_body_util::BodyExt;

use super::{Connection, Failure, NOT_FOUND};
use crate::client::Client;
use crate::workload::said::{LOOK_EVERY, Said};
use crate::workload::spec::Name;

/// Needs no agent, where the files of the log may be read. With -f it ends when the workload has ended for good, or is forgotten.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its owner.
    #[arg(long, default_value = "default")]
    tenant: Name,
    /// Its name.
    name: Name,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of what there is, the last ones.
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime_dir = &arguments.connection.runtime_dir;
    let Arguments { tenant, name, .. } = &arguments;
    match Said::open(runtime_dir, tenant, name, arguments.tail) {
        Ok(said) => read(said, arguments.follow).await?,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => ask(&arguments, runtime_dir).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = format!("there is no detached workload {tenant}/{name}: `bellows ps` lists them");
            return Err(anyhow::anyhow!(Failure { text, code: NOT_FOUND }));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read what {tenant}/{name} has said"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(mut said: Said, follow: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    loop {
        let is_over = !follow || said.is_over();
        let piece = said.next_piece().context("cannot read the log")?;
        out.write_all(&piece)?;
        out.flush()?;
        match (piece.is_empty(), is_over) {
            (false, _) => {}
            (true, true) => return Ok(()),
            (true, false) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn ask(arguments: &Arguments, runtime_dir: &Path) -> anyhow::Result<()> {
    let Arguments { tenant, name, follow, tail, .. } = arguments;
    let mut body = Client::new(runtime_dir).logs(tenant.as_str(), name.as_str(), *follow, *tail).await?;
    let mut out = io::stdout().lock();
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame.context("the agent ended before the log did")?.into_data() {
            out.write_all(&piece)?;
            out.flush()?;
        }
    }
    Ok(())
}
