//! A lease: the limits that were in force before they were opened, kept on the workload's cgroup.
//!
//! Whoever opens limits (the watchdog of a dead or hung agent, an agent that leaves, `release`) notes first what was in
//! force; the agent that governs next goes back to that instead of guessing. Only a tripwire that stands is noted, and it
//! replaces an older note: so opening twice keeps the first note, and a note left over from an earlier opening does no harm.
//! A lease counts only where the tripwire is found open.

use bellows_policies::units::{Bytes, Limit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::supervisor::FAILSAFE_CPU;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::parse;

/// The extended attribute that holds it, as JSON.
const LEASE: &str = "lease";

/// The limits to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// `memory.high`, bytes.
    pub high: Bytes,
    /// `memory.max`, bytes.
    pub max: Bytes,
    /// `cpu.max` as the kernel spells it, for example `50000 100000`; absent where no quota is governed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

/// `memory.high` and `memory.max` as they stand in the kernel.
pub fn in_force(cgroup: &Cgroup) -> Result<(Limit, Limit), CgroupError> {
    let limit = |file| {
        let text = cgroup.read(file)?;
        // What cannot be understood is no limit that could be gone back to.
        Ok(parse::limit(text.as_bytes()).unwrap_or(Limit::Max))
    };
    Ok((limit("memory.high")?, limit("memory.max")?))
}

/// Notes the limits in force, if the tripwire stands; what stands open already keeps the note that it has.
pub fn note(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let (Limit::At(high), Limit::At(max)) = in_force(cgroup)? else { return Ok(()) };
    if high >= max {
        // Moved out of the way for the kernel to end the workload: nothing to go back to.
        return Ok(());
    }
    let cpu = match cgroup.attribute(FAILSAFE_CPU)? {
        Some(_) => Some(cgroup.read("cpu.max")?.trim().to_owned()),
        None => None,
    };
    write(cgroup, &Lease { high, max, cpu })
}

/// Writes a lease, over an older one.
pub fn write(cgroup: &Cgroup, lease: &Lease) -> Result<(), CgroupError> {
    cgroup.set_attribute(LEASE, &serde_json::to_vec(lease).unwrap_or_default())
}

/// The lease of a workload; `None` without one, or with one that cannot be understood.
pub fn read(cgroup: &Cgroup) -> Result<Option<Lease>, CgroupError> {
    Ok(cgroup.attribute(LEASE)?.and_then(|json| serde_json::from_slice(&json).ok()))
}

/// Removes the lease, if there is one: the limits are governed again.
pub fn clear(cgroup: &Cgroup) -> Result<(), CgroupError> {
    cgroup.remove_attribute(LEASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_of_older_and_newer_agents_are_read() {
        let lease =
            |cpu: Option<&str>| Lease { high: Bytes(4096), max: Bytes(8192), cpu: cpu.map(str::to_owned) };
        let table = [
            (r#"{"high":4096,"max":8192}"#, Some(lease(None))),
            (r#"{"high":4096,"max":8192,"cpu":"50000 100000"}"#, Some(lease(Some("50000 100000")))),
            (r#"{"high":4096,"max":8192,"io":"later"}"#, Some(lease(None))),
            (r#"{"high":4096}"#, None),
            ("", None),
        ];
        for (json, expected) in &table {
            assert_eq!(&serde_json::from_str(json).ok(), expected, "{json}");
        }
        assert_eq!(serde_json::to_string(&lease(None)).unwrap(), table[0].0);
    }
}
