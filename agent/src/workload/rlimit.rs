//! Limits of processes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A limit of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// The limit in force; unlimited when absent.
    #[serde(default)]
    pub soft: Option<u64>,
    /// What the limit can be raised to; unlimited when absent.
    #[serde(default)]
    pub hard: Option<u64>,
}

/// What limits of processes are of, in the kernel's order: see getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the kernel's names, explained by its manual")]
pub enum Resource {
    Cpu,
    Fsize,
    Data,
    Stack,
    Core,
    Rss,
    Nproc,
    Nofile,
    Memlock,
    As,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

impl Rlimit {
    /// As the kernel numbers them: of what, soft, hard.
    #[must_use]
    pub fn numbers(&self) -> [u64; 3] {
        [self.resource as u64, value(self.soft), value(self.hard)]
    }
}

/// What cannot be, if anything.
#[must_use]
pub fn problem(limits: &[Rlimit]) -> Option<String> {
    if let Some(twice) = limits
        .iter()
        .enumerate()
        .find_map(|(n, limit)| limits[..n].iter().any(|l| l.resource == limit.resource).then_some(limit))
    {
        return Some(format!("two limits of {:?} are given", twice.resource));
    }
    limits
        .iter()
        .find(|l| value(l.soft) > value(l.hard))
        .map(|limit| format!("the soft limit of {:?} is above the hard one", limit.resource))
}

/// The kernel's infinity is its largest number.
fn value(limit: Option<u64>) -> u64 {
    limit.unwrap_or(u64::MAX)
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(text.to_lowercase().into())
            .map_err(|_| format!("{text:?} is no resource limit"))
    }
}
