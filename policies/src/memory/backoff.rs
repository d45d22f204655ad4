//! A hold that grows on relapse: how long to wait before something is tried that turned out wrong the last times.
//!
//! Each relapse doubles the hold, up to a longest one, and time without a relapse halves it again. So a workload that
//! always comes back for what was taken is left alone for minutes, and one that has changed is found out in the end.

use std::time::Duration;

use crate::memory::law::{Law, ms};
use crate::units::Instant;

/// More doublings than any hold needs: 2^20 ms are 17 minutes.
const MOST: u32 = 20;

/// How often a hold has been doubled, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    doublings: u32,
    relapsed: Instant,
}

impl Backoff {
    /// The hold at `now`, if it was `first_ms` at first.
    pub(crate) fn hold(&self, law: &Law, first_ms: u64, now: Instant) -> Duration {
        ms(first_ms.saturating_mul(1 << self.left(law, now)).min(law.shrink_hold_max_ms.max(first_ms)))
    }

    /// It was wrong.
    pub(crate) fn relapse(&mut self, law: &Law, now: Instant) {
        *self = Self { doublings: (self.left(law, now) + 1).min(MOST), relapsed: now };
    }

    /// Doublings that time has not taken away.
    fn left(&self, law: &Law, now: Instant) -> u32 {
        let decay = u128::from(law.relapse_decay_ms.max(1));
        let halvings = now.since(self.relapsed).as_millis() / decay;
        self.doublings.saturating_sub(u32::try_from(halvings).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relapses_double_and_time_halves() {
        let law = Law::default();
        let minute = |n: u64| Instant(n * 60_000_000_000);
        let mut backoff = Backoff::default();
        let mut holds = Vec::new();
        for _ in 0..9 {
            holds.push(backoff.hold(&law, 10_000, minute(1)).as_secs());
            backoff.relapse(&law, minute(1));
        }
        assert_eq!(holds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        // Nine doublings, of which one goes in each 20 minutes.
        for (at, seconds) in [(1, 600), (60, 600), (81, 320), (101, 160), (181, 10), (9000, 10)] {
            assert_eq!(backoff.hold(&law, 10_000, minute(at)).as_secs(), seconds, "after {at} minutes");
        }
        backoff.relapse(&law, minute(9000));
        assert_eq!(
            backoff.hold(&law, 10_000, minute(9000)).as_secs(),
            20,
            "what was forgotten does not count"
        );
    }
}
