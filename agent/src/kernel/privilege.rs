//! Whether this process is root, or an ordinary user with a delegated cgroup.

use std::fs;

use super::support::{Check, fail, ok, warn};

/// Whether it has to do without: it is an ordinary user. Root of a user namespace only (bellows inside bellows) has that namespace's
/// users, mounts and cgroups, and does what root does.
#[must_use]
pub fn is_rootless() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// What the rights come to; more than one check where they are few.
pub(super) fn checks() -> Vec<Check> {
    const NAME: &str = "privilege";
    if !is_rootless() {
        return vec![ok(NAME, "running as root")];
    }
    let uid = nix::unistd::geteuid();
    let found = format!(
        "running as uid {uid}, rootless: workloads are this user outside, on the host's root file system; no mounts or user \
         ids of their own, no time namespace, no exec, no real-time priority"
    );
    vec![warn(NAME, found, "run as root for these"), user_namespaces()]
}

/// Without them nothing can be started by an ordinary user.
fn user_namespaces() -> Check {
    const NAME: &str = "user namespaces";
    let is_zero = |file: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == "0");
    // The second is Debian's own.
    let switches = ["/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"];
    match switches.into_iter().find(|file| is_zero(file)) {
        None => ok(NAME, "allowed"),
        Some(file) => {
            let name = file.trim_start_matches("/proc/sys/").replace('/', ".");
            fail(NAME, format!("forbidden by {file}"), format!("sysctl {name}=1 (or more), as root"))
        }
    }
}
