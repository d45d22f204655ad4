//! Signals as events in a file descriptor, so that no handler (and no `unsafe`) is needed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that ask a program of the harness to end.
pub const ENDINGS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Signals that wait to be taken. They stay blocked when this is dropped.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals and collects them.
    pub fn catch(signals: &[Signal]) -> Result<Self> {
        let set = signals.iter().copied().collect::<SigSet>();
        set.thread_block().context("block signals")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        Ok(Self(fd.context("signalfd")?))
    }

    /// The next signal, if one has come.
    pub fn take(&self) -> Result<Option<Signal>> {
        let Some(info) = self.0.read_signal().context("read a signal")? else { return Ok(None) };
        Ok(Some(Signal::try_from(info.ssi_signo.cast_signed())?))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts a program with no signal blocked: children inherit what is.
pub fn spawn_unblocked(command: &mut Command) -> io::Result<Child> {
    let blocked = SigSet::thread_get_mask()?;
    SigSet::empty().thread_set_mask()?;
    let child = command.spawn();
    blocked.thread_set_mask()?;
    child
}

/// A kernel's exit code or signal number, of which only a byte is used.
#[must_use]
pub fn exit_code(number: i32) -> u8 {
    number.to_le_bytes()[0]
}
