//! Leases: that a workload is held, since when, and for how long at least.

use serde::{Deserialize, Serialize};

use super::{Grip, LadderLaw};
use crate::memory::ms;
use crate::units::Instant;

/// One lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Taken, or taken further, last.
    pub since: Instant,
    /// How long it lasts at least, ms.
    pub hold_ms: u64,
    /// Its place among all leases: the last one is given back first.
    pub order: u64,
}

/// The leases of one workload, and what is remembered of those before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leases {
    cpu: Memory,
    freeze: Memory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Memory {
    held: Option<Lease>,
    /// When the last one ended, and its hold.
    before: Option<(Instant, u64)>,
}

impl Leases {
    /// The lease of a grip. There is none on what was killed.
    #[must_use]
    pub const fn of(&self, grip: Grip) -> Option<Lease> {
        match grip {
            Grip::Cpu => self.cpu.held,
            Grip::Freeze => self.freeze.held,
            Grip::Kill => None,
        }
    }

    /// Takes a lease, or takes it further: then its hold begins anew, and is as long as it was.
    pub fn take(&mut self, grip: Grip, law: &LadderLaw, order: u64, now: Instant) -> Lease {
        let lease = |hold_ms| Lease { since: now, hold_ms, order };
        let Some(memory) = self.memory(grip) else { return lease(law.hold_ms) };
        let relapsed = memory.before.filter(|(ended, _)| now.since(*ended) < ms(law.relapse_ms));
        let hold_ms = match (memory.held, relapsed) {
            (Some(held), _) => held.hold_ms,
            (None, Some((_, hold_ms))) => hold_ms.saturating_mul(2).min(law.hold_most_ms),
            (None, None) => law.hold_ms,
        };
        *memory.held.insert(lease(hold_ms))
    }

    /// Gives a lease back.
    pub fn give_back(&mut self, grip: Grip, now: Instant) -> Option<Lease> {
        let memory = self.memory(grip)?;
        let lease = memory.held.take()?;
        memory.before = Some((now, lease.hold_ms));
        Some(lease)
    }

    const fn memory(&mut self, grip: Grip) -> Option<&mut Memory> {
        match grip {
            Grip::Cpu => Some(&mut self.cpu),
            Grip::Freeze => Some(&mut self.freeze),
            Grip::Kill => None,
        }
    }
}
