//! The archive job: compresses logs, one after another and over again. It takes all cpu time that it is let, and its reading
//! fills any amount of memory with page cache, which the agent must not take for need.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use bellows_tests::programs::logs::Logs;

use crate::scenario::{PACK, TENANTS};

/// Logs that there are: five times what the job is promised.
const LOGS: u64 = 64;
/// Size of one: what the work is counted by.
const LOG: Bytes = Bytes::mib(4);
/// Granted more than this much of its floor, the job counts as inflated: its ceiling is four times, its reading would fill
/// five. A step or two the agent may take, until it has found out that the growth is cache.
const NEAR_FLOOR: f64 = 2.0;

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

/// Writes the logs.
pub(crate) fn create_logs(scratch: &Path) -> Result<Logs> {
    Logs::create(scratch.join("bellows-demo.logs"), LOGS, LOG)
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
}
