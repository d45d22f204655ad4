//! What this kernel and this delegation can do. The agent refuses to start on a failed check; `bellows doctor` prints them all.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use schemars::JsonSchema;
use serde::Serialize;

use super::cgroup::Cgroup;
use super::discover::{self, CgroupMount};
use super::feature;
pub use super::feature::nonblocking_limits;
use super::machine;
use super::privilege;
use super::swap::Machine;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// bellows works, with less.
    Warn,
    /// bellows cannot work.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    pub fix: String,
}

/// The controllers that bellows cannot do without.
pub const REQUIRED_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The controllers that it uses when they are there.
pub const OPTIONAL_CONTROLLERS: [&str; 1] = ["io"];

/// Checks everything that the agent needs below `root` (its own cgroup when `None`).
#[must_use]
pub fn checks(root: Option<&Path>) -> Vec<Check> {
    let mounts = discover::cgroup_mounts().unwrap_or_default();
    let mut list = privilege::checks();
    list.push(mounted(&mounts));
    if let Some(mount) = mounts.first() {
        list.extend(mount_options(mount));
    }
    match root.map_or_else(|| discover::own_cgroup().map_err(|e| e.to_string()), |r| Ok(r.to_owned())) {
        Ok(root) => list.extend(delegation(&root)),
        Err(e) => list.push(fail(
            "delegated root",
            e,
            "start the agent inside a cgroup v2 group, or name one with --root",
        )),
    }
    list.push(pressure());
    list.push(ok("swap", Machine::look().describe()));
    list.extend(machine::checks());
    list
}

/// The failed checks as one text, `None` when there are none.
#[must_use]
pub fn failures(checks: &[Check]) -> Option<String> {
    let failed: Vec<String> = checks
        .iter()
        .filter(|c| c.status == Status::Fail)
        .map(|c| format!("{}: {}\n    fix: {}", c.name, c.found, c.fix))
        .collect();
    (!failed.is_empty()).then(|| failed.join("\n"))
}

