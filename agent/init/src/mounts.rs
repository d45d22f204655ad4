//! What the workload sees of the system, as far as that takes its own namespaces: stage 2.
//!
//! With a root of its own (built by stage 1, see `root`): `/proc`, `/sys`, the cgroup view and message queues, which show the namespaces
//! of who mounts them; then the root is changed and the host's is let go.
//!
//! On the host's root: the host's cgroup and proc mounts are detached, not covered: what is only covered, a root workload can uncover.
//!
//! In a joined mount namespace everything is as it is there.
//!
//! The cgroup2 mount shows the workload's own cgroup as its root, read-only; that its limits stay out of reach even when
//! it is remounted is the work of `nsdelegate`. A nested workload can write to it, where files are its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::unistd::{chdir, fchdir, pivot_root};

use crate::Order;
use crate::namespaces::is_foreign;
use crate::root::{PROC, SYS, make_private};
use crate::tree::{self, Attributes, Kind, PLAIN, Step, attach, change, clone_tree, filesystem};

/// What `/proc` and `/sys` tell about the machine and other users of it, and what changes it. Not there on every kernel.
const MASKED: [&str; 14] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel/debug",
    "sys/kernel/security",
];
/// Where the cgroups are shown.
const CGROUPS: &str = "sys/fs/cgroup";
const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Enters the root of the workload's own.
pub(crate) fn enter(order: &Order, view: Option<&OwnedFd>) -> Result<(), String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = open("/", flags, Mode::empty()).step("open the host's root")?;
    let built = open(".", flags, Mode::empty()).step("open the root file system")?;
    // A copy: the one that came with the namespace is locked in its place.
    let top = clone_tree(built.as_fd(), true).step("copy the root file system")?;
    drop(built);
    attach(top.as_fd(), old.as_fd()).step("mount the root file system")?;
    fchdir(&top).step("enter the root file system")?;

    let top = top.as_fd();
    // What shows the namespaces of others was mounted by stage 1.
    if !is_foreign(order, CloneFlags::CLONE_NEWPID) {
        put(top, PROC, c"proc", PLAIN)?;
    }
    if !is_foreign(order, CloneFlags::CLONE_NEWNET) {
        put(top, SYS, c"sysfs", PLAIN.union(Attributes::RDONLY))?;
    }
    if let Some(place) = tree::beneath(top, CGROUPS).step("find /sys/fs/cgroup")? {
        let attributes = if order.nested { PLAIN } else { PLAIN.union(Attributes::RDONLY) };
        match view {
            Some(view) => attach(view.as_fd(), place.as_fd()).step("mount /sys/fs/cgroup")?,
            None => put(top, CGROUPS, c"cgroup2", attributes)?,
        }
    }
    if !is_foreign(order, CloneFlags::CLONE_NEWIPC) {
        put(top, "dev/mqueue", c"mqueue", PLAIN)?;
    }
    // Of a covered /proc and /sys the kernel lets nobody inside make new ones, which containers need. Who may mount could take the
    // covers away besides.
    if !order.nested {
        MASKED.iter().try_for_each(|path| mask(top, path).step(&format!("mask /{path}")))?;
        READ_ONLY.iter().try_for_each(|path| protect(top, path).step(&format!("make /{path} read-only")))?;
    }

    // The old root comes to lie on the new one, so no directory has to be there for it.
    pivot_root(".", ".").step("change the root")?;
    fchdir(&old).step("let the host's root go")?;
    umount2(".", MntFlags::MNT_DETACH).step("let the host's root go")?;
    chdir("/").step("enter the new root")
}

/// Sets up the mount namespace on the host's root; the error names the step.
pub(crate) fn set_up(order: &Order) -> Result<(), String> {
    let none: Option<&str> = None;
    make_private()?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for point in order.hidden.iter().rev() {
        if !detach(order, point)? {
            // Something else in between: the kernel mounts no file system on itself.
            mount(
                Some("tmpfs"),
                point.as_str(),
                Some("tmpfs"),
                plain | MsFlags::MS_RDONLY,
                Some("size=4096"),
            )
            .map_err(|e| format!("cannot cover {point}: {e}"))?;
        }
    }
    for point in &order.cgroups {
        mount(Some("cgroup2"), point.as_str(), Some("cgroup2"), plain | MsFlags::MS_RDONLY, none)
            .map_err(|e| format!("cannot mount the workload's cgroup view at {point}: {e}"))?;
    }
    // Made before the old one is let go: in a box of another bellows the kernel makes none where none can be seen.
    let proc = filesystem(c"proc", &[], PLAIN).step("make /proc")?;
    detach(order, "/proc")?;
    let place = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
    place.and_then(|place| attach(proc.as_fd(), place.as_fd())).step("mount /proc")
}

/// Detaches a mount of the host. False in a user namespace, where the kernel has locked what came along from outside: there it is only
/// covered, and the workload goes without the capability to take the cover away (`agent/src/workload/rootless.rs`).
fn detach(order: &Order, point: &str) -> Result<bool, String> {
    match umount2(point, MntFlags::MNT_DETACH) {
        Err(Errno::EINVAL) if order.users.is_some() => Ok(false),
        other => other.map(|()| true).map_err(|e| format!("cannot detach {point}: {e}")),
    }
}

/// Mounts a new file system of this kind.
fn put(top: BorrowedFd<'_>, path: &str, kind: &std::ffi::CStr, attributes: Attributes) -> Result<(), String> {
    let place = tree::own(top, path).step(&format!("find /{path}"))?;
    filesystem(kind, &[], attributes)
        .and_then(|made| attach(made.as_fd(), place.as_fd()))
        .step(&format!("mount /{path}"))
}

/// Covers a directory by an empty one, and a file by `/dev/null`.
fn mask(top: BorrowedFd<'_>, path: &str) -> nix::Result<()> {
    let Some(place) = tree::beneath(top, path)? else { return Ok(()) };
    let cover = match tree::kind_of(&place)? {
        Kind::Directory => filesystem(c"tmpfs", &[("size", "4096")], PLAIN.union(Attributes::RDONLY))?,
        Kind::File => {
            let null = tree::beneath(top, "dev/null")?.ok_or(Errno::ENOENT)?;
            let stat = fstat(&null)?;
            // Whoever could put something else there would have it shown in place of what is masked, and written to.
            if !tree::is(&stat, SFlag::S_IFCHR) || stat.st_rdev != makedev(1, 3) {
                return Err(Errno::ENODEV);
            }
            clone_tree(null.as_fd(), false)?
        }
    };
    attach(cover.as_fd(), place.as_fd())
}

/// Covers something by itself, read-only.
fn protect(top: BorrowedFd<'_>, path: &str) -> nix::Result<()> {
    let Some(place) = tree::beneath(top, path)? else { return Ok(()) };
    let cover = clone_tree(place.as_fd(), false)?;
    change(cover.as_fd(), PLAIN.union(Attributes::RDONLY), false)?;
    attach(cover.as_fd(), place.as_fd())
}
