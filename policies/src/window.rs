//! The window: what a run of samples says that one alone does not. Fixed size, no allocation.
//!
//! Two things are kept: the last sample, against which counters are differenced, and the fastest growth of each
//! sixteenth of the last second. Growth is measured over slices of 1 ms or more, since two reads that are 20 us
//! apart would turn one 2 MiB page into 100 GiB/s. A ring of raw samples was rejected: at a look every 2 ms it would
//! need 500 places per workload to cover the second that the law asks about.
//!
//! A counter that went back belongs to another cgroup of the same name, and a clock that went back to a sample that
//! was overtaken: both are stale, and the law holds.

use std::time::Duration;

use crate::sample::{MemoryEvents, Sample};
use crate::units::{Bytes, Instant};

/// The shortest time over which growth is measured.
pub const SLICE: Duration = Duration::from_millis(1);
/// Parts of the last second, each with its fastest growth.
const BUCKETS: usize = 16;
/// Nanoseconds of one part.
const BUCKET_NS: u64 = 1_000_000_000 / BUCKETS as u64;

/// The recent past of one workload's samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    last: Option<Sample>,
    slice: Option<(Instant, Bytes)>,
    rises: bool,
    buckets: [Bucket; BUCKETS],
}

/// By how much each counter rose since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Crossings of `memory.high`.
    pub high: u64,
    /// Meetings with `memory.max`.
    pub max: u64,
    /// Calls of the OOM killer.
    pub oom: u64,
    /// Processes killed.
    pub oom_kill: u64,
}

/// Whether a sample may be acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Newer than the last one, with counters that only rose.
    Fresh(Delta),
    /// Overtaken, or of another cgroup.
    Stale,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// Number of the sixteenth second since the clock's beginning.
    epoch: u64,
    /// Fastest growth within it, bytes per second.
    rate: u64,
}

impl Window {
    /// The window of a cgroup whose counters are known up to `sample`: an adopted one.
    #[must_use]
    pub fn starting_at(sample: Sample) -> Self {
        Self { last: Some(sample), slice: Some((sample.at, sample.current)), ..Self::default() }
    }

    /// Takes in a sample. Without one before, counters are differenced against zero: those of a new cgroup.
    pub fn push(&mut self, sample: &Sample) -> Freshness {
        let before = self.last.map_or_else(MemoryEvents::default, |last| last.events);
        if self.last.is_some_and(|last| sample.at < last.at) {
            return Freshness::Stale;
        }
        let Some(delta) = difference(&before, &sample.events) else {
            *self = Self::starting_at(*sample);
            return Freshness::Stale;
        };
        self.last = Some(*sample);
        self.measure(sample.at, sample.current);
        Freshness::Fresh(delta)
    }

    /// The last sample, if there was one.
    #[must_use]
    pub const fn last(&self) -> Option<&Sample> {
        self.last.as_ref()
    }

    /// Growth rate in bytes per second: the fastest slice that ended within the second before `now`; never negative.
    #[must_use]
    pub fn rate(&self, now: Instant) -> u64 {
        let newest = epoch(now);
        let recent = |bucket: &&Bucket| bucket.epoch <= newest && newest - bucket.epoch < BUCKETS as u64;
        self.buckets.iter().filter(recent).map(|bucket| bucket.rate).max().unwrap_or(0)
    }

    /// Whether use grew over the last whole slice.
    #[must_use]
    pub const fn is_rising(&self) -> bool {
        self.rises
    }

    fn measure(&mut self, at: Instant, current: Bytes) {
        let Some((start, before)) = self.slice else {
            self.slice = Some((at, current));
            return;
        };
        let time = at.since(start);
        if time < SLICE {
            return;
        }
        let rate = Bytes(current.saturating_sub(before).0).scale(time.as_secs_f64().recip()).0;
        self.rises = current > before;
        self.slice = Some((at, current));
        let epoch = epoch(at);
        let index = usize::try_from(epoch % BUCKETS as u64).unwrap_or(0);
        let bucket = &mut self.buckets[index];
        if bucket.epoch == epoch {
            bucket.rate = bucket.rate.max(rate);
        } else {
            *bucket = Bucket { epoch, rate };
        }
    }
}

const fn epoch(at: Instant) -> u64 {
    at.0 / BUCKET_NS
}

/// `None` when any counter went back.
fn difference(before: &MemoryEvents, after: &MemoryEvents) -> Option<Delta> {
    after.low.checked_sub(before.low)?;
    after.oom_group_kill.checked_sub(before.oom_group_kill)?;
    Some(Delta {
        high: after.high.checked_sub(before.high)?,
        max: after.max.checked_sub(before.max)?,
        oom: after.oom.checked_sub(before.oom)?,
        oom_kill: after.oom_kill.checked_sub(before.oom_kill)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(us: u64, mib: u64, high: u64) -> Sample {
        let events = MemoryEvents { high, ..MemoryEvents::default() };
        Sample { at: Instant(us * 1000), current: Bytes::mib(mib), events }
    }

    #[test]
    fn close_reads_make_no_slice() {
        let mut window = Window::default();
        for (us, mib) in [(0, 10), (20, 12), (40, 14), (999, 20)] {
            let _ = window.push(&sample(us, mib, 0));
            assert_eq!(window.rate(Instant(us * 1000)), 0);
        }
        let _ = window.push(&sample(1000, 20, 0));
        assert_eq!(window.rate(Instant(1_000_000)), Bytes::mib(10_000).0);
        assert!(window.is_rising());
    }

    #[test]
    fn rate_is_the_fastest_slice_of_the_last_second() {
        let mut window = Window::default();
        for (ms, mib) in [(0, 10), (2, 12), (4, 13), (500, 13)] {
            let _ = window.push(&sample(ms * 1000, mib, 0));
        }
        assert_eq!(window.rate(Instant(500_000_000)), Bytes::mib(1000).0);
        assert!(!window.is_rising());
        assert_eq!(window.rate(Instant(1_100_000_000)), 0);
    }

    #[test]
    fn falling_use_has_no_rate() {
        let mut window = Window::default();
        let _ = window.push(&sample(0, 100, 0));
        let _ = window.push(&sample(2000, 10, 0));
        assert_eq!(window.rate(Instant(2_000_000)), 0);
    }

    #[test]
    fn counters_are_differenced_and_never_negative() {
        let mut window = Window::default();
        let delta = |high| Freshness::Fresh(Delta { high, ..Delta::default() });
        assert_eq!(window.push(&sample(0, 1, 3)), delta(3), "a new cgroup counts from zero");
        assert_eq!(window.push(&sample(10, 1, 5)), delta(2));
        assert_eq!(window.push(&sample(20, 1, 1)), Freshness::Stale, "another cgroup");
        assert_eq!(window.push(&sample(30, 1, 2)), delta(1), "known from there on");
        assert_eq!(window.push(&sample(25, 1, 9)), Freshness::Stale, "overtaken");
        assert_eq!(window.push(&sample(30, 1, 2)), delta(0), "and forgotten");
        let mut adopted = Window::starting_at(sample(0, 1, 100));
        assert_eq!(adopted.push(&sample(10, 1, 100)), delta(0));
    }
}
