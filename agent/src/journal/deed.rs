//! What happens in a workload's life besides its start and its end: by an operator's order, or by its own rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step in a workload's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    /// An operator told it to end.
    StopOrdered {
        /// The id of its cgroup: what its end is asked for by. Not called so, since a record has a field of that name.
        cgroup: u64,
        /// The signal that its command was sent.
        signal: i32,
        /// How long it may take, in milliseconds, before everything that is left of it is killed.
        grace_ms: u64,
    },
    /// It did not end in the time that it was given, and is killed.
    StopForced {},
    /// An operator froze it.
    Frozen {},
    /// It runs again after an operator's freeze.
    Thawed {
        /// By somebody else, in the kernel; else by an operator's order.
        elsewhere: bool,
    },
    /// It has ended, and is started again by its rule.
    RestartDue {
        /// After so many milliseconds.
        after_ms: u64,
        /// Runs in a row that ended too soon.
        failures: u32,
    },
    /// An operator told it to end while it waited to be started again: it is not.
    RestartCancelled {},
    /// It is asked for otherwise from now on, by a file.
    Applied {
        /// What differs.
        differences: Vec<String>,
    },
    /// Somebody has a command run beside it.
    Executed {
        /// The command, without its arguments: those may be secrets.
        command: String,
    },
    /// An operator had it forgotten, with all that it had said.
    Removed {},
}
