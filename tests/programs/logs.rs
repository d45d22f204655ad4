//! Logs to be compressed: text that is about as compressible as a web server's, and the same each time.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;

use super::files;

/// The logs, of one size; removed when dropped.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    count: u64,
}

impl Logs {
    /// Writes so many of `size` bytes each.
    pub fn create(directory: PathBuf, count: u64, size: Bytes) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let logs = Self { directory, count };
        let text = invent(usize::try_from(size.0)?);
        (0..count).try_for_each(|number| files::write(&logs.file(number), &text))?;
        Ok(logs)
    }

    /// Drops them from the page cache: whoever reads a page first is charged for it.
    pub fn forget(&self) -> Result<()> {
        (0..self.count).try_for_each(|number| files::forget(&self.file(number)))
    }

    /// Arguments of a shell that compresses them for ever into `packed`, pauses for so many seconds after each, and adds a byte
    /// to `progress` for it.
    #[must_use]
    pub fn arguments(&self, zstd: &Path, packed: &Path, progress: &Path, pause_s: u64) -> Vec<String> {
        let pause = if pause_s == 0 { String::new() } else { format!("sleep {pause_s}; ") };
        let script = format!(
            r#"cd "$0"; while :; do for log in *.log; do "$1" -q -f -1 "$log" -o "$2" && echo >> "$3"; {pause}done; done"#
        );
        let paths = [&self.directory, zstd, packed, progress].map(|path: &Path| path.display().to_string());
        ["-c".to_owned(), script].into_iter().chain(paths).collect()
    }

    fn file(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{number:02}.log"))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // The scratch directory is thrown away in any case.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A web server's log, about as compressible as a real one, and the same each time.
fn invent(bytes: usize) -> Vec<u8> {
    let mut text = String::with_capacity(bytes + 128);
    let mut state: u64 = 42;
    let mut draw = |below: u64| {
        // Knuth's MMIX generator; its high bits are good enough for a log.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut second = 0;
    while text.len() < bytes {
        second += draw(3);
        let (a, b, page, status, length) = (draw(256), draw(256), draw(5000), draw(20), draw(100_000));
        let status = if status == 0 { 404 } else { 200 };
        let (minute, second) = (second / 60 % 60, second % 60);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "10.0.{a}.{b} - - [22/Nov/2025:14:{minute:02}:{second:02} +0000] \"GET /page/{page} HTTP/1.1\" {status} {length}"
        );
    }
    text.truncate(bytes);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_text_of_the_size_asked_for() {
        let log = invent(10_000);
        assert_eq!(log.len(), 10_000);
        assert!(log.starts_with(b"10.0.") && log.is_ascii());
        assert_eq!(log, invent(10_000));
    }
}
