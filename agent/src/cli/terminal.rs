//! `-t`, and `bellows attach`: between the terminal that somebody sits at and that of a workload.
//!
//! Two threads copy what is typed and what is said; they block, since the file of a terminal is shared with a shell that would be
//! confused by anything else. The agent has no part in it: its end breaks off nothing. The end of this process is that of the
//! workload's terminal where the master is here: whoever runs in its foreground is sent SIGHUP.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::kernel::terminal::{self, Raw};

/// How long the last words may take when the end is known already: what runs on in the background may hold the terminal.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is copied at a time.
const PIECE: usize = 8 * 1024;
/// Ctrl-P Ctrl-Q.
const LEAVE: [u8; 2] = [0x10, 0x11];

/// A terminal that was asked for.
#[derive(Debug)]
pub(super) struct Ordered {
    ours: UnixStream,
}

impl Ordered {
    /// The way that it will come by, and what the workload is to have as standard input, output and error meanwhile. The size of
    /// the window is on its way already: so the command never sees another one.
    pub(super) fn new() -> anyhow::Result<(Self, OwnedFd)> {
        let window = terminal::window(io::stdin().as_fd())
            .context("-t needs a terminal at standard input: leave it out, or run this in one")?;
        let (ours, theirs) = terminal::pair()?;
        send(ours.as_raw_fd(), &window, MsgFlags::MSG_NOSIGNAL)?;
        let ours = std::os::unix::net::UnixStream::from(ours);
        ours.set_nonblocking(true)?;
        Ok((Self { ours: UnixStream::from_std(ours)? }, theirs))
    }

    /// Sits down at it, once it is there; `None` when nothing was started.
    pub(super) async fn sit_down(&self) -> anyhow::Result<Option<Seat>> {
        let master = self.ours.async_io(Interest::READABLE, || terminal::receive(self.ours.as_fd())).await?;
        master.map(|master| Seat::take(Line::Master(master), None)).transpose()
    }
}

/// What leads to the workload's terminal.
#[derive(Debug)]
enum Line {
    /// It itself.
    Master(OwnedFd),
    /// The socket of who keeps it.
    Keeper(OwnedFd),
}

impl Line {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Master(fd) | Self::Keeper(fd) => fd.as_fd(),
        }
    }

    fn type_in(&self, mut typed: &[u8]) -> nix::Result<()> {
        while !typed.is_empty() {
            let taken = match self {
                Self::Master(master) => nix::unistd::write(master, typed),
                Self::Keeper(_) => self.message(b'd', typed).map(|()| typed.len()),
            };
            match taken {
                Ok(length) => typed = &typed[length..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn resize(&self) {
        let Ok(window) = terminal::window(io::stdin().as_fd()) else { return };
        // Nothing is to be done when it has ended just now.
        let _ = match self {
            Self::Master(master) => terminal::set_window(master.as_fd(), &window),
            Self::Keeper(_) => self.message(b'w', &window).map_err(io::Error::from),
        };
    }

    fn message(&self, kind: u8, rest: &[u8]) -> nix::Result<()> {
        let message: Vec<u8> = std::iter::once(kind).chain(rest.iter().copied()).collect();
        send(self.fd().as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL).map(drop)
    }
}

/// Somebody sits at a workload's terminal.
#[derive(Debug)]
pub(super) struct Seat {
    _raw: Raw,
    silent: oneshot::Receiver<()>,
}

/// Why somebody sits there no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing is said there any more.
    Ended,
    /// By the keys to leave.
    Detached,
}

impl Seat {
    /// Whoever types [`LEAVE`] leaves, where `leave` is given.
    fn take(line: Line, leave: Option<oneshot::Sender<()>>) -> anyhow::Result<Self> {
        let raw = Raw::begin().context("cannot use the terminal at standard input")?;
        let line = Arc::new(line);
        let (said, silent) = oneshot::channel();
        let (input, output) = (Arc::clone(&line), Arc::clone(&line));
        thread::Builder::new().name("typed".to_owned()).spawn(move || type_on(&input, leave))?;
        thread::Builder::new().name("said".to_owned()).spawn(move || {
            show(&output);
            let _ = said.send(());
        })?;
        let mut changed = signal(SignalKind::window_change())?;
        line.resize();
        tokio::spawn(async move {
            while changed.recv().await.is_some() {
                line.resize();
            }
        });
        Ok(Self { _raw: raw, silent })
    }

    /// After the end: shows the last words, and gives the terminal back.
    pub(super) async fn stand_up(mut self) {
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.silent).await;
    }
}

/// Sits down at a kept terminal until it is no more, or somebody leaves.
pub(super) async fn attend(keeper: OwnedFd) -> anyhow::Result<Left> {
    let (leave, left) = oneshot::channel();
    let mut seat = Seat::take(Line::Keeper(keeper), Some(leave))?;
    Ok(tokio::select! {
        _ = &mut seat.silent => Left::Ended,
        // The other end is dropped where standard input ends, too.
        _ = left => Left::Detached,
    })
}

/// Hands on what is typed.
fn type_on(line: &Line, leave: Option<oneshot::Sender<()>>) {
    let mut piece = [0_u8; PIECE];
    let mut keys = Keys::default();
    // Not by std's handle, which would take more than is asked for.
    while let Ok(length) = nix::unistd::read(io::stdin(), &mut piece) {
        if length == 0 {
            return;
        }
        let (typed, is_leaving) =
            if leave.is_some() { keys.hear(&piece[..length]) } else { (piece[..length].to_vec(), false) };
        if line.type_in(&typed).is_err() {
            // Who is waiting for the end hears of it by what is said no more.
            std::mem::forget(leave);
            return;
        }
        if is_leaving {
            let _ = leave.map(|leave| leave.send(()));
            return;
        }
    }
}

/// Shows what is said.
fn show(line: &Line) {
    let mut piece = [0_u8; PIECE * 2];
    let mut out = io::stdout();
    loop {
        match nix::unistd::read(line.fd(), &mut piece) {
            // The master's answer when nobody has the other end any more is EIO.
            Ok(0) => return,
            Ok(length) => {
                if out.write_all(&piece[..length]).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Finds the keys to leave in what is typed. A first one is held back until it is known what follows.
#[derive(Debug, Default)]
struct Keys {
    is_begun: bool,
}

impl Keys {
    /// What is to be handed on, and whether those keys came.
    fn hear(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            if std::mem::take(&mut self.is_begun) {
                if key == LEAVE[1] {
                    return (on, true);
                }
                on.push(LEAVE[0]);
            }
            if key == LEAVE[0] {
                self.is_begun = true;
            } else {
                on.push(key);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_to_leave_are_found_and_nothing_else_is_lost() {
        let mut keys = Keys::default();
        assert_eq!(keys.hear(b"ab\x11c"), (b"ab\x11c".to_vec(), false));
        assert_eq!(keys.hear(b"x\x10"), (b"x".to_vec(), false), "held back");
        assert_eq!(keys.hear(b"y"), (b"\x10y".to_vec(), false), "and handed on after all");
        assert_eq!(keys.hear(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.hear(b"\x11rest"), (Vec::new(), true));
    }
}
