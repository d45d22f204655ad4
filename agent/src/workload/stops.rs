//! An order to end, kept on the workload's cgroup before anything is done: the agent that comes next goes on with it, and does
//! not take the end for a failure.

use bellows_policies::units::Instant;
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that holds it, as JSON.
const STOP: &str = "stop";

/// An order to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal that asks its command to end.
    pub signal: i32,
    /// When everything that is left is killed: on the monotonic clock, which goes on for as long as the cgroup can.
    pub until: Instant,
    /// Whether the signal was sent. Where it is not known, it is sent again.
    pub is_sent: bool,
}

/// Notes an order, over an older one.
pub fn write(cgroup: &Cgroup, stop: &Stop) -> Result<(), CgroupError> {
    cgroup.set_attribute(STOP, &serde_json::to_vec(stop).unwrap_or_default())
}

/// Notes that there is none: it could not be given.
pub fn withdraw(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.remove_attribute(STOP)
}

/// The order, if there is one that is understood.
pub fn read(cgroup: &Cgroup) -> Result<Option<Stop>, CgroupError> {
    Ok(cgroup.attribute(STOP)?.and_then(|json| serde_json::from_slice(&json).ok()))
}
