//! Squeezing: a grow was refused for want of room, and others have some that they can do without.
//!
//! ```text
//! refused, and nothing of a squeeze on its way
//!   -> what each can spare on the first rung          Workload::spare
//!   -> who gives how much                             policies::squeeze::Round
//!   -> Workload::squeeze -> plan -> slow lane         as any shrink
//!   -> settled: the budget has room, and serves who waits in the same turn
//! nothing on the first rung: the same with the second; what has to be known for it is asked for first
//! ```
//!
//! No lease is kept: who gave grows by itself when it has to, as after any shrink.

use std::time::Duration;

use bellows_policies::budget::LEAST_PART;
use bellows_policies::memory::Spare;
use bellows_policies::squeeze::{Round, Rung};
use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Limits, Plan, Reason, Verb};

use super::actuator;
use super::control_loop::Control;
use super::registry::Entry;
use super::shrinker::Act;
use crate::kernel::watch::Key;
use crate::workload::lifecycle::State;
use crate::workload::spec::Name;

/// Time between two rounds: who waits asks again at this pace, and a lowered `memory.high` is settled in less.
const ROUND_EVERY: Duration = Duration::from_millis(50);
/// Looks into `memory.stat` that one round asks for.
const LOOKS: usize = 64;

/// For whom, and from whom it may be taken.
struct Waiter {
    key: Key,
    priority: u32,
    /// Only its tenant's can help: it is refused by its tenant's cap.
    tenant: Option<Name>,
}

impl Control {
    /// Takes `missing` bytes from others, or as much of it as they can spare, for a workload whose grow was refused.
    pub(super) fn squeeze_for(&mut self, key: Key, reason: Reason, missing: Bytes, now: Instant) {
        if self.released || self.stopping || now < self.squeezed.plus(ROUND_EVERY) {
            return;
        }
        self.squeezed = now;
        let Some(entry) = self.registry.get(key) else { return };
        let is_capped = matches!(reason, Reason::TenantDeferred | Reason::TenantInfeasible);
        let tenant = is_capped.then(|| entry.identity().tenant.clone());
        let waiter = Waiter { key, priority: entry.priority(), tenant };
        let missing = missing.saturating_sub(self.on_its_way(&waiter));
        let is_helped = missing == Bytes::ZERO
            || Rung::ALL.into_iter().any(|rung| self.round(&waiter, rung, missing, now));
        if is_helped && let Some(entry) = self.registry.get(key) {
            entry.law.be_patient();
        }
    }

    /// What shrinks under way will give back, of those that can help: another tenant's do not below a cap.
    fn on_its_way(&mut self, waiter: &Waiter) -> Bytes {
        let can_help = self.registry.iter_mut().filter(|entry| waiter.is_helped_by(entry));
        let lowered = can_help.filter_map(|entry| match entry.shrink.as_ref()?.plan {
            Plan::Write { from, to, .. } => Some(from.high.saturating_sub(to.high)),
            Plan::Reclaim { .. } | Plan::Nothing { .. } => None,
        });
        lowered.fold(Bytes::ZERO, Bytes::saturating_add)
    }

    /// One round; whether it took anything.
    fn round(&mut self, waiter: &Waiter, rung: Rung, missing: Bytes, now: Instant) -> bool {
        let mut round = Round::new(missing);
        let mut looks = 0;
        for entry in self.registry.iter_mut().filter(|entry| waiter.may_ask(entry, rung)) {
            match entry.law.spare(rung, now) {
                Spare::Known(spare) if spare >= LEAST_PART => {
                    round.count(entry.priority(), entry.weight(), spare);
                }
                Spare::AfterDetail if !entry.detail_pending && looks < LOOKS => {
                    let Some(open) = &entry.open else { continue };
                    looks += 1;
                    entry.detail_pending = self.lanes.read_detail(entry.key, &open.detail);
                }
                Spare::Known(_) | Spare::AfterDetail => {}
            }
        }
        if round.close() == Bytes::ZERO {
            return false;
        }
        for entry in self.registry.iter_mut().filter(|entry| waiter.may_ask(entry, rung)) {
            let Spare::Known(spare) = entry.law.spare(rung, now) else { continue };
            if spare < LEAST_PART {
                continue;
            }
            let part = round.part(entry.priority(), entry.weight(), spare);
            if part == Bytes::ZERO {
                continue;
            }
            let decision = entry.law.squeeze(rung, part, now);
            let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
            let taken = match plan {
                Plan::Write { verb: Verb::Shrink, to: Limits { high, .. }, .. } => {
                    actuator::slowly(&self.lanes, entry, Act::LowerHigh(high), &plan)
                }
                Plan::Write { .. } | Plan::Reclaim { .. } | Plan::Nothing { .. } => false,
            };
            if !taken {
                entry.law.shrink_refused(now);
            }
        }
        true
    }
}

impl Waiter {
    fn is_helped_by(&self, entry: &Entry) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| *tenant == entry.identity().tenant)
    }

    fn may_ask(&self, entry: &Entry, rung: Rung) -> bool {
        let is_free = entry.state == State::Running && entry.shrink.is_none() && entry.key != self.key;
        self.is_helped_by(entry)
            && is_free
            && entry.may_give(rung)
            && rung.may_take(entry.priority(), self.priority)
    }
}
