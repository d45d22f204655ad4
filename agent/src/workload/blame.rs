//! Why a launch failed. Init and the kernel tell of a step; before that is blamed, the counters of the workload's limits say whether
//! one of those was too low for it.

use std::io;
use std::path::PathBuf;

use bellows_policies::sample::MemoryEvents;

use super::ids::IdsError;
use super::parts::PartsError;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::parse;
use crate::kernel::spawn::SpawnError;

/// A launch failed; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The workload's cgroup could not be made or limited.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A cgroup of that name has processes in it.
    #[error("{0} exists already and has processes in it: choose another name, or end them (cgroup.kill)")]
    Occupied(PathBuf),
    /// A cgroup of that name is there, and not of our making.
    #[error("{0} exists already, and was not made by bellows: choose another name, or remove it (rmdir)")]
    NotOurs(PathBuf),
    /// The exit record could not be made.
    #[error("cannot make the exit record {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its tenant cannot have user ids of its own.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// It cannot be given what it asks for by the piece.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// It asks for what takes root.
    #[error("{0} takes root, and this agent is rootless: leave it out, or run the agent as root")]
    Rootless(&'static str),
    /// The first process could not be started.
    #[error("{error}{}", met.as_ref().map_or(String::new(), |met| format!(" ({met})")))]
    Spawn {
        /// What went wrong.
        error: SpawnError,
        /// The limit that was hit meanwhile, if one was.
        met: Option<Met>,
    },
}

/// Processes that a launch takes at the most: both stages of init, what writes the log, and the command.
const ENOUGH: u64 = 4;

/// A limit that was hit before the command was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Met {
    /// `memory.max`, its own or that of a cgroup above it.
    #[error("the kernel killed it: its memory limit, or one above it, is too low")]
    Memory,
    /// `pids.max`, by the value of its own.
    #[error("its limit of processes is too low: pids.max is {0}, and init and its command are two")]
    Processes(u64),
    /// That of a cgroup above it.
    #[error("a limit of processes above it is reached: pids.max of its tenant, or of the whole subtree")]
    ProcessesAbove,
}

/// Looks at the limits of a workload that could not be started.
pub(super) fn explain(error: LaunchError, cgroup: &Cgroup) -> LaunchError {
    match error {
        LaunchError::Spawn { error, .. } => LaunchError::Spawn { error, met: met(cgroup).ok().flatten() },
        other => other,
    }
}

fn met(cgroup: &Cgroup) -> Result<Option<Met>, CgroupError> {
    let MemoryEvents { oom, oom_kill, .. } = parse::memory_events(cgroup.read("memory.events")?.as_bytes());
    // Who is not to be killed is refused instead.
    if oom > 0 || oom_kill > 0 {
        return Ok(Some(Met::Memory));
    }
    if !has_no_room_for_processes(cgroup)? {
        return Ok(None);
    }
    let limit = cgroup.read("pids.max")?.trim().parse().ok();
    Ok(Some(limit.filter(|limit| *limit < ENOUGH).map_or(Met::ProcessesAbove, Met::Processes)))
}

/// Older kernels count where the fork was tried, which may be below; newer ones (6.11) from the limit that it met upwards.
fn has_no_room_for_processes(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    let events = cgroup.read("pids.events")?;
    let is_refused = parse::value_of(events.as_bytes(), "max").is_some_and(|count| count > 0);
    let is_below = |below: Result<Cgroup, CgroupError>| {
        below.and_then(|b| has_no_room_for_processes(&b)).unwrap_or(false)
    };
    Ok(is_refused || cgroup.below()?.any(is_below))
}
