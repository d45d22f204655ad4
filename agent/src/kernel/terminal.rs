//! Terminals, as who sits at one needs them: its master comes by a socket, out of the workload that it was made in
//! (`agent/init/src/terminal.rs`), or stays with a keeper who is talked to by a socket (`agent/init/src/keeper.rs`).
//!
//! The sockets are SOCK_SEQPACKET: messages keep their bounds.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect,
    listen, recvmsg, socket, socketpair,
};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::sys;

/// The socket of a keeper, in the directory of its log.
const SOCKET: &str = "terminal";

/// The size of a terminal's window, as the kernel has it: rows, columns, and both in pixels.
pub type Window = [u8; 8];

/// The size of the window of the terminal behind `fd`.
pub fn window(fd: BorrowedFd<'_>) -> io::Result<Window> {
    sys::window(fd)
}

/// Sets it; who runs in the foreground there is told.
pub fn set_window(fd: BorrowedFd<'_>, window: &Window) -> io::Result<()> {
    sys::set_window(fd, window)
}

/// A way for a terminal to come by: one end for who waits for it, one for a workload's standard input.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// The terminal that came; `None` when the other end is gone without. Does not wait.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0_u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            return Ok(sys::own(&numbers).pop());
        }
    }
    Ok(None)
}

/// A socket for a keeper to be called by, over that of an earlier one.
pub fn listen_in(directory: &Path) -> io::Result<OwnedFd> {
    let held = File::open(directory)?;
    let _ = std::fs::remove_file(directory.join(SOCKET));
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &address(&held)?)?;
    std::fs::set_permissions(directory.join(SOCKET), std::fs::Permissions::from_mode(0o600))?;
    listen(&listener, Backlog::new(8)?)?;
    Ok(listener)
}

/// A line to the keeper; `None` when there is none.
pub fn call(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let line = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let called = File::open(directory).and_then(|held| Ok(connect(line.as_raw_fd(), &address(&held)?)?));
    match called {
        Ok(()) => Ok(Some(line)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ECONNREFUSED)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// By the number of its directory: names of tenants and workloads are longer together than a socket's path may be.
fn address(directory: &File) -> io::Result<UnixAddr> {
    let path: PathBuf = ["/proc/self/fd", &directory.as_raw_fd().to_string(), SOCKET].iter().collect();
    Ok(UnixAddr::new(&path)?)
}

/// The terminal that somebody sits at hands on what is typed as it is, as long as this lives: also at its abrupt end, but for SIGKILL.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Changes the terminal at standard input.
    pub fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin()).map_err(|errno| match errno {
            Errno::ENOTTY => io::Error::other("standard input is no terminal"),
            other => other.into(),
        })?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        // A panic aborts, and nothing is dropped then.
        let (report, kept) = (std::panic::take_hook(), std::sync::Mutex::new(before.clone()));
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(kept) = kept.lock() {
                restore(&kept);
            }
            report(info);
        }));
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// What has been said already is shown first.
fn restore(before: &Termios) {
    let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, before);
}
