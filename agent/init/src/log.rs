//! `bellows-init --log`: writes what a detached workload says to files, and begins a new one before the old one is too large.
//!
//! Started by the agent in the workload's cgroup, and in nothing else of the workload's: its namespaces do not show this process
//! to it, and what the writing costs is charged to whoever says so much. It reads from a pipe until nobody holds the other end
//! any more, so it needs no agent, and no agent's death breaks the pipe. That the agent opens the files for the workload itself
//! was rejected: then nothing bounds a flood while no agent runs, and copying and truncating loses what comes in between.
//!
//! With `--terminal` it reads from the workload's terminal, and keeps that for whoever attaches: see `keeper`.
//!
//! `log` is the current file, `log.1` the one before, and so on: `--files` of them in all, of `--bytes` each at most.
//!
//! Descriptors: 0 the pipe, or the socket that the terminal comes by; 3 the directory.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, setsid, unlinkat};

use crate::{keeper, sys};

/// The directory of the files.
const DIRECTORY: i32 = 3;
/// As much as a pipe holds.
const PIECE: usize = 64 * 1024;

/// Where the log stands.
pub(crate) struct Log {
    directory: BorrowedFd<'static>,
    file: Option<File>,
    size: usize,
    /// The most that a file holds.
    bytes: usize,
    files: usize,
    /// What could not be written since something could.
    lost: usize,
}

/// Writes until the pipe ends. `arguments` are those after `--log`.
pub(crate) fn run(arguments: impl Iterator<Item = Vec<u8>>) -> Result<(), String> {
    let (mut bytes, mut files, mut has_terminal) = (0, 0, false);
    for argument in arguments {
        let text = String::from_utf8_lossy(&argument).into_owned();
        let number = |value: &str| value.parse::<usize>().map_err(|_| format!("{text:?} is no number"));
        match text.split_once('=') {
            Some(("--bytes", value)) => bytes = number(value)?,
            Some(("--files", value)) => files = number(value)?,
            None if text == "--terminal" => has_terminal = true,
            _ => return Err(format!("unknown argument {text:?}")),
        }
    }
    // Out of the agent's process group: what is typed at its terminal is not for this one.
    let _ = setsid();
    // It ends with the pipe, and is killed with the cgroup.
    let _ = SigSet::all().thread_set_mask();
    let mut log = Log {
        directory: sys::borrow(DIRECTORY),
        file: None,
        size: 0,
        bytes: bytes.max(1),
        files: files.max(1),
        lost: 0,
    };
    if has_terminal {
        return keeper::run(log);
    }
    let mut pipe = File::from(sys::borrow(0).try_clone_to_owned().map_err(|e| e.to_string())?);
    let mut piece = vec![0_u8; PIECE];
    loop {
        match pipe.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => log.take(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Log {
    /// Writes a piece. What cannot be written is dropped and counted: a full disk must not hold up the workload.
    pub(crate) fn take(&mut self, piece: &[u8]) {
        if self.lost > 0 {
            let note = format!("[bellows: {} bytes are lost: the log could not be written]\n", self.lost);
            if self.put(note.as_bytes()) == 0 {
                self.lost += piece.len();
                return;
            }
            self.lost = 0;
        }
        let written = self.put(piece);
        self.lost += piece.len() - written;
    }

    /// How much of it could be written.
    fn put(&mut self, mut piece: &[u8]) -> usize {
        let length = piece.len();
        while !piece.is_empty() {
            if self.file.is_none() {
                self.open();
            }
            let part = part(piece, self.bytes.saturating_sub(self.size), self.size == 0);
            if part == 0 {
                self.rotate();
                continue;
            }
            let Some(file) = &mut self.file else { break };
            match file.write(&piece[..part]) {
                Ok(0) => break,
                Ok(written) => {
                    self.size += written;
                    piece = &piece[written..];
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        length - piece.len()
    }

    fn open(&mut self) {
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.file =
            openat(self.directory, "log", flags, Mode::from_bits_truncate(0o640)).ok().map(File::from);
        let length = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
        self.size = usize::try_from(length).unwrap_or(usize::MAX);
    }

    fn rotate(&mut self) {
        self.file = None;
        let name = |number: usize| if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        let last = self.files - 1;
        let _ = unlinkat(self.directory, name(last).as_str(), UnlinkatFlags::NoRemoveDir);
        for number in (0..last).rev() {
            let _ =
                renameat(self.directory, name(number).as_str(), self.directory, name(number + 1).as_str());
        }
        self.open();
        if self.size >= self.bytes
            && let Some(file) = &self.file
        {
            // It could not be moved away. The bound is what is promised.
            let _ = file.set_len(0);
            self.size = 0;
        }
    }
}

/// How much of `piece` goes into a file that has `room` left: whole lines where that is possible, nothing where the rest belongs
/// into the next one.
fn part(piece: &[u8], room: usize, is_empty: bool) -> usize {
    if piece.len() <= room {
        return piece.len();
    }
    match piece[..room].iter().rposition(|&byte| byte == b'\n') {
        Some(end) => end + 1,
        // A line that is longer than a file is cut.
        None if is_empty => room,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_end_with_whole_lines() {
        assert_eq!(part(b"one\ntwo\n", 100, false), 8);
        assert_eq!(part(b"one\ntwo\n", 6, false), 4);
        assert_eq!(part(b"one\ntwo\n", 3, false), 0, "into the next file");
        assert_eq!(part(b"longer than a file", 6, true), 6, "cut");
        assert_eq!(part(b"x", 0, false), 0);
    }
}
