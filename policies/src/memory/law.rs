//! Every constant of the memory law. A policy may set each of them; the defaults are the starting point.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// The constants of the memory law. Times are milliseconds, sizes bytes, ratios fractions of one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Law {
    /// The smallest step of a grow, bytes.
    pub step_min: Bytes,
    /// The step as a fraction of use; doubled for each further press within `streak_ms`.
    pub step_factor: f64,
    /// The greatest value of the doubled `step_factor`.
    pub step_factor_max: f64,
    /// How soon after one press another counts as a further one, ms.
    pub streak_ms: u64,
    /// Time of growth that a step and a band cover at the present rate, ms.
    pub rate_horizon_ms: u64,
    /// The smallest band between `memory.high` and `memory.max`, bytes.
    pub band_min: Bytes,
    /// Band for each thread, which may have a charge under way, bytes.
    pub band_per_thread: Bytes,
    /// Band as a share of `memory.high`. The kernel throttles nobody below an overage of 1.25 %, so a smaller band would
    /// be killed through before it was ever throttled; at 5 % a charge of 256 KiB sleeps for 160 ms.
    pub band_share: f64,
    /// Threads assumed until they have been counted. A launch is when least is known and growth is fastest, and a
    /// band costs reserve, not grant: so more than most have.
    pub launch_threads: u64,
    /// After a grow `memory.max` is at most twice the use plus this, bytes.
    pub jump_slack: Bytes,
    /// How often use is looked at while it grows, ms.
    pub hot_poll_ms: u64,
    /// Quiet time after which looking ends, ms.
    pub calm_ms: u64,
    /// Growth that has to fit below the limit until the next look has been acted upon, ms.
    pub look_ahead_ms: u64,
    /// Steps of one episode that may be granted before the verdict is in.
    pub steps_ahead: u32,
    /// A verdict later than this is missing; one more step is granted for each such time, ms.
    pub verdict_timeout_ms: u64,
    /// The least time between two details of a growing workload, ms.
    pub detail_gap_ms: u64,
    /// How long a detail tells what a workload's memory is made of, ms.
    pub detail_fresh_ms: u64,
    /// Growth of need that is not noise, bytes.
    pub need_grew_min: Bytes,
    /// Need's share of growth that makes it a growth of need.
    pub need_grew_share: f64,
    /// Need's share of the limit that makes any growth a need.
    pub need_share: f64,
    /// Pages that came back, as a share of the pages reclaimed, that make refaults a need (with pressure).
    pub refault_share: f64,
    /// `some` pressure above which waiting counts as a stall.
    pub pressure_share: f64,
    /// Pages taken per page scanned from which reclaim is cheap.
    pub cheap_reclaim: f64,
    /// First pause between two details of a held workload, ms; doubled each time.
    pub hold_first_ms: u64,
    /// Longest pause between two details of a held workload, ms.
    pub hold_max_ms: u64,
    /// Quiet time after which a hold is forgotten, ms.
    pub hold_forget_ms: u64,
    /// Use above a held limit, as a share of it, from which a detail is read without waiting for the pause. The kernel's
    /// own painless overage is 1.25 %.
    pub overage_share: f64,
    /// The least such use, bytes: each cpu charges 256 KiB ahead.
    pub overage_min: Bytes,
    /// So many times that is more than cache explains: a step is granted ahead of the verdict.
    pub overage_far: u64,
    /// Time that a limit taken back needs to settle before use above it counts, ms.
    pub settle_ms: u64,
    /// How often a grow that could not be had is asked for again, ms.
    pub deferred_poll_ms: u64,
    /// Stalled time after which the workload is failed, ms.
    pub stall_ms: u64,
    /// How often a detail is read while the stall clock runs, ms.
    pub stall_poll_ms: u64,
    /// `full` pressure that is a stall.
    pub stall_full_share: f64,
    /// Pages taken per page scanned below which reclaim is futile.
    pub stall_futile: f64,
    /// Need's share of the limit from which a stall cannot be cured by reclaim.
    pub stall_need_share: f64,
    /// How long a move is looked at before it is told whether it helped, ms.
    pub outcome_ms: u64,
    /// How long use has to leave room below the limits before slack is taken, ms. Doubled by each regrow that comes soon
    /// after a shrink, up to `shrink_hold_max_ms`.
    pub slack_hold_ms: u64,
    /// Longest such time, of slack and of reclaim, ms.
    pub shrink_hold_max_ms: u64,
    /// How soon after a shrink or a reclaim a raise says that it was wrong, ms.
    pub regrow_soon_ms: u64,
    /// Time without such a raise that halves a doubled hold again, ms. Longer than `shrink_hold_max_ms`, or the longest
    /// hold would never be waited for.
    pub relapse_decay_ms: u64,
    /// No slack is taken so soon after a launch or a takeover, ms. May be zero.
    pub slack_grace_ms: u64,
    /// The least lowering of a limit that is worth a write, bytes.
    pub slack_min: Bytes,
    /// The same as a share of the limit.
    pub slack_share: f64,
    /// Room that is left above use when `memory.high` is lowered, as a share of use.
    pub headroom_share: f64,
    /// The least such room, bytes: two transparent huge pages.
    pub headroom_min: Bytes,
    /// Room that is left above need, below which nothing is ever taken, as a share of need.
    pub need_margin_share: f64,
    /// The most such room, bytes.
    pub need_margin_max: Bytes,
    /// Time in which the fastest growth seen is half forgotten, ms: a workload that grows in bursts keeps a wide band.
    pub peak_half_life_ms: u64,
    /// Time of growth at that rate that fits between use and a lowered `memory.max`, ms.
    pub max_horizon_ms: u64,
    /// Room between use and a lowered `memory.max`, as a share of use.
    pub max_share: f64,
    /// What one reclaim takes, as a share of use, where nobody waits at all. Zero switches reclaim off. At most 0.01,
    /// which is for a node under pressure.
    pub reclaim_factor: f64,
    /// The least time between two reclaims, ms.
    pub reclaim_period_ms: u64,
    /// The most that one reclaim takes, bytes.
    pub reclaim_max: Bytes,
    /// What one reclaim takes that is to find out whether it is still wasteful, and the least that tells, bytes.
    pub reclaim_probe: Bytes,
    /// Time without a hit or a raise before reclaim, ms; doubled as `slack_hold_ms` is, and by reclaim that was wasteful.
    pub reclaim_hold_ms: u64,
    /// No reclaim so soon after a launch or a takeover, ms. May be zero.
    pub reclaim_grace_ms: u64,
    /// `some` pressure of memory and of I/O from which nothing is reclaimed.
    pub reclaim_pressure: f64,
    /// The shorter time over which that pressure is looked at, ms.
    pub reclaim_short_ms: u64,
    /// The longer one, ms.
    pub reclaim_long_ms: u64,
    /// Pages that stay away, per page taken, from which reclaim is accurate.
    pub reclaim_accuracy: f64,
    /// Pages taken, per page scanned, from which reclaim is efficient.
    pub reclaim_efficiency: f64,
}

