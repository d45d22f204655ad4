//! Looks that are due without being told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bellows_policies::units::Instant;

use crate::kernel::watch::Key;

/// Instants and the workloads to look at then. A workload that was scheduled anew leaves its old entry to be skipped.
#[derive(Debug)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Key)>>);

impl Default for Timers {
    fn default() -> Self {
        Self(BinaryHeap::with_capacity(4096))
    }
}

impl Timers {
    pub(super) fn push(&mut self, due: Instant, key: Key) {
        self.0.push(Reverse((due, key)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Key)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
