//! Launch and teardown: slow work that may block, done by a small pool of threads, never by the control loop.
//!
//! A launch writes every limit before the first process exists. A launch that fails leaves nothing behind. A teardown kills
//! what is left, waits until the cgroup is empty, reads the last counters (they vanish with the directory) and removes it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bellows_policies::sample::MemoryEvents;
use bellows_policies::units::Bytes;
use serde::{Deserialize, Serialize};

use super::spec::{Identity, Name, Spec};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::spawn::{self, Ended, Launch, Process, Program, SpawnError};
use crate::kernel::support::{OPTIONAL_CONTROLLERS, REQUIRED_CONTROLLERS};
use crate::kernel::{discover, parse};

/// The extended attribute with a workload's identity, as JSON.
pub const IDENTITY: &str = "identity";
/// The extended attribute with the `memory.max` that a dead agent's watchdog opens the workload to, in bytes as digits.
pub const FAILSAFE: &str = "failsafe";

/// How long a killed workload may take to become empty before the teardown is given up (and tried again).
const EMPTY_DEADLINE: Duration = Duration::from_secs(20);

/// The governed part of the tree, and what a launch needs besides.
#[derive(Debug)]
pub struct Ground {
    /// `<root>/workloads`.
    pub workloads: Cgroup,
    /// Where exit records are kept.
    pub records: PathBuf,
    /// The loaded `bellows-init`.
    pub init: Program,
}

/// A launch that the control loop has admitted.
#[derive(Debug)]
pub struct LaunchOrder {
    /// What is to run.
    pub spec: Arc<Spec>,
    /// Standard input, output and error of the command.
    pub stdio: [OwnedFd; 3],
    /// Limit files and values, in the order of writing.
    pub limits: Vec<(&'static str, String)>,
    /// The failsafe `memory.max`.
    pub failsafe: Bytes,
}

/// A workload that runs.
#[derive(Debug)]
pub struct Running {
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its first process.
    pub process: Process,
    /// How that ended: the kernel tells once, and a teardown may be tried again.
    ended: OnceLock<Option<Ended>>,
}

/// A launch failed; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The workload's cgroup could not be made or limited.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A cgroup of that name has processes in it.
    #[error("{0} exists already and has processes in it: choose another name, or end them (cgroup.kill)")]
    Occupied(PathBuf),
    /// The exit record could not be made.
    #[error("cannot make the exit record {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first process could not be started.
    #[error("{error}{}", if *.out_of_memory { " (the kernel killed it: its memory limit is too low)" } else { "" })]
    Spawn {
        /// What went wrong.
        error: SpawnError,
        /// The workload's memory limit was hit meanwhile.
        out_of_memory: bool,
    },
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Exit {
    /// Its command returned this code.
    Exited {
        /// The code.
        code: i32,
    },
    /// A signal ended its command.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// The kernel's OOM killer ended it at its limit.
    OutOfMemory,
    /// Its cgroup was removed by somebody else, and nobody knows how its command ended.
    Vanished,
}

impl Exit {
    /// The exit code that a shell would see.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited { code } => code,
            Self::Signaled { signal } => 128 + signal,
            Self::OutOfMemory => 128 + libc::SIGKILL,
            Self::Vanished => 125,
        }
    }
}

/// What a teardown found.
#[derive(Debug, Clone, Copy)]
pub struct Remains {
    /// How the workload ended.
    pub exit: Exit,
    /// Its last counters, hierarchical.
    pub events: MemoryEvents,
}

/// Makes the cgroup, limits it, and starts the command in it.
pub fn launch(ground: &Ground, order: LaunchOrder) -> Result<Running, LaunchError> {
    let identity = &order.spec.identity;
    let tenant = ground.workloads.ensure_child(identity.tenant.as_str())?;
    enable_controllers(&tenant)?;
    let cgroup = fresh_child(&tenant, &identity.name)?;
    let result = furnish(&cgroup, &order).and_then(|()| {
        let (file, path) = create_record(ground, &cgroup)?;
        start(ground, &cgroup, order, file).inspect_err(|_| drop(fs::remove_file(path)))
    });
    match result {
        Ok(process) => Ok(Running { cgroup, process, ended: OnceLock::new() }),
        Err(error) => {
            let error = explain(error, &cgroup);
            if let Err(e) = clear(&cgroup, &tenant, cgroup_name(&cgroup)) {
                crate::kernel::tell(&format!("after a failed launch: {e}"));
            }
            Err(error)
        }
    }
}

