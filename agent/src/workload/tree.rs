//! The delegated subtree: taken, locked, and laid out.
//!
//! ```text
//! <root>/                no processes
//!   supervisor/          the agent and its watchdog; what keeps the root for them, where they are a service elsewhere
//!   workloads/<tenant>/<workload>/
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::Flock;

use super::supervisor::enable_controllers;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::{container, discover, parse};
use bellows_policies::units::{Bytes, Limit};

const SUPERVISOR: &str = "supervisor";
/// The child of the root that tenants are in.
pub const WORKLOADS: &str = "workloads";
/// Memory of the agent and its watchdog that the kernel never reclaims.
const SUPERVISOR_MEMORY: Bytes = Bytes::mib(64);

/// A subtree that this process governs.
#[derive(Debug)]
pub struct Tree {
    /// The delegated root.
    pub root: Cgroup,
    /// `<root>/workloads`.
    pub workloads: Cgroup,
    _lock: Flock<OwnedFd>,
}

/// The subtree cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A cgroup could not be made or set up.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Another agent governs it.
    #[error("another agent governs {0} already: stop it first, or give this one another --root")]
    Governed(PathBuf),
    /// A controller could not be enabled, because processes are in the way.
    #[error(
        "{error}\n    {root} has processes of its own ({pids}), and a cgroup with processes cannot hand controllers on: \
         start the agent in a cgroup of its own, or move them: echo PID > {root}/{SUPERVISOR}/cgroup.procs"
    )]
    Inhabited {
        /// The refusal.
        error: CgroupError,
        /// The root.
        root: String,
        /// Who is in the way.
        pids: String,
    },
    /// Where this process is could not be found out.
    #[error("cannot find the agent's own cgroup: {0}; name one with --root")]
    Unknown(#[from] io::Error),
    /// The cgroups of the host are out of reach.
    #[error("the agent is told that it is in a container (--in-container): {0}")]
    Contained(io::Error),
}

/// The root that the agent governs: the one that was named, or the cgroup it was started in. Within a `supervisor/` that an
/// earlier agent, or a service manager, has made of it, that is one level up.
pub fn find_root(named: Option<&Path>) -> Result<PathBuf, TreeError> {
    if let Some(root) = named {
        return Ok(root.to_owned());
    }
    let own = discover::own_cgroup()?;
    let above = own.parent().unwrap_or(&own);
    let is_below = own.ends_with(SUPERVISOR)
        && (above.join(WORKLOADS).is_dir() || Cgroup::open(above).is_ok_and(|root| root.is_delegated()));
    Ok(if is_below { above.to_owned() } else { own })
}

/// For an agent in a container: leaves its view of the cgroups, and makes the root where it is missing. A container is told no cgroup of
/// the host's, and nobody else is there to make one.
pub fn step_out(root: &Path) -> Result<(), TreeError> {
    container::join_host_cgroups().map_err(TreeError::Contained)?;
    if let (false, Some(above), Some(name)) = (root.exists(), root.parent(), root.file_name()) {
        Cgroup::open(above)?.ensure_child(&name.to_string_lossy())?;
    }
    Ok(())
}

/// Takes `root`: locks it, moves this process to `supervisor/`, enables controllers, makes `workloads/`. A process that somebody manages
/// (`is_managed`: a service, a container) and that is outside of the root stays where it is: its manager knows it by that place, and
/// protects it there.
pub fn take(root: &Path, is_managed: bool) -> Result<Tree, TreeError> {
    let root = Cgroup::open(root)?;
    let lock = lock(&root)?;
    let stays = is_managed && discover::own_cgroup().is_ok_and(|own| !own.starts_with(root.path()));
    let supervisor = (!stays).then(|| enter(&root)).transpose()?;
    enable_controllers(&root).map_err(|error| inhabited(error, &root))?;
    supervisor.as_ref().inspect(|supervisor| protect(supervisor));
    let workloads = root.ensure_child(WORKLOADS)?;
    enable_controllers(&workloads)?;
    Ok(Tree { root, workloads, _lock: lock })
}

