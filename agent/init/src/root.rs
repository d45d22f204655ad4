//! A root file system of the workload's own, built by stage 1: with the host's rights, in a mount namespace that only this process
//! is in, before the user namespace exists.
//!
//! Before, because then nothing in the box can undo it. The kernel locks what a mount namespace of another user namespace has been
//! copied with: neither read-only nor what covers something can be taken away again, whatever rights the workload keeps. And the
//! host's rights, because they are what it takes to make device files, to write to the upper layer's attributes, and to reach
//! directories that only root may enter.
//!
//! The new root waits on the host's `/dev` (in this mount namespace) until stage 2 changes roots. Not on `/`, where it would hide
//! nothing: the kernel takes a process whose root is covered for one in a chroot, and gives it no user namespace. `/dev` is on
//! every host, and nothing there is needed any more when all sources of mounts are open.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, mknodat, umask};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, fchdir, fchown, symlinkat};

use crate::namespaces::{in_child, is_foreign};
use crate::order::{Mount, Order, Root};
use crate::sys;
use crate::tree::{self, Attributes, Kind, PLAIN, Step, attach, change, clone_tree, filesystem};

/// What is below these is the box's own.
pub(crate) const PROC: &str = "proc";
pub(crate) const SYS: &str = "sys";
const DEV: &str = "dev";
/// Where on the host the new root waits.
const PLACE: &str = "/dev";
/// Of linux/magic.h: where pipes without a name are.
const PIPEFS: FsType = FsType(0x5049_5045);

/// Of `/dev`: it holds names, hardly any data.
const DEV_SIZE: &str = "65536";
const DEV_FILES: &str = "128";
/// Of `/dev/shm`, as container engines have it. A tmpfs may be mounted over it.
const SHM_SIZE: &str = "67108864";
/// The group `tty`, which owns terminals wherever there is one.
const TTY: u32 = 5;

/// The kernel has some thousands for all boxes together.
const TERMINALS: &str = "128";

const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Builds it and enters it: it is the working directory then, by which stage 2 finds its own copy. What comes back is a view of joined
/// cgroups, which belongs on a `/sys` that may not be there yet.
pub(crate) fn build(root: &Root, order: &Order) -> Result<Option<OwnedFd>, String> {
    unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace")?;
    make_private()?;
    umask(Mode::empty());
    let owner = order.users.unwrap_or(0);
    if order.users.is_some() {
        give_pipes(owner).step("hand over standard input and output")?;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let host = open("/", flags, Mode::empty()).step("open the host's root")?;
    let place = open(PLACE, flags, Mode::empty()).step("open the host's /dev")?;
    let sources = order.mounts.iter().map(open_source).collect::<Result<Vec<_>, String>>()?;
    let top = match root {
        Root::Host => host_root(host.as_fd(), place.as_fd(), order)?,
        Root::Directory(path) => directory(place.as_fd(), path)?,
        Root::Overlay(path, size) => overlay(place.as_fd(), path, *size, owner)?,
    };
    let top = top.as_fd();
    fchdir(top).step("enter the root file system")?;
    devices(top, place.as_fd(), owner)?;
    let view = show_others(top, order)?;
    order.mounts.iter().zip(&sources).try_for_each(|(mount, source)| add(top, mount, source.as_ref()))?;
    Ok(view)
}

/// Mounts what shows namespaces that belong to other users than the workload's.
fn show_others(top: BorrowedFd<'_>, order: &Order) -> Result<Option<OwnedFd>, String> {
    let proc = tree::own(top, PROC).step("find a directory for /proc in the root file system")?;
    if is_foreign(order, CloneFlags::CLONE_NEWPID) {
        // It shows the pid namespace of who makes it.
        in_child(|| filesystem(c"proc", &[], PLAIN).and_then(|made| attach(made.as_fd(), proc.as_fd())))
            .step("mount /proc of a pid namespace that is not its own")?;
    }
    let sys = tree::own(top, SYS).step("find a directory for /sys in the root file system")?;
    if is_foreign(order, CloneFlags::CLONE_NEWNET) {
        // That of a joined network here and now, or the host's, without what is mounted there.
        let shown = if order.joins(CloneFlags::CLONE_NEWNET) {
            filesystem(c"sysfs", &[], PLAIN.union(Attributes::RDONLY)).step("make /sys")?
        } else {
            tree::source("/sys").and_then(|sys| clone_tree(sys.as_fd(), false)).step("copy /sys")?
        };
        change(shown.as_fd(), PLAIN.union(Attributes::RDONLY), false).step("make /sys read-only")?;
        attach(shown.as_fd(), sys.as_fd()).step("mount /sys")?;
    }
    if is_foreign(order, CloneFlags::CLONE_NEWIPC) {
        let place = tree::own(top, "dev/mqueue").step("find /dev/mqueue")?;
        let queues = filesystem(c"mqueue", &[], PLAIN).step("make /dev/mqueue")?;
        attach(queues.as_fd(), place.as_fd()).step("mount /dev/mqueue")?;
    }
    let shown = is_foreign(order, CloneFlags::CLONE_NEWCGROUP);
    let view = || {
        filesystem(c"cgroup2", &[], PLAIN.union(Attributes::RDONLY)).step("make a view of the joined cgroups")
    };
    shown.then(view).transpose()
}

fn open_source(mount: &Mount) -> Result<Option<OwnedFd>, String> {
    match mount {
        Mount::Bind { source, .. } => tree::source(source).step(&format!("open {source}")).map(Some),
        Mount::Tmpfs { .. } => Ok(None),
    }
}

/// Nothing that is mounted from here on is seen anywhere else, nor the other way round.
pub(crate) fn make_private() -> Result<(), String> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).step("make mounts private")
}

