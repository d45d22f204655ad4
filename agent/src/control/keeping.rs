//! Detached workloads: nobody but the agent waits for their ends, so it remembers them, and starts again whom a rule says so of.
//!
//! What is kept is written by a thread of its own, in the order of what happened. It is on disk before a workload is started: the
//! launch goes on from there to the workers. So an agent that dies in between leaves word of what was to be.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bellows_policies::units::{Bytes, Instant};

use super::control_loop::Control;
use super::handle::{Command, Ended, Handle, Refused};
use super::lanes::{Job, Lanes, deliver, spawn};
use super::registry::Entry;
use crate::journal::{Deed, What, Writer};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::Table;
use crate::workload::blame::LaunchError;
use crate::workload::lifecycle::{Event, State};
use crate::workload::records::Exit;
use crate::workload::restart::Row;
use crate::workload::shelf::{Kept, Shelf};
use crate::workload::spec::{Asked, Identity, Spec};
use crate::workload::supervisor::LaunchOrder;

/// Detached workloads, running and ended.
const MOST: usize = 4096;
/// Writes that may wait.
const QUEUE: usize = 1024;
/// How long an agent that ends waits for them: a service manager waits for it, and a disk that takes longer takes none of it.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// What is to be written.
#[derive(Debug)]
enum Order {
    Save(Arc<Kept>),
    /// And then started.
    Launch(Arc<Kept>, Key, Box<LaunchOrder>),
    Remove(Arc<Kept>),
}

/// All detached workloads.
#[derive(Debug)]
pub(super) struct Keep {
    all: HashMap<Arc<str>, Keeping>,
    table: Table<Kept>,
    pub(super) shelf: Shelf,
    orders: SyncSender<Order>,
    /// Closed when all is written, after `orders` are.
    written: Receiver<()>,
    /// When the next one is to be started again.
    next: Option<Instant>,
}

#[derive(Debug)]
struct Keeping {
    kept: Arc<Kept>,
    /// When it is to be started again.
    again: Option<Instant>,
    /// What is on disk is older: the queue was full.
    is_unsaved: bool,
}

impl Keep {
    pub(super) fn start(shelf: Shelf, lanes: &Lanes, answers: &Handle, journal: &Writer) -> io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        let (own, jobs, answers, journal) = (shelf.clone(), lanes.jobs(), answers.clone(), journal.clone());
        let table = answers.kept.clone();
        let (open, written) = sync_channel(0);
        spawn("bellows-shelf", move || {
            let _open = open;
            write(&queue, &own, &jobs, &answers, &journal);
        })?;
        Ok(Self { all: HashMap::new(), table, shelf, orders, written, next: None })
    }

    /// At an orderly end: what has happened last is on disk, since the next agent goes on from there.
    pub(super) fn finish(mut self) {
        let end = clock::now().plus(LAST_WRITES);
        while self.all.values().any(|keeping| keeping.is_unsaved) && clock::now() < end {
            self.save_again();
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.orders);
        let _ = self.written.recv_timeout(end.since(clock::now()));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Kept>> {
        self.all.get(name).map(|keeping| &keeping.kept)
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= MOST
    }

    /// When somebody is to be started again.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Keeps it as it is about to be started, and starts it.
    pub(super) fn launch(&mut self, name: &Arc<str>, kept: Kept, key: Key, order: LaunchOrder) -> bool {
        let kept = Arc::new(kept);
        let order = Order::Launch(Arc::clone(&kept), key, Box::new(order));
        if self.orders.try_send(order).is_err() {
            return false;
        }
        self.put(name, kept, None);
        true
    }

    /// Changes what is kept of it. It is started again at `again`, if that is given.
    fn update(&mut self, name: &Arc<str>, again: Option<Instant>, change: impl FnOnce(&mut Kept)) {
        let Some(keeping) = self.all.get(name) else { return };
        let mut kept = Kept::clone(&keeping.kept);
        change(&mut kept);
        let kept = Arc::new(kept);
        let is_unsaved = self.orders.try_send(Order::Save(Arc::clone(&kept))).is_err();
        self.put(name, kept, again);
        if let Some(keeping) = self.all.get_mut(name) {
            keeping.is_unsaved = is_unsaved;
        }
    }

    fn put(&mut self, name: &Arc<str>, kept: Arc<Kept>, again: Option<Instant>) {
        self.table.insert(Arc::clone(&kept));
        let before = self.all.insert(Arc::clone(name), Keeping { kept, again, is_unsaved: false });
        if let Some(before) = before {
            self.table.remove(&before.kept);
        }
        self.find_next();
    }

    fn find_next(&mut self) {
        self.next = self.all.values().filter_map(|keeping| keeping.again).min();
    }

    /// Writes what the queue had no room for.
    pub(super) fn save_again(&mut self) {
        for keeping in self.all.values_mut().filter(|keeping| keeping.is_unsaved) {
            let order = Order::Save(Arc::clone(&keeping.kept));
            keeping.is_unsaved = self.orders.try_send(order).is_err();
        }
    }
}

