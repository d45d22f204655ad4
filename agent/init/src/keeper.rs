//! The terminal of a detached workload: who is attached to it sees what the workload says, and types for it. All of it goes to
//! the log as well, which is written by the same process (see `log`).
//!
//! ```text
//! workload -- terminal -- keeper -- log
//!                            \----- attached clients, by SOCK_SEQPACKET
//! ```
//! A message of a client is its first byte, and what that says of the rest: `d` what was typed, `w` the size of the window. To
//! clients goes what is said, as it is. They come and go; without any the workload goes on. One that takes nothing for a second
//! is let go: it must not hold up the workload.
//!
//! Descriptors: 0 the socket that the terminal comes by, 3 the directory of the log, 4 the socket that is listened on.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recv, recvmsg, send};
use nix::unistd::{read, write};

use crate::log::Log;
use crate::sys;

/// The socket that clients connect to.
const LISTENER: i32 = 4;
/// Clients at a time.
const MOST: usize = 16;
/// What is read at a time; a message can be as long.
const PIECE: usize = 16 * 1024;
/// How long a client may take nothing.
const PATIENCE_MS: u16 = 1000;

/// Keeps the terminal until nobody is left at its other end.
pub(crate) fn run(mut log: Log) -> Result<(), String> {
    let Some(master) = receive(sys::borrow(0)).map_err(|e| e.to_string())? else {
        // It was never started.
        return Ok(());
    };
    // What is typed ahead without end must not stop this process.
    sys::unblock(master.as_fd()).map_err(|e| e.to_string())?;
    let listener = sys::borrow(LISTENER);
    let mut clients: Vec<OwnedFd> = Vec::new();
    let mut piece = vec![0_u8; PIECE];
    loop {
        let (has_output, is_called, mut heard) = wait(master.as_fd(), listener, &clients)?;
        if has_output {
            match read(&master, &mut piece) {
                Ok(0) | Err(Errno::EIO) => return Ok(()),
                Ok(length) => {
                    log.take(&piece[..length]);
                    clients.retain(|client| give(client, &piece[..length]));
                    // Some may be gone: what was heard of them would be taken for that of others.
                    heard.clear();
                }
                Err(_) => {}
            }
        }
        let mut heard = heard.into_iter();
        clients.retain(|client| !heard.next().unwrap_or(false) || hear(client, master.as_fd(), &mut piece));
        if is_called
            && let Ok(client) = sys::accept(listener)
            && clients.len() < MOST
        {
            clients.push(client);
        }
    }
}

/// Whether there is output, whether somebody wants to attach, and which clients have something to say.
fn wait(
    master: BorrowedFd<'_>,
    listener: BorrowedFd<'_>,
    clients: &[OwnedFd],
) -> Result<(bool, bool, Vec<bool>), String> {
    let all = [master, listener].into_iter().chain(clients.iter().map(AsFd::as_fd));
    let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut all, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.to_string()),
    }
    let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    Ok((is_ready(&all[0]), is_ready(&all[1]), all[2..].iter().map(is_ready).collect()))
}

/// Carries out one message; false when the client is gone.
fn hear(client: &OwnedFd, master: BorrowedFd<'_>, message: &mut [u8]) -> bool {
    match recv(client.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => false,
        Ok(length) => {
            match (message[0], &message[1..length]) {
                (b'd', typed) => {
                    // What does not fit any more is lost: nobody has read what was typed before.
                    let _ = write(master, typed);
                }
                (b'w', size) => {
                    if let Ok(size) = size.try_into() {
                        let _ = sys::set_window(master, size);
                    }
                }
                _ => {}
            }
            true
        }
        Err(Errno::EAGAIN | Errno::EINTR) => true,
        Err(_) => false,
    }
}

/// Says something to a client; false when it is gone, or takes nothing.
fn give(client: &OwnedFd, piece: &[u8]) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let is_full = match send(client.as_raw_fd(), piece, flags) {
        Ok(_) => return true,
        Err(errno) => errno == Errno::EAGAIN,
    };
    let mut room = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
    is_full
        && poll(&mut room, PollTimeout::from(PATIENCE_MS)).is_ok_and(|ready| ready > 0)
        && send(client.as_raw_fd(), piece, flags).is_ok()
}

/// The descriptor that is sent, such as that of the terminal; nothing when the other end is gone without it.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    let mut byte = [0_u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            return Ok(numbers.first().map(|&number| sys::own(number)));
        }
    }
    Ok(None)
}
