//! The second tenant: reads one large file over and over, so that its cgroup is full of page cache at all times.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

use crate::READER_FLOOR;

/// Size of the file: more than eight times what the reader is granted.
pub(crate) const FILE: Bytes = Bytes::mib(400);
/// What is written at once.
const BLOCK: usize = 1 << 20;
/// Of what is written past the page cache: a page is enough for every disk.
const ALIGNMENT: usize = 4096;
/// Granted more than this much of its floor, the reader counts as inflated. Half as much again is one step of the
/// agent's, which it may take to find out that the growth was cache, and then takes back.
const NEAR_FLOOR: f64 = 1.5;

/// The file; removed when dropped.
#[derive(Debug)]
pub(crate) struct ReadFile(PathBuf);

/// What became of the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader {
    /// What it was granted at the end.
    pub(crate) granted: Bytes,
    /// What it was granted half of the time.
    pub(crate) granted_median: Bytes,
    /// The most that it was seen with.
    pub(crate) granted_peak: Bytes,
    /// What it used at the end.
    pub(crate) used: Bytes,
    /// How often it got through the file.
    pub(crate) passes: usize,
}

impl ReadFile {
    /// Writes it to the disk.
    pub(crate) fn create(scratch: &Path) -> Result<Self> {
        let file = Self(scratch.join("bellows-demo.data"));
        file.write().with_context(|| format!("cannot write {FILE} to {}", file.0.display()))?;
        Ok(file)
    }

    /// A shell's loop that reads it for ever and writes an empty line after each time.
    pub(crate) fn loop_arguments(&self) -> [String; 3] {
        let script = r#"while cat "$0" > /dev/null; do echo; done"#;
        ["-c".to_owned(), script.to_owned(), self.0.display().to_string()]
    }

    /// Drops it from the page cache: whoever reads a page first is charged for it.
    pub(crate) fn forget(&self) -> Result<()> {
        let file = File::open(&self.0)?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .context("cannot drop the file from the cache")
    }

    /// Past the page cache, which saves a slow guest a copy, where the file system can do that.
    fn write(&self) -> Result<()> {
        let open = |flags| {
            OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&self.0)
        };
        let mut file = open(OFlag::O_DIRECT.bits()).or_else(|_| open(0))?;
        let buffer = vec![b'x'; BLOCK + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        for _ in 0..FILE.0 / BLOCK as u64 {
            file.write_all(&buffer[start..start + BLOCK])?;
        }
        Ok(file.sync_all()?)
    }
}

impl Drop for ReadFile {
    fn drop(&mut self) {
        // The scratch directory is thrown away in any case.
        let _ = fs::remove_file(&self.0);
    }
}

impl Reader {
    /// From what it was granted over time, and the lines that its loop wrote. The last look is the end.
    pub(crate) fn sum_up(mut granted: Vec<Bytes>, used: Bytes, lines: &Path) -> Result<Self> {
        let at_end = *granted.last().context("the reader was never looked at")?;
        granted.sort_unstable();
        Ok(Self {
            granted: at_end,
            granted_median: granted[granted.len() / 2],
            granted_peak: granted[granted.len() - 1],
            used,
            passes: fs::read(lines).context("the reader's output is gone")?.len(),
        })
    }

    /// Whether it read enough to want more than its floor.
    pub(crate) fn has_read(&self) -> bool {
        self.passes > 0 || self.used >= READER_FLOOR.scale(0.8)
    }

    /// Whether its page cache brought it a larger limit.
    pub(crate) fn is_inflated(&self) -> bool {
        let near = READER_FLOOR.scale(NEAR_FLOOR);
        self.granted > near || self.granted_median > near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_is_taken_back_is_no_inflation() {
        let sum_up = |granted: &[u64]| {
            let granted = granted.iter().map(|&mib| Bytes::mib(mib)).collect();
            Reader::sum_up(granted, Bytes::mib(48), Path::new("/dev/null")).unwrap()
        };
        let reader = sum_up(&[48, 96, 48, 48]);
        assert_eq!((reader.granted_peak, reader.granted_median), (Bytes::mib(96), Bytes::mib(48)));
        assert!(!reader.is_inflated());
        assert!(sum_up(&[48, 48, 48, 96]).is_inflated());
        assert!(sum_up(&[48, 96, 96, 48]).is_inflated());
    }
}