impl Control {
    /// A detached workload has been started.
    pub(super) fn kept_runs(&mut self, name: &Arc<str>, id: u64) {
        self.keep.update(name, None, |kept| {
            kept.state = State::Running;
            kept.id = Some(id);
            kept.ended = None;
            kept.was_told = false;
            kept.again_ms = None;
        });
    }

    /// It is told to end: it is not started again, also where the agent is not there to see its end.
    pub(super) fn kept_stops(&mut self, name: &Arc<str>) {
        self.keep.update(name, None, |kept| kept.was_told = true);
    }

    /// It could not be. By whoever asked for it that is dealt with; what its rule has tried is tried again.
    pub(super) fn kept_failed(&mut self, name: &Arc<str>, text: &str, was_asked: bool) {
        let ended = Ended {
            text: format!("not started: {text}"),
            ..Ended::new(Exit::Exited { code: 1 }, Bytes::ZERO, Bytes::ZERO)
        };
        self.kept_over(name, State::Failed, was_asked, Duration::ZERO, ended);
    }

    /// It has ended, and is gone.
    pub(super) fn kept_ended(&mut self, entry: &Entry, ended: &Ended) {
        // Ended by an agent that ends: the next one has the word.
        if self.ends_workloads && entry.stop.is_none() {
            return;
        }
        let ran = clock::unix_nanoseconds().saturating_sub(entry.published.facts.started_unix_ns);
        let ran = Duration::from_nanos(ran);
        self.kept_over(&entry.name, entry.state, entry.stop.is_some(), ran, ended.clone());
    }

    fn kept_over(&mut self, name: &Arc<str>, state: State, was_told: bool, ran: Duration, ended: Ended) {
        let Some(kept) = self.keep.get(name) else { return };
        let mut row = Row { failures: kept.failures };
        let wait = row.after(kept.spec.life.restart, state, was_told, ran);
        let after_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let again = wait.map(|wait| clock::now().plus(wait));
        self.keep.update(name, again, |kept| {
            kept.state = state;
            kept.ended = Some(ended);
            kept.was_told = was_told;
            kept.failures = row.failures;
            kept.again_ms = after_ms;
        });
        if let Some(after_ms) = after_ms {
            let what = What::Life(Deed::RestartDue { after_ms, failures: row.failures });
            self.journal.record(clock::unix_nanoseconds(), name, what);
        }
    }

    /// Starts those again whose time has come.
    pub(super) fn restart_due(&mut self, now: Instant) {
        if self.stopping || self.keep.next.is_none_or(|next| now < next) {
            return;
        }
        let is_due = |keeping: &Keeping| keeping.again.is_some_and(|again| again <= now);
        let due = self.keep.all.iter().filter(|(_, keeping)| is_due(keeping));
        let due: Vec<(Arc<str>, Arc<Spec<Asked>>)> =
            due.map(|(name, keeping)| (Arc::clone(name), Arc::clone(&keeping.kept.spec))).collect();
        for (name, spec) in due {
            if let Some(keeping) = self.keep.all.get_mut(&name) {
                keeping.again = None;
            }
            match self.begin_launch(Spec::clone(&spec), None, None) {
                Ok(_) => {
                    self.metrics.restarts.inc();
                    self.keep.update(&name, None, |kept| {
                        kept.restarts += 1;
                        kept.again_ms = None;
                    });
                }
                Err(refused) => self.kept_failed(&name, &refused.to_string(), false),
            }
        }
        self.keep.find_next();
    }

    /// What is remembered of it is forgotten. `None`: nothing is.
    pub(super) fn forget(&mut self, name: &str) -> Option<Result<What, Refused>> {
        let kept = Arc::clone(self.keep.get(name)?);
        if !kept.state.is_over() {
            let text = format!("{name} is {}: end it first, by `bellows stop`", kept.state.as_str());
            return Some(Err(Refused::NotAllowed(text)));
        }
        if self.keep.orders.try_send(Order::Remove(Arc::clone(&kept))).is_err() {
            return Some(Err(Refused::Busy));
        }
        self.keep.all.remove(name);
        self.keep.table.remove(&kept);
        self.keep.find_next();
        Some(Ok(What::Life(Deed::Removed {})))
    }

