//! The one file of init with `unsafe`: clone, fork, signal dispositions, and system calls that neither std nor nix offers. Each
//! function is the thinnest safe face over one call.

use std::ffi::{CStr, CString, c_void};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{ForkResult, Pid};

/// Stack of stage 2, in bytes. It is a copy-on-write copy there; only touched pages cost memory.
const STACK: usize = 256 * 1024;
/// Of linux/fcntl.h: which signal tells of a descriptor.
const F_SETSIG: i32 = 10;

/// Where the C library begins. The arguments are with std, which takes them before this.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(_count: std::ffi::c_int, _arguments: *const *const std::ffi::c_char) -> std::ffi::c_int {
    crate::run();
    0
}

/// Has this process killed when the other end of a socket is closed, or something comes from there.
pub(crate) fn end_with(socket: BorrowedFd<'_>) -> nix::Result<()> {
    let number = socket.as_raw_fd();
    // SAFETY: no pointers are involved.
    let set = |command, value: i32| done(i64::from(unsafe { libc::fcntl(number, command, value) }));
    set(libc::F_SETOWN, Pid::this().as_raw())?;
    set(F_SETSIG, libc::SIGKILL)?;
    set(libc::F_SETFL, libc::O_ASYNC)
}

/// Runs `stage2` in a new process with `namespaces` of its own and the caller's parent as its parent.
pub(crate) fn clone_sibling(namespaces: CloneFlags, mut stage2: impl FnMut()) -> nix::Result<Pid> {
    let mut stack = vec![0_u8; STACK];
    let body = Box::new(|| {
        stage2();
        0
    });
    // SAFETY: without CLONE_VM the child has its own copy of all memory, this stack included; this process has one
    // thread, so no lock can be held by another at the moment of the copy.
    unsafe { nix::sched::clone(body, &mut stack, namespaces | CloneFlags::CLONE_PARENT, None) }
}

/// Forks, into a cgroup and as another child of the caller's parent; nothing in the child.
pub(crate) fn fork_sibling_into(cgroup: BorrowedFd<'_>) -> nix::Result<Option<Pid>> {
    /// Of linux/sched.h.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: it is plain data for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP | u64::from(libc::CLONE_PARENT.cast_unsigned());
    args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    // SAFETY: without CLONE_VM and a stack it is a fork, and this process has one thread, so the child may do anything.
    let pid = Errno::result(unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>())
    })?;
    Ok((pid > 0).then(|| Pid::from_raw(i32::try_from(pid).unwrap_or(-1))))
}

/// Forks; the child runs `body` and ends.
pub(crate) fn fork_child(body: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            body();
            std::process::exit(1)
        }
    }
}

/// Marks all descriptors from `first` on as closed at execution: those that the agent has placed are not. Linux 5.11; the agent needs a
/// later one.
pub(crate) fn close_from_on_exec(first: u32) -> nix::Result<()> {
    // SAFETY: no pointers are involved.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Closes all descriptors from `first` on. What owned one must be gone, or never look at it again.
pub(crate) fn close_from(first: u32) {
    // SAFETY: no pointers are involved; of descriptors that are owned, the caller has none left.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// A descriptor that the agent placed and that stays open as long as this process lives.
pub(crate) fn borrow(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the agent placed it before init was executed: 0 to 2 are standard input, output and error, 4 and 5 the exit record
    // and the order; with `--enter` 4 is a pidfd, 5 a directory, 6 the order, 7 the line, 8 a cgroup; with `--log` 3 is a directory and 4 a
    // socket that is listened on. An order is not
    // borrowed when it is closed, and the others never are.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Bytes of a `winsize`: rows, columns, and the same in pixels, two bytes each.
pub(crate) const WINDOW: usize = size_of::<libc::winsize>();

/// The other end of a fresh terminal, by its master and not by a path; it does not become anybody's controlling terminal.
pub(crate) fn slave(master: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int.
    done(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags, and gives a fresh descriptor.
    owned(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }))
}

/// Sets the size of a terminal's window.
pub(crate) fn set_window(terminal: BorrowedFd<'_>, size: &[u8; WINDOW]) -> nix::Result<()> {
    // SAFETY: the request reads a winsize, which is these bytes and has no invalid value; the kernel copies bytewise.
    done(i64::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, size.as_ptr()) }))
}

/// Makes it the controlling terminal of this process, which leads a session without one.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the request takes a number.
    done(i64::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }))
}

/// Has reads and writes wait.
pub(crate) fn block(fd: BorrowedFd<'_>) -> nix::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).map(drop)
}

/// Has reads and writes fail that would wait.
pub(crate) fn unblock(fd: BorrowedFd<'_>) -> nix::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).map(drop)
}

/// The next who connects.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
    nix::sys::socket::accept4(listener.as_raw_fd(), flags).map(own)
}

