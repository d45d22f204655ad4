//! What workloads do: with memory, and with the cpu. Each draws its own figures at birth and is deaf to everything but its
//! own group, as a tenant is.

use std::sync::Arc;

use bellows_policies::{Bytes, Cpus};

use crate::chance::Chance;
use crate::plant::cpu::{Demand as CpuDemand, Group};
use crate::plant::memory::{Demand, mib};
use crate::trace::Row;

/// One second, nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// How fast a workload of a trace takes memory up, bytes per second.
const GROW: u64 = 512 << 20;
/// How fast memory is given back, bytes per second: faster than most can allocate.
const FREE: u64 = 4 << 30;

/// How a workload uses memory. Sizes are bytes, rates bytes per second, times nanoseconds.
#[derive(Clone, Debug)]
pub(crate) enum Memory {
    /// Fills `need`, reads files until `warm` bytes of them are in memory, and stays.
    Constant { need: u64, warm: u64 },
    /// Grows at `rate` up to `most`, and stays.
    Ramp { rate: u64, most: u64 },
    /// `high` for one half of the period and `low` for the other.
    Square { rate: u64, low: u64, high: u64, period: u64 },
    /// Goes to some size up to `most`, and somewhere else a while later.
    Walk { most: u64, target: u64, until: u64 },
    /// Needs little, and reads files for ever that it never reads again.
    Reader { need: u64, rate: u64 },
    /// Fills `most` as fast as it can, frees all of it, and begins anew.
    Burst { rate: u64, most: u64, period: u64 },
    /// Grows for ever.
    Leak { rate: u64 },
    /// What a trace says: `from` is when it begins, and `next` the row that comes next.
    Rows { rows: Arc<[Row]>, from: u64, next: usize },
}

/// How a workload uses the cpu.
#[derive(Clone, Debug)]
pub(crate) enum Cpu {
    Constant(Cpus),
    Square {
        high: u64,
        period: u64,
    },
    Random {
        until: u64,
        demand: Cpus,
    },
    /// Uses what just allows a shrink until there is one, then burns: each write refills its quota.
    Refiller {
        share: u64,
    },
    /// What a trace says, as [`Memory::Rows`].
    Rows {
        rows: Arc<[Row]>,
        from: u64,
        next: usize,
        tick_us: u64,
    },
}

impl Memory {
    /// One for a workload of this ceiling, of any kind.
    pub(crate) fn drawn(chance: &mut Chance, ceiling: u64) -> Self {
        let size = |chance: &mut Chance| chance.between(mib(1), ceiling + ceiling / 8);
        let period = chance.between(SECOND / 5, 120 * SECOND);
        match chance.below(8) {
            0 => Self::Constant { need: size(chance), warm: size(chance) / 2 },
            1 => Self::Ramp { rate: chance.between(mib(1), mib(512)), most: size(chance) },
            2 => {
                let (a, b) = (size(chance), size(chance));
                Self::Square {
                    rate: chance.between(mib(16), mib(1024)),
                    low: a.min(b),
                    high: a.max(b),
                    period,
                }
            }
            3 => Self::Walk { most: size(chance), target: 0, until: 0 },
            4 => Self::Reader { need: size(chance) / 4, rate: chance.between(mib(16), mib(3000)) },
            5 => Self::Burst { rate: chance.between(mib(256), mib(1536)), most: size(chance), period },
            6 => Self::Leak { rate: chance.between(mib(1) / 4, mib(64)) },
            _ => Self::Constant { need: chance.between(mib(1), mib(24)), warm: 0 },
        }
    }

    /// Up to when what it wants stays the same.
    pub(crate) fn holds_until(&self, now: u64) -> u64 {
        // From one part of a period to the other.
        let next = |period: u64, part: u64| {
            let begun = now - now % period;
            begun + if now - begun < part { part } else { period }
        };
        match self {
            Self::Square { period, .. } => next(*period, *period / 2),
            Self::Burst { period, .. } => next(*period, *period / 4),
            Self::Walk { until, .. } => *until,
            Self::Rows { rows, from, next } => rows.get(*next).map_or(u64::MAX, |row| from + row.at),
            Self::Constant { .. } | Self::Ramp { .. } | Self::Reader { .. } | Self::Leak { .. } => u64::MAX,
        }
    }

