//! The lease of a frozen workload, kept on its cgroup: who froze it is told by the tree, whatever becomes of the agent.
//!
//! An operator's freeze is a note of its own, and stands above: while it is there nobody else thaws the workload, the watchdog
//! of a dead agent least of all. That undoes what bellows did for its own ends; this was somebody's wish, who may be looking at
//! the workload just then, and it would run away from under them.
//!
//! A lease is written before the freezing and removed after the thaw. Where it stands and the workload runs, somebody has thawed
//! it meanwhile: the watchdog of a dead or hung agent, `release`, or an operator.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::clock;

/// The extended attribute that holds it, as JSON.
const FROZEN: &str = "frozen";
/// The extended attribute that says that an operator has frozen it: since when, in nanoseconds since the Unix epoch, as digits.
const PAUSED: &str = "paused";
/// The file that freezes and thaws.
const FREEZE: &str = "cgroup.freeze";
/// How long a workload may take to stand still. The kernel may have a task that it throttles at `memory.high` sleep for 2 s; one
/// that hangs for longer goes on.
const DEADLINE: Duration = Duration::from_secs(3);

/// How long it may take where somebody only wants to look: a watchdog waits for that.
const GLIMPSE: Duration = Duration::from_millis(500);

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

/// Looks at a workload while it stands still, as it runs otherwise. One that does not is looked at all the same. The note has
/// it thawed, should the agent die meanwhile.
pub fn still<T>(cgroup: &Cgroup, look: impl FnOnce() -> Result<T, CgroupError>) -> Result<T, CgroupError> {
    let note = Note { waiter: "".into(), unix_ns: clock::unix_nanoseconds() };
    cgroup.set_attribute(FROZEN, &serde_json::to_vec(&note).unwrap_or_default())?;
    let looked =
        cgroup.write(FREEZE, "1").and_then(|()| cgroup.wait_for("frozen", 1, GLIMPSE)).and_then(|_| look());
    // Whatever an operator's note says that is void: it ran.
    cgroup.write(FREEZE, "0")?;
    cgroup.remove_attribute(FROZEN)?;
    looked
}

/// Ends the lease: thaws a workload, unless an operator has frozen it; one that is not frozen stays as it is.
pub fn thaw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    if !is_paused(cgroup)? {
        cgroup.write(FREEZE, "0")?;
    }
    cgroup.remove_attribute(FROZEN)
}

/// Freezes a workload by an operator's order, which ends a lease on it, and waits until it stands still; false when it did not,
/// and was thawed again.
pub fn pause(cgroup: &Cgroup, unix_ns: u64) -> Result<bool, CgroupError> {
    cgroup.set_attribute(PAUSED, unix_ns.to_string().as_bytes())?;
    cgroup.remove_attribute(FROZEN)?;
    let frozen = cgroup.write(FREEZE, "1").and_then(|()| cgroup.wait_for("frozen", 1, DEADLINE));
    if !matches!(frozen, Ok(true)) {
        resume(cgroup)?;
    }
    frozen
}

/// Ends an operator's freeze. The note goes last: who dies in between leaves one that is void, and not a workload that stands
/// still for nobody.
pub fn resume(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.write(FREEZE, "0")?;
    cgroup.remove_attribute(PAUSED)
}

/// Whether an operator has frozen it.
pub fn is_paused(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    Ok(cgroup.attribute(PAUSED)?.is_some())
}

/// Whether it is to stand still.
pub fn is_frozen(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    Ok(cgroup.read(FREEZE)?.starts_with('1'))
}

/// The lease, if there is one.
pub fn read(cgroup: &Cgroup) -> Result<Option<Note>, CgroupError> {
    Ok(cgroup.attribute(FROZEN)?.and_then(|json| serde_json::from_slice(&json).ok()))
}
