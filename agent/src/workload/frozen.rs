//! The lease of a frozen workload, kept on its cgroup: who froze it is told by the tree, whatever becomes of the agent.
//!
//! It is written before the freezing and removed after the thaw. Where it stands and the workload runs, somebody has thawed
//! it meanwhile: the watchdog of a dead or hung agent, `release`, or an operator.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that holds it, as JSON.
const FROZEN: &str = "frozen";
/// The file that freezes and thaws.
const FREEZE: &str = "cgroup.freeze";
/// How long a workload may take to stand still. The kernel may have a task that it throttles at `memory.high` sleep for 2 s; one
/// that hangs for longer goes on.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a workload is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// For whom, as `tenant/name`; empty for the node.
    pub waiter: Arc<str>,
    /// Since when, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

/// Freezes a workload, and waits until it stands still; false when it did not, and was thawed again.
pub fn freeze(cgroup: &Cgroup, note: &Note) -> Result<bool, CgroupError> {
    cgroup.set_attribute(FROZEN, &serde_json::to_vec(note).unwrap_or_default())?;
    let frozen = cgroup.write(FREEZE, "1").and_then(|()| cgroup.wait_for("frozen", 1, DEADLINE));
    if !matches!(frozen, Ok(true)) {
        thaw(cgroup)?;
    }
    frozen
}

/// Thaws a workload; one that is not frozen stays as it is.
pub fn thaw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.write(FREEZE, "0")?;
    cgroup.remove_attribute(FROZEN)
}

/// Whether it is to stand still.
pub fn is_frozen(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    Ok(cgroup.read(FREEZE)?.starts_with('1'))
}

/// The lease, if there is one.
pub fn read(cgroup: &Cgroup) -> Result<Option<Note>, CgroupError> {
    Ok(cgroup.attribute(FROZEN)?.and_then(|json| serde_json::from_slice(&json).ok()))
}
