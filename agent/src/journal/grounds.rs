//! Why something was done: by which law and on what evidence, and why a lease has ended.

use bellows_policies::decision::Reason;
use bellows_policies::{CpuEvidence, Evidence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::record::What;

/// Why a lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ease {
    /// Nobody waits any more.
    PressureGone,
    /// An operator sent the workload a signal, which it could not have taken.
    Signaled,
    /// An operator's freeze stands above.
    Overruled,
    /// Its limits were opened.
    Released,
    /// Somebody else thawed it: the watchdog, or an operator.
    Elsewhere,
}

impl Ease {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PressureGone => "nobody waits any more",
            Self::Signaled => "a signal was sent to it",
            Self::Overruled => "an operator has frozen it",
            Self::Released => "its limits were opened",
            Self::Elsewhere => {
                "somebody else thawed it: the watchdog while no agent answered, or an operator"
            }
        }
    }
}

/// What something was decided by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grounds<'a> {
    /// About memory.
    Memory(&'a Evidence),
    /// About the cpu.
    Cpu(&'a CpuEvidence),
}

impl What {
    /// Why and by what, if it was decided by a law.
    #[must_use]
    pub const fn decided(&self) -> Option<(Reason, Grounds<'_>)> {
        match self {
            Self::LimitsMoved { reason, evidence, .. }
            | Self::Held { reason, evidence, .. }
            | Self::WouldHave { reason, evidence, .. }
            | Self::Reclaimed { reason, evidence, .. } => Some((*reason, Grounds::Memory(evidence))),
            Self::Launched { evidence, .. } => Some((Reason::Launched, Grounds::Memory(evidence))),
            Self::QuotaMoved { reason, evidence, .. } | Self::QuotaHeld { reason, evidence, .. } => {
                Some((*reason, Grounds::Cpu(evidence)))
            }
            Self::AgentStarted { .. }
            | Self::AgentStopping { .. }
            | Self::LaunchFailed { .. }
            | Self::QuotaFailed { .. }
            | Self::OutcomeSeen { .. }
            | Self::Squeezed { .. }
            | Self::Eased { .. }
            | Self::ModeChanged { .. }
            | Self::Adopted { .. }
            | Self::LetGo { .. }
            | Self::Incident(_)
            | Self::WriteFailed { .. }
            | Self::Life(_)
            | Self::SignalSent { .. }
            | Self::SettingsChanged { .. }
            | Self::Pinned { .. }
            | Self::Unpinned { .. }
            | Self::OrderRefused { .. }
            | Self::Released {}
            | Self::TakenBack { .. }
            | Self::TakenOver { .. }
            | Self::ForeignWrite { .. }
            | Self::LeftoverRemoved { .. }
            | Self::Ended { .. }
            | Self::Trouble { .. }
            | Self::PoliciesLoaded { .. }
            | Self::PoliciesRefused { .. }
            | Self::QueueOverflowed {}
            | Self::ForeignCgroup { .. } => None,
        }
    }

    /// Why, if it was decided by a law.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.decided().map(|(reason, _)| reason)
    }
}