    /// What it wants of the next moment.
    pub(crate) fn demand(&mut self, now: u64, chance: &mut Chance) -> Demand {
        let none = Demand::default();
        match self {
            Self::Constant { need, warm } => {
                Demand { need_rate: mib(256), need_most: *need, warm: *warm, ..none }
            }
            Self::Ramp { rate, most } => Demand { need_rate: *rate, need_most: *most, ..none },
            Self::Square { rate, low, high, period } => {
                let need_most = if now % *period < *period / 2 { *low } else { *high };
                Demand { need_rate: *rate, need_most, free_rate: FREE, ..none }
            }
            Self::Walk { most, target, until } => {
                if now >= *until {
                    *target = chance.below(*most);
                    *until = now + chance.between(SECOND / 10, 40 * SECOND);
                }
                Demand { need_rate: mib(128), need_most: *target, free_rate: FREE, ..none }
            }
            Self::Reader { need, rate } => {
                Demand { need_rate: mib(64), need_most: *need, cache_rate: *rate, ..none }
            }
            Self::Burst { rate, most, period } => {
                let is_over = now % *period < *period / 4;
                let need_most = if is_over { 0 } else { *most };
                Demand { need_rate: *rate, need_most, free_rate: FREE, ..none }
            }
            Self::Leak { rate } => Demand { need_rate: *rate, need_most: u64::MAX, ..none },
            Self::Rows { rows, from, next } => {
                let Row { need, cache, .. } = current(rows, *from, next, now);
                // The cgroup's own kernel memory is a part of what it needs.
                let need_most = need.saturating_sub(Bytes::MIB).0;
                Demand { need_rate: GROW, need_most, free_rate: FREE, warm: cache.0, ..none }
            }
        }
    }
}

impl Cpu {
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        match chance.below(5) {
            0 => Self::Constant(Cpus::ZERO),
            1 => Self::Constant(Cpus::milli(chance.below(3000))),
            2 => Self::Square { high: chance.below(4000), period: chance.between(SECOND / 5, 60 * SECOND) },
            3 => Self::Random { until: 0, demand: Cpus::ZERO },
            _ => Self::Refiller { share: chance.between(70, 99) },
        }
    }

    pub(crate) fn demand(&mut self, group: &Group, now: u64, chance: &mut Chance) -> CpuDemand {
        match self {
            Self::Constant(rate) => CpuDemand { rate: *rate, threads: 4 },
            Self::Square { high, period } => {
                CpuDemand::milli(if now % *period < *period / 2 { 0 } else { *high })
            }
            Self::Random { until, demand } => {
                if now >= *until {
                    *until = now + chance.between(SECOND / 20, 20 * SECOND);
                    *demand = Cpus::milli(chance.below(4000));
                }
                CpuDemand { rate: *demand, threads: 4 }
            }
            Self::Refiller { share } => {
                // More than half a cpu is open; below it the quota was lowered, and burning raises it.
                let is_open = group.quota_us >= 50_000;
                let rate = Cpus(group.quota_us * *share / 10);
                if is_open { CpuDemand { rate, threads: 4 } } else { CpuDemand::hog(4) }
            }
            Self::Rows { rows, from, next, tick_us } => {
                let Row { cores, piece_us, .. } = current(rows, *from, next, now);
                // As many threads as its work would keep busy, and one for each piece that comes beside them.
                let threads = cores.0.div_ceil(Cpus::ONE.0) * 2;
                let rate = if piece_us == 0 { cores } else { pieces(cores, piece_us, *tick_us, chance) };
                CpuDemand { rate, threads }
            }
        }
    }
}

/// The row that holds now.
fn current(rows: &[Row], from: u64, next: &mut usize, now: u64) -> Row {
    while rows.get(*next).is_some_and(|row| from + row.at <= now) {
        *next += 1;
    }
    rows.get(next.saturating_sub(1)).copied().unwrap_or_default()
}

/// What comes in a tick when so much work comes in pieces, each at a time of its own: four chances for each piece that is
/// expected, one in four of which comes true.
fn pieces(cores: Cpus, piece_us: u64, tick_us: u64, chance: &mut Chance) -> Cpus {
    const MILLION: u64 = 1_000_000;
    let chances = 4 * cores.0 * tick_us / piece_us;
    let mut left = chances / MILLION + u64::from(chance.below(MILLION) < chances % MILLION);
    let mut count = 0;
    while left > 0 {
        let bits = left.min(64);
        count += u64::from((chance.next() & chance.next() & (u64::MAX >> (64 - bits))).count_ones());
        left -= bits;
    }
    Cpus(count * piece_us * MILLION / tick_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_to_the_work_that_they_are_pieces_of() {
        for (cores, piece_us) in [(0, 500), (20, 2000), (700, 500), (3000, 200)] {
            let mut chance = Chance::new(cores + 1);
            let cores = Cpus::milli(cores);
            let drawn: Vec<u64> =
                (0..20_000).map(|_| pieces(cores, piece_us, 10_000, &mut chance).0).collect();
            let mean = drawn.iter().sum::<u64>() / 20_000;
            assert!(mean.abs_diff(cores.0) <= cores.0 / 10, "{mean} of {}", cores.0);
            assert!(cores == Cpus::ZERO || drawn.iter().any(|work| *work != drawn[0]), "all alike");
        }
    }
}
