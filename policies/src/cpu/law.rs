//! Every constant of the cpu law. A policy may set each of them; the defaults are the starting point.
//!
//! The ratios of throttling, the margin and the rollback are those of Autothrottle's Captain; the node's two thresholds and
//! its one per cent are quotaTurbo's. The rest is ours, and each says what for.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::units::PERIOD_US;
use crate::field::Kind::{Count, Flag, Millis, Ratio};
use crate::field::Pairs;

crate::field::constants! {
    /// The constants of the cpu law of one workload. Times are milliseconds, ratios fractions of one, periods those of
    /// `cpu.max` (100 ms). The default is that of the class standard.
    CpuLaw {
        /// The share of throttled periods that is aimed at (rho*).
        throttled_target: f64 = 0.10, Ratio(1.0);
        /// Periods over which the share of throttled ones (rho) is counted; at most what the window holds, 50.
        throttled_periods: u32 = 10, Count(1, 50);
        /// So many times the target is too much: the quota grows.
        grow_at: f64 = 3.0, Ratio(100.0);
        /// The greatest step of a grow, as a share of the quota; below it the step is rho less what is too much.
        grow_most: f64 = 1.0, Ratio(16.0);
        /// The least first step after a time without throttling, as a share of the quota.
        relief_step: f64 = 0.25, Ratio(16.0);
        /// A throttled period in which it stood still for more than this share is harsh, and relieved at once; a mild one is held
        /// against the target. The time is the kernel's, summed over cpus.
        relief_at: f64 = 0.25, Ratio(16.0);
        /// A jump is throttling of a workload that used less than this share of its quota before: relieved at once, too.
        jump_at: f64 = 0.5, Ratio(1.0);
        /// The time without harsh throttling after which it is a first one again, and a workload that was throttled is looked at
        /// less often, ms.
        lately_ms: u64 = 1000, Millis(1);
        /// The least time between two grows, ms: one period for the last one to be used, one to see it.
        grow_gap_ms: u64 = 200, Millis(1);
        /// The least time between any two changes, ms: a period, since each write refills the quota.
        change_gap_ms: u64 = 100, Millis(1);
        /// How much too early a look may come on the grid of looks and still count as on time, ms.
        jitter_ms: u64 = 10, Millis(0);
        /// The least time between a shrink and the change before it, and how often the margin is adjusted, ms.
        shrink_gap_ms: u64 = 1000, Millis(1);
        /// Periods of use that a shrink looks back upon, and over which mild throttling may come to the target; at most what
        /// the window holds, 50.
        use_periods: u32 = 50, Count(1, 50);
        /// What is left above the greatest use, as a share of it: a quota equal to a constant use would be met by its jitter.
        headroom: f64 = 0.05, Ratio(16.0);
        /// A shrink has to leave at most this share of the quota.
        shrink_at: f64 = 0.9, Ratio(1.0);
        /// One shrink leaves at least this share of the quota.
        shrink_most: f64 = 0.5, Ratio(1.0);
        /// The greatest margin (m), in deviations of use. Without a bound, an hour of throttling at the ceiling would forbid
        /// shrinks for the nine hours after it.
        margin_most: f64 = 3.0, Ratio(100.0);
        /// Periods after a shrink in which throttling rolls it back.
        rollback_periods: u32 = 10, Count(0, 36_000);
        /// A relapse so soon after a shrink doubles the time until the next shrink, ms. A later grow forgets the doubling.
        relapse_ms: u64 = 60_000, Millis(1);
        /// A relapse is a jump, or a quota that is back at this share of where it stood before it went below that. Smaller ups
        /// and downs are followed: each costs two writes, and to stop them a quota would have to stay at the top of all.
        relapse_share: f64 = 0.7, Ratio(1.0);
        /// The greatest time from a grow to the next shrink, ms. It begins at `shrink_gap_ms`; the doubling is what ends a cycle of
        /// shrinks and grows that follows a periodic load.
        hold_most_ms: u64 = 300_000, Millis(1);
        /// Smaller changes, as a share of the quota, are not written; the last one to a bound may be.
        change_least: f64 = 0.05, Ratio(1.0);
        /// The share of the quota in use from which a workload is looked at each period.
        hot_share: f64 = 0.8, Ratio(1.0);
        /// How often a hot workload is looked at, ms.
        look_hot_ms: u64 = 100, Millis(1);
        /// The first pause between looks at one that is not hot, ms; doubled each time.
        look_first_ms: u64 = 200, Millis(1);
        /// The longest pause between looks, ms.
        look_most_ms: u64 = 1000, Millis(1);
        /// So many longest pauses without a look are a gap: what happened in it is not known, and is not judged.
        gap_looks: u32 = 3, Count(1, 1000);
        /// What refills may give beyond the ceiling in the long run, as a share of it.
        gift_share: f64 = 0.01, Ratio(1.0);
        /// What refills may have given beyond that before grows wait, as time at the ceiling, ms: one whole refill.
        gift_ms: u64 = 100, Millis(0);
        /// `cpu.weight`: the lower, the more is shed when the node is overloaded. The kernel's default is 100.
        weight: u32 = 100, Count(1, 10_000);
        /// Whether the node's guard limits its growth and sheds its quota.
        is_guarded: bool = true, Flag;
    }
}

