//! A small deterministic plant: one workload's memory under `memory.high` and `memory.max`, and the loop that governs
//! it. Time is a counter of 100 us ticks; nothing sleeps.
//!
//! The kernel's part, in outline: use over `high` takes clean cache first, then throttles by `64 * o^2` s per 256 KiB
//! (o = overage / high, none below 10 ms, at most 2 s); use over `max` kills. The loop's part: events are told at once
//! after a quiet spell and else every 12 ms; grows are written at once, shrinks 2 ms and details 1 ms later.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fmt::Write;

use bellows_policies::{
    Bounds, Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Pressure, Reason,
    Sample, Verb, Workload, launch, plan, settle, step, undo,
};

const TICK_NS: u64 = 100_000;
const BATCH: u64 = 256 << 10;

/// What the workload tries to do, in bytes per second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Allocate anonymous memory.
    pub(crate) need_rate: u64,
    /// Stop allocating here, bytes.
    pub(crate) need_most: u64,
    /// Read files that were not read before.
    pub(crate) cache_rate: u64,
}

pub(crate) struct Plant {
    pub(crate) now: u64,
    pub(crate) limits: Limits,
    pub(crate) stat: MemoryStat,
    pub(crate) events: MemoryEvents,
    pub(crate) pressure: Pressure,
    pub(crate) asleep_until: u64,
    pub(crate) asleep_ns: u64,
    pub(crate) is_dead: bool,
    /// Charged over the limit since the last batch, bytes.
    unbilled: u64,
}

pub(crate) struct Rig {
    pub(crate) plant: Plant,
    pub(crate) workload: Workload,
    pub(crate) budget: Budget,
    pub(crate) log: String,
    pub(crate) writes: u64,
    pub(crate) details: u64,
    pub(crate) looks: u64,
    pub(crate) failed_at: Option<u64>,
    told: (MemoryEvents, u64),
    look_at: Option<u64>,
    detail: Option<(u64, Detail)>,
    shrink: Option<(u64, Plan)>,
    last_reason: Option<Reason>,
}

impl Plant {
    fn tick(&mut self, demand: Demand) {
        self.now += TICK_NS;
        if self.is_dead {
            return;
        }
        if self.now < self.asleep_until {
            self.asleep_ns += TICK_NS;
            self.pressure.some_us += TICK_NS / 1000;
            self.pressure.full_us += TICK_NS / 1000;
            return;
        }
        let part = |rate: u64| rate / (1_000_000_000 / TICK_NS);
        let need = part(demand.need_rate).min(demand.need_most.saturating_sub(self.stat.anon.0));
        let cache = part(demand.cache_rate);
        self.stat.anon.0 += need;
        self.add_cache(cache.cast_signed());
        if self.usage() > self.limits.high.0 && need + cache > 0 {
            self.events.high += (need + cache).div_ceil(BATCH);
            self.reclaim();
            self.unbilled += need + cache;
            if self.unbilled >= BATCH {
                let charged = std::mem::take(&mut self.unbilled);
                self.throttle(charged);
            }
        }
        if self.usage() > self.limits.max.0 {
            self.events.max += 1;
            self.events.oom_kill += 1;
            self.is_dead = true;
            self.stat = MemoryStat::default();
        }
    }

    pub(crate) fn usage(&self) -> u64 {
        self.stat.anon.0 + self.stat.file.0 + self.stat.kernel.0
    }

    /// Takes clean cache down to `high`; what is anonymous is scanned in vain.
    fn reclaim(&mut self) {
        let over = self.usage().saturating_sub(self.limits.high.0);
        let taken = over.min(self.stat.file.0);
        self.add_cache(-taken.cast_signed());
        self.stat.pgsteal += taken / 4096;
        self.stat.pgscan += taken / 4096 + if taken < over { 512 } else { 0 };
        self.pressure.some_us += taken / 4096 / 8;
        self.pressure.full_us += taken / 4096 / 8;
    }

    fn throttle(&mut self, charged: u64) {
        let over = self.usage().saturating_sub(self.limits.high.0) as f64 / self.limits.high.0 as f64;
        let sleep = (64.0 * over * over * charged as f64 / BATCH as f64).min(2.0);
        if sleep >= 0.01 {
            self.asleep_until = self.now + Bytes(1_000_000_000).scale(sleep).0;
        }
    }

    fn add_cache(&mut self, by: i64) {
        self.stat.file.0 = self.stat.file.0.saturating_add_signed(by);
        self.stat.inactive_file = self.stat.file;
    }

    fn sample(&self) -> Sample {
        Sample { at: Instant(self.now), current: Bytes(self.usage()), events: self.events }
    }
}

