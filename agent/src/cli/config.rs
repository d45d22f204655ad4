//! `bellows config`: checks the agent's configuration, and shows what it comes to. Without an agent.

use std::process::ExitCode;

use bellows_policies::ruleset::Defaults;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::CHECK_FAILED;
use super::agent::Flags;
use super::policy::tell;
use crate::config::{self, Config, Reading};
use crate::kernel::discover;
use crate::policy::{self, Compiled, Node};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check the files, the environment, the flags, and the policies that they name: everything that is wrong, at once.
    Check(Check),
    /// Show the effective configuration, as a file.
    Show(Show),
}

/// The flags are those of `bellows agent`.
#[derive(Debug, Args)]
struct Check {
    #[command(flatten)]
    flags: Flags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The flags are those of `bellows agent`.
#[derive(Debug, Args)]
struct Show {
    /// With the origin of each value: a file and its line, an environment variable, a flag, or `default`.
    #[arg(long)]
    origins: bool,
    #[command(flatten)]
    flags: Flags,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    match arguments.verb {
        Verb::Check(Check { flags, json }) => check(&config::read(&flags.overrides()), json),
        Verb::Show(Show { origins, flags, json }) => show(&config::read(&flags.overrides()), origins, json),
    }
}

fn check(reading: &Reading, json: bool) -> ExitCode {
    let compiled = policies(&reading.config);
    let problems = reading.diagnostics.len() + compiled.diagnostics.len();
    if json {
        let own = reading.diagnostics.iter().map(|d| d.json(&reading.sources));
        let others = compiled.diagnostics.iter().map(|d| d.json(&compiled.sources));
        let all: Vec<_> = own.chain(others).collect();
        println!("{}", serde_json::json!({ "ok": problems == 0, "diagnostics": all }));
    } else {
        reading.told().iter().for_each(|told| eprintln!("{told}"));
        tell(&compiled);
        if problems == 0 {
            let (layers, files) = (reading.sources.len(), compiled.sources.len());
            println!("ok: {layers} files, variables and flags; {files} files of policies");
        } else {
            eprintln!("{problems} problems");
        }
    }
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) }
}

/// The policies that it names, on this machine.
fn policies(config: &Config) -> Compiled {
    let node = Node {
        defaults: Defaults { memory: config.memory, pids: config.workload.pids },
        given: config.node.capacity.map(|size| size.0),
        machine: discover::machine_memory().ok(),
    };
    policy::load(&config.policies, node)
}

/// What JSON has for a text, a number, a flag or a list of those, TOML has too.
fn toml(value: &Value) -> String {
    let Value::Object(members) = value else { return value.to_string() };
    let members: Vec<String> = members
        .iter()
        .map(|(key, value)| format!("{} = {}", Value::from(key.as_str()), toml(value)))
        .collect();
    format!("{{ {} }}", members.join(", "))
}

fn show(reading: &Reading, origins: bool, json: bool) -> ExitCode {
    if !reading.diagnostics.is_empty() {
        reading.told().iter().for_each(|told| eprintln!("{told}"));
        return ExitCode::from(CHECK_FAILED);
    }
    let values = reading.values().into_iter();
    if json {
        let told = values.map(|(key, value)| {
            let origin = reading.origin(&key);
            let value = if origins { serde_json::json!({ "value": value, "origin": origin }) } else { value };
            (key, value)
        });
        println!("{}", Value::Object(told.collect()));
        return ExitCode::SUCCESS;
    }
    let mut section = String::new();
    for (path, value) in values {
        let (of, key) = path.rsplit_once('.').unwrap_or(("", &path));
        if of != section {
            println!("\n[{of}]");
            of.clone_into(&mut section);
        }
        let line =
            if value.is_null() { format!("# {key} is not set") } else { format!("{key} = {}", toml(&value)) };
        if origins { println!("{line:<40} # {}", reading.origin(&path)) } else { println!("{line}") }
    }
    ExitCode::SUCCESS
}
