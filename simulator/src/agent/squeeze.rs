//! Squeezing, as in `agent/src/control/squeeze.rs`: a grow was refused for want of room, and others have some that they can do
//! without. What has to be looked at for it is looked at first, by as many looks as there are workloads.

use bellows_policies::budget::LEAST_PART;
use bellows_policies::memory::Spare;
use bellows_policies::squeeze::{Round, Rung};
use bellows_policies::{Bytes, Instant, Limits, Plan, Reason, Verb, ladder};

use super::lanes::Act;
use super::{Agent, Entry, State};
use crate::check;
use crate::faults::MS;
use crate::log::What;
use crate::node::Node;

/// Time between two rounds.
const ROUND_EVERY: u64 = 50 * MS;
/// Looks into `memory.stat` that one round asks for.
const LOOKS: usize = 64;
/// Refusals that others can help against.
const REFUSED: [Reason; 4] =
    [Reason::BudgetDeferred, Reason::TenantDeferred, Reason::BudgetInfeasible, Reason::TenantInfeasible];

/// For whom, and from whom it may be taken.
pub(super) struct Waiter {
    /// [`ladder::NODE`] when it is the node.
    pub(super) id: u64,
    pub(super) priority: u32,
    /// Only its tenant's can help.
    pub(super) tenant: Option<usize>,
}

impl Waiter {
    fn is_helped_by(&self, entry: &Entry) -> bool {
        self.tenant.is_none_or(|tenant| tenant == entry.spec.tenant)
    }

    fn may_ask(&self, id: u64, entry: &Entry, rung: Rung) -> bool {
        let is_free = entry.state == State::Running && entry.shrink.is_none() && id != self.id;
        let may_give = entry.spec.gives[rung as usize];
        self.is_helped_by(entry) && is_free && may_give && rung.may_take(entry.spec.priority, self.priority)
    }
}

impl Agent {
    /// Takes `missing` bytes from others, or as much of it as they can spare, for a workload whose grow was refused.
    pub(super) fn squeeze_for(&mut self, node: &mut Node, id: u64, reason: Reason, missing: Bytes) {
        let now = node.now;
        if !REFUSED.contains(&reason) || now < self.squeezed + ROUND_EVERY {
            return;
        }
        self.squeezed = now;
        let Some(entry) = self.entries.get(&id) else { return };
        let is_capped = matches!(reason, Reason::TenantDeferred | Reason::TenantInfeasible);
        let tenant = is_capped.then_some(entry.spec.tenant);
        let waiter = Waiter { id, priority: entry.spec.priority, tenant };
        // What never fits is not helped by anybody's giving way, and a cap is the tenant's own affair.
        let may_climb = reason == Reason::BudgetDeferred;
        if self.squeeze_round(node, &waiter, may_climb, missing)
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.law.be_patient();
            if entry.law.is_released() {
                check::untimed(node, id);
            }
        }
    }

    /// One turn of a squeeze: the mildest rung that gives anything. Whether anything was done, or is on its way.
    pub(super) fn squeeze_round(
        &mut self,
        node: &mut Node,
        waiter: &Waiter,
        may_climb: bool,
        missing: Bytes,
    ) -> bool {
        let now = Instant(node.now);
        if may_climb {
            let on_ladder = ladder::Waiter { who: waiter.id, priority: waiter.priority };
            self.climb.ladder.refused(on_ladder, now);
            self.climb.seen.pressed = node.now;
        }
        let left = missing.saturating_sub(self.on_its_way(waiter));
        if left == Bytes::ZERO {
            self.climb.ladder.yielded(waiter.id, Rung::Slack, Bytes::ZERO, now);
            return true;
        }
        for rung in Rung::ALL {
            let given = self.round(node, waiter, rung, left);
            if given > Bytes::ZERO {
                self.climb.ladder.yielded(waiter.id, rung, given, now);
                return true;
            }
        }
        may_climb && self.climb(node, waiter, left)
    }

    /// What shrinks under way will give back, of those that can help.
    fn on_its_way(&self, waiter: &Waiter) -> Bytes {
        let can_help = |id: &u64| self.entries.get(id).is_some_and(|entry| waiter.is_helped_by(entry));
        let jobs = self.lanes.jobs.iter().filter(|job| can_help(&job.id));
        jobs.fold(Bytes::ZERO, |sum, job| match job.plan {
            Plan::Write { from, to, .. } => sum.saturating_add(from.high.saturating_sub(to.high)),
            Plan::Reclaim { .. } | Plan::Nothing { .. } => sum,
        })
    }

    /// One round; what it took.
    fn round(&mut self, node: &mut Node, waiter: &Waiter, rung: Rung, missing: Bytes) -> Bytes {
        let now = Instant(node.now);
        let (mut round, mut looks) = (Round::new(missing), Vec::new());
        for (&id, entry) in self.entries.iter().filter(|(id, entry)| waiter.may_ask(**id, entry, rung)) {
            match entry.law.spare(rung, now) {
                Spare::Known(spare) if spare >= LEAST_PART => {
                    round.count(entry.spec.priority, entry.spec.weight, spare);
                }
                Spare::AfterDetail if !entry.detail_pending && looks.len() < LOOKS => looks.push(id),
                Spare::Known(_) | Spare::AfterDetail => {}
            }
        }
        for id in looks {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.detail_pending = true;
            }
            self.ask_detail(node, id);
        }
        let mut given = Bytes::ZERO;
        if round.close() == Bytes::ZERO {
            return given;
        }
        for (&id, entry) in self.entries.iter_mut().filter(|(id, entry)| waiter.may_ask(**id, entry, rung)) {
            let Spare::Known(spare) = entry.law.spare(rung, now) else { continue };
            if spare < LEAST_PART {
                continue;
            }
            let part = round.part(entry.spec.priority, entry.spec.weight, spare);
            if part == Bytes::ZERO {
                continue;
            }
            let decision = entry.law.squeeze(rung, part, now);
            let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
            if let Plan::Write { verb: verb @ Verb::Shrink, reason, to, .. } = plan {
                let Limits { high, .. } = to;
                check::plan(node, id, &entry.law, entry.law.current(), &plan);
                node.log.record(now.0, id, What::Handed { verb, reason, to });
                entry.shrink = Some(self.lanes.hand_over(id, Act::LowerHigh(high), &plan));
                given = given.saturating_add(part);
            } else {
                entry.law.shrink_refused(now);
            }
        }
        given
    }
}
