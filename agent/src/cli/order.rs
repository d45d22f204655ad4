//! What the verbs that order something of one workload share: which one, and how the answer is told.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::Connection;
use super::client::Client;
use crate::api::words::text;
use crate::journal::What;
use crate::workload::spec::Name;

/// Which workload.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Its owner.
    #[arg(long, default_value = "default")]
    pub(super) tenant: Name,
    /// Its name.
    pub(super) name: Name,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Target {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.connection.runtime_dir)
    }

    /// Where an order to it is posted.
    pub(super) fn path(&self, order: &str) -> String {
        format!("/api/v1/workloads/{}/{}/{order}", self.tenant, self.name)
    }

    /// Gives an order, and tells what the agent's journal was told of it.
    pub(super) async fn give(&self, order: &str, what: &impl Serialize) -> anyhow::Result<ExitCode> {
        let done: What = self.client().post(&self.path(order), what).await?;
        if self.json {
            println!("{}", serde_json::to_string(&done)?);
        } else {
            println!("{}/{}: {}", self.tenant, self.name, text::what(&done));
        }
        Ok(ExitCode::SUCCESS)
    }
}