/// Takes ownership of a descriptor that the kernel has just handed over as a bare number.
pub(crate) fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the callers pass what accept or recvmsg delivered, once: nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The NIS domain name of this process's UTS namespace.
pub(crate) fn set_domainname(name: &str) -> nix::Result<()> {
    // SAFETY: the call reads so many bytes of name.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Replaces this process by `argv[0]`, looked up in the PATH of `env`; returns only when that failed.
pub(crate) fn execute(argv: &[CString], env: &[CString]) -> Errno {
    for variable in env {
        // SAFETY: this process has one thread, and the string stays as long as the process.
        unsafe { libc::putenv(variable.clone().into_raw()) };
    }
    match nix::unistd::execvp(&argv[0], argv) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

/// Attributes of a mount, as mount_setattr(2) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes(u64);

// From linux/mount.h and linux/fcntl.h; libc does not have them on every target.
impl Attributes {
    pub(crate) const RDONLY: Self = Self(0x1);
    pub(crate) const NOSUID: Self = Self(0x2);
    pub(crate) const NODEV: Self = Self(0x4);
    pub(crate) const NOEXEC: Self = Self(0x8);

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const OPEN_TREE_CLONE: u32 = 1;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// A copy of the mount behind `fd`, attached nowhere; with what is mounted below, or without.
pub(crate) fn clone_tree(fd: BorrowedFd<'_>, recursive: bool) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | libc::O_CLOEXEC.cast_unsigned();
    let flags = if recursive { flags | AT_RECURSIVE } else { flags };
    // SAFETY: the path is NUL-terminated and only read.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Attaches the mount behind `mount`, which is attached nowhere, to what is behind `place`.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (mount.as_raw_fd(), place.as_raw_fd());
    // SAFETY: the paths are NUL-terminated and only read.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) })
}

/// Adds attributes to the mount behind `mount`, and makes it private; with what is mounted below, or without.
pub(crate) fn change(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> nix::Result<()> {
    let attr = MountAttr { set: attributes.0, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    let flags = if recursive { AT_EMPTY_PATH | AT_RECURSIVE } else { AT_EMPTY_PATH };
    // SAFETY: the path is NUL-terminated, `attr` is valid for the size that is passed; both are only read.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
}

/// The beginning of a new file system of this kind.
pub(crate) fn fsopen(kind: &CStr) -> nix::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated and only read.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

/// Sets an option of it.
pub(crate) fn fsconfig_string(context: BorrowedFd<'_>, key: &str, value: &str) -> nix::Result<()> {
    let (Ok(key), Ok(value)) = (CString::new(key), CString::new(value)) else { return Err(Errno::EINVAL) };
    let number = context.as_raw_fd();
    // SAFETY: both strings are NUL-terminated and only read.
    done(unsafe {
        libc::syscall(libc::SYS_fsconfig, number, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0)
    })
}

/// Makes it.
pub(crate) fn fsconfig_create(context: BorrowedFd<'_>) -> nix::Result<()> {
    let none = std::ptr::null::<c_void>();
    // SAFETY: the command takes no pointers.
    done(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0)
    })
}

/// A mount of it, attached nowhere.
pub(crate) fn fsmount(context: BorrowedFd<'_>, attributes: Attributes) -> nix::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes.0) })
}

/// What kind of namespace a file is, as clone(2) knows it.
pub(crate) fn namespace_kind(file: BorrowedFd<'_>) -> nix::Result<i32> {
    /// Of linux/nsfs.h.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes nothing.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) })
}

/// Takes a capability out of the bounding set; EINVAL for one that this kernel does not know.
pub(crate) fn drop_bounding(capability: u8) -> nix::Result<()> {
    // SAFETY: no pointers are involved.
    done(i64::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }))
}

/// Whether a capability can be had at all; not of one that this kernel does not know.
pub(crate) fn is_in_bounds(capability: u8) -> bool {
    // SAFETY: no pointers are involved.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) == 1 }
}

/// Changes of users take no capabilities from here on. A new user namespace begins without this.
pub(crate) fn keep_capabilities() -> nix::Result<()> {
    /// Of linux/securebits.h: SECBIT_NO_SETUID_FIXUP.
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: no pointers are involved.
    done(i64::from(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) }))
}

/// Empties the ambient set.
pub(crate) fn clear_ambient() -> nix::Result<()> {
    // SAFETY: no pointers are involved.
    done(i64::from(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }))
}

/// Of linux/capability.h: sets of 64 bits, in two halves.
const CAPABILITIES_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Makes `set` the effective and permitted capabilities, and nothing inheritable.
pub(crate) fn set_capabilities(set: u64) -> nix::Result<()> {
    let half = |bits: u64| {
        let bits = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
        CapabilityHalf { effective: bits, permitted: bits, inheritable: 0 }
    };
    put_capabilities([half(set), half(set >> 32)])
}

/// Leaves nothing inheritable, and the others as they are.
pub(crate) fn clear_inheritable() -> nix::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITIES_3, pid: 0 };
    let mut halves = [CapabilityHalf::default(); 2];
    // SAFETY: both structures are as the kernel declares them for this version, which writes both halves.
    done(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
    put_capabilities(halves.map(|half| CapabilityHalf { inheritable: 0, ..half }))
}

fn put_capabilities(halves: [CapabilityHalf; 2]) -> nix::Result<()> {
    let header = CapabilityHeader { version: CAPABILITIES_3, pid: 0 };
    // SAFETY: both structures are as the kernel declares them for this version, and are only read.
    done(unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) })
}

/// Has the kernel ask `filter` about each system call from now on.
pub(crate) fn install_filter(filter: &[libc::sock_filter]) -> nix::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the program and its instructions are valid for the length that is said; both are only read.
    done(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
}

/// Sets a limit of this process.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is only read, and no old one is asked for.
    done(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, std::ptr::null::<c_void>())
    })
}

/// The limit of this process: soft and hard.
pub(crate) fn limit(resource: u32) -> nix::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given, and the old one is written to a structure of that type.
    done(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<c_void>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Switches the loopback device of this network namespace on; it gets its addresses by that.
pub(crate) fn raise_loopback(socket: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: ifreq is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or(0);
    // SAFETY: the request is valid, has a NUL-terminated name and flags, and is only read.
    done(i64::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }))
}

fn done(result: i64) -> nix::Result<()> {
    Errno::result(result).map(drop)
}

fn owned(result: i64) -> nix::Result<OwnedFd> {
    let number = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call succeeded and handed over a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