/// The host's root with all that is mounted there, read-only, without devices and the kernel's own file systems.
fn host_root(host: BorrowedFd<'_>, place: BorrowedFd<'_>, order: &Order) -> Result<OwnedFd, String> {
    let top = clone_tree(host, true).step("copy the host's mounts")?;
    change(top.as_fd(), Attributes::RDONLY.union(Attributes::NODEV), true)
        .step("make the host's mounts read-only")?;
    attach(top.as_fd(), place).step("mount the root file system")?;
    fchdir(&top).step("enter the root file system")?;
    let hidden = order.hidden.iter().map(|point| point.trim_start_matches('/'));
    for point in hidden.rev().chain([DEV, PROC, SYS]) {
        // Detached, not covered; there may be several on each other, or none. All are on the host's root, which is nobody else's.
        while umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }
    Ok(top)
}

fn directory(place: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, String> {
    let what = format!("use {path} as root file system");
    let top = tree::source(path).and_then(|dir| clone_tree(dir.as_fd(), false)).step(&what)?;
    change(top.as_fd(), Attributes::RDONLY.union(Attributes::NODEV), false).step(&what)?;
    attach(top.as_fd(), place).step(&what)?;
    Ok(top)
}

/// A directory, and above it a tmpfs that takes what is written.
fn overlay(place: BorrowedFd<'_>, path: &str, size: u64, owner: u32) -> Result<OwnedFd, String> {
    let what = format!("use {path} as the lower layer of a root file system");
    let lower = tree::source(path).step(&what)?;
    let size = size.to_string();
    let memory =
        filesystem(c"tmpfs", &[("size", &size), ("mode", "0700")], PLAIN).step("make the upper layer")?;
    // The kernel takes layers only from mounts of the caller's namespace.
    attach(memory.as_fd(), place).step("mount the upper layer")?;
    for (name, mode) in [("upper", 0o755), ("work", 0o700)] {
        mkdirat(&memory, name, Mode::from_bits_truncate(mode)).step("make the upper layer")?;
        let made = tree::own(memory.as_fd(), name).step("make the upper layer")?;
        give(&made, owner).step("make the upper layer")?;
    }
    // By number: a path may have characters that mean something to the file system, and be changed by others.
    let by_number = |fd: &OwnedFd, below: &str| format!("/proc/self/fd/{}{below}", fd.as_raw_fd());
    let options = [
        ("lowerdir", by_number(&lower, "")),
        ("upperdir", by_number(&memory, "/upper")),
        ("workdir", by_number(&memory, "/work")),
    ];
    let options: Vec<(&str, &str)> = options.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let top = filesystem(c"overlay", &options, Attributes::NODEV).step(&what)?;
    attach(top.as_fd(), place).step("mount the root file system")?;
    Ok(top)
}

/// A `/dev` with what every program counts on, and no other device. Where none can be made (`CAP_MKNOD`, which a service manager may
/// have taken away) the host's are shown.
fn devices(top: BorrowedFd<'_>, host: BorrowedFd<'_>, owner: u32) -> Result<(), String> {
    let place = tree::own(top, DEV).step("find a directory for /dev in the root file system")?;
    let id = owner.to_string();
    let tty = (owner + TTY).to_string();
    let options =
        [("size", DEV_SIZE), ("nr_inodes", DEV_FILES), ("mode", "0755"), ("uid", &id), ("gid", &id)];
    let flags = Attributes::NOSUID.union(Attributes::NOEXEC);
    let dev = filesystem(c"tmpfs", &options, flags).step("make /dev")?;
    let mut shown = Vec::new();
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        match mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor)) {
            Err(Errno::EPERM) => shown.push((name, makedev(major, minor))),
            other => other.step(&format!("make /dev/{name}"))?,
        }
    }
    for (name, to) in LINKS {
        symlinkat(to, &dev, name).step(&format!("make /dev/{name}"))?;
    }
    attach(dev.as_fd(), place.as_fd()).step("mount /dev")?;
    for (name, number) in shown {
        show(host, dev.as_fd(), name, number).step(&format!("show the host's /dev/{name}"))?;
    }
    let shm = [("size", SHM_SIZE), ("mode", "1777"), ("uid", &id), ("gid", &id)];
    let pts = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", tty.as_str()), ("max", TERMINALS)];
    let nested: [(_, &std::ffi::CStr, &[(&str, &str)], _); 2] = [
        ("shm", c"tmpfs", &shm, PLAIN),
        ("pts", c"devpts", &pts, Attributes::NOSUID.union(Attributes::NOEXEC)),
    ];
    for (name, kind, options, flags) in nested {
        let what = format!("mount /dev/{name}");
        let place = tree::own(dev.as_fd(), name).step(&what)?;
        let made = filesystem(kind, options, flags).step(&what)?;
        attach(made.as_fd(), place.as_fd()).step(&what)?;
    }
    // What belongs there is of the new ipc namespace: stage 2 mounts it.
    tree::own(dev.as_fd(), "mqueue").step("make /dev/mqueue").map(drop)
}

