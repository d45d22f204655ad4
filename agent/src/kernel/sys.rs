//! The one file of the agent with `unsafe`: system calls that neither std nor nix offers.
//!
//! Each function is the thinnest safe face over one call. Policy, retries and error texts live with the callers.

use std::ffi::{CStr, c_char, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::unistd::Pid;

/// Opens `path` strictly beneath `dir`: no symlinks, no magic links, no mount crossing, no `..` escape.
///
/// `flags` are `open(2)` flags; `O_CLOEXEC` is always added.
pub(super) fn openat2_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain data for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_sign_loss, reason = "open flags are a bit set")]
    {
        how.flags = (flags | libc::O_CLOEXEC) as u64;
    }
    how.resolve = libc::RESOLVE_BENEATH
        | libc::RESOLVE_NO_SYMLINKS
        | libc::RESOLVE_NO_MAGICLINKS
        | libc::RESOLVE_NO_XDEV;
    // SAFETY: `path` is NUL-terminated and `how` is valid for the size that is passed; the kernel only reads both.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    owned_fd(fd)
}

/// Sets an extended attribute of the inode behind `fd`.
pub(super) fn fsetxattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: name is NUL-terminated; value is valid for its length; the kernel only reads both.
    let r = unsafe {
        libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast::<c_void>(), value.len(), 0)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an extended attribute of the inode behind `fd` into `buffer`, and returns its length in bytes.
pub(super) fn fgetxattr(fd: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: name is NUL-terminated; buffer is valid for writes of its length.
    let r = unsafe {
        libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast::<c_void>(), buffer.len())
    };
    usize::try_from(r).map_err(|_| io::Error::last_os_error())
}

/// Removes an extended attribute of the inode behind `fd`.
pub(super) fn fremovexattr(fd: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: name is NUL-terminated; the kernel only reads it.
    let r = unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor for the process that has this pid now. Whose it is must be certain otherwise: a child of ours that is not yet
/// reaped, or one that is checked after this.
pub(super) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    owned_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Sends `signal` to the process behind `pidfd`.
pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it in; no other pointers are involved.
    let r = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<c_void>(), 0)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The supplementary groups of the peer of a Unix socket, as they were when it connected.
pub(super) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut length =
            libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: groups is valid for writes of `length` bytes, and the kernel writes no more than that.
        let r = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast::<c_void>(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if r == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how much room it needs.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Duplicates `fd` to the lowest free number that is `least` or more, with CLOEXEC.
pub(super) fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are involved.
    owned_fd(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) }))
}

/// The kernel's id of the calling thread.
pub(super) fn thread_id() -> i32 {
    // SAFETY: always succeeds and takes no arguments.
    unsafe { libc::gettid() }
}

