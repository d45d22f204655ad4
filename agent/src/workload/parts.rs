//! What a workload is given by the piece (`bellows_policies::resources`) and the kernel: controllers that nobody else needs are
//! enabled on the way to it, and what has no effect is refused.
//!
//! Each cgroup costs more with each controller, so those of cpus and huge pages wait until somebody asks; the others then have all
//! that there is, as before. `pids.max` and `memory.swap.max` come with controllers that are always there.
//!
//! Changed while it runs, it is tried on the kernel before anything else of the order is done: whoever is refused one of it is
//! left with all that he had.

use std::sync::Arc;

use bellows_policies::Resources;
use bellows_policies::resources::is_within;

use super::spec::Identity;
use super::supervisor::{Ground, Running, identify};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::machine;

/// As the value of `cpuset.cpus` or `cpuset.mems`: all that there are. The kernel takes it so as long as nobody is in the cgroup.
pub const ALL: &str = "\n";

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
    /// It has more of them than it is to have, and the kernel does not take them away.
    #[error("{0} (it has more than that in use, and has to give them back first)")]
    InUse(#[source] CgroupError),
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

/// What of a running workload's parts is changed.
#[derive(Debug)]
pub struct Giving {
    /// Where.
    pub running: Arc<Running>,
    /// Who it is.
    pub from: Identity,
    /// Who it is to be.
    pub to: Identity,
    /// Files and values, in the order of writing.
    pub files: Vec<(&'static str, String)>,
    /// What is written to have it all as before.
    pub back: Vec<(&'static str, String)>,
}

impl Giving {
    /// Writes all of it, or leaves all as it was.
    pub fn carry_out(&self, ground: &Ground) -> Result<(), PartsError> {
        if self.files.is_empty() {
            return Ok(());
        }
        let cgroup = &self.running.cgroup;
        let tenant = ground.workloads.child(self.to.tenant.as_str())?;
        hand_on(&self.to.resources, [&ground.root, &ground.workloads, &tenant])?;
        // First: where this is cut short, whoever takes the workload over writes the rest.
        identify(cgroup, &self.to)?;
        let given = self.write(cgroup);
        if given.is_err() {
            self.undo(cgroup);
        }
        given
    }

    fn write(&self, cgroup: &Cgroup) -> Result<(), PartsError> {
        for (file, value) in &self.files {
            write(cgroup, file, value).map_err(|error| refused(file, error))?;
        }
        // What was there before may have lost its cpus since, which is nobody's fault now.
        let changed = |to: &Option<String>, from: &Option<String>| to.clone().filter(|_| to != from);
        let (from, to) = (&self.from.resources, &self.to.resources);
        let lists = Resources {
            cpuset_cpus: changed(&to.cpuset_cpus, &from.cpuset_cpus),
            cpuset_mems: changed(&to.cpuset_mems, &from.cpuset_mems),
            ..Resources::default()
        };
        check(&lists, cgroup)
    }

    fn undo(&self, cgroup: &Cgroup) {
        let tell =
            |error| crate::kernel::tell(&format!("{}, what was refused is not undone: {error}", self.to));
        let back = self.back.iter().map(|(file, value)| write(cgroup, file, value));
        back.filter_map(Result::err).for_each(tell);
        // Last, as it was first.
        identify(cgroup, &self.from).unwrap_or_else(tell);
    }
}

/// Writes a file of a class or of a workload's parts. Of a cgroup that has processes the kernel takes no empty list; but of all cpus
/// that there could ever be it uses those that there are.
pub(super) fn write(cgroup: &Cgroup, file: &str, value: &str) -> Result<(), CgroupError> {
    let all = match file {
        "cpuset.cpus" if value == ALL => machine::possible_cpus(),
        "cpuset.mems" if value == ALL => Some(machine::possible_nodes()),
        _ => None,
    };
    cgroup.write(file, all.as_deref().unwrap_or(value))
}

/// Whether the kernel may refuse a value of it that is sound by itself.
#[must_use]
pub fn is_part(file: &str) -> bool {
    ["cpuset.", "hugetlb.", "io."].iter().any(|controller| file.starts_with(controller))
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
    if !is_part(file) {
        return PartsError::Cgroup(error);
    }
    if error.is_busy() { PartsError::InUse(error) } else { PartsError::Refused(error) }
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