/// Has this process live in `root`, and nothing else.
pub fn hold(root: &Path) -> Result<(), TreeError> {
    enter(&Cgroup::open(root)?)?;
    Ok(())
}

fn enter(root: &Cgroup) -> Result<Cgroup, CgroupError> {
    // A new one, if nobody is in the old one: where that was ever killed by `cgroup.kill`, some kernels (Debian's 6.1.0-50) kill whatever
    // is cloned from there into a cgroup that was not.
    let _ = root.remove_child(SUPERVISOR);
    let supervisor = root.ensure_child(SUPERVISOR)?;
    supervisor.write("cgroup.procs", "0")?;
    Ok(supervisor)
}

/// The root grants at least what is promised below it. A service manager that reloads its units sets that back to what the unit says:
/// true where it had.
pub fn restore_protection(root: &Cgroup, workloads: &Cgroup) -> Result<bool, CgroupError> {
    let read = |cgroup: &Cgroup, file| Ok(parse::limit(cgroup.read(file)?.as_bytes()));
    let mut was_set_back = false;
    for file in ["memory.min", "memory.low"] {
        let (granted, promised) = (read(root, file)?, read(workloads, file)?);
        if let Some(promised) = promised.filter(|_| granted < promised) {
            root.write(file, &promised.to_string())?;
            was_set_back = true;
        }
    }
    Ok(was_set_back)
}

/// What the node can grant from: the memory of the machine, or the lowest limit of the root and of all that is above it. Beyond
/// a `memory.high` up there everybody would be throttled together, so that counts as well.
pub fn capacity(root: &Cgroup) -> io::Result<Bytes> {
    let machine = discover::machine_memory()?;
    let files = |cgroup: &Path| ["memory.max", "memory.high"].map(|file| cgroup.join(file));
    // Where the hierarchy ends there are no such files.
    let limit = |file: PathBuf| match parse::limit(std::fs::read_to_string(file).ok()?.as_bytes())? {
        Limit::At(bytes) => Some(bytes),
        Limit::Max => None,
    };
    Ok(root.path().ancestors().flat_map(files).filter_map(limit).fold(machine, Ord::min))
}

/// Waits for the lock: the watchdog of a dead agent holds it while it opens limits. That somebody waits is told by a lock on
/// `workloads/`, and the watchdog leaves the rest to us then.
fn lock(root: &Cgroup) -> Result<Flock<OwnedFd>, TreeError> {
    const TRIES: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(10);
    let mut told = None;
    for _ in 0..TRIES {
        if let Some(lock) = root.try_lock()? {
            return Ok(lock);
        }
        told = told.or_else(|| root.child(WORKLOADS).ok()?.try_lock().ok()?);
        std::thread::sleep(PAUSE);
    }
    Err(TreeError::Governed(root.path().to_owned()))
}

/// The agent must run when nothing else does. What an ancestor refuses is not fatal.
fn protect(supervisor: &Cgroup) {
    for (file, value) in [("memory.min", SUPERVISOR_MEMORY.0.to_string()), ("cpu.weight", "10000".to_owned())]
    {
        if let Err(error) = supervisor.write(file, &value) {
            crate::kernel::tell(&format!("the agent is less protected than it should be: {error}"));
        }
    }
}

fn inhabited(error: CgroupError, root: &Cgroup) -> TreeError {
    let pids = root.read("cgroup.procs").unwrap_or_default();
    let list: Vec<&str> = pids.split_whitespace().take(8).collect();
    if error.is_busy() && !list.is_empty() {
        let root = root.path().display().to_string();
        return TreeError::Inhabited { error, root, pids: format!("pid {}", list.join(", ")) };
    }
    TreeError::Cgroup(error)
}
