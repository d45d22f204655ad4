//! Incidents: a limit was in a workload's way, or ended it. Each with a snapshot of what the workload looked like inside, because
//! nobody can look any more when the question comes.
//!
//! Kept per workload in a bounded ring, the least recent workload being forgotten first. They are records of the journal too,
//! so they are on disk and come back with it.

use std::collections::VecDeque;
use std::sync::Arc;

use bellows_policies::decision::Limits;
use bellows_policies::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Record;

/// Incidents kept of one workload.
const PER_WORKLOAD: usize = 8;
/// Workloads of which any are kept: at some 1.5 KiB for an incident, 3 MiB in all.
const WORKLOADS: usize = 256;

/// What was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The ceiling was met.
    CeilingReached,
    /// The budget had nothing to give, now or ever.
    GrantDenied,
    /// It stalled at its limit, which was taken out of the way for the kernel to end it.
    Stalled,
    /// The kernel killed in it.
    OomKilled,
    /// Somebody else wrote a limit.
    ForeignWrite,
    /// It is killed for somebody who waits.
    Sacrificed,
}

/// One incident. Its time is that of its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// What was in the way.
    pub kind: Kind,
    /// The limits at the time.
    pub limits: Limits,
    /// Memory use that was seen last.
    pub current: Bytes,
    /// What it looked like inside; absent when that could not be read any more.
    pub snapshot: Option<Arc<Snapshot>>,
}

/// A workload from inside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// When it was taken, in nanoseconds since the Unix epoch. Of a workload that was killed it is from before.
    pub unix_ns: u64,
    /// The largest processes, the largest first.
    pub processes: Vec<Process>,
    /// Processes in all.
    pub count: usize,
    /// Anonymous memory.
    pub anon: Bytes,
    /// Page cache, tmpfs included.
    pub file: Bytes,
    /// tmpfs and shared memory.
    pub shmem: Bytes,
    /// Kernel memory and network buffers.
    pub kernel: Bytes,
    /// Time since its launch in which some task waited for memory, microseconds.
    pub some_us: u64,
    /// In which all did.
    pub full_us: u64,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Its pid, as the agent sees it.
    pub pid: i32,
    /// Its name, as the kernel has it: 15 bytes at most.
    pub comm: String,
    /// Its resident memory.
    pub rss: Bytes,
}

impl Kind {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CeilingReached => "the ceiling was reached",
            Self::GrantDenied => "the budget denied a grant",
            Self::Stalled => "it stalled at its limit",
            Self::OomKilled => "the kernel killed in it",
            Self::ForeignWrite => "somebody else wrote a limit",
            Self::Sacrificed => "it is killed for somebody who waits",
        }
    }
}

/// The incidents of all workloads, as records; the workload of the last one at the back.
#[derive(Debug, Default)]
pub(super) struct Incidents(VecDeque<(Arc<str>, VecDeque<Arc<Record>>)>);

impl Incidents {
    pub(super) fn keep(&mut self, record: &Arc<Record>) {
        let index = self.0.iter().position(|(name, _)| *name == record.workload);
        let (name, mut kept) = index
            .and_then(|index| self.0.remove(index))
            .unwrap_or_else(|| (Arc::clone(&record.workload), VecDeque::new()));
        if kept.len() == PER_WORKLOAD {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(record));
        if self.0.len() == WORKLOADS {
            self.0.pop_front();
        }
        self.0.push_back((name, kept));
    }

    /// Those of `workload`, or of all, in the order of their ids.
    pub(super) fn of(&self, workload: Option<&str>) -> Vec<Arc<Record>> {
        let wanted = self.0.iter().filter(|(name, _)| workload.is_none_or(|wanted| **name == *wanted));
        let mut found: Vec<Arc<Record>> = wanted.flat_map(|(_, kept)| kept.iter().cloned()).collect();
        found.sort_by_key(|record| record.id);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::What;

    #[test]
    fn incidents_are_bounded_per_workload_and_in_all() {
        let mut incidents = Incidents::default();
        let (limits, current) = (Limits::default(), Bytes::ZERO);
        for id in 0..WORKLOADS as u64 * 20 {
            // The first workload has one now and then, and is kept; the others come and go.
            let name = if id % 100 == 0 { "a/first".to_owned() } else { format!("a/{id}") };
            let incident = Incident { kind: Kind::OomKilled, limits, current, snapshot: None };
            let what = What::Incident(Box::new(incident));
            incidents.keep(&Arc::new(Record {
                id,
                unix_ns: id,
                workload: name.into(),
                version: None,
                prior: None,
                by: None,
                what,
            }));
        }
        assert_eq!(incidents.of(Some("a/first")).len(), PER_WORKLOAD);
        assert!(incidents.of(Some("a/1")).is_empty(), "forgotten");
        assert_eq!(incidents.of(None).len(), WORKLOADS - 1 + PER_WORKLOAD);
    }
}
