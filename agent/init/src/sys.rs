//! The one file of init with `unsafe`: clone, fork, and signal dispositions.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid};

/// Stack of stage 2, in bytes. It is a copy-on-write copy there; only touched pages cost memory.
const STACK: usize = 256 * 1024;

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

/// Gives every signal its default disposition and an empty mask: what a fresh program expects.
pub(crate) fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        // SAFETY: the default disposition runs no code of ours. Fails for SIGKILL and SIGSTOP, which have no other.
        let _ = unsafe { sigaction(signal, &default) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Marks all descriptors from `first` on as closed at execution.
pub(crate) fn close_from_on_exec(first: u32) {
    // SAFETY: no pointers are involved. An old kernel without the flag answers EINVAL: everything is CLOEXEC already,
    // this is the second lock on that door.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// A descriptor that the agent placed and that stays open as long as this process lives.
pub(crate) fn borrow(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the agent placed it (4 is the exit record; with `--enter` a pidfd, and 5 a directory; with `--log`, 0 is a pipe and 3 a directory) before init was executed,
    // and it is never closed here.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Replaces this process by `argv[0]`, looked up in PATH; returns only when that failed.
pub(crate) fn execute(argv: &[CString]) -> Errno {
    match nix::unistd::execvp(&argv[0], argv) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}
