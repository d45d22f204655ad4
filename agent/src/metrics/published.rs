//! What the control loop publishes of each workload: plain atomics, written on every look, read by scrapes and `ps`.
//!
//! The fields of one workload are not read as one consistent picture; each is right for itself. What only an operator's order
//! changes is behind a lock, which no turn of an event takes.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bellows_policies::cpu::{CpuBounds, CpuSample, Cpus};
use bellows_policies::decision::Limits;
use bellows_policies::sample::{Detail, MemoryEvents, Sample};
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{AssignedBy, Pin, Resources};

use super::watched::Watched;

/// What only an operator's order changes.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Its class.
    pub class: Arc<str>,
    /// What gave it that class, where it is known.
    pub assigned: Option<AssignedBy>,
    /// What of it is pinned.
    pub pin: Option<Pin>,
}

/// What does not change in a workload's life, and what it begins with.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its owner.
    pub tenant: String,
    /// Its name.
    pub workload: String,
    /// Its class and what belongs to it, at first.
    pub terms: Terms,
    /// Between what its memory limit moves, at first.
    pub memory: Bounds,
    /// Between what its cpu quota moves, if it has one, at first.
    pub cpu: Option<CpuBounds>,
    /// When it was started, or adopted, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Somebody else made it.
    pub adopted: bool,
    /// What it asked for by the piece.
    pub resources: Resources,
}

/// One workload as everybody outside the control loop sees it. Sizes in bytes.
#[derive(Debug)]
pub struct Published {
    /// What does not change.
    pub facts: Facts,
    /// `tenant="...",workload="..."`, escaped once.
    pub(super) labels: String,
    /// Index into the states of life; see `workload::lifecycle`.
    state: AtomicU8,
    pid: AtomicI32,
    pub(super) current: AtomicU64,
    pub(super) high: AtomicU64,
    pub(super) max: AtomicU64,
    pub(super) need: AtomicU64,
    pub(super) cache: AtomicU64,
    pub(super) events: [AtomicU64; 5],
    pub(super) moves: AtomicU64,
    /// `cpu.max` in millionths of a cpu; [`u64::MAX`] is `max`.
    pub(super) quota: AtomicU64,
    /// `usage_usec`, `nr_periods`, `nr_throttled`, `throttled_usec` of `cpu.stat`.
    pub(super) cpu: [AtomicU64; 4],
    pub(super) quota_moves: AtomicU64,
    terms: RwLock<Terms>,
    /// Bit 0: part of its quota is lent; bit 1: it is frozen.
    held: AtomicU8,
    /// Floor and ceiling of memory, and of the quota if there is one: policies may change.
    bounds: [AtomicU64; 4],
    /// Its decisions are only told.
    observed: AtomicBool,
    /// `memory.high` and `memory.max` as they would be, while it is observed.
    pub(super) would: [AtomicU64; 2],
    pub(super) would_moves: AtomicU64,
    /// What was seen of it while it was observed.
    pub watched: Watched,
}

impl Published {
    /// Names of the published event counters, in their order.
    pub(super) const EVENTS: [&str; 5] = ["low", "high", "max", "oom", "oom_kill"];

