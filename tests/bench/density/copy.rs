//! A copy: what one tenant runs.

use std::path::PathBuf;

use bellows_policies::ruleset::Base;
use bellows_policies::units::Bytes;
use bellows_tests::programs::{find_program, redis, stress_ng};

/// Keys of a redis, and the size of each value: 24 MiB in all.
pub(super) const KEYS: u64 = 1536;
pub(super) const VALUE: usize = 16 << 10;
/// Files of a web server, and the size of each: 4 MiB.
pub(super) const FILES: u64 = 32;
pub(super) const FILE: Bytes = Bytes(128 << 10);
/// Logs of a compression job, the size of each, and the pause after each, seconds.
pub(super) const LOGS: u64 = 16;
pub(super) const LOG: Bytes = Bytes::MIB;
pub(super) const LOG_EVERY_S: u64 = 6;
/// What a report takes, MiB, and for how long it holds that, seconds.
const REPORT_MIB: u64 = 120;
const REPORT_HOLD_S: u64 = 2;

/// One of the programs of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A redis that holds keys, and is asked for them.
    Cache,
    /// An nginx that serves files.
    Web,
    /// A shell that compresses a log now and then.
    Archive,
    /// A stress-ng that takes memory for a moment.
    Report,
}

impl Part {
    pub(super) const ALL: [Self; 4] = [Self::Cache, Self::Web, Self::Archive, Self::Report];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Web => "web",
            Self::Archive => "archive",
            Self::Report => "report",
        }
    }

    pub(super) fn class(self) -> Base {
        match self {
            Self::Cache | Self::Web => Base::Latency,
            Self::Archive => Base::Batch,
            Self::Report => Base::Standard,
        }
    }

    /// What it is promised, and the most that it may have under bellows. A report is promised what it needs: it is admitted
    /// whole or waits.
    pub(super) fn bounds(self) -> (Bytes, Bytes) {
        let (floor, ceiling) = match self {
            Self::Cache => (16, 64),
            Self::Web => (10, 32),
            Self::Archive => (10, 48),
            Self::Report => (132, 160),
        };
        (Bytes::mib(floor), Bytes::mib(ceiling))
    }
}

/// What they are made of.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) redis: PathBuf,
    pub(super) nginx: PathBuf,
    pub(super) zstd: PathBuf,
    pub(super) stress_ng: PathBuf,
}

impl Programs {
    pub(super) fn find() -> anyhow::Result<Self> {
        Ok(Self {
            redis: find_program("redis-server", "redis-server")?,
            nginx: find_program("nginx", "nginx-light")?,
            zstd: find_program("zstd", "zstd")?,
            stress_ng: find_program("stress-ng", "stress-ng")?,
        })
    }

    /// Arguments of a redis at `port`.
    pub(super) fn redis_arguments(port: u16) -> Vec<String> {
        redis::arguments(port)
    }

    /// Arguments of a report.
    pub(super) fn report_arguments() -> Vec<String> {
        stress_ng(REPORT_MIB, REPORT_HOLD_S)
    }
}
