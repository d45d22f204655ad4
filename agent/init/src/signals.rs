//! Signals and ends of processes by number: nix has no words for real-time signals, and fails at them.

use std::ffi::c_void;

use nix::sys::signal::SigSet;
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
    Exited(i32),
    Signaled(i32),
}

impl Ended {
    /// As a shell would see it.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits for a signal; all of them are blocked.
pub(crate) fn next() -> Option<i32> {
    let (all, mut number) = (SigSet::all(), 0);
    // SAFETY: both live in this frame.
    let errno = unsafe { libc::sigwait(all.as_ref(), &raw mut number) };
    (errno == 0).then_some(number)
}

/// Sends a signal. Who has ended meanwhile needs none.
pub(crate) fn send(process: Pid, number: i32) {
    // SAFETY: no pointers are involved.
    unsafe { libc::kill(process.as_raw(), number) };
}

/// Reaps one child that has ended, if there is one.
pub(crate) fn reap() -> Option<(Pid, Ended)> {
    let mut status = 0;
    // SAFETY: the status lives in this frame.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Signaled(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    };
    (pid > 0).then(|| (Pid::from_raw(pid), ended))
}

/// Gives every signal its default disposition and an empty mask: what a fresh program expects. So the two that the C library does not let be set.
pub(crate) fn reset() {
    // The kernel's sigaction: handler, flags, restorer, mask; nothing of it is the default.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        let (none, set) = (std::ptr::null::<c_void>(), size_of::<u64>());
        // SAFETY: the structure is as long as the kernel's and only read. Fails for SIGKILL and SIGSTOP, which have no other.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, set) };
    }
    let _ = SigSet::empty().thread_set_mask();
}
