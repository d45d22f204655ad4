//! One workload's memory under `memory.high` and `memory.max`. Time is a counter of ticks; nothing sleeps.
//!
//! In outline: use over `high` takes clean cache first, then throttles by `64 * o^2` s per 256 KiB (o = overage / high, none
//! below 10 ms, at most 2 s); use over `max` takes clean cache, and kills if that is not enough. Left out: swap, and
//! whatever else cgroups of one node take from each other.
//!
//! A tick that would change nothing need not be run: [`Plant::quiet_until`] says how long that is, and [`Plant::catch_up`]
//! makes up for it. Both ways give the very same.

use bellows_policies::{Bytes, Instant, Limits, MemoryEvents, MemoryStat, Pressure, Sample};

/// The finest tick, nanoseconds.
pub const TICK_NS: u64 = 100_000;
/// What the kernel charges and throttles by, bytes.
const BATCH: u64 = 256 << 10;
/// How fast files are read again that were read before, bytes per second.
const WARM_RATE: u64 = 64 << 20;

/// What the workload tries to do, in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    /// Allocate anonymous memory.
    pub need_rate: u64,
    /// Stop allocating here, bytes.
    pub need_most: u64,
    /// Free anonymous memory above `need_most`.
    pub free_rate: u64,
    /// Read files that were not read before.
    pub cache_rate: u64,
    /// Read files again that were read before, until so many bytes are in memory: what reclaim took comes back.
    pub warm: u64,
}

/// What a tick moves, bytes.
struct Moves {
    need: u64,
    freed: u64,
    again: u64,
    cache: u64,
}

/// One cgroup's memory.
#[derive(Clone, Debug)]
pub struct Plant {
    /// The end of the last tick, nanoseconds.
    pub now: u64,
    /// The kernel's `memory.high` and `memory.max`.
    pub limits: Limits,
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// `memory.events.local`.
    pub events: MemoryEvents,
    /// `memory.pressure`, totals.
    pub pressure: Pressure,
    /// `io.pressure`, totals.
    pub io: Pressure,
    /// It is throttled until then, nanoseconds.
    pub asleep_until: u64,
    /// How long it was throttled in all, nanoseconds.
    pub asleep_ns: u64,
    /// The kernel has killed it.
    pub is_dead: bool,
    tick_ns: u64,
    /// Charged over the limit since the last batch, bytes.
    unbilled: u64,
}

impl Plant {
    /// An empty cgroup with these limits, in ticks of [`TICK_NS`].
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_tick(limits, TICK_NS)
    }

    /// The same in ticks of `tick_ns`, which divide a second.
    #[must_use]
    pub fn with_tick(limits: Limits, tick_ns: u64) -> Self {
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
            tick_ns,
            unbilled: 0,
        }
    }

    /// Lets a tick pass.
    pub fn tick(&mut self, demand: Demand) {
        self.now += self.tick_ns;
        if self.is_dead {
            return;
        }
        if self.now < self.asleep_until {
            return self.sleep(self.tick_ns);
        }
        let Moves { need, freed, again, cache } = self.moves(demand);
        self.stat.anon.0 = self.stat.anon.0 + need - freed;
        self.stat.workingset_activate_file += again.div_ceil(4096);
        self.io.some_us += if again > 0 { self.tick_ns / 1000 } else { 0 };
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

    /// Up to when, in nanoseconds, ticks change nothing but the time asleep, as long as the demand and the limits stay.
    #[must_use]
    pub fn quiet_until(&self, demand: Demand) -> u64 {
        if self.is_dead {
            return u64::MAX;
        }
        if self.asleep_until > self.now {
            return self.asleep_until;
        }
        let Moves { need, freed, cache, .. } = self.moves(demand);
        let is_still = need + freed + cache == 0 && self.usage() <= self.limits.max.0;
        if is_still { u64::MAX } else { self.now }
    }

    /// Makes up for the ticks up to `now` that were not run, since they would have changed nothing.
    pub fn catch_up(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now);
        if !self.is_dead && self.asleep_until > now {
            self.sleep(passed);
        }
        self.now = self.now.max(now);
    }

    /// `memory.current`, bytes.
    #[must_use]
    pub fn usage(&self) -> u64 {
        self.stat.anon.0 + self.stat.file.0 + self.stat.kernel.0
    }

    /// Takes clean cache down to `limit`; what is anonymous is scanned in vain.
    pub fn reclaim_to(&mut self, limit: Bytes) {
        let over = self.usage().saturating_sub(limit.0);
        let taken = self.take(over);
        self.pressure.some_us += taken / 4096 / 8;
        self.pressure.full_us += taken / 4096 / 8;
    }

    /// Takes up to `bytes` of clean cache, as `memory.reclaim` does: nobody waits for that.
    pub fn take(&mut self, bytes: u64) -> u64 {
        let taken = bytes.min(self.stat.file.0);
        self.add_cache(-taken.cast_signed());
        self.stat.pgsteal += taken / 4096;
        self.stat.pgscan += taken / 4096 + if taken < bytes { 512 } else { 0 };
        taken
    }

    /// What the agent reads.
    #[must_use]
    pub fn sample(&self) -> Sample {
        Sample { at: Instant(self.now), current: Bytes(self.usage()), events: self.events }
    }

    fn moves(&self, demand: Demand) -> Moves {
        let part = |rate: u64| rate / (1_000_000_000 / self.tick_ns);
        let anon = self.stat.anon.0;
        let again = demand.warm.saturating_sub(self.stat.file.0).min(part(WARM_RATE));
        Moves {
            need: part(demand.need_rate).min(demand.need_most.saturating_sub(anon)),
            freed: part(demand.free_rate).min(anon.saturating_sub(demand.need_most)),
            again,
            cache: part(demand.cache_rate) + again,
        }
    }

    fn sleep(&mut self, ns: u64) {
        self.asleep_ns += ns;
        self.pressure.some_us += ns / 1000;
        self.pressure.full_us += ns / 1000;
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
}

/// So many mebibytes, in bytes.
#[must_use]
pub fn mib(n: u64) -> u64 {
    Bytes::mib(n).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;

    /// Ticks that are left out leave no trace: the same demands, with every tick and with as few as possible.
    #[test]
    fn what_is_quiet_may_be_left_out() {
        for seed in 0..200 {
            let mut chance = Chance::new(seed);
            let size = |chance: &mut Chance| Bytes(chance.between(mib(2), mib(200)));
            let limits = |high: Bytes| Limits { high, max: high.saturating_add(Bytes::mib(8)) };
            let mut every = Plant::new(limits(size(&mut chance)));
            let mut few = every.clone();
            for _ in 0..20 {
                let demand = Demand {
                    need_rate: chance.of(&[0, mib(64), mib(512)]),
                    need_most: size(&mut chance).0,
                    free_rate: chance.of(&[0, mib(256)]),
                    cache_rate: chance.of(&[0, 0, 0, mib(16)]),
                    warm: chance.of(&[0, mib(30)]),
                };
                let ticks = chance.between(1, 5000);
                let end = every.now + ticks * TICK_NS;
                (0..ticks).for_each(|_| every.tick(demand));
                while few.now < end {
                    // The last quiet tick ends before the instant at which something happens.
                    let quiet = few.quiet_until(demand).saturating_sub(1) / TICK_NS * TICK_NS;
                    few.catch_up(quiet.min(end));
                    if few.now < end {
                        few.tick(demand);
                    }
                }
                assert_eq!(format!("{every:?}"), format!("{few:?}"), "seed {seed}");
                let lower = limits(size(&mut chance));
                (every.limits, few.limits) = (lower, lower);
            }
        }
    }
}