/// The constants of the guard of a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeLaw {
    /// The share of the cpus in use from which growth is slowed.
    pub slow_at: f64,
    /// The share of the cpus in use from which nothing grows, and the excess is shed.
    pub stop_at: f64,
    /// Growth in sum per `growth_ms` while it is slowed, as a share of the cpus.
    pub growth_share: f64,
    /// What `growth_share` is counted over, ms.
    pub growth_ms: u64,
}

impl CpuLaw {
    /// Pairs of constants of which the first may not be more than the second.
    pub const PAIRS: &Pairs = &[("shrink_gap_ms", "hold_most_ms"), ("look_first_ms", "look_most_ms")];

    /// The law of a workload that answers people: hardly throttled, and exempt from the node's guard.
    #[must_use]
    pub const fn latency() -> Self {
        Self { throttled_target: 0.02, weight: 500, is_guarded: false, ..Self::standard() }
    }

    /// The law of a workload of no particular kind.
    #[must_use]
    pub const fn standard() -> Self {
        Self::DEFAULT
    }

    /// The law of a workload that can wait. Three times its target would be nine periods of ten: hardly anything is left above
    /// that to be a step, and it would creep to its ceiling in minutes. So twice is too much already.
    #[must_use]
    pub const fn batch() -> Self {
        Self { throttled_target: 0.30, grow_at: 2.0, weight: 20, ..Self::standard() }
    }

    /// The factor of a grow at a share of throttled periods `rho`, first or further: never less than is worth a write.
    #[must_use]
    pub fn grow_factor(&self, rho: f64, is_first: bool) -> f64 {
        let step = (rho - self.grow_at * self.throttled_target).min(self.grow_most);
        let least = if is_first { self.relief_step } else { self.change_least };
        1.0 + step.max(least)
    }

    /// Whether `passed` makes a gap of `gap_ms`, on a grid of looks that may come a little early.
    pub(crate) const fn is_over(&self, passed: Duration, gap_ms: u64) -> bool {
        passed.as_millis() + self.jitter_ms as u128 >= gap_ms as u128
    }
}

impl Default for NodeLaw {
    fn default() -> Self {
        Self { slow_at: 0.6, stop_at: 0.8, growth_share: 0.01, growth_ms: 100 }
    }
}

/// Periods as milliseconds.
pub(crate) const fn periods_ms(periods: u32) -> u64 {
    periods as u64 * (PERIOD_US / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        for (name, law, rho, is_first, factor) in [
            ("a first step whatever rho says", CpuLaw::standard(), 0.1, true, 1.25),
            ("a first step of a workload always throttled", CpuLaw::standard(), 1.0, true, 1.7),
            ("as much as rho is too much", CpuLaw::standard(), 0.6, false, 1.3),
            ("not less than a write is worth", CpuLaw::latency(), 0.1, false, 1.05),
            ("batch bears more", CpuLaw::batch(), 1.0, false, 1.4),
        ] {
            assert!((law.grow_factor(rho, is_first) - factor).abs() < 1e-9, "{name}");
        }
    }
}
