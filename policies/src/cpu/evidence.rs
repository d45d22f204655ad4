//! Evidence of a decision about a quota, and the last step of every such decision: from this and the law to what is wanted, and
//! to nothing else. The counterpart of [`crate::Evidence`]; on the wire zeros are left out here too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cpu::law::CpuLaw;
use crate::cpu::look::CpuDecision;
use crate::cpu::units::Cpus;
use crate::cpu::workload::CpuWorkload;
use crate::decision::{Reason, Verb};
use crate::evidence::is_default;

/// Which formula decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CpuRule {
    /// None: the quota stays.
    #[default]
    #[serde(rename = "cpu.hold")]
    Hold,
    /// More, by how much is throttled.
    #[serde(rename = "cpu.grow")]
    Grow,
    /// Less, to what was used.
    #[serde(rename = "cpu.shrink")]
    Shrink,
    /// The governed quota once more, which stands above what is in force.
    #[serde(rename = "cpu.put_back_up")]
    PutBackUp,
    /// The governed quota once more, which stands below what is in force.
    #[serde(rename = "cpu.put_back_down")]
    PutBackDown,
    /// What the node's guard takes.
    #[serde(rename = "cpu.shed")]
    Shed,
    /// What is lent to somebody more important.
    #[serde(rename = "cpu.squeeze")]
    Squeeze,
    /// What was lent.
    #[serde(rename = "cpu.give_back")]
    GiveBack,
}

/// The values that a decision was made from. Amounts in millionths of a cpu.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CpuEvidence {
    /// The formula.
    pub law: CpuRule,
    /// The bounds of the quota.
    pub floor: Cpus,
    /// Its upper bound.
    pub ceiling: Cpus,
    /// The quota as it was governed.
    pub quota: Cpus,
    /// Use in the last slice.
    pub used: Cpus,
    /// The share of throttled periods (rho).
    #[serde(skip_serializing_if = "is_default")]
    pub rho: f64,
    /// The same over the window; of a grow.
    #[serde(skip_serializing_if = "is_default")]
    pub rho_window: f64,
    /// Throttling that hurts showed after a time without.
    #[serde(skip_serializing_if = "is_default")]
    pub is_first: bool,
    /// The quota before a shrink that is to be rolled back, or before a part was lent.
    #[serde(skip_serializing_if = "is_default")]
    pub before: Option<Cpus>,
    /// The greatest use of the window.
    #[serde(skip_serializing_if = "is_default")]
    pub most: Cpus,
    /// Its standard deviation, in millionths of a cpu.
    #[serde(skip_serializing_if = "is_default")]
    pub deviation: f64,
    /// The margin (m), in deviations.
    #[serde(skip_serializing_if = "is_default")]
    pub margin: f64,
    /// Cpu time used beyond the ceiling, microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub excess_us: u64,
    /// The quota that the law wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub want: Cpus,
    /// Use of the node, the greatest of its last observations.
    #[serde(skip_serializing_if = "is_default")]
    pub node_used: Cpus,
    /// What the node's guard gave of a grow; absent when it was not asked.
    #[serde(skip_serializing_if = "is_default")]
    pub granted: Option<Cpus>,
    /// What the node's guard takes, below use; or what is lent.
    #[serde(skip_serializing_if = "is_default")]
    pub part: Cpus,
}

impl CpuRule {
    /// The name on the wire: `cpu.grow` and its like.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "cpu.hold",
            Self::Grow => "cpu.grow",
            Self::Shrink => "cpu.shrink",
            Self::PutBackUp => "cpu.put_back_up",
            Self::PutBackDown => "cpu.put_back_down",
            Self::Shed => "cpu.shed",
            Self::Squeeze => "cpu.squeeze",
            Self::GiveBack => "cpu.give_back",
        }
    }
}

