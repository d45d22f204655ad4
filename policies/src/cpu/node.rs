//! The guard of a node's cpus: the last word before a quota is written.
//!
//! Problem: quotas are no reservation. All of them together may be far more than the node has, and growth that is right for
//! each would starve all. Approach: use of the node decides. Below 60 % growth is free, up to what is left below 80 %;
//! from there it is 1 % of the cpus per 100 ms in sum; from 80 % on nothing grows, and what is used above 80 % is shed: each
//! workload gives in proportion to its use above its floor over its weight.
//!
//! Each write refills the quota of a group, and for a period the node is busier than its quotas make it. So what is shed
//! is by the least use of the last five observations, and room is left by the greatest; by the last one alone, each grow
//! led to a shed and each shed to a grow, for ever.
//!
//! Properties: floor <= quota <= ceiling; a grow lowers nothing, a shrink raises nothing; growth in sum follows the rate but
//! for one least step. A quota so large that its least step exceeds the rate borrows from the time to come instead of
//! starving. The latency class is exempt; the others give way for it. Nothing grows unless use was observed: what an
//! observation allowed is used up.

use std::time::Duration;

use crate::cpu::evidence::{CpuEvidence, CpuRule};
use crate::cpu::law::NodeLaw;
use crate::cpu::look::CpuDecision;
use crate::cpu::units::Cpus;
use crate::cpu::workload::CpuWorkload;
use crate::decision::{Reason, Verb};
use crate::units::Instant;

/// Observations of use that are looked back upon: half a second of one a period, a second of one in two.
const OBSERVED: usize = 5;
/// An observation over more time than this tells as much as that many.
const WHOLE: Duration = Duration::from_millis(600);

/// What the node can still give, and what it has to take back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeGuard {
    law: NodeLaw,
    cpus: Cpus,
    observed_at: Option<Instant>,
    /// The last observations of use, the oldest at `next`.
    used: [Cpus; OBSERVED],
    next: usize,
    /// Growth that the last observation leaves below the stop.
    room: Cpus,
    /// Growth allowed while slowed, in millionths of a cpu; negative when borrowed.
    tokens: f64,
    is_slowed: bool,
    /// Use above the stop, and among how many shares it is shed.
    excess: Cpus,
    shares: f64,
}

/// What is to be written as quota, or why nothing is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CpuPlan {
    /// A quota to write. [`CpuWorkload::commit`] follows if it was.
    Write {
        /// Grow or shrink.
        verb: Verb,
        /// The governed quota before.
        from: Cpus,
        /// The quota to write.
        to: Cpus,
        /// Why.
        reason: Reason,
        /// From what, with the answer of the guard: [`CpuEvidence::replay`] gives `to`.
        evidence: CpuEvidence,
    },
    /// Nothing to write.
    Nothing {
        /// Why.
        reason: Reason,
    },
}

impl NodeGuard {
    /// The guard of a node with `cpus`. Nothing grows before the first observation.
    #[must_use]
    pub const fn new(cpus: Cpus, law: NodeLaw) -> Self {
        Self {
            law,
            cpus,
            observed_at: None,
            used: [Cpus::ZERO; OBSERVED],
            next: 0,
            room: Cpus::ZERO,
            tokens: 0.0,
            is_slowed: true,
            excess: Cpus::ZERO,
            shares: 0.0,
        }
    }

    /// Takes in the use of the whole node since the last observation, once per round of looks.
    pub fn observe(&mut self, at: Instant, used: Cpus) {
        let stop = self.cpus.scale(self.law.stop_at);
        let slot = self.cpus.scale(self.law.growth_share).0 as f64;
        let passed = self.observed_at.map_or(Duration::ZERO, |before| at.since(before));
        let slots = passed.as_secs_f64() * 1e3 / self.law.growth_ms.max(1) as f64;
        self.tokens = (self.tokens + slot * slots).min(slot);
        self.observed_at = Some(at);
        if passed > WHOLE {
            self.used = [used; OBSERVED];
        }
        self.used[self.next] = used;
        self.next = (self.next + 1) % OBSERVED;
        let least = self.used.into_iter().min().unwrap_or(used);
        let most = self.most_used();
        self.room = stop.saturating_sub(most);
        self.is_slowed = most >= self.cpus.scale(self.law.slow_at);
        self.excess = least.saturating_sub(stop);
        self.shares = 0.0;
    }

