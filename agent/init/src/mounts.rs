//! What the workload sees of the system.
//!
//! The host's cgroup and proc mounts are detached, not covered: what is only covered, a root workload can uncover. The new
//! cgroup2 mount shows the workload's own cgroup as its root, read-only; that its limits stay out of reach even when it is
//! remounted is the work of `nsdelegate`.

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Order;

/// Sets up the mount namespace; the error names the step.
pub(crate) fn set_up(order: &Order) -> Result<(), String> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| format!("cannot make mounts private: {e}"))?;
    for point in order.hidden.iter().rev() {
        umount2(point.as_str(), MntFlags::MNT_DETACH).map_err(|e| format!("cannot detach {point}: {e}"))?;
    }
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for point in &order.cgroups {
        mount(Some("cgroup2"), point.as_str(), Some("cgroup2"), plain | MsFlags::MS_RDONLY, none)
            .map_err(|e| format!("cannot mount the workload's cgroup view at {point}: {e}"))?;
    }
    umount2("/proc", MntFlags::MNT_DETACH).map_err(|e| format!("cannot detach /proc: {e}"))?;
    mount(Some("proc"), "/proc", Some("proc"), plain, none).map_err(|e| format!("cannot mount /proc: {e}"))
}