/// Mounts one of the host's devices, if it is what it is called.
fn show(host: BorrowedFd<'_>, dev: BorrowedFd<'_>, name: &str, number: u64) -> nix::Result<()> {
    let device = tree::beneath(host, name)?.ok_or(Errno::ENOENT)?;
    let stat = fstat(&device)?;
    if !tree::is(&stat, SFlag::S_IFCHR) || stat.st_rdev != number {
        return Err(Errno::ENODEV);
    }
    let shown = clone_tree(device.as_fd(), false)?;
    change(shown.as_fd(), Attributes::NOSUID.union(Attributes::NOEXEC), false)?;
    attach(shown.as_fd(), tree::target(dev, name, Kind::File)?.as_fd())
}

fn add(top: BorrowedFd<'_>, mount: &Mount, source: Option<&OwnedFd>) -> Result<(), String> {
    let flags = Attributes::NOSUID.union(Attributes::NODEV);
    let (target, kind, made) = match (mount, source) {
        (Mount::Bind { target, writable, .. }, Some(source)) => {
            let shown = clone_tree(source.as_fd(), false).and_then(|shown| {
                let flags = if *writable { flags } else { flags.union(Attributes::RDONLY) };
                change(shown.as_fd(), flags, false)?;
                Ok((tree::kind_of(source)?, shown))
            });
            let (kind, shown) = shown.step(&format!("copy what is to be mounted at {target}"))?;
            (target, kind, shown)
        }
        (Mount::Tmpfs { target, .. } | Mount::Bind { target, .. }, _) => {
            let size = if let Mount::Tmpfs { size, .. } = mount { *size } else { 0 };
            let options = [("size", &*size.to_string()), ("mode", "1777")];
            let made = filesystem(c"tmpfs", &options, flags).step(&format!("make a tmpfs for {target}"))?;
            (target, Kind::Directory, made)
        }
    };
    let place = tree::target(top, target, kind).step(&format!("find or make {target} to mount on"))?;
    attach(made.as_fd(), place.as_fd()).step(&format!("mount {target}"))
}

/// Pipes of standard input, output and error become the workload's, so that it can open them anew as `/dev/stdout`. They are no more
/// than it holds already; terminals and files are their owners', and stay that. So are pipes with a name: whoever passes one on may
/// write to it, and need not own it.
fn give_pipes(owner: u32) -> nix::Result<()> {
    for number in 0..=2 {
        let fd = sys::borrow(number);
        if tree::is(&fstat(fd)?, SFlag::S_IFIFO) && fstatfs(fd)?.filesystem_type() == PIPEFS {
            fchown(fd, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
        }
    }
    Ok(())
}

fn give(fd: &OwnedFd, owner: u32) -> nix::Result<()> {
    let file =
        nix::fcntl::openat(fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
}
