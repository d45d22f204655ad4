//! Whether a law can work at all: a constant that cannot is named before anything is governed by it.
//!
//! Only what is certain to break is refused: a time of zero, which would have a loop spin; a ratio that is no number; a
//! least above its most. A law may be as strange as its author likes.

use crate::memory::law::Law;

/// The longest time that makes sense in a law, ms: a day.
const LONGEST_MS: u64 = 86_400_000;

/// Pairs of a field's name and its value.
macro_rules! named {
    ($law:expr; $($field:ident)+) => { [$((stringify!($field), $law.$field)),+] };
}

impl Law {
    /// The first field that cannot work, and why. `None`: all can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.bad_time().or_else(|| self.bad_size()).or_else(|| self.bad_ratio()).or_else(|| self.bad_pair())
    }

    fn bad_time(&self) -> Option<String> {
        named!(self;
            streak_ms rate_horizon_ms hot_poll_ms calm_ms look_ahead_ms verdict_timeout_ms detail_gap_ms detail_fresh_ms
            hold_first_ms hold_max_ms hold_forget_ms settle_ms deferred_poll_ms stall_ms stall_poll_ms slack_hold_ms
            outcome_ms shrink_hold_max_ms regrow_soon_ms relapse_decay_ms peak_half_life_ms max_horizon_ms reclaim_period_ms
            reclaim_hold_ms reclaim_short_ms reclaim_long_ms
        )
        .into_iter()
        .find(|(_, time)| !(1..=LONGEST_MS).contains(time))
        .map(|(name, time)| format!("{name} = {time}: has to be between 1 and {LONGEST_MS} ms"))
    }

    fn bad_size(&self) -> Option<String> {
        // Whatever these are a least of would be done for nothing, all the time.
        named!(self; step_min band_min slack_min reclaim_max reclaim_probe need_grew_min)
            .into_iter()
            .find(|(_, size)| size.0 == 0)
            .map(|(name, _)| format!("{name} = 0: has to be 1 byte or more"))
    }

    fn bad_ratio(&self) -> Option<String> {
        let shares = named!(self;
            band_share need_grew_share need_share refault_share pressure_share cheap_reclaim overage_share
            stall_full_share stall_futile stall_need_share slack_share headroom_share need_margin_share max_share
            reclaim_pressure reclaim_accuracy reclaim_efficiency
        )
        .map(|(name, value)| (name, value, 1.0));
        let factors = named!(self; step_factor step_factor_max).map(|(name, value)| (name, value, 16.0));
        let reclaim = [("reclaim_factor", self.reclaim_factor, 0.01)];
        let mut all = shares.into_iter().chain(factors).chain(reclaim);
        // Not a number is in no range.
        all.find(|(_, value, most)| !(0.0..=*most).contains(value))
            .map(|(name, value, most)| format!("{name} = {value}: has to be between 0 and {most}"))
    }

    fn bad_pair(&self) -> Option<String> {
        let times = [
            ("hold_first_ms", self.hold_first_ms, "hold_max_ms", self.hold_max_ms),
            ("stall_poll_ms", self.stall_poll_ms, "stall_ms", self.stall_ms),
            ("slack_hold_ms", self.slack_hold_ms, "shrink_hold_max_ms", self.shrink_hold_max_ms),
            ("reclaim_hold_ms", self.reclaim_hold_ms, "shrink_hold_max_ms", self.shrink_hold_max_ms),
            ("reclaim_short_ms", self.reclaim_short_ms, "reclaim_long_ms", self.reclaim_long_ms),
            ("reclaim_probe", self.reclaim_probe.0, "reclaim_max", self.reclaim_max.0),
        ];
        if self.step_factor > self.step_factor_max {
            let (least, most) = (self.step_factor, self.step_factor_max);
            return Some(format!("step_factor = {least}: is more than step_factor_max = {most}"));
        }
        times
            .into_iter()
            .find(|(_, least, _, most)| least > most)
            .map(|(name, least, other, most)| format!("{name} = {least}: is more than {other} = {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    #[test]
    fn the_first_field_that_cannot_work_is_named() {
        let law = Law::default();
        let table = [
            (law, None),
            (Law { reclaim_factor: 0.0, slack_grace_ms: 0, ..law }, None),
            (Law { hot_poll_ms: 0, ..law }, Some("hot_poll_ms = 0: has to be between 1 and 86400000 ms")),
            (
                Law { relapse_decay_ms: u64::MAX, ..law },
                Some("relapse_decay_ms = 18446744073709551615: has to be between 1 and 86400000 ms"),
            ),
            (Law { band_min: Bytes::ZERO, ..law }, Some("band_min = 0: has to be 1 byte or more")),
            (
                Law { reclaim_pressure: f64::NAN, ..law },
                Some("reclaim_pressure = NaN: has to be between 0 and 1"),
            ),
            (
                Law { step_factor_max: f64::INFINITY, ..law },
                Some("step_factor_max = inf: has to be between 0 and 16"),
            ),
            (Law { max_share: -0.1, ..law }, Some("max_share = -0.1: has to be between 0 and 1")),
            (
                Law { reclaim_factor: 0.02, ..law },
                Some("reclaim_factor = 0.02: has to be between 0 and 0.01"),
            ),
            (Law { step_factor: 2.0, ..law }, Some("step_factor = 2: is more than step_factor_max = 1")),
            (
                Law { slack_hold_ms: 700_000, ..law },
                Some("slack_hold_ms = 700000: is more than shrink_hold_max_ms = 600000"),
            ),
            (
                Law { reclaim_max: Bytes(4096), ..law },
                Some("reclaim_probe = 1048576: is more than reclaim_max = 4096"),
            ),
        ];
        for (law, problem) in table {
            assert_eq!(law.problem().as_deref(), problem);
        }
    }
}
