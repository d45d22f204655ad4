//! Who asked, whoever is at the other end of the control socket as the kernel vouches for it, and what can be asked for.

use std::fmt;

use bellows_policies::{Bounds, Bytes, CpuBounds, Resources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A client of the control socket when it connected. Carried by the record of whatever it asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its groups, the supplementary ones too: what it may do may depend on them. Not recorded.
    #[serde(skip)]
    pub groups: Box<[u32]>,
    /// Its process as the agent sees it; 0 when it is in a pid namespace that the agent does not see.
    pub pid: i32,
    /// The name of that process, which it chooses itself: a hint, no proof.
    pub command: String,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} (pid {}, {})", self.uid, self.pid, self.command)
    }
}

/// What a workload is governed by, as far as an operator can set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Conditions {
    /// Its class.
    pub class: String,
    /// Between what its memory limit moves.
    pub memory: Bounds,
    /// Between what its cpu quota moves, if it has one.
    pub cpu: Option<CpuBounds>,
    /// Its share of memory and cpu beside others.
    pub weight: u32,
    /// The most processes that it has, if that is its own and not its class's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// The most of it that may be swapped out, the same, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Bytes>,
    /// All that it has of its own by the piece, those two included; nothing of a record of old.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Box<Resources>,
}
