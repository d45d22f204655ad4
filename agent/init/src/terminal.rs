//! A terminal for the command, where one was asked for: made inside the workload, of its own devpts, so that its name is known there
//! and job control works.
//!
//! Its master goes out by the socket that standard input then is, to whoever asked: a client, or the keeper of a detached workload's
//! terminal (`keeper`). So the agent never has it, and nobody inside does: what is inside has the other end of a terminal that is
//! the workload's own, never one that somebody else sits at. By the socket the size of the window comes in, if it is known by then.
//!
//! This process holds the slave as its own standard input and output: only its end is the end of what is said.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::sys;
use crate::tree::{self, Step};

/// Where terminals are made.
const MULTIPLEXER: &str = "/dev/pts/ptmx";
/// Its device number.
const NUMBER: (u64, u64) = (5, 2);
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: i64 = 0x1cd1;

/// Makes the terminal, hands its master out, and takes the other end in place of the socket.
pub(crate) fn open() -> Result<(), String> {
    let master = multiplexer().step("open /dev/pts/ptmx for a terminal")?;
    let slave = sys::slave(master.as_fd()).step("open the terminal")?;
    let socket = sys::borrow(0);
    let mut size = [0_u8; sys::WINDOW];
    if recv(socket.as_raw_fd(), &mut size, MsgFlags::MSG_DONTWAIT) == Ok(size.len()) {
        sys::set_window(master.as_fd(), &size).step("set the size of the terminal")?;
    }
    let numbers = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"t")], &rights, MsgFlags::MSG_NOSIGNAL, None)
        .step("hand the terminal over")?;
    dup2_stdin(&slave)
        .and_then(|()| dup2_stdout(&slave))
        .and_then(|()| dup2_stderr(&slave))
        .step("take the terminal")
}

/// Makes it the controlling terminal of this process, the command's, in a session of its own.
pub(crate) fn control() -> Result<(), String> {
    setsid().and_then(|_| sys::take_terminal(sys::borrow(0))).step("take the terminal")
}

/// Whoever is inside may have put anything else in its place: no link is followed, and it must be what it says.
fn multiplexer() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let opened = openat2(AT_FDCWD, MULTIPLEXER, OpenHow::new().flags(flags).resolve(resolve))?;
    let stat = fstat(&opened)?;
    let is_device = tree::is(&stat, SFlag::S_IFCHR) && (major(stat.st_rdev), minor(stat.st_rdev)) == NUMBER;
    if !is_device || fstatfs(&opened)?.filesystem_type().0 != DEVPTS {
        return Err(Errno::ENODEV);
    }
    sys::block(opened.as_fd())?;
    Ok(opened)
}
