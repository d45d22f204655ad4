//! A cgroup that somebody else made in a tenant's: taken in as it is, and given back as it was.
//!
//! Of an adopted cgroup only `memory.high` is ever written, and that only while it is enforced. What it was before is noted on
//! the cgroup itself first, so that whoever opens limits (the watchdog, `release`, an agent that lets it go) can give it back
//! without knowing anything else. Nothing here, nor anything that bellows writes, can end a process: a tripwire throttles.

use std::sync::Arc;

use bellows_policies::units::Limit;

use super::spec::Name;
use super::supervisor::{Ground, Running, enable_controllers};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::parse;

/// The extended attribute with `memory.high` as it was before, as the kernel spells it.
const BEFORE: &str = "before";

/// Makes a tenant's cgroup ready for others to make theirs in it. Limits that are refused are told.
pub fn furnish(ground: &Ground, tenant: &Name, limits: &[(&'static str, String)]) -> Result<(), CgroupError> {
    let cgroup = ground.workloads.ensure_child(tenant.as_str())?;
    enable_controllers(&cgroup)?;
    for (file, value) in limits {
        if let Err(error) = cgroup.write(file, value) {
            crate::kernel::tell(&format!("tenant {tenant}: {error}"));
        }
    }
    Ok(())
}

/// Opens what somebody else has made. It has no init: nobody tells how it ends.
pub fn open(ground: &Ground, tenant: &Name, name: &Name) -> Result<Arc<Running>, CgroupError> {
    let cgroup = ground.workloads.child(tenant.as_str())?.child(name.as_str())?;
    Ok(Arc::new(Running::new(cgroup, None)))
}

/// What `memory.high` is to be given back to, if it was ever written.
pub fn noted(cgroup: &Cgroup) -> Result<Option<Limit>, CgroupError> {
    Ok(cgroup.attribute(BEFORE)?.map(|text| parse::limit(&text).unwrap_or(Limit::Max)))
}

/// Notes what it is to be given back to.
pub fn note(cgroup: &Cgroup, before: Limit) -> Result<(), CgroupError> {
    cgroup.set_attribute(BEFORE, before.to_string().as_bytes())
}

/// It is as it was.
pub fn forget(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.remove_attribute(BEFORE)
}

/// Gives `memory.high` back, and never lowers it: that could block. The note stays, for an agent that adopts it again. False
/// when there is nothing to be given back.
pub fn give_back(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    let Some(before) = noted(cgroup)? else { return Ok(false) };
    if parse::limit(cgroup.read("memory.high")?.as_bytes()).is_some_and(|present| present < before) {
        cgroup.write("memory.high", &before.to_string())?;
    }
    Ok(true)
}