impl CpuWorkload {
    /// What is known at the last look, under the formula `law`.
    #[must_use]
    pub fn evidence(&self, law: CpuRule) -> CpuEvidence {
        CpuEvidence {
            law,
            floor: self.bounds.floor,
            ceiling: self.bounds.ceiling,
            quota: self.quota,
            used: self.used(),
            rho: self.rho(),
            is_first: self.is_relief_due,
            before: self.regretted().map(|shrunk| shrunk.before),
            margin: self.margin,
            excess_us: self.excess_us,
            ..CpuEvidence::default()
        }
    }
}

impl CpuEvidence {
    /// What the law wants by this evidence. The reason is handed through, but for a change that is not worth its write.
    pub fn decide(&self, law: &CpuLaw, reason: Reason) -> CpuDecision {
        let (verb, want) = match self.law {
            CpuRule::Hold | CpuRule::Shed => (Verb::Hold, self.quota),
            CpuRule::Squeeze => (Verb::Shrink, self.shed()),
            CpuRule::GiveBack => (Verb::Grow, self.clamp(self.before.unwrap_or(self.quota))),
            CpuRule::PutBackUp => (Verb::Grow, self.quota),
            CpuRule::PutBackDown => (Verb::Shrink, self.quota),
            CpuRule::Grow => (Verb::Grow, self.clamp(self.grown(law))),
            CpuRule::Shrink => {
                (Verb::Shrink, self.clamp(self.least(law).max(self.quota.scale(law.shrink_most))))
            }
        };
        let evidence = Self { want, ..*self };
        let moves = matches!(self.law, CpuRule::Grow | CpuRule::Shrink);
        if moves && !self.is_worth(law, want) {
            return CpuDecision { verb: Verb::Hold, want: self.quota, reason: Reason::RoomLeft, evidence };
        }
        CpuDecision { verb, want, reason, evidence }
    }

    /// The quota that is written in the end: the law's, cut down to what the node's guard gave, or the guard's own.
    #[must_use]
    pub fn replay(&self, law: &CpuLaw) -> Cpus {
        let want = self.clamp(self.decide(law, Reason::Calm).want);
        match (self.law, self.granted) {
            (CpuRule::Shed, _) => self.shed(),
            (CpuRule::Grow, Some(granted)) => self.quota.saturating_add(granted),
            (
                CpuRule::Hold
                | CpuRule::Grow
                | CpuRule::Shrink
                | CpuRule::PutBackUp
                | CpuRule::PutBackDown
                | CpuRule::Squeeze
                | CpuRule::GiveBack,
                _,
            ) => want,
        }
    }

    /// The greatest use, with a headroom and a margin in deviations.
    pub(crate) fn least(&self, law: &CpuLaw) -> Cpus {
        let margin = Cpus(1).scale(self.margin * self.deviation);
        self.most.scale(1.0 + law.headroom).saturating_add(margin)
    }

    /// The quota that is left when the node, or whoever is lent to, has taken its part.
    pub(crate) fn shed(&self) -> Cpus {
        self.clamp(self.used.min(self.quota).saturating_sub(self.part))
    }

    /// As much more as is throttled too much; after a shrink as much above the old quota as it went below.
    fn grown(&self, law: &CpuLaw) -> Cpus {
        let grown = self.quota.scale(law.grow_factor(self.rho, self.is_first));
        self.before
            .map_or(grown, |before| grown.max(before.saturating_add(before).saturating_sub(self.quota)))
    }

    fn clamp(&self, cpus: Cpus) -> Cpus {
        cpus.max(self.floor).min(self.ceiling)
    }

    /// Whether a change to `to` is worth its write: large enough, or the last one to a bound.
    pub(crate) fn is_worth(&self, law: &CpuLaw, to: Cpus) -> bool {
        let is_last = to == self.floor || to == self.ceiling;
        let change = to.0.abs_diff(self.quota.0);
        let least = self.quota.scale(law.change_least);
        to.quota_us() != self.quota.quota_us() && (is_last || change >= least.0)
    }
}
