//! A workload in the words of `bellows run`'s flags: what a file of `bellows apply` says, and, as JSON, what the API takes of those who
//! write it by hand.
//!
//! What the flags and a manifest read alike is read by the same code. The rest of the agent has a [`Spec`], in which nothing is left
//! to be read.

mod isolation;

use std::collections::BTreeMap;
use std::fmt::Display;

use bellows_policies::Resources;
use bellows_policies::units::Bytes;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::isolation::Flags;
use super::since::grace_of;
use crate::workload::isolation::Isolation;
use crate::workload::life::{LOG_FILES, Life, LogBounds, Restart, SignalNumber};
use crate::workload::spec::{Asked, Name, Spec, default_tenant};

/// Where programs are looked for, when nobody says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A workload. What it does not say is as of `bellows run --detach` without that flag, but for the environment and the working
/// directory, which are nobody's.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its owner.
    #[serde(default = "default_tenant")]
    pub tenant: Name,
    /// Its name, unique within the tenant.
    pub name: Name,
    /// The class that it asks for.
    pub class: Option<Name>,
    /// Floor and ceiling of its memory limit: `64M..1G`.
    pub memory: Option<String>,
    /// Floor and ceiling of its cpu quota: `0.1..2`.
    pub cpu: Option<String>,
    /// The command and its arguments.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Its environment; `PATH` is that of a plain machine unless it is in here.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its working directory, as it sees it; `/` when absent.
    pub cwd: Option<String>,
    /// What it asks for by the piece.
    #[serde(default)]
    pub resources: Resources,
    /// Its box: `tenant`, or in the words of the flags.
    #[serde(default, deserialize_with = "isolation::read")]
    #[schemars(schema_with = "isolation::schema")]
    pub isolation: Isolation,
    /// The signal that asks it to end, by name or number, as a text: `INT`, `2`; `TERM` when absent.
    pub stop_signal: Option<String>,
    /// How long it may take to end after that: `30s`; ten seconds when absent.
    pub grace: Option<String>,
    /// When it is started again.
    pub restart: Option<Restart>,
    /// Whether it has a terminal that `bellows attach` sits down at.
    #[serde(default)]
    pub terminal: bool,
    /// The most that a file of its log holds: `4M`.
    pub log_size: Option<String>,
    /// How many files of its log there are, the current one included.
    #[schemars(range(min = *LOG_FILES.start(), max = *LOG_FILES.end()))]
    pub log_files: Option<u32>,
    /// Whether its output goes to the system's journal instead.
    #[serde(default)]
    pub log_journal: bool,
}

impl Manifest {
    /// What it asks for, as it can be launched; or what is wrong with it.
    pub fn spec(self) -> Result<Spec<Asked>, String> {
        let (memory, cpu) = (read("memory", self.memory, str::parse)?, read("cpu", self.cpu, str::parse)?);
        let (has_size, resources) = (self.log_size.is_some() || self.log_files.is_some(), self.resources);
        let identity =
            Asked { tenant: self.tenant, name: self.name, class: self.class, memory, cpu, resources };
        let flags = LifeFlags {
            stop_signal: read("stop_signal", self.stop_signal, str::parse)?,
            grace: read("grace", self.grace, grace_of)?,
            restart: self.restart,
            log_size: read("log_size", self.log_size, str::parse)?,
            log_files: self.log_files,
            log_journal: self.log_journal,
        };
        if self.log_journal && has_size {
            return Err(
                "log_journal: the journal has bounds of its own: no log_size and no log_files".to_owned()
            );
        }
        if let Some(name) = self.env.keys().find(|name| name.contains('=')) {
            return Err(format!("env: {name:?} is no name of a variable"));
        }
        let mut env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !self.env.contains_key("PATH") {
            env.push(format!("PATH={PATH}"));
        }
        let life = Life { terminal: self.terminal, ..flags.life() };
        let cwd = self.cwd.unwrap_or_else(|| "/".to_owned());
        let spec = Spec { identity, argv: self.command, env, cwd, isolation: self.isolation, life };
        spec.problem().map_or(Ok(spec), Err)
    }
}

/// `POST /api/v1/apply`. What is to run is said one of two ways.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["workload"] }, { "required": ["spec"] }]))]
pub struct ApplyRequest {
    /// What is to run, in the words of the command line, as a file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Manifest")]
    pub workload: Option<Manifest>,
    /// What is to run, as a launch says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Spec<Asked>")]
    pub spec: Option<Spec<Asked>>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl ApplyRequest {
    /// What is to run, or why nothing can.
    pub fn asked(self) -> Result<Spec<Asked>, String> {
        match (self.workload, self.spec) {
            (Some(manifest), None) => manifest.spec(),
            (None, Some(spec)) => spec.problem().map_or(Ok(spec), Err),
            (None, None) | (Some(_), Some(_)) => {
                Err("either workload or spec says what is to run".to_owned())
            }
        }
    }
}

/// A value as on the command line, after its word.
fn read<T, E: Display>(
    word: &str,
    text: Option<String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    text.map(|text| parse(&text).map_err(|error| format!("{word}: {error}"))).transpose()
}

/// How it is to live.
#[derive(Debug, Args)]
pub struct LifeFlags {
    /// The signal that `bellows stop` sends it [default: TERM].
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<SignalNumber>,
    /// How long it may take to end after that before it is killed [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = grace_of)]
    grace: Option<u64>,
    /// When it is started again: never, on-failure, always; a detached one only [default: never].
    #[arg(long, value_name = "RULE", requires = "detach")]
    restart: Option<Restart>,
    /// The most that a file of its log holds [default: 1 MiB].
    #[arg(long, value_name = "SIZE", requires = "detach")]
    log_size: Option<Bytes>,
    /// How many files of its log there are, the current one included [default: 4].
    #[arg(long, value_name = "N", requires = "detach")]
    log_files: Option<u32>,
    /// Its output goes to the system's journal instead, as of TENANT/NAME.
    #[arg(long, requires = "detach", conflicts_with_all = ["log_size", "log_files"])]
    log_journal: bool,
}

impl LifeFlags {
    /// The life that they ask for, without a terminal.
    #[must_use]
    pub fn life(&self) -> Life {
        let usual = Life::default();
        Life {
            stop_signal: self.stop_signal.map_or(usual.stop_signal, |number| number.0),
            grace_seconds: self.grace.unwrap_or(usual.grace_seconds),
            restart: self.restart.unwrap_or(usual.restart),
            log: LogBounds {
                bytes: self.log_size.unwrap_or(usual.log.bytes),
                files: self.log_files.unwrap_or(usual.log.files),
            },
            journal: self.log_journal,
            terminal: false,
        }
    }
}
