//! What was done to workloads, as whoever tried a policy is told of it.

use bellows_policies::ladder::Grip;
use bellows_policies::{Cpus, Limits, Reason, Verb};

use crate::log::What;

/// Something that was done to a workload, or that it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Its limits were moved.
    Memory {
        /// Up, down, or out of the way.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// Before.
        from: Limits,
        /// After.
        to: Limits,
    },
    /// Its quota was moved.
    Quota {
        /// Up or down.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// Before.
        from: Cpus,
        /// After.
        to: Cpus,
    },
    /// A grow was refused.
    Refused(Reason),
    /// Its limits were left as they were; told where the reason is another one than before.
    Held(Reason),
    /// Cold memory was taken.
    Reclaimed,
    /// It was launched.
    Launched(Limits),
    /// The kernel killed it.
    Killed,
    /// The ladder holds it: part of its quota is lent, or it is frozen, or killed.
    Gripped(Grip),
    /// The ladder lets go of it.
    Eased(Grip),
}

/// A deed, to whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Nanoseconds since the trace began.
    pub at: u64,
    /// The life in the trace.
    pub life: usize,
    /// What.
    pub deed: Deed,
}

impl Deed {
    /// What of a record is a deed.
    pub(crate) fn of(what: What) -> Option<Self> {
        Some(match what {
            What::Wrote { verb, reason, from, to, .. } => Self::Memory { verb, reason, from, to },
            What::QuotaWrote { verb, reason, from, to } => Self::Quota { verb, reason, from, to },
            What::Refused(reason) => Self::Refused(reason),
            What::Looked { verb: Verb::Hold, reason, .. } => Self::Held(reason),
            What::Reclaimed { .. } => Self::Reclaimed,
            What::Launched(limits) => Self::Launched(limits),
            What::Killed { .. } => Self::Killed,
            What::Gripped { grip, .. } => Self::Gripped(grip),
            What::Eased { grip, .. } => Self::Eased(grip),
            What::Looked { .. }
            | What::Adopted { .. }
            | What::Heard
            | What::DetailRead
            | What::Handed { .. }
            | What::Cancelled
            | What::WriteFailed(_)
            | What::Opened
            | What::TakenBack
            | What::ForeignSeen
            | What::QuotaFailed(_)
            | What::GripFailed(_)
            | What::Ended
            | What::Cleared
            | What::Fault(_) => return None,
        })
    }
}
