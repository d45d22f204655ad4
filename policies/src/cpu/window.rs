//! The window: the last 50 slices of use and throttling. Fixed size, no allocation.
//!
//! Samples come at irregular times: each period from a hot workload, up to a second apart from an idle one. A slice is the
//! time between two of them, or a little more: reads closer than nine tenths of a period make one slice together, since
//! the kernel counts use in ticks of some milliseconds.
//!
//! # Use of what time?
//! One second of a workload that ran for one period looks like a tenth of its use, and a quota of that tenth would
//! throttle it. `nr_periods` counts only the periods in which it ran, so use is measured over those, and one more, for
//! the period that has begun; never over more time than passed.
//!
//! # What is stale
//! Counters or a clock that went back, and a gap of several longest pauses: a machine that was suspended was not idle, and
//! what its counters jumped by is not a burst. Then the sample is where counting starts anew.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::law::{CpuLaw, periods_ms};
use crate::cpu::units::{Cpus, PERIOD_US};
use crate::units::Instant;

/// Slices kept: five seconds at one a period.
const SLICES: u32 = 50;
/// The same, as places of a ring.
const PLACES: usize = SLICES as usize;
/// The shortest slice that is whole, microseconds.
const WHOLE_US: u32 = 90_000;

/// `cpu.stat` of one workload at one instant, as the kernel gave it. Counters; they only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuSample {
    /// When it was read.
    pub at: Instant,
    /// `usage_usec`: cpu time used, microseconds.
    pub usage_us: u64,
    /// `nr_periods`: periods of the quota in which it ran.
    pub nr_periods: u64,
    /// `nr_throttled`: those at whose end it was throttled.
    pub nr_throttled: u64,
    /// `throttled_usec`: time for which its runqueues were throttled, summed over cpus, microseconds.
    pub throttled_us: u64,
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) time_us: u32,
    pub(crate) usage_us: u32,
    pub(crate) periods: u32,
    pub(crate) throttled: u32,
    /// Time for which it stood still, summed over cpus.
    pub(crate) throttled_us: u32,
}

/// Use over the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Use {
    pub(crate) most: Cpus,
    /// Its standard deviation, in millionths of a cpu.
    pub(crate) deviation: f64,
}

/// The recent past of one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuWindow {
    last: Option<CpuSample>,
    slices: [Slice; PLACES],
    /// Slices in use, and the place of the newest one.
    len: usize,
    newest: usize,
}

impl CpuWindow {
    /// The window of a new cgroup, whose counters stand at zero, or of one whose counters are known up to `last`.
    pub(crate) const fn new(last: Option<CpuSample>) -> Self {
        let none = Slice { time_us: 0, usage_us: 0, periods: 0, throttled: 0, throttled_us: 0 };
        Self { last, slices: [none; PLACES], len: 0, newest: 0 }
    }

    /// Takes in a sample: what happened since the last one, or `None` if it is stale. A first sample of a new cgroup is
    /// a slice of no time.
    pub(crate) fn take(&mut self, sample: &CpuSample, law: &CpuLaw) -> Option<Slice> {
        let gap = Duration::from_millis(law.look_most_ms).saturating_mul(law.gap_looks);
        let before = self.last.unwrap_or(CpuSample { at: sample.at, ..CpuSample::default() });
        let is_fresh = sample.at >= before.at && sample.at.since(before.at) <= gap;
        let Some(slice) = difference(&before, sample).filter(|_| is_fresh) else {
            *self = Self::new(Some(*sample));
            return None;
        };
        self.last = Some(*sample);
        if slice.time_us > 0 {
            self.push(slice);
        }
        Some(slice)
    }

