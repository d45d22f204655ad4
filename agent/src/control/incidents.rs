//! Incidents: what a workload looks like inside when a limit is in its way. The control loop only says so; a thread of its own
//! looks, and records it.
//!
//! A workload dies as a whole (`memory.oom.group`), and when its kill is heard there is nothing left to look at. So a limit
//! that cannot be raised is an incident already, and what it looked like then is told again with the kill.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bellows_policies::Limits;
use bellows_policies::units::Bytes;

use super::lanes::{DetailFiles, Lanes, spawn};
use super::registry::{Entry, Later};
use crate::journal::{Incident, Kind, Process, Snapshot, What, Writer};
use crate::kernel::clock;
use crate::kernel::process;
use crate::metrics::Metrics;
use crate::workload::supervisor::Running;

/// Snapshots that may wait. More are dropped and counted.
const QUEUE: usize = 64;
/// Processes in a snapshot.
const PROCESSES: usize = 8;
/// Workloads whose last snapshot is remembered for their end.
const REMEMBERED: usize = 64;

/// An incident to be looked at.
#[derive(Debug)]
pub(super) struct Seen {
    unix_ns: u64,
    workload: Arc<str>,
    version: Arc<str>,
    kind: Kind,
    limits: Limits,
    current: Bytes,
    /// The id of its cgroup: names come again.
    id: u64,
    /// Absent when there is nothing left to look at.
    inside: Option<(Arc<Running>, Arc<Later<DetailFiles>>)>,
}

/// Something is in the way of a workload just now: has somebody look.
pub(super) fn tell(lanes: &Lanes, metrics: &Metrics, entry: &Entry, kind: Kind) {
    if !lanes.look_inside(Seen::new(entry, kind)) {
        metrics.incidents_dropped.inc();
    }
}

impl Seen {
    pub(super) fn new(entry: &Entry, kind: Kind) -> Self {
        let open = entry.open.as_ref();
        let inside = open.filter(|_| kind != Kind::OomKilled);
        Self {
            unix_ns: clock::unix_nanoseconds(),
            workload: Arc::clone(&entry.name),
            version: Arc::clone(&entry.version),
            kind,
            limits: entry.law.limits(),
            current: entry.law.current(),
            id: open.map_or(0, |open| open.cgroup().id()),
            inside: inside.map(|open| (Arc::clone(&open.running), Arc::clone(&open.detail))),
        }
    }
}

/// Starts the thread that looks. It ends when its queue is dropped and empty.
pub(super) fn start(journal: &Writer) -> io::Result<SyncSender<Seen>> {
    let (seen, queue) = sync_channel(QUEUE);
    let journal = journal.clone();
    spawn("bellows-incident", move || serve(&queue, &journal))?;
    Ok(seen)
}

fn serve(queue: &Receiver<Seen>, journal: &Writer) {
    let mut remembered: VecDeque<(u64, Arc<Snapshot>)> = VecDeque::new();
    while let Ok(seen) = queue.recv() {
        let before = remembered.iter().position(|(id, _)| *id == seen.id);
        let before = before.and_then(|index| remembered.remove(index)).map(|(_, snapshot)| snapshot);
        let snapshot = seen.inside.as_ref().and_then(look).map(Arc::new).or(before);
        if let Some(snapshot) = &snapshot {
            if remembered.len() == REMEMBERED {
                remembered.pop_front();
            }
            remembered.push_back((seen.id, Arc::clone(snapshot)));
        }
        write(&seen, snapshot, journal);
    }
}

/// Looks inside, here and now, and records it.
pub(super) fn record(seen: &Seen, journal: &Writer) {
    write(seen, seen.inside.as_ref().and_then(look).map(Arc::new), journal);
}

fn write(seen: &Seen, snapshot: Option<Arc<Snapshot>>, journal: &Writer) {
    let incident = Incident { kind: seen.kind, limits: seen.limits, current: seen.current, snapshot };
    let what = What::Incident(Box::new(incident));
    journal.decided(seen.unix_ns, &seen.workload, &seen.version, what);
}

/// `None` when it has ended meanwhile.
fn look((running, files): &(Arc<Running>, Arc<Later<DetailFiles>>)) -> Option<Snapshot> {
    let (processes, count) = process::largest(&running.cgroup, PROCESSES).ok()?;
    let detail = files.get().ok()?.read(&mut [0; 16 * 1024]).ok()?;
    if processes.is_empty() {
        return None;
    }
    let own = |process: process::Process| Process { pid: process.pid, comm: process.comm, rss: process.rss };
    Some(Snapshot {
        unix_ns: clock::unix_nanoseconds(),
        processes: processes.into_iter().map(own).collect(),
        count,
        anon: detail.stat.anon,
        file: detail.stat.file,
        shmem: detail.stat.shmem,
        kernel: detail.stat.kernel.saturating_add(detail.stat.sock),
        some_us: detail.pressure.some_us,
        full_us: detail.pressure.full_us,
    })
}