/// Ends and removes what is left of a workload. Blocks until it is empty.
pub fn tear_down(ground: &Ground, identity: &Identity, running: &Running) -> Result<Remains, CgroupError> {
    let tenant = ground.workloads.child(identity.tenant.as_str())?;
    let process = *running.ended.get_or_init(|| spawn::wait(&running.process.pidfd).ok().flatten());
    let cgroup = &running.cgroup;
    kill_and_wait(cgroup)?;
    let events = match cgroup.read("memory.events") {
        Ok(text) => parse::memory_events(text.as_bytes()),
        Err(e) if e.is_gone() => MemoryEvents::default(),
        Err(e) => return Err(e),
    };
    let path = record_path(ground, cgroup);
    let record = fs::read_to_string(&path).unwrap_or_default();
    let exit = how_it_ended(&record, events, process);
    match remove(&tenant, identity.name.as_str()) {
        Err(e) if e.is_gone() => {}
        other => other?,
    }
    let _ = fs::remove_file(path);
    Ok(Remains { exit, events })
}

/// Enables every controller that is there for the children of `cgroup`, one write each, so that one that is refused does not
/// take the others with it. Returns the optional ones that were refused.
pub fn enable_controllers(cgroup: &Cgroup) -> Result<Vec<&'static str>, CgroupError> {
    let enabled = cgroup.read("cgroup.subtree_control")?;
    let missing = |name: &&&str| !enabled.split_whitespace().any(|e| e == **name);
    for name in REQUIRED_CONTROLLERS.iter().filter(missing) {
        cgroup.write("cgroup.subtree_control", &format!("+{name}"))?;
    }
    let refused = |name: &&&str| cgroup.write("cgroup.subtree_control", &format!("+{name}")).is_err();
    Ok(OPTIONAL_CONTROLLERS.iter().filter(missing).filter(refused).copied().collect())
}

/// The truth about an end, from three witnesses: init's record, the kernel's kill counter, the parent's wait.
fn how_it_ended(record: &str, events: MemoryEvents, process: Option<Ended>) -> Exit {
    let recorded = record.lines().next().and_then(|line| {
        let (how, number) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        match how {
            "exited" => Some(Exit::Exited { code: number }),
            "signaled" => Some(Exit::Signaled { signal: number }),
            _ => None,
        }
    });
    match recorded {
        // The group is killed as one, but init may have seen the first victim before it was killed itself.
        None | Some(Exit::Signaled { signal: libc::SIGKILL }) if events.oom_kill > 0 => Exit::OutOfMemory,
        Some(exit) => exit,
        // Init itself was killed: by cgroup.kill, or by hand.
        None => match process {
            Some(Ended::Signaled(signal)) => Exit::Signaled { signal },
            Some(Ended::Exited(code)) => Exit::Exited { code },
            None => Exit::Vanished,
        },
    }
}

fn fresh_child(tenant: &Cgroup, name: &Name) -> Result<Cgroup, LaunchError> {
    match tenant.create_child(name.as_str()) {
        Err(e) if e.is_taken() => {
            let leftover = tenant.child(name.as_str())?;
            if leftover.is_populated()? {
                return Err(LaunchError::Occupied(leftover.path().to_owned()));
            }
            // An empty leftover may carry anybody's limits and counters: a new directory carries none.
            remove(tenant, name.as_str())?;
            Ok(tenant.create_child(name.as_str())?)
        }
        other => Ok(other?),
    }
}

fn furnish(cgroup: &Cgroup, order: &LaunchOrder) -> Result<(), LaunchError> {
    for (file, value) in &order.limits {
        cgroup.write(file, value)?;
    }
    let identity = serde_json::to_vec(&order.spec.identity).unwrap_or_default();
    cgroup.set_attribute(IDENTITY, &identity)?;
    cgroup.set_attribute(FAILSAFE, order.failsafe.0.to_string().as_bytes())?;
    Ok(())
}