impl Default for Law {
    fn default() -> Self {
        Self {
            step_min: Bytes::mib(16),
            step_factor: 0.25,
            step_factor_max: 1.0,
            streak_ms: 100,
            rate_horizon_ms: 100,
            band_min: Bytes::mib(4),
            band_per_thread: Bytes::mib(1),
            band_share: 0.05,
            launch_threads: 16,
            jump_slack: Bytes::mib(64),
            hot_poll_ms: 2,
            calm_ms: 20,
            look_ahead_ms: 4,
            steps_ahead: 2,
            verdict_timeout_ms: 50,
            detail_gap_ms: 10,
            detail_fresh_ms: 1000,
            need_grew_min: Bytes::mib(1),
            need_grew_share: 0.25,
            need_share: 0.5,
            refault_share: 0.25,
            pressure_share: 0.2,
            cheap_reclaim: 0.6,
            hold_first_ms: 16,
            hold_max_ms: 1000,
            hold_forget_ms: 10_000,
            overage_share: 0.0125,
            overage_min: Bytes(512 << 10),
            overage_far: 4,
            settle_ms: 50,
            deferred_poll_ms: 50,
            stall_ms: 2000,
            stall_poll_ms: 250,
            stall_full_share: 0.2,
            stall_futile: 0.05,
            stall_need_share: 0.9,
            outcome_ms: 1000,
            slack_hold_ms: 10_000,
            shrink_hold_max_ms: 600_000,
            regrow_soon_ms: 60_000,
            relapse_decay_ms: 1_200_000,
            slack_grace_ms: 10_000,
            slack_min: Bytes::mib(4),
            slack_share: 0.05,
            headroom_share: 0.1,
            headroom_min: Bytes::mib(4),
            need_margin_share: 0.1,
            need_margin_max: Bytes::mib(100),
            peak_half_life_ms: 60_000,
            max_horizon_ms: 1000,
            max_share: 0.1,
            reclaim_factor: 0.0005,
            reclaim_period_ms: 6000,
            reclaim_max: Bytes::mib(32),
            reclaim_probe: Bytes::MIB,
            reclaim_hold_ms: 30_000,
            reclaim_grace_ms: 60_000,
            reclaim_pressure: 0.001,
            reclaim_short_ms: 10_000,
            reclaim_long_ms: 60_000,
            reclaim_accuracy: 0.99,
            reclaim_efficiency: 0.6,
        }
    }
}