    /// Forgets what happened, but not the counters.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.last);
    }

    /// The last sample.
    pub(crate) const fn last(&self) -> Option<&CpuSample> {
        self.last.as_ref()
    }

    /// The share of throttled periods among the last `periods` or a few more, none of them older than the window.
    pub(crate) fn throttled_share(&self, periods: u32) -> f64 {
        let (mut all, mut throttled) = (0_u32, 0_u32);
        for slice in self.recent(periods_ms(SLICES)) {
            if all >= periods {
                break;
            }
            all = all.saturating_add(slice.periods);
            throttled = throttled.saturating_add(slice.throttled);
        }
        f64::from(throttled.min(all)) / f64::from(all.max(1))
    }

    /// Use in the newest whole slice.
    pub(crate) fn latest(&self) -> Cpus {
        self.whole().next().map_or(Cpus::ZERO, Slice::used)
    }

    /// Use in the whole slice before that.
    pub(crate) fn latest_but_one(&self) -> Cpus {
        self.whole().nth(1).map_or(Cpus::ZERO, Slice::used)
    }

    /// The greatest use of the window but for the last `periods`.
    pub(crate) fn most_before(&self, periods: u32) -> Cpus {
        let newest = self.recent(periods_ms(periods)).count();
        self.recent(periods_ms(SLICES)).skip(newest).map(Slice::used).max().unwrap_or_default()
    }

    /// Use over the last `periods`; `None` while the window is too young to tell.
    pub(crate) fn used(&self, periods: u32) -> Option<Use> {
        let span_ms = periods_ms(periods.min(SLICES));
        let (mut time, mut most, mut sum, mut squares) = (0.0, Cpus::ZERO, 0.0, 0.0);
        for slice in self.recent(span_ms) {
            let used = slice.used();
            let weight = f64::from(slice.time_us);
            time += weight;
            most = most.max(used);
            sum += weight * used.0 as f64;
            squares += weight * used.0 as f64 * used.0 as f64;
        }
        // A full window of slices that were each a little short is old enough too.
        if self.len < PLACES && time < span_ms as f64 * 1000.0 {
            return None;
        }
        let mean = sum / time;
        Some(Use { most, deviation: (squares / time - mean * mean).max(0.0).sqrt() })
    }

    fn push(&mut self, slice: Slice) {
        let newest = &mut self.slices[self.newest];
        if self.len > 0 && newest.time_us < WHOLE_US {
            *newest = newest.joined(slice);
            return;
        }
        self.newest = (self.newest + 1) % PLACES;
        self.len = (self.len + 1).min(PLACES);
        self.slices[self.newest] = slice;
    }

    /// Slices from the newest on, until they cover `span_ms`.
    fn recent(&self, span_ms: u64) -> impl Iterator<Item = &Slice> {
        let mut covered_us = 0_u64;
        self.all().take_while(move |slice| {
            let begins_within = covered_us < span_ms * 1000;
            covered_us += u64::from(slice.time_us);
            begins_within
        })
    }

    fn whole(&self) -> impl Iterator<Item = &Slice> {
        self.all().filter(|slice| slice.time_us >= WHOLE_US)
    }

    fn all(&self) -> impl Iterator<Item = &Slice> {
        (0..self.len).map(|back| &self.slices[(self.newest + PLACES - back) % PLACES])
    }
}

impl Slice {
    /// Use over the periods in which it ran.
    fn used(&self) -> Cpus {
        let ran_us = (u64::from(self.periods) + 1) * PERIOD_US;
        let time_us = ran_us.min(u64::from(self.time_us)).max(u64::from(WHOLE_US));
        Cpus::used(u64::from(self.usage_us), Duration::from_micros(time_us))
    }

    /// Whether it stood still for more than `share` of its throttled periods.
    pub(crate) fn is_harsh(&self, share: f64) -> bool {
        let throttled_us = u64::from(self.throttled).saturating_mul(PERIOD_US);
        f64::from(self.throttled_us) > throttled_us as f64 * share
    }

    fn joined(self, next: Self) -> Self {
        Self {
            time_us: self.time_us.saturating_add(next.time_us),
            usage_us: self.usage_us.saturating_add(next.usage_us),
            periods: self.periods.saturating_add(next.periods),
            throttled: self.throttled.saturating_add(next.throttled),
            throttled_us: self.throttled_us.saturating_add(next.throttled_us),
        }
    }
}

