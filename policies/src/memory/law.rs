//! Every constant of the memory law. A policy may set each of them; the defaults are the starting point.
//!
//! Name, type, default and range of each stand in one list, which a policy file is read by too: see [`crate::field`].

use std::time::Duration;

use crate::field::Kind::{Count, Millis, Ratio, Size};
use crate::units::Bytes;

/// No bound that matters.
const MANY: u64 = u32::MAX as u64;

crate::field::constants! {
    /// The constants of the memory law. Times are milliseconds, sizes bytes, ratios fractions of one.
    Law {
        /// The smallest step of a grow, bytes.
        step_min: Bytes = Bytes::mib(16), Size(1);
        /// The step as a fraction of use; doubled for each further press within `streak_ms`.
        step_factor: f64 = 0.25, Ratio(16.0);
        /// The greatest value of the doubled `step_factor`.
        step_factor_max: f64 = 1.0, Ratio(16.0);
        /// How soon after one press another counts as a further one, ms.
        streak_ms: u64 = 100, Millis(1);
        /// Time of growth that a step and a band cover at the present rate, ms.
        rate_horizon_ms: u64 = 100, Millis(1);
        /// The smallest band between `memory.high` and `memory.max`, bytes.
        band_min: Bytes = Bytes::mib(4), Size(1);
        /// Band for each thread, which may have a charge under way, bytes.
        band_per_thread: Bytes = Bytes::mib(1), Size(0);
        /// Band as a share of `memory.high`. The kernel throttles nobody below an overage of 1.25 %, so a smaller band would
        /// be killed through before it was ever throttled; at 5 % a charge of 256 KiB sleeps for 160 ms.
        band_share: f64 = 0.05, Ratio(1.0);
        /// Threads assumed until they have been counted. A launch is when least is known and growth is fastest, and a
        /// band costs reserve, not grant: so more than most have.
        launch_threads: u64 = 16, Count(0, MANY);
        /// After a grow `memory.max` is at most twice the use plus this, bytes. Where the budget has cut it short, the band for growth is this.
        jump_slack: Bytes = Bytes::mib(64), Size(0);
        /// How often use is looked at while it grows, ms.
        hot_poll_ms: u64 = 2, Millis(1);
        /// Quiet time after which looking ends, ms.
        calm_ms: u64 = 20, Millis(1);
        /// The same of a workload that would cross its limit within as long, at the rate of its last second, ms. Who crosses it
        /// at full speed sleeps for up to 2 s, and a machine that is busy for a moment makes any growth pause.
        calm_near_ms: u64 = 250, Millis(1);
        /// Growth that has to fit below the limit until the next look has been acted upon, ms.
        look_ahead_ms: u64 = 4, Millis(1);
        /// Steps of one episode that may be granted before the verdict is in.
        steps_ahead: u32 = 2, Count(0, MANY);
        /// A verdict later than this is missing; one more step is granted for each such time, ms.
        verdict_timeout_ms: u64 = 50, Millis(1);
        /// The least time between two details of a growing workload, ms.
        detail_gap_ms: u64 = 10, Millis(1);
        /// How long a detail tells what a workload's memory is made of, ms.
        detail_fresh_ms: u64 = 1000, Millis(1);
        /// Growth of need that is not noise, and the least that reclaim has to look at to be judged, bytes.
        need_grew_min: Bytes = Bytes::mib(1), Size(1);
        /// Need's share of growth that makes it a growth of need.
        need_grew_share: f64 = 0.25, Ratio(1.0);
        /// Need's share of the limit that makes any growth a need.
        need_share: f64 = 0.5, Ratio(1.0);
        /// Pages that came back, as a share of the pages reclaimed, that make refaults a need (with pressure).
        refault_share: f64 = 0.25, Ratio(1.0);
        /// `some` pressure above which waiting counts as a stall.
        pressure_share: f64 = 0.2, Ratio(1.0);
        /// Pages taken per page scanned from which reclaim is cheap.
        cheap_reclaim: f64 = 0.6, Ratio(1.0);
        /// First pause between two details of a held workload, ms; doubled each time.
        hold_first_ms: u64 = 16, Millis(1);
        /// Longest pause between two details of a held workload, ms.
        hold_max_ms: u64 = 1000, Millis(1);
        /// Quiet time after which a hold is forgotten, ms.
        hold_forget_ms: u64 = 10_000, Millis(1);
        /// Use above a held limit, as a share of it, from which a detail is read without waiting for the pause. The kernel's
        /// own painless overage is 1.25 %.
        overage_share: f64 = 0.0125, Ratio(1.0);
        /// The least such use, bytes: each cpu charges 256 KiB ahead.
        overage_min: Bytes = Bytes(512 << 10), Size(0);
        /// So many times that is more than cache explains: a step is granted ahead of the verdict.
        overage_far: u64 = 4, Count(0, MANY);
        /// Time that a limit taken back needs to settle before use above it counts, ms.
        settle_ms: u64 = 50, Millis(1);
        /// How often a grow that could not be had is asked for again, ms.
        deferred_poll_ms: u64 = 50, Millis(1);
        /// Stalled time after which the workload is failed, ms.
        stall_ms: u64 = 2000, Millis(1);
        /// Stalled time that does not count while others give for the workload, in all, ms. With what it stalls besides, and the
        /// half second until the clock runs, it is relieved or ended within 5 s.
        stall_patience_ms: u64 = 2000, Millis(0);
        /// How often a detail is read while the stall clock runs, ms.
        stall_poll_ms: u64 = 250, Millis(1);
        /// `full` pressure that is a stall.
        stall_full_share: f64 = 0.2, Ratio(1.0);
        /// Pages taken per page scanned below which reclaim is futile.
        stall_futile: f64 = 0.05, Ratio(1.0);
        /// Need's share of the limit from which a stall cannot be cured by reclaim.
        stall_need_share: f64 = 0.9, Ratio(1.0);
        /// How often in a second reclaim takes as much as all the page cache that is left, from which a workload whose tripwire was
        /// opened thrashes: no page of its own programs stays.
        thrash_turns: f64 = 100.0, Ratio(1000.0);
        /// Need's share of `memory.max` from which it may.
        thrash_need_share: f64 = 0.99, Ratio(1.0);
        /// Time that it thrashes for until it is ended, ms. With the time until the tripwire is opened that makes 5 s at most.
        thrash_ms: u64 = 1500, Millis(1);
        /// How long a move is looked at before it is told whether it helped, ms.
        outcome_ms: u64 = 1000, Millis(1);
        /// How long use has to leave room below the limits before slack is taken, ms. Doubled by each regrow that comes soon
        /// after a shrink, up to `shrink_hold_max_ms`.
        slack_hold_ms: u64 = 10_000, Millis(1);
        /// Longest such time, of slack and of reclaim, ms.
        shrink_hold_max_ms: u64 = 600_000, Millis(1);
        /// How soon after a shrink or a reclaim a raise says that it was wrong, ms.
        regrow_soon_ms: u64 = 60_000, Millis(1);
        /// Time without such a raise that halves a doubled hold again, ms. Longer than `shrink_hold_max_ms`, or the longest
        /// hold would never be waited for.
        relapse_decay_ms: u64 = 1_200_000, Millis(1);
        /// Time after a raise in which nothing is squeezed out of a workload, ms.
        squeeze_gap_ms: u64 = 1000, Millis(0);
        /// No slack is taken so soon after a launch or a takeover, ms. May be zero.
        slack_grace_ms: u64 = 10_000, Millis(0);
        /// The least lowering of a limit that is worth a write, bytes.
        slack_min: Bytes = Bytes::mib(4), Size(1);
        /// The same as a share of the limit.
        slack_share: f64 = 0.05, Ratio(1.0);
        /// Room that is left above use when `memory.high` is lowered, as a share of use.
        headroom_share: f64 = 0.1, Ratio(1.0);
        /// The least such room, bytes: two transparent huge pages.
        headroom_min: Bytes = Bytes::mib(4), Size(0);
        /// Room that is left above need, below which nothing is ever taken, as a share of need.
        need_margin_share: f64 = 0.1, Ratio(1.0);
        /// The most such room, bytes.
        need_margin_max: Bytes = Bytes::mib(100), Size(0);
        /// Time in which the fastest growth seen is half forgotten, ms: a workload that grows in bursts keeps a wide band.
        peak_half_life_ms: u64 = 60_000, Millis(1);
        /// Time of growth at that rate that fits between use and a lowered `memory.max`, ms.
        max_horizon_ms: u64 = 1000, Millis(1);
        /// Room between use and a lowered `memory.max`, as a share of use.
        max_share: f64 = 0.1, Ratio(1.0);
        /// What one reclaim takes, as a share of use, where nobody waits at all. Zero switches reclaim off. At most 0.01,
        /// which is for a node under pressure.
        reclaim_factor: f64 = 0.0005, Ratio(0.01);
        /// The least time between two reclaims, ms.
        reclaim_period_ms: u64 = 6000, Millis(1);
        /// The most that one reclaim takes, bytes.
        reclaim_max: Bytes = Bytes::mib(32), Size(1);
        /// What one reclaim takes that is to find out whether it is still wasteful, and the least that tells, bytes.
        reclaim_probe: Bytes = Bytes::MIB, Size(1);
        /// Time without a hit or a raise before reclaim, ms; doubled as `slack_hold_ms` is, and by reclaim that was wasteful.
        reclaim_hold_ms: u64 = 30_000, Millis(1);
        /// No reclaim so soon after a launch or a takeover, ms. May be zero.
        reclaim_grace_ms: u64 = 60_000, Millis(0);
        /// `some` pressure of memory and of I/O from which nothing is reclaimed.
        reclaim_pressure: f64 = 0.001, Ratio(1.0);
        /// The shorter time over which that pressure is looked at, ms.
        reclaim_short_ms: u64 = 10_000, Millis(1);
        /// The longer one, ms.
        reclaim_long_ms: u64 = 60_000, Millis(1);
        /// Pages that stay away, per page taken, from which reclaim is accurate.
        reclaim_accuracy: f64 = 0.99, Ratio(1.0);
        /// Pages taken, per page scanned, from which reclaim is efficient.
        reclaim_efficiency: f64 = 0.6, Ratio(1.0);
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