fn mounted(mounts: &[CgroupMount]) -> Check {
    match mounts.first() {
        Some(m) => ok("cgroup v2", format!("mounted at {}", m.point.display())),
        None => fail(
            "cgroup v2",
            "not mounted",
            "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn mount_options(mount: &CgroupMount) -> [Check; 2] {
    let has = |option: &str| mount.options.iter().any(|o| o == option);
    let remount = |option: &str| {
        format!("mount -o remount,{option} {} (systemd does so at boot)", mount.point.display())
    };
    [
        if has("nsdelegate") {
            ok("nsdelegate", "on")
        } else {
            fail(
                "nsdelegate",
                "off: a root workload could write its own limits",
                remount("nsdelegate,memory_recursiveprot"),
            )
        },
        if has("memory_recursiveprot") {
            ok("memory_recursiveprot", "on")
        } else {
            warn(
                "memory_recursiveprot",
                "off: protection does not reach nested groups",
                remount("nsdelegate,memory_recursiveprot"),
            )
        },
    ]
}

fn delegation(root: &Path) -> Vec<Check> {
    let cgroup = match Cgroup::open(root) {
        Ok(cgroup) => cgroup,
        Err(e) => {
            return vec![fail(
                "delegated root",
                e.to_string(),
                "name an existing cgroup v2 directory with --root, or start the agent inside one",
            )];
        }
    };
    let mut list = vec![writable(root)];
    let available = cgroup.read("cgroup.controllers").unwrap_or_default();
    for name in REQUIRED_CONTROLLERS {
        list.push(controller(root, &available, name, true));
    }
    for name in OPTIONAL_CONTROLLERS {
        list.push(controller(root, &available, name, false));
    }
    list.extend(feature::checks(root, &available));
    list.push(protection(root));
    list
}

/// The kernel protects a floor only as far as every ancestor is protected. The root is the agent's to raise, where it may;
/// what is above belongs to others. The hierarchy's own root has no such files, and needs none.
fn protection(root: &Path) -> Check {
    const NAME: &str = "protection of floors";
    let file = root.join("memory.low");
    if file.exists() && access(&file, AccessFlags::W_OK).is_err() {
        let found = format!("{} is not writable: floors may be reclaimed", file.display());
        return warn(NAME, found, "let the agent's user write memory.low and memory.min of the root");
    }
    let is_open = |path: &&Path| {
        let none = |file: &str| fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == "0");
        none("memory.low") && none("memory.min")
    };
    match root.ancestors().skip(1).find(is_open) {
        None => ok(NAME, "on every level"),
        Some(above) => warn(
            NAME,
            format!("none in {}: floors below it may be reclaimed when others press", above.display()),
            format!("echo max > {}; under systemd: MemoryLow=infinity", above.join("memory.low").display()),
        ),
    }
}

fn writable(root: &Path) -> Check {
    let refused: Vec<&str> = ["cgroup.procs", "cgroup.subtree_control"]
        .into_iter()
        .filter(|f| access(&root.join(f), AccessFlags::W_OK).is_err())
        .collect();
    if refused.is_empty() && access(root, AccessFlags::W_OK).is_ok() {
        ok("delegated root", format!("{} is writable", root.display()))
    } else {
        fail(
            "delegated root",
            format!("{} is not writable {}", root.display(), refused.join(" ")),
            "use a systemd service with Delegate=yes (a user: systemd-run --user -p Delegate=yes), or chown the directory and \
             these files to the agent's user",
        )
    }
}

fn controller(root: &Path, available: &str, name: &str, required: bool) -> Check {
    let label = match name {
        "memory" => "controller memory",
        "cpu" => "controller cpu",
        "pids" => "controller pids",
        _ => "controller io",
    };
    if available.split_whitespace().any(|c| c == name) {
        return ok(label, "available");
    }
    let found = if on_version_1(name) {
        format!("missing: {name} is on a cgroup v1 hierarchy")
    } else {
        format!("missing from {}", root.join("cgroup.controllers").display())
    };
    let fix = if on_version_1(name) {
        "boot with systemd.unified_cgroup_hierarchy=1 (no v1 mounts), so that v2 gets the controller"
            .to_owned()
    } else if privilege::is_rootless() {
        // What a user's own systemd is given, it hands on; by default that is not all.
        "as root, in /etc/systemd/system/user@.service.d/delegate.conf: [Service] Delegate=cpu cpuset io memory pids; then \
         systemctl daemon-reload, and log in anew"
            .to_owned()
    } else {
        format!(
            "echo +{name} > {}; under systemd: Delegate=yes",
            root.parent().unwrap_or(root).join("cgroup.subtree_control").display()
        )
    };
    if required { fail(label, found, fix) } else { warn(label, found, fix) }
}

fn on_version_1(controller: &str) -> bool {
    // What v2 calls io, v1 calls blkio.
    let controller = if controller == "io" { "blkio" } else { controller };
    fs::read_to_string("/proc/self/cgroup").is_ok_and(|text| {
        text.lines()
            .filter(|l| !l.starts_with("0::"))
            .filter_map(|l| l.split(':').nth(1))
            .any(|list| list.split(',').any(|c| c == controller))
    })
}

fn pressure() -> Check {
    if fs::read_to_string("/proc/pressure/memory").is_ok() {
        ok("pressure stall information", "on")
    } else {
        warn(
            "pressure stall information",
            "off: the stall rule sees reclaim only",
            "boot with psi=1 on a kernel that has CONFIG_PSI",
        )
    }
}

pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, status: Status::Ok, found: found.into(), fix: String::new() }
}

pub(super) fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name, status: Status::Warn, found: found.into(), fix: fix.into() }
}

pub(super) fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name, status: Status::Fail, found: found.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_names_its_fix() {
        let checks = [ok("a", "fine"), fail("b", "broken", "mend it")];
        assert_eq!(failures(&checks).as_deref(), Some("b: broken\n    fix: mend it"));
        assert_eq!(failures(&checks[..1]), None);
    }

    /// Without it a root workload writes its own limits, so nothing is governed there.
    #[test]
    fn a_mount_without_nsdelegate_is_named() {
        let checked = |options: &[&str]| {
            let options = options.iter().map(|&option| option.to_owned()).collect();
            mount_options(&CgroupMount { root: "/".into(), point: "/sys/fs/cgroup".into(), options })
        };
        let checks = checked(&["rw", "memory_recursiveprot"]);
        assert_eq!(checks.each_ref().map(|check| check.status), [Status::Fail, Status::Ok]);
        let told = failures(&checks).unwrap();
        assert!(told.contains("nsdelegate: off") && told.contains("mount -o remount,nsdelegate"), "{told}");
        let checks = checked(&["rw", "nsdelegate"]);
        assert_eq!(checks.each_ref().map(|check| check.status), [Status::Ok, Status::Warn]);
    }
}
