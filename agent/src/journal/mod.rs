//! The journal: one record for each thing that happened, kept in a bounded ring and streamed to whoever follows.
//!
//! The control loop only pushes into a bounded queue: no lock, no allocation, no system call. A thread of its own drains the
//! queue into the ring; in its quiet moments, the control loop wakes it. A full queue loses records, never time, and the loss is
//! counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use bellows_policies::Cpus;
use bellows_policies::decision::{Limits, Reason, Verb};
use bellows_policies::units::Bytes;
use crossbeam_queue::ArrayQueue;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Records that may wait for the drain: at 50 ms between drains, 80 000 a second; 20 000 in the first moment after a silence,
/// which lasts until the control loop's next slice, up to 200 ms.
const QUEUE: usize = 4096;
/// Records that the ring keeps.
const RING: usize = 16 * 1024;
/// Time between drains while there is something to drain. Events reach a follower that much later; nobody else notices.
const DRAIN: Duration = Duration::from_millis(50);

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Counts up from 1 for the life of the agent.
    pub id: u64,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// To whom, as `tenant/name`; empty when to the node.
    pub workload: Arc<str>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The agent took its subtree over.
    AgentStarted {
        /// The delegated root.
        root: String,
    },
    /// The agent lets go.
    AgentStopping {
        /// Whether workloads are ended too.
        workloads_end: bool,
    },
    /// A command runs.
    Launched {
        /// Pid of its init.
        pid: i32,
        /// Its limits.
        limits: Limits,
        /// From admission to execution, in microseconds.
        took_us: u64,
    },
    /// A launch was refused or failed.
    LaunchFailed {
        /// Why.
        error: String,
    },
    /// A limit was moved.
    LimitsMoved {
        /// Up, down, or out of the way.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// Limits before.
        from: Limits,
        /// Limits after.
        to: Limits,
        /// Memory use that the decision saw.
        current: Bytes,
        /// From the loop's wake-up to the return of the last write, in microseconds.
        wake_to_write_us: u64,
    },
    /// The workload asked for more, or seemed to, and its limits stayed.
    Held {
        /// Why.
        reason: Reason,
        /// The limits that stay.
        limits: Limits,
        /// Memory use that the decision saw.
        current: Bytes,
    },
    /// The cpu quota was moved.
    QuotaMoved {
        /// Up or down.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// The quota before, in millionths of a cpu.
        from: Cpus,
        /// The quota after.
        to: Cpus,
        /// Periods since the last look in which it was throttled.
        throttled: u64,
        /// From the loop's wake-up to the return of the write, in microseconds.
        wake_to_write_us: u64,
    },
    /// The kernel refused a quota.
    QuotaFailed {
        /// The quota that was to be.
        to: Cpus,
        /// The kernel's error number.
        errno: i32,
    },
    /// Memory that was not needed was reclaimed.
    Reclaimed {
        /// Why.
        reason: Reason,
        /// How much was asked for.
        bytes: Bytes,
        /// Use before.
        before: Bytes,
        /// Use after.
        after: Bytes,
    },
    /// The kernel refused a limit.
    WriteFailed {
        /// The limits that were to be.
        to: Limits,
        /// The kernel's error number.
        errno: i32,
    },
    /// An operator sent a signal.
    SignalSent {
        /// Its number.
        signal: i32,
        /// Who asked, by the socket's peer credentials.
        uid: u32,
    },
    /// The limits were opened and are no longer governed.
    Released {
        /// Who asked; absent when the agent did so itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// The limits are governed again after the agent had been held up and its watchdog had opened them.
    TakenBack {
        /// For how long the agent had not run, in milliseconds.
        gap_ms: u64,
    },
    /// A workload of an earlier agent is governed again.
    TakenOver {
        /// Pid of its init.
        pid: i32,
        /// `memory.high` as it was found; absent when it stood open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found_high: Option<Bytes>,
        /// `memory.max` as it was found; absent when it was unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found_max: Option<Bytes>,
        /// The limits that are governed from now on.
        limits: Limits,
    },
    /// Somebody else wrote a limit; the governed ones are put back.
    ForeignWrite {
        /// The file.
        file: String,
        /// What was governed, as the kernel spells it.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A launch that an earlier agent's death cut short was cleared away.
    LeftoverRemoved {
        /// The cgroup's name.
        name: String,
    },
    /// The workload ended.
    Ended {
        /// In words.
        how: String,
        /// As a shell would see it.
        code: i32,
    },
    /// Something failed that the loop can live with.
    Trouble {
        /// What.
        text: String,
    },
    /// Other policies are in force.
    PoliciesLoaded {
        /// Their version.
        version: String,
        /// How many classes there are.
        classes: usize,
        /// How many rules there are.
        rules: usize,
        /// Workloads that are governed differently from now on.
        changed: usize,
    },
    /// Other policies were wrong; the old ones stay.
    PoliciesRefused {
        /// The first error, with its place.
        error: String,
        /// How many there are.
        problems: usize,
    },
    /// The kernel's event queue overflowed; everything was looked at again.
    QueueOverflowed {},
    /// Somebody else made a cgroup among ours, or one was found that is not certain to be ours. It is left alone.
    ForeignCgroup {
        /// Its name.
        name: String,
    },
}

/// The end of those who act: the control loop and the cpu loop. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: Arc<ArrayQueue<Record>>,
    lost: Arc<AtomicU64>,
    drain: Thread,
}

