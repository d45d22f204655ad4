//! The journal: one record for each thing that happened, kept in a bounded ring and streamed to whoever follows.
//!
//! The control loop only pushes into a bounded queue: no lock, no allocation, no system call. A thread of its own drains the
//! queue into the ring, and in batches to disk; in its quiet moments, the control loop wakes it. A full queue loses records, never
//! time, and the loss is counted; so is what the disk does not take.
//!
//! | file | holds |
//! |---|---|
//! | `record` | what can happen, and a record of it |
//! | `caller` | who asked for it, and what an operator can set |
//! | `deed` | steps in the life of a workload |
//! | `grounds` | by which law and evidence it was decided, and why a lease has ended |
//! | `laws` | the constants that decisions were made by, under the name that records carry |
//! | `incident` | what a workload looked like when a limit was in its way |
//! | `keep` | what the drain does with a record |
//! | `links` | which record follows which |
//! | `store` | the files on disk |
//! | `filter` | which records a reader wants |

mod caller;
mod deed;
mod filter;
mod grounds;
mod incident;
mod keep;
mod laws;
mod links;
mod record;
mod store;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use bellows_policies::Verb;
use crossbeam_queue::ArrayQueue;
use tokio::sync::broadcast;

pub use caller::{Caller, Conditions};
pub use deed::Deed;
pub use filter::Filter;
pub use grounds::{Ease, Grounds};
use incident::Incidents;
pub use incident::{Incident, Kind, Process, Snapshot};
use keep::Keeper;
pub use laws::Laws;
use laws::Versions;
pub use record::{Record, What};
pub use store::Settings;

/// Records that may wait for the drain: at 50 ms between drains, 80 000 a second; 20 000 in the first moment after a silence,
/// which lasts until the control loop's next slice, up to 200 ms.
const QUEUE: usize = 4096;
/// Records that the ring keeps: at half a kilobyte each, with the queue, 6 MiB. Older ones are on disk.
const RING: usize = 8 * 1024;
/// Time between drains while there is something to drain. Events reach a follower that much later; nobody else notices.
const DRAIN: Duration = Duration::from_millis(50);

/// The end of those who act: the control loop and the cpu loop. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: Arc<ArrayQueue<Record>>,
    lost: Arc<AtomicU64>,
    versions: Versions,
    drain: Thread,
}

impl Writer {
    /// Records something. Never blocks; a full queue is counted instead.
    pub fn record(&self, unix_ns: u64, workload: &Arc<str>, what: What) {
        self.push(unix_ns, workload, None, None, what);
    }

    /// The same of something that `by` asked for.
    pub fn ordered(&self, unix_ns: u64, workload: &Arc<str>, by: Option<&Arc<Caller>>, what: What) {
        self.push(unix_ns, workload, None, by.cloned(), what);
    }

    /// The same of something that was decided by the laws named `version`.
    pub fn decided(&self, unix_ns: u64, workload: &Arc<str>, version: &Arc<str>, what: What) {
        self.push(unix_ns, workload, Some(Arc::clone(version)), None, what);
    }

    /// The same of what a law decided because somebody asked for it.
    pub fn decided_for(
        &self,
        unix_ns: u64,
        workload: &Arc<str>,
        version: &Arc<str>,
        by: Option<Arc<Caller>>,
        what: What,
    ) {
        self.push(unix_ns, workload, Some(Arc::clone(version)), by, what);
    }

    /// Makes laws known, before anything is decided by them. Takes a lock: not for the path of an event.
    pub fn tell(&self, laws: Laws) {
        self.versions.add(laws);
    }

    fn push(
        &self,
        unix_ns: u64,
        workload: &Arc<str>,
        version: Option<Arc<str>>,
        by: Option<Arc<Caller>>,
        what: What,
    ) {
        // The drain numbers it: one thread, one order.
        let workload = Arc::clone(workload);
        let record = Record { id: 0, unix_ns, workload, version, prior: None, by, what };
        if self.queue.push(record).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the drain, if there is something for it. Not by whoever records: that would be a system call in a turn.
    pub fn nudge(&self) {
        if !self.queue.is_empty() {
            self.drain.unpark();
        }
    }
}

/// The readers' end. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Journal {
    ring: Arc<Mutex<VecDeque<Arc<Record>>>>,
    followers: broadcast::Sender<Arc<Record>>,
    lost: Arc<AtomicU64>,
    unwritten: Arc<AtomicU64>,
    versions: Versions,
    incidents: Arc<Mutex<Incidents>>,
    /// Set when what is on disk has been read back: readers wait for it, the agent's start does not.
    past: Arc<OnceLock<()>>,
}

impl Journal {
    /// The records that are still kept and that `filter` wants, oldest first.
    #[must_use]
    pub fn read(&self, filter: &Filter) -> Vec<Arc<Record>> {
        self.whole().iter().filter(|r| filter.wants(r)).cloned().collect()
    }

