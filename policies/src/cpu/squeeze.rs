//! What of a quota is lent when somebody more important is short of cpu, or the whole node of memory: [`crate::ladder`] asks.
//!
//! A step goes from use, as far as it is within the quota, towards the floor: a quota that nobody uses holds nobody back. As
//! long as the lease lasts the quota does not grow beyond what was left of it; then it stands where it was before, at once.

use crate::cpu::evidence::{CpuEvidence, CpuRule};
use crate::cpu::node::CpuPlan;
use crate::cpu::units::Cpus;
use crate::cpu::workload::CpuWorkload;
use crate::decision::{Reason, Verb};

/// A part of the quota that is lent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lent {
    /// The quota before the first step: what is gone back to.
    pub(crate) before: Cpus,
    /// What was left by the last one: the most that is granted meanwhile.
    pub(crate) left: Cpus,
}

impl CpuWorkload {
    /// Lends a share of what it uses above its floor, 0 to 1, and as much at least as is worth a write.
    /// [`CpuWorkload::commit`] follows, if it was written.
    pub fn squeeze(&self, share: f64) -> CpuPlan {
        let above = self.used().min(self.quota).saturating_sub(self.bounds.floor);
        let before = Some(self.lent.map_or(self.quota, |lent| lent.before));
        let part = above.scale(share).max(self.least_change()).min(above);
        let evidence = CpuEvidence { before, part, ..self.evidence(CpuRule::Squeeze) };
        self.write(evidence, Reason::CpuSqueezed)
    }

    /// Takes back what was lent, whether there is room for it or not: the lease is over.
    pub fn take_back(&self) -> CpuPlan {
        let before = self.lent.map(|lent| lent.before);
        self.write(CpuEvidence { before, ..self.evidence(CpuRule::GiveBack) }, Reason::CpuGivenBack)
    }

    /// Nothing is lent any more, whatever came of taking it back.
    pub const fn end_loan(&mut self) {
        self.lent = None;
    }

    /// Whether it is throttled more than its law bears, and was in its last slice, in a way that hurts. A single throttled period
    /// stays in the share for ten of them, though its own law answers it at once, and mild ones are borne: that is nothing that
    /// anybody could be held for.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.hurt_at == Some(self.now()) && self.rho() > self.law.grow_at * self.law.throttled_target
    }

    /// The most that its quota may be now.
    pub(crate) fn most(&self) -> Cpus {
        self.lent.map_or(self.bounds.ceiling, |lent| self.bounds.clamp(lent.left))
    }

    fn write(&self, evidence: CpuEvidence, reason: Reason) -> CpuPlan {
        let decision = evidence.decide(&self.law, reason);
        let (from, to) = (self.quota, decision.want);
        let is_due = match decision.verb {
            Verb::Shrink => to < from,
            Verb::Grow => to > from,
            Verb::Reclaim | Verb::Hold | Verb::Fail => false,
        };
        // An operator's word stands above both.
        if self.is_pinned || self.is_released() || !is_due || !self.is_worth(to) {
            return CpuPlan::Nothing { reason };
        }
        CpuPlan::Write { verb: decision.verb, from, to, reason, evidence: decision.evidence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CpuLaw, CpuSample, NodeGuard, NodeLaw, plan, step};
    use crate::units::Instant;

    /// A batch workload with a quota of 1.0 cpus, of which it uses all.
    struct Rig {
        workload: CpuWorkload,
        sample: CpuSample,
        /// Time for which it stands still in a throttled period, microseconds.
        still_us: u64,
    }

    impl Rig {
        fn new() -> Self {
            let (bounds, quota) = ("0.1..2".parse().unwrap(), Some(Cpus::milli(1000)));
            let sample = CpuSample::default();
            let workload = CpuWorkload::adopt(bounds, CpuLaw::batch(), quota, sample);
            let mut rig = Self { workload, sample, still_us: 50_000 };
            rig.run(10, 0);
            rig
        }

        /// Periods in which it uses its quota, on a node that is idle; what the law wants is written.
        fn run(&mut self, periods: u64, throttled: u64) {
            for _ in 0..periods {
                let before = self.sample;
                self.sample = CpuSample {
                    at: Instant(before.at.0 + 100_000_000),
                    usage_us: before.usage_us + self.workload.quota().quota_us(),
                    nr_periods: before.nr_periods + 1,
                    nr_throttled: before.nr_throttled + throttled,
                    throttled_us: before.throttled_us + throttled * self.still_us,
                };
                let mut guard = NodeGuard::new(Cpus::milli(4000), NodeLaw::default());
                guard.observe(self.sample.at, Cpus::milli(1000));
                let decision = step(&mut self.workload, &self.sample).decision;
                let plan = plan(&self.workload, decision, &mut guard);
                if matches!(plan, CpuPlan::Write { .. }) {
                    let _ = self.written(plan);
                }
            }
        }

        fn written(&mut self, plan: CpuPlan) -> u64 {
            let CpuPlan::Write { from, to, reason, evidence, .. } = plan else { panic!("{plan:?}") };
            assert_eq!((from, evidence.replay(self.workload.law())), (self.workload.quota(), to));
            self.workload.commit(to, reason, self.sample.at);
            to.0 / 1000
        }
    }

    #[test]
    fn what_is_pinned_is_not_lent_and_not_given_back() {
        let mut rig = Rig::new();
        let lent = rig.workload.squeeze(0.5);
        rig.written(lent);
        rig.workload.pin(None);
        for plan in [rig.workload.squeeze(0.5), rig.workload.take_back()] {
            assert!(matches!(plan, CpuPlan::Nothing { .. }), "{plan:?}");
        }
    }

    #[test]
    fn a_loan_goes_towards_the_floor_and_ends_where_it_began() {
        let mut rig = Rig::new();
        let mut lend = || {
            let plan = rig.workload.squeeze(0.5);
            rig.written(plan)
        };
        assert_eq!([lend(), lend()], [550, 325]);
        // Throttled all the time, and with a node that is idle: it does not grow beyond what was left of it.
        rig.run(50, 1);
        assert_eq!(rig.workload.quota(), Cpus::milli(325));
        let back = rig.workload.take_back();
        assert_eq!(rig.written(back), 1000);
        rig.workload.end_loan();
        rig.run(20, 1);
        assert!(rig.workload.quota() > Cpus::milli(1000), "{}", rig.workload.quota());
    }

    #[test]
    fn nothing_is_lent_at_the_floor_or_of_an_open_quota() {
        let at_floor = CpuWorkload::new("0.1..2".parse().unwrap(), CpuLaw::batch());
        assert!(matches!(at_floor.squeeze(1.0), CpuPlan::Nothing { .. }));
        let mut workload = Rig::new().workload;
        workload.release();
        assert!(matches!(workload.squeeze(1.0), CpuPlan::Nothing { .. }));
        assert!(matches!(workload.take_back(), CpuPlan::Nothing { .. }));
    }

    #[test]
    fn what_was_answered_already_is_no_starvation() {
        let mut rig = Rig::new();
        rig.workload.law = CpuLaw::latency();
        rig.run(1, 1);
        assert!(rig.workload.is_starved());
        rig.run(1, 0);
        assert!(rig.workload.rho() > 0.06 && !rig.workload.is_starved(), "it is in the share still");
        rig.run(1, 1);
        assert!(rig.workload.is_starved(), "and throttled again");
        rig.still_us = 10_000;
        rig.run(1, 1);
        assert!(rig.workload.rho() > 0.06 && !rig.workload.is_starved(), "mildly");
    }
}