    /// It is not started again. `None`: it was not to be.
    pub(super) fn cancel_restart(&mut self, name: &Arc<str>) -> Option<Result<What, Refused>> {
        self.keep.all.get(name)?.again?;
        self.keep.update(name, None, |kept| {
            kept.was_told = true;
            kept.again_ms = None;
            kept.failures = 0;
        });
        Some(Ok(What::Life(Deed::RestartCancelled {})))
    }

    /// What an operator has set of it holds for its next runs, too.
    pub(super) fn keep_settings(&mut self, name: &Arc<str>, identity: &Identity, has_class: bool) {
        self.keep.update(name, None, |kept| {
            let mut spec = Spec::clone(&kept.spec);
            let asked = &mut spec.identity;
            if has_class {
                asked.class = Some(identity.class.clone());
            }
            asked.memory = (!identity.by_class.memory).then_some(identity.memory);
            asked.cpu = identity.cpu.filter(|_| !identity.by_class.cpu);
            asked.resources = identity.resources.clone();
            kept.weight = identity.weight;
            kept.spec = Arc::new(spec);
        });
    }

    /// It is asked for as this from now on; it may have failed meanwhile, and wait to be started again.
    pub(super) fn keep_spec(&mut self, name: &Arc<str>, spec: Spec<Asked>) {
        let again = self.keep.all.get(name).and_then(|keeping| keeping.again);
        self.keep.update(name, again, |kept| kept.spec = Arc::new(spec));
    }

    /// What an earlier agent kept, before its workloads are taken over.
    pub(super) fn recover_kept(&mut self, all: Vec<Kept>) {
        for kept in all {
            let name: Arc<str> = kept.spec.identity.to_string().into();
            let wait = kept.again_ms.filter(|_| kept.state.is_over()).map(Duration::from_millis);
            let again = wait.map(|wait| clock::now().plus(wait));
            self.keep.put(&name, Arc::new(kept), again);
        }
    }

    /// After they were taken over: what was to run and is not there has ended meanwhile, and was cleared away.
    pub(super) fn settle_kept(&mut self) {
        let up: Vec<(Arc<str>, Arc<Kept>)> = self
            .keep
            .all
            .iter()
            .filter(|(_, keeping)| !keeping.kept.state.is_over())
            .map(|(name, keeping)| (Arc::clone(name), Arc::clone(&keeping.kept)))
            .collect();
        for (name, kept) in up {
            let Asked { tenant, name: own, .. } = &kept.spec.identity;
            if let Some(entry) = self.registry.find(tenant, own) {
                if let Some(id) = entry.open.as_ref().map(|open| open.cgroup().id()) {
                    self.keep.update(&name, None, |kept| {
                        kept.state = State::Running;
                        kept.id = Some(id);
                    });
                }
                continue;
            }
            let known = kept.id.and_then(|id| self.registry.recall(id)).cloned();
            let ended = known.unwrap_or_else(|| {
                let unknown = Ended::new(Exit::Vanished, Bytes::ZERO, Bytes::ZERO);
                if kept.state == State::Starting {
                    let text = "its start was cut short by the end of the agent".to_owned();
                    return Ended { text, ..unknown };
                }
                unknown
            });
            let state = State::Stopping.after(Event::cleared(ended.exit, kept.was_told));
            self.kept_over(&name, state, kept.was_told, Duration::ZERO, ended);
        }
    }
}

fn write(queue: &Receiver<Order>, shelf: &Shelf, jobs: &SyncSender<Job>, answers: &Handle, journal: &Writer) {
    let trouble = |kept: &Kept, error: &io::Error| {
        let Asked { tenant, name, .. } = &kept.spec.identity;
        let name: Arc<str> = format!("{tenant}/{name}").into();
        let text = format!("what is kept of it on disk is not as it should be: {error}");
        journal.record(clock::unix_nanoseconds(), &name, What::Trouble { text });
    };
    while let Ok(order) = queue.recv() {
        match order {
            Order::Save(kept) => {
                if let Err(error) = shelf.write(&kept) {
                    trouble(&kept, &error);
                }
            }
            Order::Launch(kept, key, order) => match shelf.write(&kept) {
                Ok(()) => {
                    // Fails only when the workers are gone, at the end.
                    let _ = jobs.send(Job::Launch(key, order));
                }
                Err(source) => {
                    let Asked { tenant, name, .. } = &kept.spec.identity;
                    let error = LaunchError::Record { path: shelf.path(tenant, name), source };
                    deliver(answers, Command::LaunchDone { key, result: Err(error) });
                }
            },
            Order::Remove(kept) => {
                let Asked { tenant, name, .. } = &kept.spec.identity;
                if let Err(error) = shelf.remove(tenant, name) {
                    trouble(&kept, &error);
                }
            }
        }
    }
}
