//! What a detached workload has said, read from the files of its log.
//!
//! Needs no agent: so it is there whether one runs or not, and going on with what comes is not broken off by the end of one. A file
//! that is renamed while it is read is read to its end, and then those that followed it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shelf;
use super::spec::Name;

/// How often who goes on looks whether there is more.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is read at once at most, bytes.
const PIECE: usize = 64 << 10;

/// A log, and where in it its reader is.
#[derive(Debug)]
pub struct Said {
    runtime_dir: PathBuf,
    tenant: Name,
    name: Name,
    log: Log,
    /// Lines that are left out first.
    skip: u64,
}

impl Said {
    /// Opens the log of a workload, at its last `tail` lines, or at its begin. `NotFound` where no detached workload of that name is
    /// known, `Unsupported` where others keep what it says.
    pub fn open(runtime_dir: &Path, tenant: &Name, name: &Name, tail: Option<u64>) -> io::Result<Self> {
        if shelf::read(runtime_dir, tenant, name)?.spec.life.journal {
            let text = format!("it goes to the system's journal: journalctl -t {tenant}/{name}");
            return Err(io::Error::new(ErrorKind::Unsupported, text));
        }
        let directory = shelf::log_directory(runtime_dir, tenant, name);
        let skip = match tail {
            Some(tail) => Log::open(directory.clone()).lines()?.saturating_sub(tail),
            None => 0,
        };
        let (runtime_dir, tenant, name) = (runtime_dir.to_owned(), tenant.clone(), name.clone());
        Ok(Self { runtime_dir, tenant, name, log: Log::open(directory), skip })
    }

    /// Whether nothing will be added: the workload has ended for good, or is forgotten. To be asked before what there is left is
    /// read, or what it said last is missed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        shelf::read(&self.runtime_dir, &self.tenant, &self.name)
            .map_or(true, |kept| kept.state.is_over() && kept.again_ms.is_none())
    }

    /// What comes next, 64 KiB at most; nothing where there is no more for now.
    pub fn next_piece(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let mut piece = vec![0_u8; PIECE];
            let length = self.log.read(&mut piece)?;
            piece.truncate(length);
            let left_out = skipped(&piece, &mut self.skip);
            if piece.is_empty() || left_out < piece.len() {
                piece.drain(..left_out);
                return Ok(piece);
            }
        }
    }
}

/// How much of `piece` is before the end of so many more lines.
fn skipped(piece: &[u8], lines: &mut u64) -> usize {
    let mut at = 0;
    while *lines > 0 && at < piece.len() {
        let end = piece[at..].iter().position(|&byte| byte == b'\n');
        *lines -= u64::from(end.is_some());
        at = end.map_or(piece.len(), |end| at + end + 1);
    }
    at
}

/// The files of a log.
#[derive(Debug)]
struct Log {
    directory: PathBuf,
    current: Option<File>,
}

impl Log {
    fn open(directory: PathBuf) -> Self {
        Self { directory, current: None }
    }

    /// Reads on; zero where there is no more for now.
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(length) = self.read_current(piece)? {
                return Ok(length);
            }
            let Some(next) = self.next()? else { return Ok(0) };
            // What was written to the old one before it was renamed, and after it was read.
            if let Some(length) = self.read_current(piece)? {
                return Ok(length);
            }
            self.current = Some(next);
        }
    }

    fn read_current(&mut self, piece: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(file) = &mut self.current else { return Ok(None) };
        Ok(Some(file.read(piece)?).filter(|length| *length > 0))
    }

    /// How many lines there are; one that has not ended is one.
    fn lines(&mut self) -> io::Result<u64> {
        let (mut piece, mut lines, mut last) = (vec![0_u8; PIECE], 0, b'\n');
        loop {
            let length = self.read(&mut piece)?;
            let Some(&end) = piece[..length].last() else { return Ok(lines + u64::from(last != b'\n')) };
            lines += piece[..length].iter().map(|&byte| u64::from(byte == b'\n')).sum::<u64>();
            last = end;
        }
    }

    /// The file after the current one, if there is one.
    fn next(&self) -> io::Result<Option<File>> {
        let files = snapshot(&self.directory)?;
        let Some(current) = &self.current else { return Ok(files.into_iter().next_back()) };
        let own = current.metadata()?.ino();
        let mut after = None;
        for file in files {
            if file.metadata()?.ino() == own {
                return Ok(after);
            }
            after = Some(file);
        }
        // It is gone: the oldest that there is comes next.
        Ok(after)
    }
}

/// All files of a log, the newest first. They are opened in that order: one that is renamed meanwhile comes twice, and none is
/// left out.
fn snapshot(directory: &Path) -> io::Result<Vec<File>> {
    let (mut files, mut seen) = (Vec::new(), Vec::new());
    for number in 0.. {
        let name = if number == 0 { "log".to_owned() } else { format!("log.{number}") };
        // The agent shows others what is there, and who has made it a link would have it show what it may read itself.
        match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(directory.join(name)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                if !seen.contains(&inode) {
                    seen.push(inode);
                    files.push(file);
                }
            }
            // For a moment there is no current file, while a new one is begun.
            Err(error) if error.kind() == ErrorKind::NotFound && number == 0 => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_skipped_over_pieces() {
        let text = b"one\ntwo\nthree";
        for (lines, expected) in [(0, "one\ntwo\nthree"), (1, "two\nthree"), (2, "three"), (3, ""), (9, "")] {
            for cut in 0..=text.len() {
                let (first, second) = text.split_at(cut);
                let mut left = lines;
                let begin = skipped(first, &mut left);
                let kept = [&first[begin..], &second[skipped(second, &mut left)..]].concat();
                assert_eq!(String::from_utf8_lossy(&kept), expected, "{lines} lines, cut at {cut}");
            }
        }
    }

    fn read_all(log: &mut Log, to: &mut Vec<u8>) {
        let mut piece = [0_u8; 3];
        loop {
            let length = log.read(&mut piece).unwrap();
            if length == 0 {
                return;
            }
            to.extend(&piece[..length]);
        }
    }

    #[test]
    fn files_are_followed_over_their_renaming() {
        let directory = std::env::temp_dir().join(format!("bellows-logs-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
        let (log, first) = (directory.join("log"), directory.join("log.1"));
        write("log.1", "1\n");
        write("log", "2\n");
        let mut reader = Log::open(directory.clone());
        let mut text = Vec::new();
        read_all(&mut reader, &mut text);
        File::options().append(true).open(&log).unwrap().write_all(b"3\n").unwrap();
        fs::rename(&log, &first).unwrap();
        write("log", "4\n");
        read_all(&mut reader, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), "1\n2\n3\n4\n");
        // Twice between two looks, and the file that was being read is gone.
        fs::rename(&log, &first).unwrap();
        write("log", "5\n");
        fs::rename(&log, &first).unwrap();
        write("log", "6");
        read_all(&mut reader, &mut text);
        assert!(String::from_utf8_lossy(&text).ends_with("4\n5\n6"));
        assert_eq!(Log::open(directory.clone()).lines().unwrap(), 2, "5, and 6 without an end");
        write("secret", "7\n");
        for name in ["log", "log.1"] {
            fs::remove_file(directory.join(name)).unwrap();
            std::os::unix::fs::symlink("secret", directory.join(name)).unwrap();
            assert!(Log::open(directory.clone()).lines().is_err(), "{name} is a link");
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
