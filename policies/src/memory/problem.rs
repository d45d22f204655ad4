//! Which constants of the memory law have to be in order with each other; [`Law::problem`] names what cannot work before
//! anything is governed by it.

use crate::field::Pairs;
use crate::memory::law::Law;

impl Law {
    /// Pairs of constants of which the first may not be more than the second.
    pub const PAIRS: &Pairs = &[
        ("step_factor", "step_factor_max"),
        ("hold_first_ms", "hold_max_ms"),
        ("stall_poll_ms", "stall_ms"),
        ("stall_poll_ms", "thrash_ms"),
        ("slack_hold_ms", "shrink_hold_max_ms"),
        ("reclaim_hold_ms", "shrink_hold_max_ms"),
        ("reclaim_short_ms", "reclaim_long_ms"),
        ("reclaim_probe", "reclaim_max"),
    ];
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
            (Law { step_factor: 2.0, ..law }, Some("step_factor = 2.0: is more than step_factor_max = 1.0")),
            (
                Law { slack_hold_ms: 700_000, ..law },
                Some("slack_hold_ms = 700000: is more than shrink_hold_max_ms = 600000"),
            ),
            (
                Law { reclaim_max: Bytes(4096), ..law },
                Some("reclaim_probe = 1MiB: is more than reclaim_max = 4KiB"),
            ),
        ];
        for (law, problem) in table {
            assert_eq!(law.problem().as_deref(), problem);
        }
    }
}