impl Rig {
    pub(crate) fn new(bounds: &str, budget: Budget) -> Self {
        let bounds: Bounds = bounds.parse().unwrap();
        let mut budget = budget;
        let workload = Workload::new(bounds, Law::default());
        let first = launch(&workload, &mut budget).unwrap();
        settle(&first, &mut budget);
        let plant = Plant {
            now: 0,
            limits: workload.launch_limits(),
            stat: MemoryStat { kernel: Bytes::MIB, ..MemoryStat::default() },
            events: MemoryEvents::default(),
            pressure: Pressure::default(),
            asleep_until: 0,
            asleep_ns: 0,
            is_dead: false,
            unbilled: 0,
        };
        let mut log = String::new();
        writeln!(log, "{:>9}  {:<6} {:<18} {:>9} {:>9} {:>9}", "ms", "verb", "reason", "use", "high", "max")
            .unwrap();
        Self {
            plant,
            workload,
            budget,
            log,
            writes: 0,
            details: 0,
            looks: 0,
            failed_at: None,
            told: (MemoryEvents::default(), 0),
            look_at: None,
            detail: None,
            shrink: None,
            last_reason: None,
        }
    }

    /// Runs for `ms`.
    pub(crate) fn run(&mut self, ms: u64, demand: Demand) {
        for _ in 0..ms * 1_000_000 / TICK_NS {
            self.plant.tick(demand);
            let now = self.plant.now;
            if let Some((_, detail)) = self.detail.take_if(|(due, _)| *due <= now) {
                self.workload.observe(&detail);
            }
            if let Some((_, plan)) = self.shrink.take_if(|(due, _)| *due <= now) {
                self.write(&plan);
            }
            let heard = self.told.0 != self.plant.events && now >= self.told.1 + 12_000_000;
            if heard {
                self.told = (self.plant.events, now);
            }
            if heard || self.look_at.is_some_and(|due| due <= now) {
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let now = self.plant.now;
        self.looks += 1;
        let sample = self.plant.sample();
        let step = step(&mut self.workload, &sample);
        self.look_at = step.look_again.map(|wait| Instant(now).plus(wait).0);
        if step.read_detail && self.detail.is_none() {
            self.details += 1;
            let (stat, pressure) = (self.plant.stat, self.plant.pressure);
            self.detail = Some((
                now + 1_000_000,
                Detail { at: Instant(now), stat, pressure, io: Pressure::default(), threads: 4 },
            ));
        }
        let plan = plan(&self.workload, step.decision, &mut self.budget);
        match plan {
            Plan::Reclaim { .. } => unreachable!(),
            Plan::Nothing { reason } => self.note(Verb::Hold, reason, self.workload.limits()),
            Plan::Write { verb: Verb::Shrink, clamped, .. } => {
                assert!(!clamped, "{plan:?}");
                if self.shrink.is_none() {
                    self.shrink = Some((now + 2_000_000, plan));
                }
            }
            Plan::Write { clamped, .. } => {
                assert!(!clamped, "{plan:?}");
                if let Some((_, cancelled)) = self.shrink.take() {
                    undo(&cancelled, &mut self.budget);
                }
                self.write(&plan);
            }
        }
    }

    fn write(&mut self, plan: &Plan) {
        let Plan::Write { verb, to, reason, .. } = *plan else { return };
        self.writes += 1;
        self.plant.limits = to;
        if verb == Verb::Shrink && self.plant.usage() > to.high.0 {
            self.plant.reclaim();
        }
        if verb == Verb::Fail {
            self.failed_at.get_or_insert(self.plant.now);
        }
        settle(plan, &mut self.budget);
        self.workload.commit(to, Instant(self.plant.now));
        self.note(verb, reason, to);
    }

    /// One row per write, and per hold for another reason than the row before.
    fn note(&mut self, verb: Verb, reason: Reason, limits: Limits) {
        let quiet = matches!(reason, Reason::RoomLeft | Reason::VerdictAwaited);
        if verb == Verb::Hold && (quiet || self.last_reason == Some(reason)) {
            return;
        }
        self.last_reason = Some(reason);
        let ms = self.plant.now as f64 / 1e6;
        let current = Bytes(self.plant.usage());
        let Limits { high, max } = limits;
        writeln!(self.log, "{ms:>9.1}  {verb:<6} {:<18} {current:>9} {high:>9} {max:>9}", reason.as_str())
            .unwrap();
    }
}

pub(crate) fn mib(n: u64) -> u64 {
    Bytes::mib(n).0
}

pub(crate) fn plenty() -> Budget {
    Budget::new(Bytes(64 << 30), Bytes::GIB)
}
