//! What the control loop publishes of each workload: plain atomics, written on every look, read by scrapes and `ps`.
//!
//! The fields of one workload are not read as one consistent picture; each is right for itself. What only an operator's order
//! changes is behind a lock, which no turn of an event takes.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bellows_policies::cpu::{CpuBounds, CpuSample, Cpus};
use bellows_policies::decision::Limits;
use bellows_policies::sample::{Detail, MemoryEvents, Sample};
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{AssignedBy, Pin, Resources};

use super::catalogue::ABSENT;
use super::tenant::{PublishedTenant, Sum};
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
    /// What it has been given by the piece.
    pub resources: Resources,
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
}

/// One workload as everybody outside the control loop sees it. Sizes in bytes.
#[derive(Debug)]
pub struct Published {
    /// What does not change.
    pub facts: Facts,
    /// `tenant="...",workload="..."`, escaped once.
    pub(super) labels: String,
    /// Whose sums its counters add to, once they do.
    tenant: OnceLock<Arc<PublishedTenant>>,
    /// Index into the states of life; see `workload::lifecycle`.
    state: AtomicU8,
    pid: AtomicI32,
    pub(super) current: AtomicU64,
    pub(super) high: AtomicU64,
    pub(super) max: AtomicU64,
    pub(super) need: AtomicU64,
    pub(super) cache: AtomicU64,
    pub(super) anon: AtomicU64,
    pub(super) file: AtomicU64,
    /// `some` and `full` of `memory.pressure`, and of `io.pressure`, microseconds.
    pub(super) pressure: [AtomicU64; 4],
    /// The same of `cpu.pressure`; [`ABSENT`] until it was read.
    pub(super) cpu_pressure: [AtomicU64; 2],
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
    /// Its cpu time until now adds to no sum.
    inherits: AtomicBool,
    /// Its limits are somebody else's.
    yielded: AtomicBool,
    /// `memory.high` and `memory.max` as they would be, while it is observed.
    pub(super) would: [AtomicU64; 2],
    pub(super) would_moves: AtomicU64,
    /// What was seen of it while it was observed.
    pub watched: Watched,
}

