//! The clocks that the agent reads; `policies` gets their values as arguments.

use std::time::Duration;

use bellows_policies::units::Instant;
use nix::time::{ClockId, clock_gettime};

/// Now on `CLOCK_MONOTONIC`.
#[must_use]
pub fn now() -> Instant {
    Instant(nanoseconds(ClockId::CLOCK_MONOTONIC))
}

/// Now as nanoseconds since the Unix epoch, for records that people read.
#[must_use]
pub fn unix_nanoseconds() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME)
}

/// What the wall clock will show `at` then, as it stands now; what is over is now.
#[must_use]
pub fn unix_nanoseconds_at(at: Instant) -> u64 {
    let left = u64::try_from(at.since(now()).as_nanos()).unwrap_or(u64::MAX);
    unix_nanoseconds().saturating_add(left)
}

/// How long the calling thread has run until now.
#[must_use]
pub fn of_thread() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let Ok(t) = clock_gettime(clock) else { return 0 };
    #[expect(clippy::cast_sign_loss, reason = "no clock is negative")]
    {
        t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64
    }
}