fn start(ground: &Ground, cgroup: &Cgroup, order: LaunchOrder, record: File) -> Result<Process, LaunchError> {
    let mounts = discover::cgroup_mounts()
        .map_err(|e| LaunchError::Spawn { error: SpawnError::Channel(e), out_of_memory: false })?;
    let points: Vec<String> = mounts.iter().map(|m| m.point.display().to_string()).collect();
    let launch = Launch {
        cgroup,
        hostname: order.spec.identity.name.as_str(),
        cwd: &order.spec.cwd,
        cgroup_mounts: &points,
        hidden_mounts: &points,
        argv: &order.spec.argv,
        env: &order.spec.env,
        stdio: order.stdio,
        record,
    };
    spawn::start(&ground.init, launch).map_err(|error| LaunchError::Spawn { error, out_of_memory: false })
}

/// Before a step is blamed: was it the kernel that killed it?
fn explain(error: LaunchError, cgroup: &Cgroup) -> LaunchError {
    match error {
        LaunchError::Spawn { error, .. } => {
            let killed = cgroup
                .read("memory.events.local")
                .is_ok_and(|text| parse::memory_events(text.as_bytes()).oom_kill > 0);
            LaunchError::Spawn { error, out_of_memory: killed }
        }
        LaunchError::Cgroup(_) | LaunchError::Occupied(_) | LaunchError::Record { .. } => error,
    }
}

fn create_record(ground: &Ground, cgroup: &Cgroup) -> Result<(File, PathBuf), LaunchError> {
    let path = record_path(ground, cgroup);
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    file.map(|f| (f, path.clone())).map_err(|source| LaunchError::Record { path, source })
}

/// Named by the cgroup's id: unique for the time that the kernel is up, whatever the workload is called.
fn record_path(ground: &Ground, cgroup: &Cgroup) -> PathBuf {
    ground.records.join(cgroup.id().to_string())
}

fn kill_and_wait(cgroup: &Cgroup) -> Result<(), CgroupError> {
    match cgroup.kill().and_then(|()| cgroup.wait_empty(EMPTY_DEADLINE)) {
        Err(e) if e.is_gone() => Ok(()),
        other => other.map(drop),
    }
}

fn clear(cgroup: &Cgroup, tenant: &Cgroup, name: &str) -> Result<(), CgroupError> {
    kill_and_wait(cgroup)?;
    remove(tenant, name)
}

fn cgroup_name(cgroup: &Cgroup) -> &str {
    cgroup.path().file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// `rmdir`, leaf first. The kernel may say EBUSY for a moment after the last process has gone.
fn remove(parent: &Cgroup, name: &str) -> Result<(), CgroupError> {
    const TRIES: u32 = 50;
    let child = parent.child(name)?;
    for nested in child.children()? {
        remove(&child, &nested)?;
    }
    for attempt in 1.. {
        match parent.remove_child(name) {
            Err(e) if e.is_busy() && attempt < TRIES => std::thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    Ok(())
}

/// Makes the directory of exit records.
pub fn make_records(runtime_dir: &Path) -> io::Result<PathBuf> {
    let path = runtime_dir.join("exits");
    fs::create_dir_all(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oom(kills: u64) -> MemoryEvents {
        MemoryEvents { oom_kill: kills, ..MemoryEvents::default() }
    }

    #[test]
    fn the_truth_about_an_end() {
        let killed = Some(Ended::Signaled(9));
        let table = [
            ("exited 3\nunix_ns 1\n", oom(0), Some(Ended::Exited(3)), Exit::Exited { code: 3 }),
            ("signaled 15\n", oom(0), Some(Ended::Exited(143)), Exit::Signaled { signal: 15 }),
            ("", oom(1), killed, Exit::OutOfMemory),
            ("signaled 9\n", oom(2), killed, Exit::OutOfMemory),
            // The command outlived the kill of a helper and said so itself.
            ("exited 1\n", oom(1), Some(Ended::Exited(1)), Exit::Exited { code: 1 }),
            ("", oom(0), killed, Exit::Signaled { signal: 9 }),
            ("", oom(0), None, Exit::Vanished),
            ("garbage", oom(0), None, Exit::Vanished),
        ];
        for (record, events, process, expected) in table {
            assert_eq!(how_it_ended(record, events, process), expected, "{record:?} {events:?} {process:?}");
        }
        assert_eq!(Exit::OutOfMemory.code(), 137);
    }
}
