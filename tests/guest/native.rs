//! The machine's own kernel, where its cgroups can be used.
//!
//! A cgroup is made beside or above the own one, where the controllers are enabled for children already: no control
//! file of anyone else is written. The program starts in a leaf of it, so that it may enable controllers in
//! `$BELLOWS_CGROUP` itself (a cgroup with processes of its own must not).

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};

use super::client::describe_place;
use super::job::Outcome;
use super::run_dir::{RunDir, copy_tree, unique_name};
use super::signals::{Signals, exit_code, spawn_unblocked};

const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
const LEAF: &str = "program";
const TICK_MS: u16 = 20;
/// How long a cancelled program has between the signal and SIGKILL.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel takes at most to empty a killed cgroup.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// A cgroup for one program; removed when dropped, with all that runs in it.
#[derive(Debug)]
pub struct Native {
    cgroup: PathBuf,
    own: PathBuf,
}

impl Native {
    /// Makes a cgroup that has the controllers and takes limits and processes.
    pub fn prepare() -> Result<Self> {
        ensure!(Uid::effective().is_root(), "native: only root can use the machine's cgroups");
        let mount = find_mount(&fs::read_to_string("/proc/self/mountinfo")?)
            .context("native: no cgroup2 file system is mounted")?;
        let own = find_own(&mount, &fs::read_to_string("/proc/self/cgroup")?)
            .context("native: this process is in no cgroup of version 2")?;
        let mut reasons = Vec::new();
        for parent in own.ancestors().take_while(|dir| dir.starts_with(&mount)) {
            match try_parent(parent, &own) {
                Ok(native) => return Ok(native),
                Err(error) => reasons.push(format!("{error:#}")),
            }
        }
        bail!("native: no cgroup is usable: {}; set BELLOWS_KERNEL=qemu", reasons.join("; "))
    }

    /// Runs a program to its end.
    pub fn run(
        &self,
        argv: &[OsString],
        timeout: Duration,
        out: Option<&Path>,
        signals: &Signals,
    ) -> Result<Outcome> {
        let dir = RunDir::create()?;
        let (results, scratch) = (dir.path().join("out"), dir.path().join("scratch"));
        fs::create_dir(&results)?;
        fs::create_dir(&scratch)?;
        let mut command = Command::new(argv.first().context("no program named")?);
        command.args(&argv[1..]).process_group(0);
        command.envs(describe_place(&self.cgroup, &scratch, &results, "native"));

        // Children start where their parent is.
        move_self(&self.cgroup.join(LEAF))?;
        let child = spawn_unblocked(&mut command);
        move_self(&self.own)?;
        let outcome = match child {
            Ok(child) => follow(child, timeout, signals)?,
            Err(error) => {
                eprintln!("start {}: {error}", argv[0].display());
                Outcome::NotStarted
            }
        };
        if let Some(out) = out {
            copy_tree(&results, out)?;
        }
        Ok(outcome)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.cgroup) {
            eprintln!("bellows-kernel: {} is left behind: {error:#}", self.cgroup.display());
        }
    }
}

/// The mount point of the cgroup2 file system whose root is visible.
fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, target) = (fields.next()?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| target.into())
    })
}

/// The directory of the own cgroup.
fn find_own(mount: &Path, proc_self_cgroup: &str) -> Option<PathBuf> {
    let path = proc_self_cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(if path.is_empty() { mount.to_owned() } else { mount.join(path) })
}

fn try_parent(parent: &Path, own: &Path) -> Result<Native> {
    let enabled = fs::read_to_string(parent.join("cgroup.subtree_control"))
        .with_context(|| format!("read {}/cgroup.subtree_control", parent.display()))?;
    for controller in CONTROLLERS {
        let is_enabled = enabled.split_whitespace().any(|name| name == controller);
        ensure!(is_enabled, "{} has no controller {controller} for its children", parent.display());
    }
    let cgroup = parent.join(format!("bellows-{}", unique_name()));
    fs::create_dir(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
    // From here on it is removed whatever fails.
    let native = Native { cgroup, own: own.to_owned() };
    for (file, value) in [("memory.high", "max"), ("cpu.max", "max 100000"), ("pids.max", "max")] {
        let path = native.cgroup.join(file);
        fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
    }
    let leaf = native.cgroup.join(LEAF);
    fs::create_dir(&leaf).with_context(|| format!("create {}", leaf.display()))?;
    move_self(&leaf)?;
    move_self(own)?;
    Ok(native)
}

fn move_self(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0").with_context(|| format!("move into {}", cgroup.display()))
}

fn follow(mut child: std::process::Child, timeout: Duration, signals: &Signals) -> Result<Outcome> {
    let group = Pid::from_raw(i32::try_from(child.id())?);
    let deadline = Instant::now() + timeout;
    let mut kill_at = None;
    loop {
        if let Some(status) = child.try_wait()? {
            let is_late = kill_at.is_none() && deadline <= Instant::now();
            return Ok(match (is_late, status.signal()) {
                (true, _) => Outcome::TimedOut,
                (false, Some(signal)) => Outcome::Signalled(exit_code(signal)),
                (false, None) => Outcome::Exited(exit_code(status.code().unwrap_or_default())),
            });
        }
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], TICK_MS)?;
        while let Some(signal) = signals.take()? {
            let now = Instant::now();
            kill_at = Some(if kill_at.is_none() { now + CANCEL_GRACE } else { now });
            killpg(group, signal).ok();
        }
        if kill_at.unwrap_or(deadline).min(deadline) <= Instant::now() {
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// Kills what runs in a cgroup and removes it with its children.
fn remove(cgroup: &Path) -> Result<()> {
    let kill = cgroup.join("cgroup.kill");
    if kill.exists() {
        fs::write(&kill, "1").with_context(|| format!("write {}", kill.display()))?;
    }
    let deadline = Instant::now() + REMOVE_PATIENCE;
    loop {
        match remove_tree(cgroup) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            // Killed processes leave a moment later.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_mount_among_others() {
        let mountinfo = "\
22 1 0:21 / /proc rw,relatime - proc proc rw
30 24 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
31 24 0:27 /inner /somewhere rw - cgroup2 cgroup2 rw
32 24 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate
";
        assert_eq!(find_mount(mountinfo), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(find_mount("22 1 0:21 / /proc rw - proc proc rw"), None);
    }

    #[test]
    fn finds_own_cgroup() {
        let mount = Path::new("/sys/fs/cgroup");
        let own = |text| find_own(mount, text);
        assert_eq!(own("12:cpu:/x\n0::/a/b\n"), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(own("0::/\n"), Some(mount.into()));
        assert_eq!(own("12:cpu:/x\n"), None);
    }
}
