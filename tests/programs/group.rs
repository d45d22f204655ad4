//! Cgroups: read through the kernel's own files, in all ways alike, and made and removed here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use bellows_policies::Cpus;
use bellows_policies::units::Bytes;

use super::child::wait_for;

/// How long the kernel takes at most to empty a killed cgroup.
const EMPTY_PATIENCE: Duration = Duration::from_secs(15);

/// A cgroup to look at.
#[derive(Debug, Clone)]
pub struct Group(PathBuf);

/// A cgroup of one's own; removed when dropped, with all that is in it.
#[derive(Debug)]
pub struct OwnGroup(Group);

/// What the kernel's files say at one time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// `memory.current`.
    pub used: Bytes,
    /// What may be used before the kernel steps in: the lower of `memory.high` and `memory.max`.
    pub granted: Bytes,
    /// `usage_usec` of `cpu.stat`: cpu time since the cgroup was made, microseconds.
    pub cpu_us: u64,
    /// `cpu.max`; none where nothing limits it.
    pub quota: Option<Cpus>,
}

impl Group {
    /// The cgroup at `path`, which may not exist yet.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What its files say; nothing if it is not there: the agent removes a workload's as soon as that ended.
    pub fn look(&self) -> Result<Option<Look>> {
        let read = |file: &str| fs::read_to_string(self.0.join(file));
        let files = || -> io::Result<_> {
            Ok([
                read("memory.current")?,
                read("memory.high")?,
                read("memory.max")?,
                read("cpu.stat")?,
                read("cpu.max")?,
            ])
        };
        let [current, high, max, stat, quota] = match files() {
            Ok(texts) => texts,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        };
        Ok(Some(Look {
            used: parse_limit(&current)?,
            granted: parse_limit(&high)?.min(parse_limit(&max)?),
            cpu_us: parse_usage(&stat),
            quota: parse_quota(&quota),
        }))
    }

    /// What it uses that cannot be reclaimed without swap, if it is there: anonymous memory, tmpfs, and the kernel's own.
    pub fn need(&self) -> Result<Option<Bytes>> {
        let path = self.0.join("memory.stat");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(sum_need(&text))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// OOM kills in this cgroup and all below it, those of removed ones included. A group that dies as one counts once,
    /// where the kernel counts groups (5.17).
    pub fn kills(&self) -> Result<u64> {
        let path = self.0.join("memory.events");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(count_kills(&text))
    }

    /// Makes a child that dies as one, as container runtimes do, with `settings` in its files.
    pub fn make_child(&self, name: &str, settings: &[(&str, String)]) -> Result<Self> {
        let child = Self(self.0.join(name));
        fs::create_dir(&child.0).with_context(|| format!("cannot make {}", child.0.display()))?;
        child.write("memory.oom.group", "1")?;
        child.set(settings)?;
        Ok(child)
    }

    /// The child that others live below, with `settings` in its files; made if it is not there.
    pub fn ensure_branch(&self, name: &str, settings: &[(&str, String)]) -> Result<Self> {
        let child = Self(self.0.join(name));
        if !child.0.exists() {
            fs::create_dir(&child.0).with_context(|| format!("cannot make {}", child.0.display()))?;
            child.hand_on_controllers()?;
            child.set(settings)?;
        }
        Ok(child)
    }

    fn set(&self, settings: &[(&str, String)]) -> Result<()> {
        settings.iter().try_for_each(|(file, value)| self.write(file, value))
    }

    /// Limits everything below to `bytes` of memory and no swap.
    pub fn limit(&self, bytes: Bytes) -> Result<()> {
        self.write("memory.max", &bytes.0.to_string())?;
        // A kernel without swap has no such file.
        if self.0.join("memory.swap.max").exists() {
            self.write("memory.swap.max", "0")?;
        }
        Ok(())
    }

    /// A command that starts in this cgroup. A shell moves itself before it becomes the program: between fork and exec
    /// only unsafe code could.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo 0 > "$0" && exec "$@""#]).arg(self.0.join("cgroup.procs"));
        command
    }

    /// Lets children have the controllers that the agent needs.
    pub fn hand_on_controllers(&self) -> Result<()> {
        self.write("cgroup.subtree_control", "+cpu +memory +pids")
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl OwnGroup {
    /// Makes it; what an interrupted run left of that name is removed first.
    pub fn make(path: PathBuf) -> Result<Self> {
        let group = Group(path);
        remove(&group)?;
        fs::create_dir(&group.0).with_context(|| format!("cannot make {}", group.0.display()))?;
        Ok(Self(group))
    }

    /// The cgroup itself.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.0
    }

    /// Removes it with all that is in it, and says whether that worked.
    pub fn remove(self) -> Result<()> {
        remove(&self.0)
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("a cgroup is left behind: {error:#}");
        }
    }
}

fn remove(group: &Group) -> Result<()> {
    if !group.0.exists() {
        return Ok(());
    }
    group.write("cgroup.kill", "1")?;
    // What was killed leaves a moment later.
    let is_removed = || match remove_tree(&group.0) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(error.into()),
    };
    wait_for(EMPTY_PATIENCE, is_removed).with_context(|| format!("{} is left behind", group.0.display()))
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

/// The directory is not there, or was removed while its files were open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn parse_limit(text: &str) -> Result<Bytes> {
    match text.trim() {
        "max" => Ok(Bytes(u64::MAX)),
        number => number.parse().map(Bytes).with_context(|| format!("`{number}` is no size")),
    }
}

fn parse_usage(cpu_stat: &str) -> u64 {
    cpu_stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok()).unwrap_or(0)
}

fn parse_quota(cpu_max: &str) -> Option<Cpus> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    Some(Cpus::from_quota(quota.parse().ok()?, period.parse().ok()?))
}

fn sum_need(memory_stat: &str) -> Bytes {
    let lines = memory_stat.lines().filter_map(|line| line.split_once(' '));
    let needed = lines.filter(|(key, _)| ["anon", "shmem", "kernel", "unevictable"].contains(key));
    needed.filter_map(|(_, value)| value.parse().ok().map(Bytes)).fold(Bytes::ZERO, Bytes::saturating_add)
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

    #[test]
    fn files_are_read() {
        assert_eq!(parse_limit("max\n").unwrap(), Bytes(u64::MAX));
        assert_eq!(parse_limit("4096\n").unwrap(), Bytes(4096));
        assert!(parse_limit("much\n").is_err());
        assert_eq!(sum_need("anon 5\nfile 100\nkernel 2\nshmem 3\n"), Bytes(10));
        assert_eq!(parse_usage("usage_usec 42\nuser_usec 7\n"), 42);
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("33333 100000\n"), Some(Cpus(333_330)));
    }
}