    /// Whether use stands where growth is slowed.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.is_slowed && self.observed_at.is_some()
    }

    /// Whether use stands above the stop: then [`Self::share_out`] is told all workloads before they are planned for.
    #[must_use]
    pub fn is_shedding(&self) -> bool {
        self.excess > Cpus::ZERO
    }

    /// Shares the excess out among `workloads`.
    pub fn share_out<'a>(&mut self, workloads: impl Iterator<Item = &'a CpuWorkload>) {
        self.shares = workloads.map(share).sum();
    }

    /// Grants `more`, or a part of it that is not below `least`, or nothing.
    fn grant(&mut self, more: Cpus, least: Cpus) -> Cpus {
        let most = match (self.is_slowed, self.tokens > 0.0) {
            (false, _) => self.room,
            (true, true) => self.room.min(Cpus(1).scale(self.tokens).max(least)),
            (true, false) => Cpus::ZERO,
        };
        let granted = more.min(most);
        if granted < least.min(more) {
            return Cpus::ZERO;
        }
        if self.is_slowed {
            self.tokens -= granted.0 as f64;
        }
        self.room = self.room.saturating_sub(granted);
        granted
    }

    /// The greatest of the last observations of the node's use.
    #[must_use]
    pub fn most_used(&self) -> Cpus {
        self.used.into_iter().max().unwrap_or_default()
    }

    /// The evidence for a quota that sheds the part of `workload`, if it has one.
    fn shed(&self, workload: &CpuWorkload) -> Option<CpuEvidence> {
        if workload.is_pinned
            || self.shares <= 0.0
            || !self.is_shedding()
            || !workload.rests(workload.law.shrink_gap_ms)
        {
            return None;
        }
        let part = self.excess.scale(share(workload) / self.shares);
        let evidence = CpuEvidence { part, node_used: self.most_used(), ..workload.evidence(CpuRule::Shed) };
        let to = evidence.shed();
        (part > Cpus::ZERO && to < workload.quota && workload.is_worth(to)).then_some(evidence)
    }
}

/// Turns a decision into a plan: brings it within bounds, asks the guard for growth, and sheds when the node has to.
///
/// A plan that is not written needs no undoing: what a grow was granted is granted again by the next observation.
pub fn plan(workload: &CpuWorkload, decision: CpuDecision, guard: &mut NodeGuard) -> CpuPlan {
    let (from, reason) = (workload.quota, decision.reason);
    let evidence = CpuEvidence { node_used: guard.most_used(), ..decision.evidence };
    let want = workload.bounds.clamp(decision.want).min(workload.most());
    if reason == Reason::QuotaPutBack {
        return CpuPlan::Write { verb: decision.verb, from, to: want, reason, evidence };
    }
    let shed = guard.shed(workload);
    match (decision.verb, shed) {
        (Verb::Shrink, _) if want < from && workload.is_worth(want) => {
            CpuPlan::Write { verb: Verb::Shrink, from, to: want, reason, evidence }
        }
        (Verb::Grow | Verb::Shrink | Verb::Reclaim | Verb::Hold | Verb::Fail, Some(evidence)) => {
            let (to, reason) = (evidence.shed(), Reason::NodeOverloaded);
            CpuPlan::Write { verb: Verb::Shrink, from, to, reason, evidence }
        }
        (Verb::Grow, None) => raise(workload, want.max(from), reason, &evidence, guard),
        (Verb::Shrink | Verb::Reclaim | Verb::Hold | Verb::Fail, None) => CpuPlan::Nothing { reason },
    }
}

fn raise(
    workload: &CpuWorkload,
    want: Cpus,
    reason: Reason,
    evidence: &CpuEvidence,
    guard: &mut NodeGuard,
) -> CpuPlan {
    let from = workload.quota;
    let more = want.saturating_sub(from);
    let granted = if workload.law.is_guarded {
        guard.grant(more, workload.least_change())
    } else {
        // Exempt, but what it takes is not there for the others.
        guard.room = guard.room.saturating_sub(more);
        more
    };
    let to = from.saturating_add(granted);
    if granted == Cpus::ZERO && more > Cpus::ZERO {
        return CpuPlan::Nothing { reason: Reason::NodeBusy };
    }
    if workload.is_worth(to) {
        let evidence = CpuEvidence { granted: Some(granted), ..*evidence };
        CpuPlan::Write { verb: Verb::Grow, from, to, reason, evidence }
    } else {
        CpuPlan::Nothing { reason }
    }
}

/// The share of a workload in what is shed: its use above its floor, over its weight.
fn share(workload: &CpuWorkload) -> f64 {
    if !workload.law.is_guarded || workload.is_pinned || workload.is_released() {
        return 0.0;
    }
    let above = workload.used().min(workload.quota).saturating_sub(workload.bounds.floor);
    above.0 as f64 / f64::from(workload.law.weight.max(1))
}
