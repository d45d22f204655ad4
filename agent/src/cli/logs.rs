//! `bellows logs`: what a detached workload has said.
//!
//! Read from its files, without the agent: so it is there whether an agent runs or not, and going on with what comes is not
//! broken off by the end of one. A file that is renamed while it is read is read to its end, and then those that followed it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Connection, Failure, NOT_FOUND};
use crate::workload::shelf;
use crate::workload::spec::Name;

/// How often it is looked whether there is more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Needs no agent. With -f it ends when the workload has ended for good, or is forgotten.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Its owner.
    #[arg(long, default_value = "default")]
    tenant: Name,
    /// Its name.
    name: Name,
    /// Go on with what comes.
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of what there is, the last ones.
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { tenant, name, follow, tail, connection } = arguments;
    let runtime_dir = connection.runtime_dir;
    if let Err(error) = shelf::read(&runtime_dir, &tenant, &name) {
        let text = match error.kind() {
            ErrorKind::NotFound => {
                format!("there is no detached workload {tenant}/{name}: `bellows ps` lists them")
            }
            _ => format!("cannot read what {tenant}/{name} has said: {error}"),
        };
        let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { 1 };
        return Err(anyhow::anyhow!(Failure { text, code }));
    }
    let mut log = Log::open(shelf::log_directory(&runtime_dir, &tenant, &name));
    let mut out = io::stdout().lock();
    let mut before = Vec::new();
    log.copy(&mut before).context("cannot read the log")?;
    out.write_all(last_lines(&before, tail))?;
    out.flush()?;
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        // First whether it is over, then what there is: so nothing that it said last is left out.
        let is_over = shelf::read(&runtime_dir, &tenant, &name)
            .map_or(true, |kept| kept.state.is_over() && kept.again_ms.is_none());
        let copied = log.copy(&mut out)?;
        out.flush()?;
        if is_over && copied == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if copied == 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The files of a log, and where in them the reader is.
struct Log {
    directory: PathBuf,
    current: Option<File>,
}

impl Log {
    fn open(directory: PathBuf) -> Self {
        Self { directory, current: None }
    }

    /// Copies all that was written since, and tells how much that was.
    fn copy(&mut self, to: &mut impl Write) -> io::Result<u64> {
        let mut copied = 0;
        loop {
            if let Some(file) = &mut self.current {
                copied += copy(file, to)?;
            }
            let Some(next) = self.next()? else { return Ok(copied) };
            // What was written to the old one before it was renamed, and after it was read.
            if let Some(file) = &mut self.current {
                copied += copy(file, to)?;
            }
            self.current = Some(next);
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
        match File::open(directory.join(name)) {
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

fn copy(file: &mut File, to: &mut impl Write) -> io::Result<u64> {
    let mut piece = [0_u8; 16 * 1024];
    let mut copied = 0;
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(copied);
        }
        to.write_all(&piece[..length])?;
        copied += length as u64;
    }
}

/// The last lines of a text; all of them where it is not said how many.
fn last_lines(text: &[u8], count: Option<usize>) -> &[u8] {
    let Some(count) = count else { return text };
    let mut starts: VecDeque<usize> = VecDeque::new();
    let mut start = 0;
    while start < text.len() {
        starts.push_back(start);
        if starts.len() > count {
            starts.pop_front();
        }
        start =
            text[start..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| start + end + 1);
    }
    &text[starts.front().copied().unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_last_lines() {
        let text = b"one\ntwo\nthree";
        let table =
            [(None, "one\ntwo\nthree"), (Some(2), "two\nthree"), (Some(0), ""), (Some(9), "one\ntwo\nthree")];
        for (count, expected) in table {
            assert_eq!(last_lines(text, count), expected.as_bytes(), "{count:?}");
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
        reader.copy(&mut text).unwrap();
        File::options().append(true).open(&log).unwrap().write_all(b"3\n").unwrap();
        fs::rename(&log, &first).unwrap();
        write("log", "4\n");
        reader.copy(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), "1\n2\n3\n4\n");
        // Twice between two looks, and the file that was being read is gone.
        fs::rename(&log, &first).unwrap();
        write("log", "5\n");
        fs::rename(&log, &first).unwrap();
        write("log", "6\n");
        reader.copy(&mut text).unwrap();
        assert!(String::from_utf8_lossy(&text).ends_with("4\n5\n6\n"));
        fs::remove_dir_all(directory).unwrap();
    }
}
