//! The cpu loop: samples `cpu.stat`, decides, moves `cpu.max`. A thread of its own, which owns all cpu state.
//!
//! It is not the control loop, because a read of `cpu.stat` flushes per-cpu statistics and a write of `cpu.max` walks all groups
//! under one mutex, milliseconds at the tail; and because the cpu has no events: it is sampled, once a period.
//!
//! ```text
//! tick (each period)
//!   -> node use, use of the whole subtree          kernel/cpu.rs
//!   -> who is due, and whose quota may be used up  hidden.rs
//!   -> CpuSample -> cpu::step -> cpu::plan         policies, pure
//!   -> one write of cpu.max                        CpuFiles::set_quota
//!   -> record, metrics, published values
//! ```

mod lane;
mod loans;
mod quotas;
mod reform;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::cpu::{self, CpuEvidence, CpuPlan, CpuSample, CpuWorkload, Cpus, NodeGuard, NodeLaw};
use bellows_policies::decision::Reason;
use bellows_policies::ruleset::Foreign;
use bellows_policies::units::Instant;

pub(super) use self::lane::CpuLane;
use self::lane::Order;
use self::loans::Signs;
pub(super) use self::reform::{Reform, reform};
use super::hidden::{HiddenUse, Seen};
use super::registry::{Entry, Open};
use crate::journal::{What, Writer};
use crate::kernel::clock;
use crate::kernel::cpu::{CpuFiles, NodeTime, NodeUse, SubtreeUse};
use crate::kernel::watch::Key;
use crate::metrics::{Metrics, Outcome, Published, Resource};

/// Time between two ticks: one period of the quotas.
const TICK: Duration = Duration::from_micros(PERIOD_US);
/// Idle groups that are read in one tick because of hidden use: at some 10 us each, a millisecond.
const SCAN: usize = 128;
/// Every quota is compared with the kernel's within so many ticks, and in silence: as often as the memory limits of a workload at
/// rest.
const VERIFY_TICKS: usize = 80;
const VERIFY_TICKS_SILENT: usize = 320;
/// The node's use is read in each tick while a workload is hot, and else once in so many: of the files under `/proc`, `stat` is
/// a dear one. Not more: the guard judges by its last five observations, and a first relief must not be refused for what was
/// seconds ago.
const NODE_TICKS: u64 = 2;
/// And in silence, which the guard forgets when it is over.
const NODE_TICKS_SILENT: u64 = 10;
/// Time between two thoughts about a group that has nothing to gain or to give.
const SKIP: Duration = Duration::from_secs(1);
/// Ticks that the first looks after a silence are spread over: as many as in [`SKIP`].
const SPREAD: u32 = 10;
/// Time between two ticks without anybody to look at.
const NOBODY: Duration = Duration::from_mins(1);
/// After a silence this long the watchdog may have opened the quotas: all are compared at once.
const GAP: Duration = Duration::from_millis(1500);
/// A workload whose quota is governed.
#[derive(Debug)]
struct Governed {
    key: Key,
    name: Arc<str>,
    version: Arc<str>,
    law: CpuWorkload,
    files: CpuFiles,
    published: Arc<Published>,
    /// When it is to be looked at.
    due: Instant,
    /// As of the last look.
    is_hot: bool,
    seen: Seen,
    /// The tick of its last look.
    tick: u64,
    throttled: u64,
    /// Why it was told last that the quota stays, until it moves or nothing is throttled any more.
    held: Option<Reason>,
    /// Its cgroup was removed.
    is_gone: bool,
    /// A quota that somebody else writes is left to them.
    yields: bool,
}

/// A quota that a workload has, or is to begin with, and its use of cpus so far.
pub(super) type Standing = (Cpus, CpuSample);

/// Where a workload stands with this quota, if that is one and can be governed.
pub(super) fn standing(open: &Open, quota: Option<Cpus>) -> io::Result<Option<Standing>> {
    let sampled = |(quota, files): (_, &CpuFiles)| Ok((quota, files.sample(clock::now())?));
    quota.zip(open.cpu.as_ref()).map(sampled).transpose()
}

/// Hands a workload to the cpu loop, if its quota is to be governed. `before` is where an earlier agent had left it;
/// without that it begins at its floor. (The launch itself ran at the ceiling: what init does for it is not its use.)
pub(super) fn govern(lane: &CpuLane, entry: &mut Entry, before: Option<Standing>) -> io::Result<()> {
    let identity = &entry.spec.identity;
    let (Some(bounds), Some(files)) = (identity.cpu, entry.open.as_mut().and_then(|open| open.cpu.take()))
    else {
        return Ok(());
    };
    let law = entry.class.cpu.law;
    let mut law = match before {
        None => CpuWorkload::new(bounds, law),
        Some((quota, sample)) => CpuWorkload::adopt(bounds, law, Some(quota), sample),
    };
    if entry.pin.is_some_and(|pin| pin.cpu) {
        law.pin(None);
    }
    let taken = lane.send(Order::Govern(Box::new(Governed {
        key: entry.key,
        name: Arc::clone(&entry.name),
        version: Arc::clone(&entry.version),
        law,
        files,
        published: Arc::clone(&entry.published),
        due: Instant(0),
        is_hot: false,
        seen: Seen::default(),
        tick: 0,
        throttled: 0,
        held: None,
        is_gone: false,
        yields: entry.class.foreign == Foreign::Yield,
    })));
    if taken { Ok(()) } else { Err(io::Error::other("the cpu loop has too much to do")) }
}