impl Writer {
    /// Records something. Never blocks; a full queue is counted instead.
    pub fn record(&self, unix_ns: u64, workload: &Arc<str>, what: What) {
        // The drain numbers it: one thread, one order.
        let record = Record { id: 0, unix_ns, workload: Arc::clone(workload), what };
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
}

impl Journal {
    /// The records after `id` that are still kept, oldest first.
    #[must_use]
    pub fn since(&self, id: u64) -> Vec<Arc<Record>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().filter(|r| r.id > id).cloned().collect()
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

/// Opens a journal: both ends, and the thread between them.
pub fn open() -> std::io::Result<(Writer, Journal, Drain)> {
    let queue = Arc::new(ArrayQueue::new(QUEUE));
    let lost = Arc::new(AtomicU64::new(0));
    let journal = Journal {
        ring: Arc::new(Mutex::new(VecDeque::with_capacity(RING))),
        followers: broadcast::Sender::new(1024),
        lost: Arc::clone(&lost),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (source, sink, end) = (Arc::clone(&queue), journal.clone(), Arc::clone(&stop));
    let thread = thread::Builder::new().name("bellows-journal".to_owned()).spawn(move || {
        let mut number = 0;
        loop {
            let is_last = end.load(Ordering::Acquire);
            let before = number;
            drain(&source, &sink, &mut number);
            if is_last {
                break;
            }
            if number > before {
                thread::park_timeout(DRAIN);
            } else {
                // Twenty wake-ups a second would be a good part of what an idle agent costs.
                thread::park();
            }
        }
    })?;
    let writer = Writer { queue, lost, drain: thread.thread().clone() };
    Ok((writer, journal, Drain { stop, thread: Some(thread) }))
}

fn drain(queue: &ArrayQueue<Record>, journal: &Journal, number: &mut u64) {
    while let Some(record) = queue.pop() {
        *number += 1;
        let record = Arc::new(Record { id: *number, ..record });
        let mut ring = journal.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&record));
        drop(ring);
        // Nobody follows: nothing to do.
        let _ = journal.followers.send(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_counted_and_the_rest_is_kept_in_order() {
        let (writer, journal, drain) = open().unwrap();
        let nobody: Arc<str> = "".into();
        for n in 0..100_000 {
            writer.record(n, &nobody, What::QueueOverflowed {});
        }
        drop(drain);
        let kept = journal.since(0);
        assert!(kept.len() as u64 + journal.lost() >= RING as u64);
        assert!(kept.windows(2).all(|w| w[0].id < w[1].id));
        assert!(kept.len() <= RING);
    }

    #[test]
    fn records_read_back_from_json() {
        let record = Record {
            id: 7,
            unix_ns: 1,
            workload: "acme/web".into(),
            what: What::Ended { how: "exited with code 3".to_owned(), code: 3 },
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"unix_ns":1,"workload":"acme/web","event":"ended","how":"exited with code 3","code":3}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap().id, 7);
    }
}