/// Signals one thread of this process: how a write that blocks in the kernel is cancelled.
pub(super) fn signal_thread(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers are involved.
    let r = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives `signal` a handler that does nothing and does not restart system calls, so that it only interrupts.
pub(super) fn install_interrupt(signal: i32) -> io::Result<()> {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: sigaction is plain data for which all zeroes is valid; the handler does nothing, so it is
    // async-signal-safe; sa_flags stay 0, that is without SA_RESTART.
    let r = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread `SCHED_FIFO` at `priority` (1 lowest); children start with the ordinary class.
pub(super) fn set_realtime(priority: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: param outlives the call, which only reads it; 0 means the calling thread.
    let r = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const param)
    };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the nice value of the calling thread, for Linux keeps one for each.
pub(super) fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: numbers only; 0 means the caller.
    let r = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a range of addresses kept in memory; it is read from disk first.
pub(super) fn lock_range(start: usize, length: usize) -> io::Result<()> {
    // SAFETY: the kernel changes nothing that is mapped there, and refuses what is not mapped.
    let r = unsafe { libc::mlock(start as *const c_void, length) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a child is started with: [`clone_exec`].
pub(super) struct Exec<'a> {
    /// The program: a descriptor, so that no path can be swapped underneath.
    pub(super) program: BorrowedFd<'a>,
    /// NULL-terminated array of NUL-terminated strings.
    pub(super) argv: &'a [*const c_char],
    /// NULL-terminated array of NUL-terminated strings.
    pub(super) envp: &'a [*const c_char],
    /// The n-th of these becomes descriptor n of the child. All must be numbered above their count.
    pub(super) descriptors: &'a [RawFd],
    /// The mount namespace that it begins in, where that is not the parent's.
    pub(super) mounts: Option<BorrowedFd<'a>>,
}

/// Clones a child straight into `cgroup`, or into this process' own, and executes a program in it; returns its pid and pidfd.
///
/// `CLONE_VM | CLONE_VFORK` makes the cost independent of the agent's size (a plain fork of a 300 MB agent costs 11 ms);
/// the calling thread sleeps until the child has executed or failed. Until then the child shares our memory and has all our descriptors: so
/// nobody else may have a hand in where it lives. Who stops it there stops the caller and keeps our locks and listeners open, and where a
/// cgroup is killed whole for want of memory, all who share that memory are.
pub(super) fn clone_exec(cgroup: Option<BorrowedFd<'_>>, exec: &Exec<'_>) -> io::Result<(Pid, OwnedFd)> {
    const STACK: usize = 64 * 1024;
    assert!(exec.argv.last().is_some_and(|p| p.is_null()), "argv ends with NULL");
    assert!(exec.envp.last().is_some_and(|p| p.is_null()), "envp ends with NULL");
    assert!(
        exec.descriptors.iter().all(|&fd| usize::try_from(fd).is_ok_and(|n| n >= exec.descriptors.len()))
    );

    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let mut child = Child {
        program: exec.program.as_raw_fd(),
        argv: exec.argv.as_ptr(),
        envp: exec.envp.as_ptr(),
        descriptors: exec.descriptors.as_ptr(),
        count: exec.descriptors.len(),
        mounts: exec.mounts.map_or(-1, |mounts| mounts.as_raw_fd()),
        errno: 0,
    };
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    #[expect(clippy::cast_sign_loss, reason = "flags and descriptors are passed as u64 by the ABI")]
    {
        args.flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64 | CLONE_CLEAR_SIGHAND;
        args.pidfd = (&raw mut pidfd) as u64;
        args.exit_signal = libc::SIGCHLD as u64;
        args.stack = stack.as_mut_ptr() as u64;
        args.stack_size = STACK as u64;
        if let Some(cgroup) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
    }
    // SAFETY: the child runs only `child_main` on its own stack; VFORK keeps this frame, `stack`, `child` and all that
    // it points to alive until the child has executed or exited.
    let pid = unsafe { clone3_call(&raw mut args, child_main, &raw mut child) };
    drop(stack);
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EIO)));
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a fresh descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(-1));
    // SAFETY: `child` lives in this frame; the child wrote it, if at all, before this thread went on.
    let errno = unsafe { std::ptr::read_volatile(&raw const child.errno) };
    if errno != 0 {
        let _ = nix::sys::wait::waitpid(pid, None);
        return Err(io::Error::from_raw_os_error(errno));
    }
    Ok((pid, pidfd))
}

// From linux/sched.h; libc types them as c_int, which cannot hold them.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Everything the child needs, in memory that it shares with its parent.
struct Child {
    program: RawFd,
    argv: *const *const c_char,
    envp: *const *const c_char,
    descriptors: *const RawFd,
    count: usize,
    /// -1 for none.
    mounts: RawFd,
    /// Set by the child when it could not execute.
    errno: i32,
}

