//! A note on the cgroup of a workload whose limits are left to somebody else who wrote one (`foreign = "yield"`), so that neither
//! the next agent nor a watchdog writes over them.

use bellows_policies::ruleset::{Class, Foreign};

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that says so by being there.
const YIELDED: &str = "yielded";

/// Notes it.
pub fn note(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.set_attribute(YIELDED, b"1")
}

/// Whether it is noted.
pub fn is_noted(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    Ok(cgroup.attribute(YIELDED)?.is_some())
}

/// Whether it is noted, and the class still yields; else the note goes.
pub fn still(cgroup: &Cgroup, class: &Class) -> Result<bool, CgroupError> {
    let is_noted = is_noted(cgroup)?;
    if is_noted && class.foreign == Foreign::Reassert {
        clear(cgroup)?;
        return Ok(false);
    }
    Ok(is_noted)
}

/// They are bellows' again.
pub fn clear(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.remove_attribute(YIELDED)
}
