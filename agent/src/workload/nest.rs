//! The cgroups of a nested workload, which makes more of its own:
//!
//! ```text
//! <workload>/            its limits; no processes, and nothing of it can be seen from inside
//!   keeper/              what writes its log
//!   payload/             what is / inside: it belongs to the tenant's root, but for files that limit it
//!     init/              where it begins, so that / can hand controllers on at once
//! ```
//! What is measured and moved is the workload's own: `memory.events.local` tells of no limit that is set inside, and what is used
//! inside is charged to it.

use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::workload::supervisor::enable_controllers;

/// Most cgroups below the workload's: each costs the kernel some 30 KiB, on the workload's account. How deep they
/// may be is the tenant's bound.
const DESCENDANTS: &str = "1000";
/// Where the parts of a nested workload go.
#[derive(Debug)]
pub(super) struct Nest {
    pub(super) keeper: Cgroup,
    /// Where its first process is born, so that this is the root of its cgroup namespace.
    pub(super) payload: Cgroup,
    init: Cgroup,
}

impl Nest {
    /// Makes them in a workload's cgroup, before anything lives there.
    pub(super) fn lay_out(workload: &Cgroup) -> Result<Self, CgroupError> {
        workload.write("cgroup.max.descendants", DESCENDANTS)?;
        enable_controllers(workload)?;
        let payload = workload.create_child("payload")?;
        Ok(Self { keeper: workload.create_child("keeper")?, init: payload.create_child("init")?, payload })
    }

    /// Moves the first process, which has its namespaces by now, and gives the tree below to its `root`.
    pub(super) fn hand_over(&self, pid: i32, root: u32) -> Result<(), CgroupError> {
        self.init.write("cgroup.procs", &pid.to_string())?;
        enable_controllers(&self.payload)?;
        self.payload.give(root)?;
        self.init.give(root)
    }
}