/// `None` when any counter went back.
fn difference(before: &CpuSample, after: &CpuSample) -> Option<Slice> {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Some(Slice {
        time_us: small(after.at.since(before.at).as_micros().try_into().unwrap_or(u64::MAX)),
        usage_us: small(after.usage_us.checked_sub(before.usage_us)?),
        periods: small(after.nr_periods.checked_sub(before.nr_periods)?),
        throttled: small(after.nr_throttled.checked_sub(before.nr_throttled)?),
        throttled_us: small(after.throttled_us.checked_sub(before.throttled_us)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: u64, usage_ms: u64, nr_periods: u64, nr_throttled: u64) -> CpuSample {
        let at = Instant(ms * 1_000_000);
        CpuSample { at, usage_us: usage_ms * 1000, nr_periods, nr_throttled, throttled_us: 0 }
    }

    fn window(samples: &[CpuSample]) -> CpuWindow {
        let mut window = CpuWindow::new(samples.first().copied());
        for sample in &samples[1..] {
            assert!(window.take(sample, &CpuLaw::default()).is_some(), "{sample:?}");
        }
        window
    }

    #[test]
    fn use_is_measured_over_the_periods_that_ran() {
        for (name, ms, usage_ms, periods, milli) in [
            ("each period", 100, 50, 1, 500),
            ("a second of work", 1000, 500, 10, 500),
            ("one burst within a second", 1000, 100, 1, 500),
            ("a burst in the period that has begun", 1000, 50, 0, 500),
            ("a look that came late", 190, 190, 1, 1000),
        ] {
            let window = window(&[sample(0, 0, 0, 0), sample(ms, usage_ms, periods, 0)]);
            assert_eq!(window.latest(), Cpus::milli(milli), "{name}");
        }
    }

    #[test]
    fn close_reads_make_one_slice() {
        let window = window(&[sample(0, 0, 0, 0), sample(100, 10, 1, 0), sample(101, 14, 1, 0)]);
        assert_eq!(window.latest(), Cpus::milli(100), "4 ms of cpu in 1 ms is a tick of the kernel's clock");
        let mut joined = window;
        let _ = joined.take(&sample(200, 30, 2, 1), &CpuLaw::default());
        assert_eq!(joined.latest(), Cpus::milli(200));
        assert_eq!(joined.latest_but_one(), Cpus::milli(100));
        assert!((joined.throttled_share(10) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn throttling_is_counted_over_ten_periods() {
        let mut samples = vec![sample(0, 0, 0, 0)];
        samples.extend((1..=5).map(|n| sample(n * 100, n, n, n)));
        samples.extend((6..=12).map(|n| sample(n * 100, n, n, 5)));
        assert!((window(&samples).throttled_share(10) - 0.3).abs() < 1e-9);
        samples.extend((13..=15).map(|n| sample(n * 100, n, n, 5)));
        assert!(window(&samples).throttled_share(10).abs() < 1e-9);
        assert!((window(&samples).throttled_share(50) - 5.0 / 15.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_used_before_is_told_apart() {
        let mut samples: Vec<CpuSample> = (0..=30).map(|n| sample(n * 100, n * 20, n, 0)).collect();
        samples.extend((31..=40).map(|n| sample(n * 100, 600 + (n - 30) * 80, n, 0)));
        assert_eq!(window(&samples).most_before(10), Cpus::milli(200));
        assert_eq!(window(&samples).most_before(9), Cpus::milli(800));
        // Slices of a second each: what lies six seconds back is outside the window.
        let long: Vec<CpuSample> = [900, 0, 0, 0, 0, 0, 0]
            .iter()
            .scan((0, 0), |(n, sum), used| {
                (*n, *sum) = (*n + 1, *sum + used);
                Some(sample(*n * 1000, *sum, *n * 10, 0))
            })
            .collect();
        assert_eq!(window(&long).most_before(10), Cpus::ZERO);
    }

    #[test]
    fn use_needs_a_window_of_age() {
        let samples: Vec<CpuSample> = (0..=5).map(|n| sample(n * 1000, n * 200, n * 10, 0)).collect();
        assert_eq!(window(&samples[..5]).used(50), None);
        let used = window(&samples).used(50).unwrap();
        assert_eq!((used.most, used.deviation.round()), (Cpus::milli(200), 0.0));
        let short: Vec<CpuSample> = (0..=50).map(|n| sample(n * 95, n * 19, n, 0)).collect();
        assert_eq!(window(&short).used(50).unwrap().most, Cpus::milli(200));
    }

    #[test]
    fn what_is_stale_starts_anew() {
        let law = CpuLaw::default();
        for (name, stale) in [
            ("usage went back", sample(200, 9, 9, 9)),
            ("the clock went back", sample(99, 10, 9, 9)),
            ("a gap", sample(3101, 10, 9, 9)),
        ] {
            let mut window = window(&[sample(0, 0, 0, 0), sample(100, 10, 1, 0)]);
            assert_eq!(window.take(&stale, &law), None, "{name}");
            assert_eq!(window.latest(), Cpus::ZERO, "{name}");
            let next = CpuSample { at: Instant(stale.at.0 + 100_000_000), usage_us: 30_000, ..stale };
            assert_eq!(window.take(&next, &law).map(|slice| slice.throttled), Some(0), "{name}");
        }
        let mut launched = CpuWindow::new(None);
        assert_eq!(launched.take(&sample(7, 5, 1, 1), &law).map(|slice| slice.throttled), Some(1));
    }
}