/// Runs in the child: enters the mounts, places the descriptors, empties the signal mask, executes. Only async-signal-safe calls, no allocation.
///
/// # Safety
/// `child` must be valid, and the caller must be a `CLONE_VFORK` child with a descriptor table of its own.
unsafe extern "C" fn child_main(child: *mut Child) -> ! {
    // SAFETY: the contract above; every call here is async-signal-safe; pointers come from live slices of the parent.
    unsafe {
        let c = &mut *child;
        // First, since its number may be one of those below.
        let mut ok = c.mounts < 0 || libc::setns(c.mounts, libc::CLONE_NEWNS) == 0;
        for n in 0..c.count {
            ok &= libc::dup2(*c.descriptors.add(n), i32::try_from(n).unwrap_or(0)) >= 0;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if ok {
            libc::syscall(libc::SYS_execveat, c.program, c"".as_ptr(), c.argv, c.envp, libc::AT_EMPTY_PATH);
        }
        std::ptr::write_volatile(&raw mut c.errno, *libc::__errno_location());
        libc::_exit(127)
    }
}

/// `clone3` with a new stack, on which the child calls `entry(arg)`: returns the pid, or minus errno.
///
/// # Safety
/// `args` must be valid, with CLONE_VM | CLONE_VFORK and a stack; `entry` must never return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_call(
    args: *mut libc::clone_args,
    entry: unsafe extern "C" fn(*mut Child) -> !,
    arg: *mut Child,
) -> i64 {
    let result: i64;
    // SAFETY: the child never returns from `entry`, so it never touches this frame's stack; the parent's registers are
    // untouched but for those declared. The stack's top is 16-byte aligned, as the call ABI asks.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") arg,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Elsewhere: the same call without shared memory (a plain fork), so that no assembly is needed. Slower for a large agent.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3_call(
    args: *mut libc::clone_args,
    entry: unsafe extern "C" fn(*mut Child) -> !,
    arg: *mut Child,
) -> i64 {
    // SAFETY: without CLONE_VM the child has a copy of this stack and may return into this frame; an exec failure is then
    // seen as an early exit with status 127 instead of an errno.
    unsafe {
        (*args).flags &= !((libc::CLONE_VM | libc::CLONE_VFORK) as u64);
        (*args).stack = 0;
        (*args).stack_size = 0;
        match libc::syscall(libc::SYS_clone3, args, size_of::<libc::clone_args>()) {
            0 => entry(arg),
            -1 => -i64::from(*libc::__errno_location()),
            pid => pid,
        }
    }
}

/// The size of the window of a terminal.
pub(super) fn window(fd: BorrowedFd<'_>) -> io::Result<[u8; size_of::<libc::winsize>()]> {
    let mut size = [0_u8; size_of::<libc::winsize>()];
    // SAFETY: the request writes a winsize, for which there is room; the kernel copies bytewise.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, size.as_mut_ptr()) };
    if r == 0 { Ok(size) } else { Err(io::Error::last_os_error()) }
}

/// Sets the size of the window of a terminal.
pub(super) fn set_window(fd: BorrowedFd<'_>, size: &[u8; size_of::<libc::winsize>()]) -> io::Result<()> {
    // SAFETY: the request reads a winsize, which is these bytes and has no invalid value; the kernel copies bytewise.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, size.as_ptr()) };
    if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether an NTP client keeps the wall clock: what `adjtimex(2)` says of it. Nothing is adjusted.
pub(super) fn is_clock_synchronised() -> io::Result<bool> {
    // SAFETY: all zeroes is a timex that asks for nothing; the kernel fills it in.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `asked` outlives the call, which writes to nothing else.
    let state = unsafe { libc::adjtimex(&raw mut asked) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(asked.status & libc::STA_UNSYNC == 0) }
}

fn owned_fd(result: i64) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the call that gave `result` succeeded and handed over a fresh descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes ownership of descriptors that the kernel has just handed over as bare numbers.
pub(super) fn own(numbers: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the callers pass what recvmsg delivered, once: nobody else owns these.
    numbers.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}
