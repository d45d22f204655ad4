//! A small deterministic plant: one workload's memory under `memory.high` and `memory.max`, and the loop that governs
//! it. Time is a counter of 100 us ticks; nothing sleeps.
//!
//! The kernel's part, in outline: use over `high` takes clean cache first, then throttles by `64 * o^2` s per 256 KiB
//! (o = overage / high, none below 10 ms, at most 2 s); use over `max` takes clean cache, and kills if that is not
//! enough. The loop's part is `rig`. The simulator (`tests/sim`) has this plant too, under a loop of its own.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod rig;

use bellows_policies::{
    Budget, Bytes, Evidence, Instant, Law, Limits, MemoryEvents, MemoryStat, Outcome, Plan, Pressure, Sample,
    replay,
};
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub(crate) use rig::Rig;

pub(crate) const TICK_NS: u64 = 100_000;
const BATCH: u64 = 256 << 10;

/// What a plan does comes of its evidence alone, as a journal keeps it.
pub(crate) fn replays(plan: &Plan, law: &Law) {
    let (evidence, outcome) = match plan {
        Plan::Write { evidence, to, .. } => (evidence, Outcome::Limits(*to)),
        Plan::Reclaim { evidence, bytes, .. } => (evidence, Outcome::Reclaim(*bytes)),
        Plan::Nothing { .. } => return,
    };
    let text = serde_json::to_string(evidence).expect("plain values");
    let read: Evidence = serde_json::from_str(&text).expect("what was written");
    assert_eq!(replay(&read, law), outcome, "{plan:?}\n{text}");
}

/// What the workload tries to do, in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demand {
    /// Allocate anonymous memory.
    pub(crate) need_rate: u64,
    /// Stop allocating here, bytes.
    pub(crate) need_most: u64,
    /// Free anonymous memory above `need_most`.
    pub(crate) free_rate: u64,
    /// Read files that were not read before.
    pub(crate) cache_rate: u64,
    /// Read files again that were read before, until so many bytes are in memory: what reclaim took comes back.
    pub(crate) warm: u64,
}

pub(crate) struct Plant {
    pub(crate) now: u64,
    pub(crate) limits: Limits,
    pub(crate) stat: MemoryStat,
    pub(crate) events: MemoryEvents,
    pub(crate) pressure: Pressure,
    pub(crate) io: Pressure,
    pub(crate) asleep_until: u64,
    pub(crate) asleep_ns: u64,
    pub(crate) is_dead: bool,
    /// Charged over the limit since the last batch, bytes.
    unbilled: u64,
}

impl Plant {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            now: 0,
            limits,
            stat: MemoryStat { kernel: Bytes::MIB, ..MemoryStat::default() },
            events: MemoryEvents::default(),
            pressure: Pressure::default(),
            io: Pressure::default(),
            asleep_until: 0,
            asleep_ns: 0,
            is_dead: false,
            unbilled: 0,
        }
    }

    pub(crate) fn tick(&mut self, demand: Demand) {
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
        let freed = part(demand.free_rate).min(self.stat.anon.0.saturating_sub(demand.need_most));
        let again = demand.warm.saturating_sub(self.stat.file.0).min(part(mib(64)));
        let cache = part(demand.cache_rate) + again;
        self.stat.anon.0 = self.stat.anon.0 + need - freed;
        self.stat.workingset_activate_file += again.div_ceil(4096);
        self.io.some_us += if again > 0 { TICK_NS / 1000 } else { 0 };
        self.add_cache(cache.cast_signed());
        if self.usage() > self.limits.high.0 && need + cache > 0 {
            self.events.high += (need + cache).div_ceil(BATCH);
            self.reclaim_to(self.limits.high);
            self.unbilled += need + cache;
            if self.unbilled >= BATCH {
                let charged = std::mem::take(&mut self.unbilled);
                self.throttle(charged);
            }
        }
        if self.usage() > self.limits.max.0 {
            self.events.max += 1;
            self.reclaim_to(self.limits.max);
        }
        if self.usage() > self.limits.max.0 {
            self.events.oom_kill += 1;
            self.is_dead = true;
            self.stat = MemoryStat::default();
        }
    }

    pub(crate) fn usage(&self) -> u64 {
        self.stat.anon.0 + self.stat.file.0 + self.stat.kernel.0
    }

    /// Takes clean cache down to `limit`; what is anonymous is scanned in vain.
    pub(crate) fn reclaim_to(&mut self, limit: Bytes) {
        let over = self.usage().saturating_sub(limit.0);
        let taken = self.take(over);
        self.pressure.some_us += taken / 4096 / 8;
        self.pressure.full_us += taken / 4096 / 8;
    }

    /// Takes up to `bytes` of clean cache, as `memory.reclaim` does: nobody waits for that.
    pub(crate) fn take(&mut self, bytes: u64) -> u64 {
        let taken = bytes.min(self.stat.file.0);
        self.add_cache(-taken.cast_signed());
        self.stat.pgsteal += taken / 4096;
        self.stat.pgscan += taken / 4096 + if taken < bytes { 512 } else { 0 };
        taken
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

    pub(crate) fn sample(&self) -> Sample {
        Sample { at: Instant(self.now), current: Bytes(self.usage()), events: self.events }
    }
}

pub(crate) fn mib(n: u64) -> u64 {
    Bytes::mib(n).0
}

pub(crate) fn plenty() -> Budget {
    Budget::new(Bytes(64 << 30), Bytes::GIB)
}
