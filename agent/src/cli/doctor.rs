//! `bellows doctor`: the same checks that the agent insists on, all of them, with what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CHECK_FAILED;
use crate::agent;
use crate::config::{self, Overrides};
use crate::kernel::support::Status;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The delegated cgroup to check [default: the one of the configuration, else the one that this is started in].
    #[arg(long, value_name = "CGROUP")]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "every verb has this signature")]
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let root = arguments.root.clone().or_else(|| config::read(&Overrides::default()).config.root);
    let checks = agent::checks(root.as_deref());
    let failed = checks.iter().filter(|c| c.status == Status::Fail).count();
    if arguments.json {
        println!("{}", serde_json::json!({ "ready": failed == 0, "checks": checks }));
    } else {
        for check in &checks {
            let mark = match check.status {
                Status::Ok => "ok  ",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            println!("{mark}  {:<28} {}", check.name, check.found);
            if !check.fix.is_empty() {
                println!("      {:<28} -> {}", "", check.fix);
            }
        }
        let verdict = match failed {
            0 => "ready".to_owned(),
            1 => "not ready: 1 check failed".to_owned(),
            more => format!("not ready: {more} checks failed"),
        };
        println!("\n{verdict}");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}
