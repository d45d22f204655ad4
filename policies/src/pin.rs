//! A pin: an operator's word that limits stay where they are for a while, whatever the laws make of them.
//!
//! What still holds: the bounds, and that it is charged like any grant; nothing is taken from use. A workload that wants more is
//! throttled for as long as the pin stands, stall rule included: no write of ours has the kernel kill it. Limits that were
//! opened meanwhile (the agent was gone) are put back, above need if that has grown beyond them, and stand there.

use serde::{Deserialize, Serialize};

use crate::units::Instant;

/// What is pinned, until when, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// `memory.high`, and `memory.max` with it.
    pub memory: bool,
    /// `cpu.max`.
    pub cpu: bool,
    /// Until when. On the monotonic clock, which nobody can set: no jump of the wall clock makes it longer or shorter. It stands
    /// still while the machine sleeps.
    pub until: Instant,
    /// The user who gave the word.
    pub uid: u32,
}

impl Pin {
    /// Whether it has ended by `now`.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}
