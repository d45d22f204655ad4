//! Where the benchmark works: a cgroup of its own below the given one, and a scratch directory. Both vanish at the end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bellows::kernel::{Cgroup, discover};
use bellows::workload::supervisor::enable_controllers;

/// How long killed processes may take to leave.
const EMPTY_DEADLINE: Duration = Duration::from_secs(30);

/// The place of one run.
#[derive(Debug)]
pub(crate) struct Place {
    parent: Cgroup,
    name: String,
    /// Our cgroup, with controllers enabled for its children.
    pub(crate) cgroup: Cgroup,
    /// Where the floor's cgroups are: as deep as the agent's workloads, since the kernel charges and tells every ancestor
    /// before the one that crossed its tripwire gives up the cpu.
    pub(crate) floor: Cgroup,
    /// Our directory for files.
    pub(crate) scratch: PathBuf,
    /// This program.
    pub(crate) program: PathBuf,
    /// `memory.events.local` as a workload of the agent sees its own.
    pub(crate) own_events: String,
}

impl Place {
    pub(crate) fn new(parent: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let parent = Cgroup::open(parent)?;
        enable_controllers(&parent)?;
        let name = format!("bellows-bench.{}", std::process::id());
        let cgroup = parent.create_child(&name)?;
        enable_controllers(&cgroup)?;
        let mut floor = cgroup.clone();
        for level in ["floor", "workloads", "default"] {
            floor = floor.create_child(level)?;
            enable_controllers(&floor)?;
        }
        let scratch = scratch.join(&name);
        std::fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        let mounts = discover::cgroup_mounts()?;
        let mount = mounts.first().context("no cgroup2 file system is mounted")?;
        let own_events = mount.point.join("memory.events.local").display().to_string();
        let program = std::env::current_exe().context("cannot find this executable")?;
        Ok(Self { parent, name, cgroup, floor, scratch, program, own_events })
    }

    /// This program in another mode, as a process that has nothing to read or to say.
    pub(crate) fn start(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {arguments:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.parent, &self.name) {
            eprintln!("bellows-bench: cannot clean up: {error:#}");
        }
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

/// Kills whatever lives in a child of `parent`, and removes it with everything below.
pub(crate) fn clear(parent: &Cgroup, name: &str) -> anyhow::Result<()> {
    let cgroup = parent.child(name)?;
    cgroup.kill()?;
    anyhow::ensure!(cgroup.wait_empty(EMPTY_DEADLINE)?, "{name} does not become empty");
    remove(parent, name)
}

fn remove(parent: &Cgroup, name: &str) -> anyhow::Result<()> {
    let cgroup = parent.child(name)?;
    for child in cgroup.children()? {
        remove(&cgroup, &child)?;
    }
    // The kernel may say EBUSY for a moment after the last process has gone.
    for _ in 0..50 {
        match parent.remove_child(name) {
            Err(error) if error.is_busy() => std::thread::sleep(Duration::from_millis(5)),
            other => return Ok(other?),
        }
    }
    Ok(parent.remove_child(name)?)
}
