//! A pin on the workload's cgroup, so that it outlives the agent that was given the word.
//!
//! Its end is an instant of the monotonic clock: that goes on for as long as the kernel does, and the cgroup is gone when it
//! ends. So no jump of the wall clock, and no time without an agent, makes a pin longer or shorter.

use bellows_policies::Pin;

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that holds it, as JSON.
const PIN: &str = "pin";

/// Notes a pin, over an older one.
pub fn write(cgroup: &Cgroup, pin: &Pin) -> Result<(), CgroupError> {
    cgroup.set_attribute(PIN, &serde_json::to_vec(pin).unwrap_or_default())
}

/// The pin of a workload; `None` without one, or with one that cannot be understood.
pub fn read(cgroup: &Cgroup) -> Result<Option<Pin>, CgroupError> {
    Ok(cgroup.attribute(PIN)?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Removes the pin, if there is one.
pub fn clear(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.remove_attribute(PIN)
}