    /// A workload that nothing is known of yet.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        // Names are restricted to characters that need no escape in a label.
        let labels = format!("tenant=\"{}\",workload=\"{}\"", facts.tenant, facts.workload);
        let cpu = facts.cpu.map_or((0, 0), |bounds| (bounds.floor.0, bounds.ceiling.0));
        let bounds = [facts.memory.floor.0, facts.memory.ceiling.0, cpu.0, cpu.1].map(AtomicU64::new);
        Self {
            bounds,
            terms: RwLock::new(facts.terms.clone()),
            facts,
            labels,
            state: AtomicU8::new(0),
            pid: AtomicI32::new(0),
            current: AtomicU64::new(0),
            high: AtomicU64::new(0),
            max: AtomicU64::new(0),
            need: AtomicU64::new(0),
            cache: AtomicU64::new(0),
            events: [const { AtomicU64::new(0) }; 5],
            moves: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
            cpu: [const { AtomicU64::new(0) }; 4],
            quota_moves: AtomicU64::new(0),
            held: AtomicU8::new(0),
            observed: AtomicBool::new(false),
            would: [const { AtomicU64::new(0) }; 2],
            would_moves: AtomicU64::new(0),
            watched: Watched::default(),
        }
    }

    /// Publishes what an order changed. Takes a lock: not for the path of an event.
    pub fn set_terms(&self, terms: Terms) {
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// What only an operator's order changes.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes bounds.
    pub fn bounds(&self, memory: Bounds, cpu: Option<CpuBounds>) {
        let cpu = cpu.map_or((0, 0), |bounds| (bounds.floor.0, bounds.ceiling.0));
        for (cell, value) in self.bounds.iter().zip([memory.floor.0, memory.ceiling.0, cpu.0, cpu.1]) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Between what its memory limit moves.
    #[must_use]
    pub fn memory(&self) -> Bounds {
        let [floor, ceiling] = [0, 1].map(|at: usize| Bytes(self.bounds[at].load(Ordering::Relaxed)));
        Bounds { floor, ceiling }
    }

    /// Between what its quota moves, if it has one.
    #[must_use]
    pub fn cpu_bounds(&self) -> Option<CpuBounds> {
        let [floor, ceiling] = [2, 3].map(|at: usize| Cpus(self.bounds[at].load(Ordering::Relaxed)));
        self.facts.cpu.map(|_| CpuBounds { floor, ceiling })
    }

    /// Publishes a sample.
    pub fn sample(&self, sample: &Sample) {
        self.current.store(sample.current.0, Ordering::Relaxed);
        self.events(sample.events);
    }

    /// Publishes counters.
    pub fn events(&self, events: MemoryEvents) {
        let values = [events.low, events.high, events.max, events.oom, events.oom_kill];
        for (cell, value) in self.events.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Publishes what a look into `memory.stat` found.
    pub fn detail(&self, detail: &Detail) {
        self.need.store(detail.stat.need().0, Ordering::Relaxed);
        self.cache.store(detail.stat.cache().0, Ordering::Relaxed);
    }

    /// Publishes the limits in force. [`u64::MAX`] stands for `max`.
    pub fn limits(&self, limits: Limits) {
        self.high.store(limits.high.0, Ordering::Relaxed);
        self.max.store(limits.max.0, Ordering::Relaxed);
    }

    /// Publishes that its limits are governed, or what they would be while it is only observed.
    pub fn would(&self, limits: Option<Limits>) {
        if let Some(limits) = limits {
            self.would[0].store(limits.high.0, Ordering::Relaxed);
            self.would[1].store(limits.max.0, Ordering::Relaxed);
        }
        self.observed.store(limits.is_some(), Ordering::Relaxed);
    }

    /// What its limits would be, while it is only observed.
    #[must_use]
    pub fn would_be(&self) -> Option<Limits> {
        let [high, max] = self.would.each_ref().map(|cell| Bytes(cell.load(Ordering::Relaxed)));
        self.observed.load(Ordering::Relaxed).then_some(Limits { high, max })
    }

    /// Counts a move of the limits that would have been made.
    pub fn would_have_moved(&self) {
        self.would_moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a move of the limits.
    pub fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes a sample of `cpu.stat`.
    pub fn cpu(&self, sample: &CpuSample) {
        let values = [sample.usage_us, sample.nr_periods, sample.nr_throttled, sample.throttled_us];
        for (cell, value) in self.cpu.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Publishes the quota in force; `None` is `max`.
    pub fn quota(&self, quota: Option<Cpus>) {
        self.quota.store(quota.map_or(u64::MAX, |cpus| cpus.0), Ordering::Relaxed);
    }

    /// Counts a move of the quota.
    pub fn quota_moved(&self) {
        self.quota_moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes what it gives way with.
    pub fn held(&self, lends_cpu: bool, is_frozen: bool) {
        self.held.store(u8::from(lends_cpu) | u8::from(is_frozen) << 1, Ordering::Relaxed);
    }

    /// Publishes the state of life, and the pid of the first process (0: none).
    pub fn life(&self, state: u8, pid: i32) {
        self.state.store(state, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// The state of life, the pid, memory use, limits, need, moves of the limits, and OOM kills.
    #[must_use]
    pub fn view(&self) -> View {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        View {
            state: self.state.load(Ordering::Relaxed),
            pid: self.pid.load(Ordering::Relaxed),
            current: Bytes(load(&self.current)),
            limits: Limits { high: Bytes(load(&self.high)), max: Bytes(load(&self.max)) },
            need: Bytes(load(&self.need)),
            moves: load(&self.moves),
            oom_kills: load(&self.events[4]),
            quota: Some(Cpus(load(&self.quota))).filter(|cpus| cpus.0 != u64::MAX),
            cpu_usage_us: load(&self.cpu[0]),
            quota_moves: load(&self.quota_moves),
            lends_cpu: self.held.load(Ordering::Relaxed) & 1 > 0,
            is_frozen: self.held.load(Ordering::Relaxed) & 2 > 0,
            would_moves: load(&self.would_moves),
        }
    }
}

/// A reading of [`Published`].
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// Index into the states of life.
    pub state: u8,
    /// Pid of the first process; 0 when there is none.
    pub pid: i32,
    /// `memory.current`.
    pub current: Bytes,
    /// `memory.high` and `memory.max`.
    pub limits: Limits,
    /// Memory that cannot be reclaimed cheaply, as far as it was looked at.
    pub need: Bytes,
    /// How often the limits were moved.
    pub moves: u64,
    /// `oom_kill`.
    pub oom_kills: u64,
    /// `cpu.max`.
    pub quota: Option<Cpus>,
    /// Cpu time used at the last look, microseconds.
    pub cpu_usage_us: u64,
    /// How often the quota was moved.
    pub quota_moves: u64,
    /// Whether part of the quota is lent to somebody more important.
    pub lends_cpu: bool,
    /// Whether it is frozen for somebody more important.
    pub is_frozen: bool,
    /// How often the limits would have been moved while it was observed.
    pub would_moves: u64,
}