/// What a cpu loop is built from.
pub(super) struct CpuParts {
    pub(super) subtree: SubtreeUse,
    pub(super) node: NodeUse,
    pub(super) law: NodeLaw,
    pub(super) journal: Writer,
    pub(super) metrics: Arc<Metrics>,
}

struct CpuLoop {
    parts: CpuParts,
    released: Arc<AtomicBool>,
    signs: Arc<Signs>,
    guard: NodeGuard,
    governed: Vec<Governed>,
    ticks: u64,
    last_tick: Instant,
    node: NodeTime,
    hidden: HiddenUse,
    next_scan: usize,
    next_verify: usize,
    /// When anybody was thought about last.
    thought: Instant,
    /// Nobody runs, and nobody is to be thought about until somebody does.
    is_silent: bool,
}

impl CpuLoop {
    fn new(mut parts: CpuParts, released: Arc<AtomicBool>, signs: Arc<Signs>) -> Self {
        let node = parts.node.read().unwrap_or_default();
        let guard = NodeGuard::new(Cpus(node.cpus.max(1) * Cpus::ONE.0), parts.law);
        Self {
            parts,
            released,
            signs,
            guard,
            governed: Vec::new(),
            ticks: 0,
            last_tick: clock::now(),
            node,
            hidden: HiddenUse::default(),
            next_scan: 0,
            next_verify: 0,
            thought: Instant(0),
            is_silent: false,
        }
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        let mut next = clock::now().plus(TICK);
        loop {
            // With nobody to look at there is nothing to wake up for.
            let wait = if self.governed.is_empty() { NOBODY } else { next.since(clock::now()) };
            match orders.recv_timeout(wait) {
                Ok(Order::Govern(governed)) => self.begin(*governed),
                Ok(Order::Reform(reform)) => self.reform(&reform),
                Ok(Order::Pin(key, at)) => self.change(key, |law| law.pin(at)),
                Ok(Order::Unpin(key)) => self.change(key, CpuWorkload::unpin),
                Ok(Order::Forget(key)) => self.governed.retain(|g| g.key != key),
                Ok(Order::Lend(key, share)) => self.loan(key, Some(share)),
                Ok(Order::TakeBack(key)) => self.loan(key, None),
                Ok(Order::Lift(key)) => self.lift(key),
                Err(RecvTimeoutError::Timeout) => {
                    let now = clock::now();
                    self.tick(now);
                    // A loop that was held up does not make up for the ticks that it missed.
                    next = next.plus(TICK);
                    next = if next < now { now.plus(TICK) } else { next };
                    self.parts.metrics.cpu_turn.observe(clock::now().since(now).as_secs_f64());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.open_released();
                    return;
                }
            }
        }
    }

