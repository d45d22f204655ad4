//! What was seen of an observed workload, and which bounds it suggests. Two histograms of its memory, use and need, written by
//! the control loop with each look of the slow pass, read by whoever wants advice.
//!
//! Need decides and not use: page cache fills whatever it is given. The floor is what it needs half of the time, with a margin: it
//! stays granted, so that more would be kept from others without need. The ceiling is the highest need that was seen, and a
//! quarter more for what was not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bellows_policies::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps to each doubling: a value is told to within a tenth.
const STEPS: u32 = 8;
/// From 1 MiB to 64 GiB; what is less or more counts as that.
const BUCKETS: usize = 16 * STEPS as usize;

/// Looks at one workload, counted by what they saw.
#[derive(Debug)]
pub struct Watched {
    /// The first look, in nanoseconds since the Unix epoch.
    since_unix_ns: AtomicU64,
    used: Histogram,
    needed: Histogram,
}

/// What was seen of a workload while it was observed, and what that suggests. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sizing {
    /// The first look, in nanoseconds since the Unix epoch.
    pub since_unix_ns: u64,
    /// Looks: one a second at least.
    pub looks: u64,
    /// The highest use that was seen.
    pub use_peak: Bytes,
    /// It used no more than this in 95 of 100 looks.
    pub use_p95: Bytes,
    /// The highest need that was seen: what does not reclaim cheaply.
    pub need_peak: Bytes,
    /// It needed no more than this in 95 of 100 looks.
    pub need_p95: Bytes,
    /// It needed no more than this in half of them.
    pub need_p50: Bytes,
    /// The floor that this suggests.
    pub floor: Bytes,
    /// The ceiling that this suggests.
    pub ceiling: Bytes,
}

#[derive(Debug)]
struct Histogram {
    peak: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Default for Watched {
    fn default() -> Self {
        Self { since_unix_ns: AtomicU64::new(0), used: Histogram::new(), needed: Histogram::new() }
    }
}

impl Watched {
    /// Counts a look.
    pub fn note(&self, unix_ns: u64, used: Bytes, needed: Bytes) {
        let _ = self.since_unix_ns.compare_exchange(0, unix_ns, Ordering::Relaxed, Ordering::Relaxed);
        self.used.note(used);
        self.needed.note(needed);
    }

    /// What was seen; nothing before the first look.
    #[must_use]
    pub fn sizing(&self) -> Option<Sizing> {
        let looks = self.needed.looks();
        let (need_peak, need_p50) = (self.needed.peak(), self.needed.most_of(0.5));
        let whole = |bytes: Bytes| Bytes(bytes.0.div_ceil(Bytes::MIB.0).max(1) * Bytes::MIB.0);
        let floor = whole(need_p50.saturating_add(need_p50.scale(0.1)));
        let ceiling = whole(need_peak.saturating_add(need_peak.scale(0.25)));
        (looks > 0).then(|| Sizing {
            since_unix_ns: self.since_unix_ns.load(Ordering::Relaxed),
            looks,
            use_peak: self.used.peak(),
            use_p95: self.used.most_of(0.95),
            need_peak,
            need_p95: self.needed.most_of(0.95),
            need_p50,
            floor,
            ceiling: ceiling.max(floor.saturating_add(Bytes::mib(16))),
        })
    }
}

impl Histogram {
    const fn new() -> Self {
        Self { peak: AtomicU64::new(0), counts: [const { AtomicU32::new(0) }; BUCKETS] }
    }

    fn note(&self, bytes: Bytes) {
        self.peak.fetch_max(bytes.0, Ordering::Relaxed);
        self.counts[bucket(bytes)].fetch_add(1, Ordering::Relaxed);
    }

    fn peak(&self) -> Bytes {
        Bytes(self.peak.load(Ordering::Relaxed))
    }

    fn looks(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// What was not exceeded in `share` of all looks, rounded up to a step.
    fn most_of(&self, share: f64) -> Bytes {
        let wanted = self.looks() as f64 * share;
        let mut sum = 0.0;
        for (index, count) in self.counts.iter().enumerate() {
            sum += f64::from(count.load(Ordering::Relaxed));
            // The last step has no end.
            if sum >= wanted && index + 1 < BUCKETS {
                return upper(index).min(self.peak());
            }
        }
        self.peak()
    }
}

/// The step that a size is counted in.
fn bucket(bytes: Bytes) -> usize {
    (0..BUCKETS - 1).find(|&index| bytes <= upper(index)).unwrap_or(BUCKETS - 1)
}

/// The largest size that is counted in a step.
fn upper(index: usize) -> Bytes {
    let (octave, step) = (index as u64 / u64::from(STEPS), index as u64 % u64::from(STEPS) + 1);
    let octave = Bytes::MIB.0 << octave;
    Bytes(octave + octave / u64::from(STEPS) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_to_within_a_step() {
        for (mib, most) in [(1, 2), (64, 72), (100, 104), (1000, 1024), (1025, 1152), (1 << 20, 1 << 20)] {
            let watched = Watched::default();
            watched.note(1, Bytes::mib(mib), Bytes::mib(mib));
            watched.note(2, Bytes::mib(1 << 20), Bytes::mib(1 << 20));
            assert!(watched.needed.most_of(0.5) <= Bytes::mib(most), "{mib} MiB");
            assert!(watched.needed.most_of(0.5) >= Bytes::mib(mib), "{mib} MiB");
        }
    }

    #[test]
    fn the_floor_is_what_is_needed_mostly_and_the_ceiling_is_above_the_peak() {
        let watched = Watched::default();
        assert_eq!(watched.sizing(), None);
        for look in 0..100 {
            let need = if look < 90 { 64 } else { 200 };
            watched.note(7 + look, Bytes::mib(need + 300), Bytes::mib(need));
        }
        let sizing = watched.sizing().unwrap();
        assert_eq!((sizing.looks, sizing.since_unix_ns), (100, 7));
        assert_eq!((sizing.use_peak, sizing.need_peak), (Bytes::mib(500), Bytes::mib(200)));
        assert_eq!((sizing.need_p50, sizing.need_p95), (Bytes::mib(64), Bytes::mib(200)));
        assert_eq!((sizing.floor, sizing.ceiling), (Bytes::mib(71), Bytes::mib(250)));
    }
}
