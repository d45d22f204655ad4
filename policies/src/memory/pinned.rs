//! A workload whose limit an operator has pinned: what that changes of its state. What a pin is, and what still holds, is told in
//! [`crate::pin`].

use crate::decision::{Decision, Reason};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::workload::{Phase, Workload};
use crate::units::{Bytes, Instant};

impl Workload {
    /// A move of `memory.high` to where an operator wants it pinned.
    pub fn to_pin(&self, high: Bytes) -> Decision {
        let evidence = Evidence { asked: high.page_floor(), ..self.evidence(MemoryLaw::Pin) };
        evidence.decide(&self.law, Reason::LimitPinned)
    }

    /// The limits stay where they are: looks hold until [`Self::unpin`]. Only what was opened is still put back.
    pub fn pin(&mut self) {
        self.is_pinned = true;
        self.phase = Phase::Calm;
        self.verdict = None;
        self.wanted = None;
        (self.stall, self.eased) = (None, None);
        self.shrink.forget_plan();
    }

    /// The law moves them again, and begins its hold anew: what was used under the pin says what is slack.
    pub fn unpin(&mut self, now: Instant) {
        self.is_pinned = false;
        self.shrink_refused(now);
    }
}