    /// Writes the first quota of a workload, and looks at it with the next tick.
    fn begin(&mut self, governed: Governed) {
        let quota = governed.law.quota();
        let stands = governed.files.quota().is_ok_and(|found| found.is_some_and(|found| found == quota));
        match if stands { Ok(()) } else { governed.files.set_quota(quota) } {
            Ok(()) => governed.published.quota(Some(quota)),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let what = What::QuotaFailed { to: quota, errno };
                self.parts.journal.record(clock::unix_nanoseconds(), &governed.name, what);
            }
        }
        self.end_silence(clock::now());
        self.governed.push(governed);
    }

    fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        let gap = if self.governed.is_empty() { Duration::ZERO } else { now.since(self.last_tick) };
        self.last_tick = now;
        self.open_released();
        if gap > GAP {
            // Held up: the watchdog may have opened them, and the control loop tells of it.
            self.verify(self.governed.len(), false);
        } else {
            let ticks = if self.is_silent { VERIFY_TICKS_SILENT } else { VERIFY_TICKS };
            self.verify(self.governed.len().div_ceil(ticks), true);
        }
        let subtree = self.parts.subtree.read().ok();
        if self.is_silent && self.hidden.is_still(subtree) {
            self.hidden.add(now, subtree, 0);
            if self.ticks.is_multiple_of(NODE_TICKS_SILENT) {
                self.observe_node(now);
            }
            return;
        }
        self.end_silence(now);
        if self.ticks.is_multiple_of(NODE_TICKS) || self.governed.iter().any(|g| g.is_hot) {
            self.observe_node(now);
        }
        let mut explained = 0;
        let total = self.governed.len();
        for step in 0..total {
            // Each tick begins with another one: what the node's guard has left goes to whoever asks first.
            let index = (step + usize::try_from(self.ticks).unwrap_or(0)) % total;
            if self.governed[index].due <= now {
                explained += self.look(index, now);
            }
        }
        self.hidden.add(now, subtree, explained);
        self.scan(now);
        self.governed.retain(|governed| !governed.is_gone);
        let is_thoughtless = now.since(self.thought) > SKIP;
        self.is_silent = is_thoughtless && self.governed.iter().all(|governed| governed.seen.is_silent());
    }

    /// If there was silence: everybody was silent until the last tick, and is looked at by and by.
    fn end_silence(&mut self, now: Instant) {
        if !std::mem::take(&mut self.is_silent) {
            return;
        }
        self.observe_node(now);
        for (governed, delay) in self.governed.iter_mut().zip((0..SPREAD).cycle()) {
            if let Some(unread) = governed.seen.unread(&self.hidden) {
                governed.seen.skip(&unread);
            }
            governed.due = now.plus(TICK * delay);
        }
    }

    fn observe_node(&mut self, now: Instant) {
        let Ok(time) = self.parts.node.read() else { return };
        let (busy, total) =
            (time.busy.saturating_sub(self.node.busy), time.total.saturating_sub(self.node.total));
        self.node = time;
        if total > 0 {
            let used = Cpus(time.cpus * Cpus::ONE.0).scale(busy as f64 / total as f64);
            self.guard.observe(now, used);
            if self.guard.is_shedding() {
                self.guard.share_out(self.governed.iter().map(|g| &g.law));
                self.signs.overloaded(now);
            }
            self.parts.metrics.node_cpu.set(used.as_f64());
        }
    }

    /// Looks at the idle groups whose quota hidden use may have used up.
    fn scan(&mut self, now: Instant) {
        let (total, first) = (self.governed.len(), self.next_scan);
        let mut looked = 0;
        for step in 0..total {
            if looked == SCAN {
                break;
            }
            let index = (first + step) % total;
            let governed = &self.governed[index];
            let hidden = governed.seen.most_us(&self.hidden);
            if governed.tick < self.ticks && hidden >= governed.law.least_exhausting_use().quota_us() {
                looked += 1;
                self.next_scan = index + 1;
                self.look(index, now);
            }
        }
    }

    /// One turn of one workload. Returns the cpu time that it used since the last tick, if it was looked at then.
    fn look(&mut self, index: usize, now: Instant) -> u64 {
        let governed = &mut self.governed[index];
        let unread = if governed.is_hot { None } else { governed.seen.unread(&self.hidden) };
        if let Some(unread) = unread.filter(|_| governed.law.is_at_rest()) {
            governed.seen.skip(&unread);
            governed.due = now.plus(SKIP);
            return 0;
        }
        self.thought = now;
        let Some(sample) = unread.or_else(|| governed.files.sample(clock::now().max(now)).ok()) else {
            // The control loop sees to the rest.
            governed.is_gone = true;
            return 0;
        };
        if let Some(silence) = governed.seen.end_silence() {
            // Nothing comes of it: what did not run was not throttled, and a floor is not shrunk.
            let _ = cpu::step(&mut governed.law, &silence);
        }
        let used = governed.seen.read(sample, &self.hidden);
        let explained = if governed.tick + 1 == self.ticks { used } else { 0 };
        governed.tick = self.ticks;
        governed.published.cpu(&sample);
        let throttled = sample.nr_throttled.saturating_sub(governed.throttled);
        governed.throttled = sample.nr_throttled;

        let step = cpu::step(&mut governed.law, &sample);
        let plan = cpu::plan(&governed.law, step.decision, &mut self.guard);
        governed.is_hot = governed.law.is_hot();
        // On a node with cpus to spare it is its own ceiling that throttles it, and nobody could lend it anything.
        if !governed.law.law().is_guarded && governed.law.is_starved() && self.guard.is_busy() {
            self.signs.starved(governed.key, now);
        }
        // The grid decides when exactly: half a tick early is on time.
        governed.due = now.plus(step.look_again.saturating_sub(TICK / 2));
        let outcome = quotas::carry_out(&self.parts, governed, plan, sample.at, throttled, now);
        let (CpuPlan::Write { reason, .. } | CpuPlan::Nothing { reason }) = plan;
        if outcome == Outcome::Nothing {
            let node_used = self.guard.most_used();
            quotas::hold(&self.parts, governed, reason, CpuEvidence { node_used, ..step.decision.evidence });
        }
        self.parts.metrics.decided(Resource::Cpu, step.decision.verb, reason, outcome);
        explained
    }
}
