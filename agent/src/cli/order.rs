//! What the verbs that order something of one workload share: which one, and how the answer is told.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::Connection;
use crate::api::words::text;
use crate::client::Client;
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

    /// Gives an order; what the agent's journal was told of it.
    pub(super) async fn order(&self, order: &str, what: &impl Serialize) -> anyhow::Result<What> {
        Ok(self.client().order(self.tenant.as_str(), self.name.as_str(), order, what).await?)
    }

    /// The same, told.
    pub(super) async fn give(&self, order: &str, what: &impl Serialize) -> anyhow::Result<ExitCode> {
        let done = self.order(order, what).await?;
        if self.json {
            println!("{}", serde_json::to_string(&done)?);
        } else {
            println!("{}/{}: {}", self.tenant, self.name, text::what(&done));
        }
        Ok(ExitCode::SUCCESS)
    }
}
