//! What the machine around the delegated cgroup has to have: room for open files and for watches, a service manager that delegates,
//! and a clock that others can follow; and which cpus and memory nodes it could have.

use std::path::Path;
use std::{fs, iter};

use nix::sys::resource::{Resource, getrlimit};

use super::support::{Check, fail, ok, warn};
use super::{parse, sys};

/// Workloads that a dense host has: what there is room for is held against that.
const DENSE: u64 = 10_000;
/// Files that the agent holds open for each workload: some sixteen of its cgroup, its pidfd, and a few for requests about it.
const FILES_EACH: u64 = 20;
/// Watches of each: `memory.events`, `cgroup.events` and its cgroup, and one for others of the same user.
const WATCHES_EACH: u64 = 4;

/// All of them.
pub(super) fn checks() -> Vec<Check> {
    vec![open_files(), inotify("watches", WATCHES_EACH * DENSE), inotify("instances", 16), manager(), clock()]
}

/// The cpus that there could ever be, as a list in the kernel's words; `None` where it does not tell.
#[must_use]
pub fn possible_cpus() -> Option<String> {
    fs::read_to_string("/sys/devices/system/cpu/possible").ok()
}

/// The memory nodes that there could ever be, the same. A kernel that does not tell knows of one.
#[must_use]
pub fn possible_nodes() -> String {
    fs::read_to_string("/sys/devices/system/node/possible").unwrap_or_else(|_| "0".to_owned())
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return ok(NAME, "not known") };
    let room = hard / FILES_EACH;
    if room >= DENSE {
        return ok(NAME, format!("{hard} at most, enough for {room} workloads"));
    }
    let found = format!("{hard} at most: enough for {room} workloads, and launches are refused beyond them");
    let fix =
        format!("LimitNOFILE={} in the unit, or ulimit -Hn before the agent is started", DENSE * FILES_EACH);
    if room == 0 { fail(NAME, found, fix) } else { warn(NAME, found, fix) }
}

fn inotify(what: &'static str, enough: u64) -> Check {
    let (name, file) = match what {
        "watches" => ("inotify watches", "max_user_watches"),
        _ => ("inotify instances", "max_user_instances"),
    };
    let text = fs::read(Path::new("/proc/sys/fs/inotify").join(file)).unwrap_or_default();
    let limit = parse::number(&text).unwrap_or(0);
    if limit >= enough {
        return ok(name, format!("{limit} per user"));
    }
    let found = if what == "watches" {
        let room = limit / WATCHES_EACH;
        format!(
            "{limit} per user: enough for {room} workloads, and later ones are looked at once a second only"
        )
    } else {
        format!("{limit} per user: others of the same user may leave the agent none")
    };
    warn(name, found, format!("sysctl fs.inotify.{file}={enough}"))
}

/// systemd removes a cgroup that is not delegated, and what is in it; from 254 on it can keep the agent itself out of the root.
fn manager() -> Check {
    const NAME: &str = "service manager";
    if !Path::new("/run/systemd/system").exists() {
        return ok(NAME, "no systemd runs here: whoever made the delegated cgroup keeps it");
    }
    let Some(version) = library_version(Path::new("/usr/lib")) else {
        return ok(NAME, "systemd, of a version that is not known");
    };
    let found = format!("systemd {version}");
    if version >= 252 {
        return ok(NAME, found);
    }
    warn(
        NAME,
        format!("{found}: the units were tried with 252 and later"),
        "see docs/systemd.md for what they need: Delegate, NotifyAccess, and a unit that keeps the tree",
    )
}

/// Of `libsystemd-shared-252.so`: systemd says its version by no file, and no program is run for a check. It is in `systemd` below `lib`,
/// or, where the libraries of each architecture are apart as on Debian, in `x86_64-linux-gnu/systemd`.
fn library_version(lib: &Path) -> Option<u32> {
    let apart = fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.path());
    let dirs =
        iter::once(lib.to_owned()).chain(apart).filter_map(|dir| fs::read_dir(dir.join("systemd")).ok());
    dirs.flatten().flatten().find_map(|file| version_of(file.file_name().to_str()?))
}

fn version_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("libsystemd-shared-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    digits.parse().ok()
}

/// No decision depends on the wall clock, but whoever reads journals of two hosts side by side does.
fn clock() -> Check {
    const NAME: &str = "clock";
    match sys::is_clock_synchronised() {
        Ok(true) => ok(NAME, "synchronised"),
        Ok(false) => warn(
            NAME,
            "not synchronised: times in the journal cannot be compared with other hosts'",
            "timedatectl set-ntp true, or another NTP client",
        ),
        Err(error) => ok(NAME, format!("not known to be synchronised: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_systemd_is_read_off_its_library() {
        for (name, version) in [
            ("libsystemd-shared-252.so", Some(252)),
            ("libsystemd-shared-257.7-1.fc42.so", Some(257)),
            ("libsystemd-core-252.so", None),
            ("libsystemd-shared-.so", None),
        ] {
            assert_eq!(version_of(name), version, "{name}");
        }
    }

    #[test]
    fn what_is_not_well_says_what_to_do() {
        for check in checks() {
            assert!(check.status == super::super::support::Status::Ok || !check.fix.is_empty(), "{check:?}");
        }
    }
}
