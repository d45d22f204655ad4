//! The node as a waiter: when the machine itself is short of memory, whatever the budget says.
//!
//! # Why these signals
//! Stall time alone does not tell: a workload that is throttled at its own limit stalls, too, and the kernel counts it on every
//! level above. What is available alone is late on a machine that swaps, and the kernel's figure is an estimate. So little
//! that is available is a shortage by itself; and tasks that stall are one where not much is available, or swap is nearly full.
//! The thresholds are earlyoom's 10 %, and half of it where nobody stalls yet.
//!
//! # Freshness
//! A stall is an event, and counts for two of its windows. What is available is read once a second; older than `stale_ms`, or
//! not to be read, nothing is known: nothing is climbed then, and nothing given back.

use crate::field::Kind::{Millis, Ratio};
use crate::field::Pairs;
use crate::memory::ms;
use crate::units::{Bytes, Instant};

crate::field::constants! {
    /// When the node itself is short of memory. Ratios are shares of the machine's memory, or swap.
    PressureLaw {
        /// The share of time in which some task of the subtree waits for memory, over 2 s, from which that is heard; at a start
        /// of the agent only.
        stalled: f64 = 0.15, Ratio(1.0);
        /// Below this share of available memory the node is short of it; 0 switches that off.
        available_least: f64 = 0.05, Ratio(1.0);
        /// Below this share it is so while tasks wait.
        available_low: f64 = 0.10, Ratio(1.0);
        /// Below this share of free swap it is so while tasks wait.
        swap_low: f64 = 0.10, Ratio(1.0);
        /// So much more than a threshold has to be there for the shortage to be over, as a share of the threshold.
        relief: f64 = 0.25, Ratio(16.0);
        /// What was read so long ago is not known any more, ms.
        stale_ms: u64 = 5000, Millis(1);
    }
}

impl PressureLaw {
    /// Pairs of constants of which the first may not be more than the second.
    pub const PAIRS: &Pairs = &[("available_least", "available_low")];
    /// What stall time is counted over, ms. The kernel takes only multiples of 2 s of whoever has no `CAP_SYS_RESOURCE`.
    pub const WINDOW_MS: u64 = 2000;
}

/// What `/proc/meminfo` says of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// `MemTotal`.
    pub total: Bytes,
    /// `MemAvailable`.
    pub available: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
}

/// Whether the node is short of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodePressure {
    read: Option<(Instant, NodeMemory)>,
    stalled: Option<Instant>,
    is_short: bool,
}

/// Whom somebody waits for, by the priority of who waits: a fixed number of the last ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressed([Option<(u32, Instant)>; 8]);

impl NodePressure {
    /// A stall was heard.
    pub const fn stalled(&mut self, now: Instant) {
        self.stalled = Some(now);
    }

    /// Takes in what was read.
    pub fn observe(&mut self, law: &PressureLaw, now: Instant, memory: NodeMemory) {
        self.read = Some((now, memory));
        self.is_short =
            self.missing_to(law, now, &memory, if self.is_short { 1.0 + law.relief } else { 1.0 })
                > Bytes::ZERO;
    }

    /// What the node lacks; nothing when it is well; `None` when that is not known.
    #[must_use]
    pub fn missing(&self, law: &PressureLaw, now: Instant) -> Option<Bytes> {
        let (at, memory) = self.read.filter(|(at, _)| now.since(*at) <= ms(law.stale_ms))?;
        let missing = self.missing_to(law, at, &memory, 1.0 + law.relief);
        Some(if self.is_short { missing } else { Bytes::ZERO })
    }

    /// What is missing to so many times the thresholds.
    fn missing_to(&self, law: &PressureLaw, now: Instant, memory: &NodeMemory, times: f64) -> Bytes {
        let waits = self.stalled.is_some_and(|at| now.since(at) <= ms(2 * PressureLaw::WINDOW_MS));
        let share = if waits { law.available_low } else { law.available_least };
        let available = memory.total.scale(share * times).saturating_sub(memory.available);
        let swap = memory.swap_total.scale(law.swap_low * times).saturating_sub(memory.swap_free);
        available.max(if waits { swap } else { Bytes::ZERO })
    }
}

impl Pressed {
    /// Nobody waited.
    pub const NONE: Self = Self([None; 8]);

    /// Somebody of this priority waits. Where more priorities wait than are remembered, the one that waited longest ago is
    /// forgotten.
    pub fn note(&mut self, priority: u32, now: Instant) {
        let same = self.0.iter().position(|slot| slot.is_some_and(|(other, _)| other == priority));
        let oldest = || (0..self.0.len()).min_by_key(|&index| self.0[index].map(|(_, at)| at));
        if let Some(index) = same.or_else(oldest) {
            self.0[index] = Some((priority, now));
        }
    }

    /// When somebody waited last who is more important than `victim`.
    #[must_use]
    pub fn on(&self, victim: u32) -> Option<Instant> {
        self.0.iter().flatten().filter(|(priority, _)| *priority > victim).map(|(_, at)| *at).max()
    }

    /// When anybody waited last.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.0.iter().flatten().map(|(_, at)| *at).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(available: u64, swap_free: u64) -> NodeMemory {
        let (total, swap_total) = (Bytes::mib(1000), Bytes::mib(100));
        NodeMemory { total, available: Bytes::mib(available), swap_total, swap_free: Bytes::mib(swap_free) }
    }

    fn second(n: u64) -> Instant {
        Instant(n * 1_000_000_000)
    }

    #[test]
    fn what_is_short() {
        let law = PressureLaw::default();
        for (available, swap_free, stalled, missing_kib) in [
            (51, 100, false, 0),
            (49, 100, false, 13_824),
            (51, 100, true, 74 * 1024),
            (200, 0, false, 0),
            (200, 9, true, 3584),
            (101, 11, true, 0),
        ] {
            let mut node = NodePressure::default();
            if stalled {
                node.stalled(second(9));
            }
            node.observe(&law, second(10), memory(available, swap_free));
            let found = node.missing(&law, second(10)).map(|bytes| bytes.0 >> 10);
            assert_eq!(found, Some(missing_kib), "{available} {swap_free} {stalled}");
        }
    }

    #[test]
    fn a_shortage_is_over_later_than_it_began_and_what_is_stale_is_not_known() {
        let law = PressureLaw::default();
        let mut node = NodePressure::default();
        assert_eq!(node.missing(&law, second(1)), None);
        let mut short = Vec::new();
        for (at, available) in [(1, 60), (2, 49), (3, 55), (4, 62), (5, 63), (6, 55)] {
            node.observe(&law, second(at), memory(available, 100));
            short.push(node.missing(&law, second(at)) > Some(Bytes::ZERO));
        }
        assert_eq!(short, [false, true, true, true, false, false]);
        assert_eq!(node.missing(&law, second(11)), Some(Bytes::ZERO));
        assert_eq!(node.missing(&law, second(12)), None);
    }

    #[test]
    fn who_matters_more_presses() {
        let mut pressed = Pressed::NONE;
        assert_eq!((pressed.on(0), pressed.last()), (None, None));
        pressed.note(200, second(1));
        pressed.note(300, second(2));
        pressed.note(200, second(3));
        assert_eq!(
            [100, 200, 300].map(|victim| pressed.on(victim)),
            [Some(second(3)), Some(second(2)), None]
        );
        for priority in 400..440 {
            pressed.note(priority, second(u64::from(priority)));
        }
        assert_eq!(pressed.on(0), Some(second(439)));
    }
}
