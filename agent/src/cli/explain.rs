//! `bellows explain`: why a limit moved, or did not, and how a workload fares. The words are `api::words`.

use std::process::ExitCode;

use clap::Args;

use super::{Connection, Failure};
use crate::api::words;
use crate::client::Client;
use crate::workload::spec::Name;

/// Exit code of a wrong argument, as clap's.
const USAGE: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The id of a record, as `bellows events --json` and `explain` show it, or a workload.
    #[arg(value_name = "ID|TENANT/NAME")]
    what: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.connection.runtime_dir);
    let text = if let Ok(id) = arguments.what.parse::<u64>() {
        let explained = client.explain_record(id).await?;
        if arguments.json {
            serde_json::to_string(&explained)? + "\n"
        } else {
            words::record::text(&explained)
        }
    } else {
        let (tenant, name) = workload_named(&arguments.what)?;
        let explained = client.explain_workload(tenant.as_str(), name.as_str()).await?;
        if arguments.json {
            serde_json::to_string(&explained)? + "\n"
        } else {
            words::workload::text(&explained)
        }
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// `tenant/name`; the tenant `default` may be left out.
pub(super) fn workload_named(text: &str) -> anyhow::Result<(Name, Name)> {
    let (tenant, name) = text.split_once('/').unwrap_or(("default", text));
    let parse = |part: &str| {
        part.parse::<Name>().map_err(|error| Failure {
            text: format!(
                "{error}: a workload is TENANT/NAME, a record the number that `bellows events` shows"
            ),
            code: USAGE,
        })
    };
    Ok((parse(tenant)?, parse(name)?))
}

#[cfg(test)]
mod tests {
    use bellows_policies::Reason;
    use clap::CommandFactory;

    use crate::api::words::{Advice, advice};

    #[test]
    fn each_reason_has_its_own_meaning_and_a_command_that_exists() {
        let cli = super::super::Cli::command();
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let Advice { means, prevents, next } = advice(*reason);
            assert!(means.len() > 10 && prevents.len() > 10, "{reason:?}");
            let verb = next.strip_prefix("bellows ").unwrap().split(' ').next().unwrap();
            assert!(cli.get_subcommands().any(|known| known.get_name() == verb), "{reason:?}: {next}");
            let others = &Reason::ALL[index + 1..];
            assert!(others.iter().all(|other| advice(*other).means != means), "{reason:?}");
        }
    }
}
