//! Cgroups: read through the kernel's own files, in both ways alike, and made and removed by the demo.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;

use crate::child::wait_for;

/// How long the kernel takes at most to empty a killed cgroup.
const EMPTY_PATIENCE: Duration = Duration::from_secs(15);

/// A cgroup to look at.
#[derive(Debug, Clone)]
pub(crate) struct Group(PathBuf);

/// A cgroup of the demo's own; removed when dropped, with all that is in it.
#[derive(Debug)]
pub(crate) struct OwnGroup(Group);

impl Group {
    /// The cgroup at `path`, which may not exist yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// `memory.current`.
    pub(crate) fn used(&self) -> Result<Bytes> {
        self.limit("memory.current")
    }

    /// What may be used before the kernel steps in: the lower of `memory.high` and `memory.max`.
    pub(crate) fn granted(&self) -> Result<Bytes> {
        Ok(self.limit("memory.high")?.min(self.max()?))
    }

    /// `memory.max`.
    pub(crate) fn max(&self) -> Result<Bytes> {
        self.limit("memory.max")
    }

    /// Whether it is there; the agent removes a workload's as soon as it ended.
    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }

    /// OOM kills in this cgroup and all below it, those of removed ones included. A group that dies as one counts once,
    /// where the kernel counts groups (5.17).
    pub(crate) fn kills(&self) -> Result<u64> {
        Ok(count_kills(&self.read("memory.events")?))
    }

    /// Makes a child with a fixed limit that dies as one, as container runtimes do: no swap beyond it.
    pub(crate) fn make_limited_child(&self, name: &str, max: Bytes) -> Result<Self> {
        let child = Self(self.0.join(name));
        fs::create_dir(&child.0).with_context(|| format!("cannot make {}", child.0.display()))?;
        child.write("memory.max", &max.0.to_string())?;
        child.write("memory.oom.group", "1")?;
        // A kernel without swap has no such file.
        if child.0.join("memory.swap.max").exists() {
            child.write("memory.swap.max", "0")?;
        }
        Ok(child)
    }

    /// A command that starts in this cgroup. A shell moves itself before it becomes the program: between fork and exec
    /// only unsafe code could.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0" && exec "$@""#]).arg(self.0.join("cgroup.procs")).arg(program);
        command
    }

    /// Lets children have the controllers that the agent needs.
    pub(crate) fn hand_on_controllers(&self) -> Result<()> {
        self.write("cgroup.subtree_control", "+cpu +memory +pids")
    }

    fn limit(&self, file: &str) -> Result<Bytes> {
        let text = self.read(file)?;
        match text.trim() {
            "max" => Ok(Bytes(u64::MAX)),
            number => number
                .parse()
                .map(Bytes)
                .with_context(|| format!("{}/{file}: `{number}` is no size", self.0.display())),
        }
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.0.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl OwnGroup {
    /// Makes it; what an interrupted demo left of that name is removed first.
    pub(crate) fn make(path: PathBuf) -> Result<Self> {
        let group = Group(path);
        remove(&group)?;
        fs::create_dir(&group.0).with_context(|| format!("cannot make {}", group.0.display()))?;
        Ok(Self(group))
    }

    /// The cgroup itself.
    pub(crate) fn group(&self) -> &Group {
        &self.0
    }

    /// Removes it with all that is in it, and says whether that worked.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.0)
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("bellows-demo: {error:#}");
        }
    }
}

fn remove(group: &Group) -> Result<()> {
    if !group.0.exists() {
        return Ok(());
    }
    group.write("cgroup.kill", "1")?;
    // What was killed leaves a moment later.
    let is_gone = || match remove_tree(&group.0) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(error.into()),
    };
    wait_for(EMPTY_PATIENCE, is_gone).with_context(|| format!("{} is left behind", group.0.display()))
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn count_kills(memory_events: &str) -> u64 {
    let count = |key: &str| {
        let mut lines = memory_events.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    };
    match count("oom_group_kill") {
        0 => count("oom_kill"),
        groups => groups,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_dies_as_one_counts_once() {
        assert_eq!(count_kills("low 0\noom 1\noom_kill 3\noom_group_kill 1\n"), 1);
        assert_eq!(count_kills("low 0\noom 1\noom_kill 3\noom_group_kill 0\n"), 3);
        assert_eq!(count_kills("low 0\noom 1\noom_kill 2\n"), 2);
        assert_eq!(count_kills("low 0\nhigh 7\nmax 1\noom 0\noom_kill 0\n"), 0);
    }
}
