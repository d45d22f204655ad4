//! The cpu files of a cgroup, and the node's own use. `cpu.stat` flushes per-cpu statistics and a write of `cpu.max` walks all
//! groups under one mutex: both belong on a thread that may wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::cpu::{CpuSample, Cpus};
use bellows_policies::units::Instant;

use super::cgroup::{Cgroup, CgroupError};
use super::parse;

/// The open cpu files of one workload.
#[derive(Debug)]
pub struct CpuFiles {
    stat: File,
    max: File,
}

impl CpuFiles {
    /// Opens them.
    pub fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self { stat: cgroup.open_read("cpu.stat")?, max: cgroup.open_nonblocking("cpu.max")? })
    }

    /// `cpu.stat`, read at `at`.
    pub fn sample(&self, at: Instant) -> io::Result<CpuSample> {
        let mut text = [0_u8; 1024];
        let length = self.stat.read_at(&mut text, 0)?;
        Ok(parse::cpu_stat(&text[..length], at))
    }

    /// The quota in force; `None` is no limit.
    pub fn quota(&self) -> io::Result<Option<Cpus>> {
        let mut text = [0_u8; 64];
        let length = self.max.read_at(&mut text, 0)?;
        parse::cpu_max(&text[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes that there is no quota.
    pub fn lift_quota(&self) -> io::Result<()> {
        self.max.write_at(b"max", 0).map(drop)
    }

    /// Writes the quota. The kernel refills it with every write, also of the same value.
    pub fn set_quota(&self, quota: Cpus) -> io::Result<()> {
        self.max.write_at(quota_text(quota).as_bytes(), 0).map(drop)
    }
}

/// What is written to `cpu.max`: quota and period in microseconds.
#[must_use]
pub fn quota_text(quota: Cpus) -> String {
    format!("{} {PERIOD_US}", quota.quota_us())
}

/// Reads the cpu time that a cgroup and everything below it has used, microseconds.
#[derive(Debug)]
pub struct SubtreeUse(File);

impl SubtreeUse {
    /// Opens `cpu.stat` of `cgroup`.
    pub fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self(cgroup.open_read("cpu.stat")?))
    }

    /// The use so far, microseconds.
    pub fn read(&self) -> io::Result<u64> {
        let mut text = [0_u8; 1024];
        let length = self.0.read_at(&mut text, 0)?;
        parse::value_of(&text[..length], "usage_usec").ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Reads the use of the whole machine.
#[derive(Debug)]
pub struct NodeUse {
    stat: File,
    buffer: Vec<u8>,
}

/// Time of all cpus since boot, in ticks of the kernel's accounting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeTime {
    /// Not idle.
    pub busy: u64,
    /// In sum.
    pub total: u64,
    /// Cpus that are there.
    pub cpus: u64,
}

impl NodeUse {
    /// Opens `/proc/stat`.
    pub fn open() -> io::Result<Self> {
        // All its cpu lines: some 100 bytes for each of 1024 cpus.
        Ok(Self { stat: File::open("/proc/stat")?, buffer: vec![0; 128 * 1024] })
    }

    /// The time so far.
    pub fn read(&mut self) -> io::Result<NodeTime> {
        let length = self.stat.read_at(&mut self.buffer, 0)?;
        Ok(parse::node_time(&self.buffer[..length]))
    }
}
