//! The archive job: compresses logs, one after another and over again. It takes all cpu time that it is let, and its reading
//! fills any amount of memory with page cache, which the agent must not take for need.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;

use crate::files;
use crate::scenario::{PACK, TENANTS};

/// Logs that there are: five times what the job is promised.
const LOGS: u64 = 64;
/// Size of one: what the work is counted by.
const LOG: Bytes = Bytes::mib(4);
/// Granted more than this much of its floor, the job counts as inflated: its ceiling is four times, its reading would fill
/// five. A step or two the agent may take, until it has found out that the growth is cache.
const NEAR_FLOOR: f64 = 2.0;

/// The logs; removed when dropped.
#[derive(Debug)]
pub(crate) struct Logs(PathBuf);

/// What became of the job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    /// What was compressed while work was offered.
    pub(crate) bytes: Bytes,
    /// What it was granted at the end.
    pub(crate) granted: Bytes,
    /// What it was granted half of the time.
    pub(crate) granted_median: Bytes,
    /// The most that it was seen with.
    pub(crate) granted_peak: Bytes,
    /// What it used at the end.
    pub(crate) used: Bytes,
}

impl Logs {
    /// Writes them.
    pub(crate) fn create(scratch: &Path) -> Result<Self> {
        let logs = Self(scratch.join("bellows-demo.logs"));
        fs::create_dir_all(&logs.0).with_context(|| format!("cannot make {}", logs.0.display()))?;
        let text = invent(usize::try_from(LOG.0)?);
        (0..LOGS).try_for_each(|number| files::write(&logs.file(number), &text))?;
        Ok(logs)
    }

    /// Drops them from the page cache: whoever reads a page first is charged for it.
    pub(crate) fn forget(&self) -> Result<()> {
        (0..LOGS).try_for_each(|number| files::forget(&self.file(number)))
    }

    /// Arguments of a shell that compresses them for ever and adds a byte to `progress` for each.
    pub(crate) fn arguments(&self, zstd: &Path, progress: &Path) -> Vec<String> {
        let script = r#"cd "$0"; while :; do for log in *.log; do "$1" -q -f -1 "$log" -o packed.zst && echo >> "$2"; done; done"#;
        let paths = [&self.0, zstd, progress].map(|path: &Path| path.display().to_string());
        ["-c".to_owned(), script.to_owned()].into_iter().chain(paths).collect()
    }

    fn file(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:02}.log"))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // The scratch directory is thrown away in any case.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How much has been compressed, by the file in which the job notes it.
pub(crate) fn progress(file: &Path) -> Bytes {
    // There is none before the first log is done.
    let done = fs::metadata(file).map_or(0, |metadata| metadata.len());
    Bytes(done * LOG.0)
}

impl Packed {
    /// From what it was granted over time; the last look is the end.
    pub(crate) fn sum_up(bytes: Bytes, mut granted: Vec<Bytes>, used: Bytes) -> Result<Self> {
        let at_end = *granted.last().context("the archive job was never looked at")?;
        granted.sort_unstable();
        Ok(Self {
            bytes,
            granted: at_end,
            granted_median: granted[granted.len() / 2],
            granted_peak: granted[granted.len() - 1],
            used,
        })
    }

    /// How often it got through all logs.
    pub(crate) fn passes(&self) -> u64 {
        self.bytes.0 / (LOGS * LOG.0)
    }

    /// Whether its page cache brought it a larger limit.
    pub(crate) fn is_inflated(&self) -> bool {
        let near = TENANTS[PACK].floor.scale(NEAR_FLOOR);
        self.granted > near || self.granted_median > near
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
    fn a_step_that_is_taken_back_is_no_inflation() {
        let sum_up = |granted: &[u64]| {
            let granted = granted.iter().map(|&mib| Bytes::mib(mib)).collect();
            Packed::sum_up(Bytes::ZERO, granted, Bytes::mib(48)).unwrap()
        };
        let packed = sum_up(&[48, 112, 48, 48]);
        assert_eq!((packed.granted_peak, packed.granted_median), (Bytes::mib(112), Bytes::mib(48)));
        assert!(!packed.is_inflated());
        assert!(sum_up(&[48, 48, 48, 112]).is_inflated());
        assert!(sum_up(&[48, 112, 112, 48]).is_inflated());
    }

    #[test]
    fn a_log_is_text_of_the_size_asked_for() {
        let log = invent(10_000);
        assert_eq!(log.len(), 10_000);
        assert!(log.starts_with(b"10.0.") && log.is_ascii());
        assert_eq!(log, invent(10_000));
    }
}