impl Law {
    /// The band above `high` for `threads` growing at `rate` bytes per second: max(min, per thread, rate x horizon,
    /// share of high).
    #[must_use]
    pub fn band(&self, high: Bytes, threads: u64, rate: u64) -> Bytes {
        let charges = Bytes(self.band_per_thread.0.saturating_mul(threads));
        self.band_min
            .max(charges)
            .max(high.scale(self.band_share))
            .max(self.reach(rate, self.rate_horizon_ms))
            .page_ceil()
    }

    /// The step from `current`, after `streak` further presses: max(min, share of use, rate x horizon).
    #[must_use]
    pub fn step(&self, current: Bytes, rate: u64, streak: u32) -> Bytes {
        let doubled = self.step_factor * f64::from(1_u32 << streak.min(16));
        let share = current.scale(doubled.min(self.step_factor_max));
        self.step_min.max(share).max(self.reach(rate, self.rate_horizon_ms))
    }

    /// How far use grows at `rate` bytes per second within `ms`.
    #[expect(clippy::unused_self, reason = "reads as a part of the law")]
    pub(crate) fn reach(&self, rate: u64, ms: u64) -> Bytes {
        Bytes(u64::try_from(u128::from(rate) * u128::from(ms) / 1000).unwrap_or(u64::MAX))
    }
}

/// Milliseconds of the law as a duration.
pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: fn(u64) -> Bytes = Bytes::mib;

    #[test]
    fn steps() {
        let law = Law::default();
        for (name, current, rate, streak, step) in [
            ("small: the least step", 8, 0, 0, 16),
            ("a quarter of use", 400, 0, 0, 100),
            ("half of it on the second press", 400, 0, 1, 200),
            ("all of it on the third", 400, 0, 2, 400),
            ("and never more", 400, 0, 9, 400),
            ("100 ms of growth", 64, 1000, 0, 100),
        ] {
            assert_eq!(law.step(MIB(current), MIB(rate).0, streak), MIB(step), "{name}");
        }
    }

    #[test]
    fn bands() {
        let law = Law::default();
        for (name, high, threads, rate, band) in [
            ("never none", 64, 0, 0, 4),
            ("by threads", 64, 40, 0, 40),
            ("100 ms of growth", 64, 4, 1000, 100),
            ("room to be throttled in", 1000, 4, 0, 50),
        ] {
            assert_eq!(law.band(MIB(high), threads, MIB(rate).0), MIB(band), "{name}");
        }
        assert_eq!(law.reach(u64::MAX, u64::MAX), Bytes(u64::MAX));
    }
}