    /// The ids of the oldest and the newest record that are kept; zero and zero for none.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        let ring = self.whole();
        let id = |record: Option<&Arc<Record>>| record.map_or(0, |record| record.id);
        (id(ring.front()), id(ring.back()))
    }

    /// The laws of this name.
    #[must_use]
    pub fn laws(&self, version: &str) -> Option<Arc<Laws>> {
        self.versions.find(version)
    }

    /// The incidents of `workload`, or of all, as records.
    #[must_use]
    pub fn incidents(&self, workload: Option<&str>) -> Vec<Arc<Record>> {
        self.past.wait();
        self.incidents.lock().unwrap_or_else(PoisonError::into_inner).of(workload)
    }

    /// The ring with its past.
    fn whole(&self) -> MutexGuard<'_, VecDeque<Arc<Record>>> {
        self.past.wait();
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, record: &Arc<Record>) {
        if matches!(record.what, What::Incident(_)) {
            self.incidents.lock().unwrap_or_else(PoisonError::into_inner).keep(record);
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(record));
    }

    /// The grows since `unix_ns` that are kept, oldest first: id, microseconds from wake-up to write, and when. Does not wait for what is
    /// on disk.
    #[must_use]
    pub fn reactions(&self, unix_ns: u64) -> Vec<(u64, u64, u64)> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = ring.iter().rev().take_while(|record| record.unix_ns >= unix_ns);
        let mut grows: Vec<_> = newest
            .filter_map(|record| match record.what {
                What::LimitsMoved { verb: Verb::Grow, wake_to_write_us, .. } if wake_to_write_us > 0 => {
                    Some((record.id, wake_to_write_us, record.unix_ns))
                }
                _ => None,
            })
            .collect();
        grows.reverse();
        grows
    }

    /// New records from now on. A follower that is too slow is told how many it missed.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<Record>> {
        self.followers.subscribe()
    }

    /// Records that were lost because the queue was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records that are not on disk because it did not take them.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }
}

/// The thread that drains. Dropping it drains once more and ends it.
#[derive(Debug)]
pub struct Drain {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Opens a journal: both ends, and the thread between them. Without settings nothing is kept on disk. What an earlier agent
/// left there is in the ring before any reader sees it.
pub fn open(settings: Option<Settings>) -> std::io::Result<(Writer, Journal, Drain)> {
    let queue = Arc::new(ArrayQueue::new(QUEUE));
    let lost = Arc::new(AtomicU64::new(0));
    let versions = Versions::default();
    let journal = Journal {
        ring: Arc::new(Mutex::new(VecDeque::with_capacity(RING))),
        followers: broadcast::Sender::new(1024),
        lost: Arc::clone(&lost),
        unwritten: Arc::default(),
        versions: versions.clone(),
        incidents: Arc::default(),
        past: Arc::default(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (source, sink, end) = (Arc::clone(&queue), journal.clone(), Arc::clone(&stop));
    let thread = thread::Builder::new().name("bellows-journal".to_owned()).spawn(move || {
        let mut keeper = Keeper::open(settings, &sink);
        let _ = sink.past.set(());
        loop {
            let is_last = end.load(Ordering::Acquire);
            let before = keeper.last;
            drain(&source, &sink, &mut keeper);
            if is_last {
                break;
            }
            if keeper.last > before {
                thread::park_timeout(DRAIN);
            } else {
                // Twenty wake-ups a second would be a good part of what an idle agent costs.
                thread::park();
            }
        }
    })?;
    let writer = Writer { queue, lost, versions, drain: thread.thread().clone() };
    Ok((writer, journal, Drain { stop, thread: Some(thread) }))
}

fn drain(queue: &ArrayQueue<Record>, journal: &Journal, keeper: &mut Keeper) {
    while let Some(record) = queue.pop() {
        keeper.take(record, journal);
    }
    keeper.flush(journal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // Thousands of them wait in the queue and stay in the ring.
        assert!(size_of::<Record>() <= 512, "{} bytes", size_of::<Record>());
    }

    #[test]
    fn a_full_queue_is_counted_and_the_rest_is_kept_in_order() {
        let (writer, journal, drain) = open(None).unwrap();
        let nobody: Arc<str> = "".into();
        for n in 0..100_000 {
            writer.record(n, &nobody, What::QueueOverflowed {});
        }
        drop(drain);
        let kept = journal.read(&Filter::default());
        assert!(kept.len() as u64 + journal.lost() >= RING as u64);
        assert!(kept.windows(2).all(|w| w[0].id < w[1].id));
        assert!(kept.len() <= RING);
    }

    #[test]
    fn a_restart_goes_on_with_ids_records_and_incidents() {
        let directory = std::env::temp_dir().join(format!("bellows-journal-restart-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let settings = Settings { directory: directory.clone(), max_file: 1 << 20, files: 2 };
        let name: Arc<str> = "a/x".into();
        let incident = Incident {
            kind: Kind::OomKilled,
            limits: bellows_policies::Limits::default(),
            current: bellows_policies::Bytes::MIB,
            snapshot: Some(Arc::default()),
        };
        for start in 0..3 {
            let (writer, journal, drain) = open(Some(settings.clone())).unwrap();
            assert_eq!(journal.bounds().1, start * 2);
            writer.record(1, &name, What::QueueOverflowed {});
            writer.record(2, &name, What::Incident(Box::new(incident.clone())));
            drop(drain);
            let ids: Vec<u64> = journal.read(&Filter::default()).iter().map(|record| record.id).collect();
            assert_eq!(ids, (1..=start * 2 + 2).collect::<Vec<u64>>());
            assert_eq!(journal.incidents(Some("a/x")).len() as u64, start + 1);
            assert_eq!(journal.unwritten(), 0);
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