impl Published {
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
            tenant: OnceLock::new(),
            state: AtomicU8::new(0),
            pid: AtomicI32::new(0),
            current: AtomicU64::new(0),
            high: AtomicU64::new(0),
            max: AtomicU64::new(0),
            need: AtomicU64::new(0),
            cache: AtomicU64::new(0),
            anon: AtomicU64::new(0),
            file: AtomicU64::new(0),
            pressure: [const { AtomicU64::new(0) }; 4],
            cpu_pressure: [const { AtomicU64::new(ABSENT) }; 2],
            events: [const { AtomicU64::new(0) }; 5],
            moves: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
            cpu: [const { AtomicU64::new(0) }; 4],
            quota_moves: AtomicU64::new(0),
            held: AtomicU8::new(0),
            observed: AtomicBool::new(false),
            inherits: AtomicBool::new(false),
            yielded: AtomicBool::new(false),
            would: [const { AtomicU64::new(0) }; 2],
            would_moves: AtomicU64::new(0),
            watched: Watched::default(),
        }
    }

    /// From now on what it uses and what its counters rise by adds to the sums of its tenant. What they have counted before
    /// does not: an earlier agent has told of it.
    pub fn add_to(&self, tenant: Arc<PublishedTenant>) {
        tenant.uses(0, self.current.load(Ordering::Relaxed));
        // Once, by whoever takes it in.
        let _ = self.tenant.set(tenant);
    }

    /// It has ended, with so many OOM kills in it and, unless only limits inside were met, below.
    pub fn ended(&self, oom_kills: u64) {
        self.count(&self.events[4], oom_kills, Some(Sum::OomKills));
        if let Some(tenant) = self.tenant.get() {
            tenant.uses(self.current.swap(0, Ordering::Relaxed), 0);
            tenant.add(Sum::Ended, 1);
        }
    }

    /// Sets a counter, which only rises, and adds what it has risen by to a sum. Only one thread writes each.
    fn count(&self, cell: &AtomicU64, value: u64, sum: Option<Sum>) {
        let before = cell.load(Ordering::Relaxed);
        if value > before {
            cell.store(value, Ordering::Relaxed);
            if let (Some(sum), Some(tenant)) = (sum, self.tenant.get()) {
                tenant.add(sum, value - before);
            }
        }
    }

    /// Publishes what an order changed. Takes a lock: not for the path of an event.
    pub fn set_terms(&self, terms: Terms) {
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = terms;
    }

    /// What only an operator's order changes.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.read_terms(Terms::clone)
    }

    /// Reads that without copying it.
    pub(super) fn read_terms<T>(&self, read: impl FnOnce(&Terms) -> T) -> T {
        read(&self.terms.read().unwrap_or_else(PoisonError::into_inner))
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
        let before = self.current.swap(sample.current.0, Ordering::Relaxed);
        if let Some(tenant) = self.tenant.get() {
            tenant.uses(before, sample.current.0);
        }
        self.events(sample.events);
    }

    /// Publishes counters.
    pub fn events(&self, events: MemoryEvents) {
        let values = [
            (events.low, None),
            (events.high, Some(Sum::High)),
            (events.max, None),
            (events.oom, None),
            (events.oom_kill, Some(Sum::OomKills)),
        ];
        for (cell, (value, sum)) in self.events.iter().zip(values) {
            self.count(cell, value, sum);
        }
    }

    /// Publishes what a look into `memory.stat` and the pressure files found.
    pub fn detail(&self, detail: &Detail) {
        self.need.store(detail.stat.need().0, Ordering::Relaxed);
        self.cache.store(detail.stat.cache().0, Ordering::Relaxed);
        self.anon.store(detail.stat.anon.0, Ordering::Relaxed);
        self.file.store(detail.stat.file.0, Ordering::Relaxed);
        let (memory, io) = (detail.pressure, detail.io);
        for (cell, value) in
            self.pressure.iter().zip([memory.some_us, memory.full_us, io.some_us, io.full_us])
        {
            self.count(cell, value, None);
        }
    }

    /// Publishes the cpu time that one without a quota has used, microseconds: no loop reads its `cpu.stat`.
    pub fn cpu_used(&self, usage_us: u64) {
        let sum = (!self.begins_inherited()).then_some(Sum::CpuUsage);
        self.count(&self.cpu[0], usage_us, sum);
    }

    /// Publishes for how long tasks have waited for a cpu, some of them and all of them, microseconds; nothing where that is not known.
    pub fn cpu_waits(&self, waits: Option<(u64, u64)>) {
        let (some_us, full_us) = waits.unwrap_or((ABSENT, ABSENT));
        self.cpu_pressure[0].store(some_us, Ordering::Relaxed);
        self.cpu_pressure[1].store(full_us, Ordering::Relaxed);
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

    /// Publishes whether its limits are left to somebody else who wrote one. The cpu loop finds quotas, and the control loop the
    /// rest: whoever comes first tells the other so.
    pub fn set_yielded(&self, yielded: bool) {
        self.yielded.store(yielded, Ordering::Relaxed);
    }

    /// Whether its limits are left to somebody else.
    #[must_use]
    pub fn is_yielded(&self) -> bool {
        self.yielded.load(Ordering::Relaxed)
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
        self.count(&self.moves, self.moves.load(Ordering::Relaxed) + 1, Some(Sum::Moves));
    }

    /// It was there before: what it has used of the cpus until the first look was told by an earlier agent, or is nobody's here.
    pub fn inherits(&self) {
        self.inherits.store(true, Ordering::Relaxed);
    }

    /// Once, of what it inherits.
    fn begins_inherited(&self) -> bool {
        self.inherits.swap(false, Ordering::Relaxed)
    }

    /// Publishes a sample of `cpu.stat`.
    pub fn cpu(&self, sample: &CpuSample) {
        let is_counted = !self.begins_inherited();
        let values = [
            (sample.usage_us, Some(Sum::CpuUsage).filter(|_| is_counted)),
            (sample.nr_periods, None),
            (sample.nr_throttled, None),
            (sample.throttled_us, Some(Sum::CpuThrottled).filter(|_| is_counted)),
        ];
        for (cell, (value, sum)) in self.cpu.iter().zip(values) {
            self.count(cell, value, sum);
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
