//! What a workload is given by the piece (`bellows_policies::resources`) and the kernel: controllers that nobody else needs are
//! enabled on the way to it, and what has no effect is refused.
//!
//! Each cgroup costs more with each controller, so those of cpus and huge pages wait until somebody asks; the others then have all
//! that there is, as before. `pids.max` and `memory.swap.max` come with controllers that are always there.

use bellows_policies::Resources;
use bellows_policies::resources::is_within;

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// It cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// A controller is not there.
    #[error(
        "{root} has no controller {name}: this kernel lacks it, or it is not handed on (echo +{name} > cgroup.subtree_control in \
         the cgroup above; under systemd, Delegate= hands on cpuset and io, and never hugetlb)"
    )]
    NoController {
        /// Which one.
        name: &'static str,
        /// Where.
        root: String,
    },
    /// The kernel refuses it.
    #[error("{0} (are there such cpus, memory nodes, devices, huge pages?)")]
    Refused(#[source] CgroupError),
    /// The cgroup above has none of what is asked for, and the kernel would give all that it has instead.
    #[error("--{flag} {asked} is refused: what there is above it is {found}")]
    NoneOfIt {
        /// What asks for it.
        flag: &'static str,
        /// What is asked for.
        asked: String,
        /// What would be had.
        found: String,
    },
    /// The tree could not be read.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Enables what it takes on the way to the workload. `above` is that way, the delegated root first.
pub(super) fn hand_on(resources: &Resources, above: [&Cgroup; 3]) -> Result<(), PartsError> {
    for name in resources.controllers() {
        for cgroup in above {
            let lists = |file: &str| {
                Ok::<_, CgroupError>(cgroup.read(file)?.split_whitespace().any(|other| other == name))
            };
            if !lists("cgroup.controllers")? {
                return Err(PartsError::NoController { name, root: cgroup.path().display().to_string() });
            }
            if !lists("cgroup.subtree_control")? {
                cgroup.write("cgroup.subtree_control", &format!("+{name}"))?;
            }
        }
    }
    Ok(())
}

/// A write that is refused, told as what it is.
pub(super) fn refused(file: &str, error: CgroupError) -> PartsError {
    let is_part = ["cpuset.", "hugetlb.", "io."].iter().any(|controller| file.starts_with(controller));
    if is_part { PartsError::Refused(error) } else { PartsError::Cgroup(error) }
}

/// Makes sure that what was written holds: of cpus that its parent does not have, the kernel makes all that it has.
pub(super) fn check(resources: &Resources, cgroup: &Cgroup) -> Result<(), PartsError> {
    let lists = [
        ("cpuset-cpus", "cpuset.cpus.effective", &resources.cpuset_cpus),
        ("cpuset-mems", "cpuset.mems.effective", &resources.cpuset_mems),
    ];
    for (flag, file, asked) in lists {
        let Some(asked) = asked else { continue };
        let found = cgroup.read(file)?.trim().to_owned();
        if !is_within(&found, asked) {
            return Err(PartsError::NoneOfIt { flag, asked: asked.clone(), found });
        }
    }
    Ok(())
}
