//! Signals: what the law sees of a sample, after the window has put it beside the ones before.

use crate::sample::Sample;
use crate::units::{Bytes, Instant};
use crate::window::{Freshness, Window};

/// One look at a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals {
    /// When the sample was taken; the `now` of the turn.
    pub at: Instant,
    /// `memory.current`, bytes.
    pub current: Bytes,
    /// A limit was met since the last look: `high`, `max` or `oom` rose.
    pub hit: bool,
    /// Not the tripwire only, but `memory.max` was met.
    pub hit_max: bool,
    /// Growth, bytes per second: the fastest slice of the last second.
    pub rate: u64,
    /// Use grew over the last slice.
    pub rises: bool,
}

impl Signals {
    /// Takes a sample into the window. `None` when it is stale: there is nothing to act upon.
    pub fn take(window: &mut Window, sample: &Sample) -> Option<Self> {
        let delta = match window.push(sample) {
            Freshness::Fresh(delta) => delta,
            Freshness::Stale => return None,
        };
        let hit_max = delta.max > 0 || delta.oom > 0;
        Some(Self {
            at: sample.at,
            current: sample.current,
            hit: delta.high > 0 || hit_max,
            hit_max,
            rate: window.rate(sample.at),
            rises: window.is_rising(),
        })
    }
}
