//! Squeezing: a grow was refused for want of room, and others have some that they can do without.
//!
//! ```text
//! refused, and nothing of a squeeze on its way
//!   -> what each can spare on the first rung          Workload::spare
//!   -> who gives how much                             policies::squeeze::Round
//!   -> Workload::squeeze -> plan                      as any shrink
//!   -> slack: the budget has room and serves who waits, here and now; then the limits of those who gave are written
//!   -> cache: by the slow lane; when it has settled the budget has room, and serves who waits in the same turn
//! too little on the first rung: the rest on the second; what has to be known for it is asked for at once
//! nothing on both                                     ladder
//! ```
//!
//! No lease is kept on what is given here: who gave grows by itself when it has to, as after any shrink.

use std::time::Duration;

use bellows_policies::budget::LEAST_PART;
use bellows_policies::ladder::{self, NODE};
use bellows_policies::memory::Spare;
use bellows_policies::squeeze::Rung;
use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Limits, Plan, Reason, Verb, settle, unsettle};

use super::actuator;
use super::control_loop::Control;
use super::ladder::Climb;
use super::registry::Entry;
use super::shrinker::Act;
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::lifecycle::State;
use crate::workload::spec::Name;

/// Time between two rounds, unless room was enough: who waits asks again at this pace, and a lowered `memory.high` is settled in
/// less.
const ROUND_EVERY: Duration = Duration::from_millis(50);
/// Limits that one round lowers by itself, here and now. The rest goes to the slow lane: whoever else crosses a limit waits for
/// this turn.
pub(super) const AT_ONCE: usize = 16;
/// Looks into `memory.stat` that one round asks for.
const LOOKS: usize = 64;

/// For whom, and from whom it may be taken.
pub(super) struct Waiter {
    /// Absent when it is the node.
    pub(super) key: Option<Key>,
    pub(super) priority: u32,
    /// Only its tenant's can help: it is refused by its tenant's cap.
    pub(super) tenant: Option<Name>,
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
        let waiter = Waiter { key: Some(key), priority: entry.priority(), tenant };
        // What never fits is not helped by anybody's giving way, and a cap is the tenant's own affair.
        let may_climb = reason == Reason::BudgetDeferred;
        if self.squeeze_round(&waiter, may_climb, missing, now)
            && let Some(entry) = self.registry.get(key)
        {
            entry.law.be_patient();
        }
    }

    /// A grow was granted, of which `missing` bytes were not, at `rate` bytes per second. Where the pool has less left than is
    /// grown by until others can have given, they are asked now: the kernel puts tasks to sleep at a limit, for up to 2 s, and
    /// does not wake them when it is raised.
    pub(super) fn squeeze_ahead(&mut self, key: Key, missing: Bytes, rate: u64, now: Instant) {
        if self.released || self.stopping || now < self.squeezed.plus(ROUND_EVERY) {
            return;
        }
        let Some(entry) = self.registry.get(key) else { return };
        let soon = Bytes(rate.saturating_mul(entry.law.law().rate_horizon_ms) / 1000);
        let left = entry.law.bounds().ceiling.saturating_sub(entry.law.limits().high);
        // What a tenant's cap is short of while the node has room is not asked for ahead.
        let short = soon.max(missing).min(left).saturating_sub(self.budget.free());
        if short < LEAST_PART {
            return;
        }
        let waiter = Waiter { key: Some(key), priority: entry.priority(), tenant: None };
        self.squeezed = now;
        let _ = self.squeeze_round(&waiter, false, short, now);
    }

    /// One turn of a squeeze: the mildest rung that gives anything. Whether anything was done, or is on its way.
    pub(super) fn squeeze_round(
        &mut self,
        waiter: &Waiter,
        may_climb: bool,
        missing: Bytes,
        now: Instant,
    ) -> bool {
        let who = waiter.on_ladder().who;
        if may_climb {
            self.climb.ladder.refused(waiter.on_ladder(), now);
        }
        let left = missing.saturating_sub(self.on_its_way(waiter));
        if left == Bytes::ZERO {
            self.climb.ladder.yielded(who, Rung::Slack, Bytes::ZERO, now);
            return true;
        }
        let mut still = left;
        for rung in Rung::ALL {
            let given = self.round(waiter, rung, still, now);
            if given > Bytes::ZERO {
                self.climb.ladder.yielded(who, rung, given, now);
            }
            still = still.saturating_sub(given);
            if still == Bytes::ZERO {
                if rung == Rung::Slack {
                    // It is written already: who grows fast need not wait for its next round.
                    self.squeezed = Instant::default();
                }
                break;
            }
        }
        // After who waits was served: each look wakes a thread.
        self.look_for_cache(waiter, now);
        still < left || may_climb && self.climb(waiter, left, now)
    }

    /// Has those looked at whose cache may be asked for next: it is then known.
    fn look_for_cache(&mut self, waiter: &Waiter, now: Instant) {
        let mut looks = 0;
        for entry in self.registry.iter_mut().filter(|entry| waiter.may_ask(entry, Rung::Reclaim)) {
            let is_wanted =
                entry.law.spare(Rung::Reclaim, now) == Spare::AfterDetail && !entry.detail_pending;
            if let Some(open) = entry.open.as_ref().filter(|_| is_wanted && looks < LOOKS) {
                looks += 1;
                entry.detail_pending = self.lanes.read_detail(entry.key, &open.detail);
            }
        }
    }

    /// What shrinks under way will give back, of those that can help: another tenant's do not below a cap.
    fn on_its_way(&mut self, waiter: &Waiter) -> Bytes {
        let under_way = self.registry.iter_mut().filter_map(|entry| {
            let plan = entry.shrink.as_ref()?.plan;
            Some((&entry.spec.identity.tenant, plan))
        });
        waiter.is_brought(under_way)
    }

    /// One round; what it took.
    fn round(&mut self, waiter: &Waiter, rung: Rung, missing: Bytes, now: Instant) -> Bytes {
        let Climb { round, giving, .. } = &mut self.climb;
        round.begin(missing);
        for entry in self.registry.iter_mut().filter(|entry| waiter.may_ask(entry, rung)) {
            match entry.law.spare(rung, now) {
                Spare::Known(spare) if spare >= LEAST_PART => {
                    round.count(entry.priority(), entry.weight(), spare);
                }
                Spare::Known(_) | Spare::AfterDetail => {}
            }
        }
        let mut given = Bytes::ZERO;
        if round.close() == Bytes::ZERO {
            return given;
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
                Plan::Write { verb: Verb::Shrink, .. } if rung == Rung::Slack && giving.len() < AT_ONCE => {
                    settle(&plan, &mut self.budget);
                    giving.push((entry.key, plan));
                    true
                }
                Plan::Write { verb: Verb::Shrink, to: Limits { high, .. }, .. } => {
                    actuator::slowly(&self.lanes, entry, Act::LowerHigh(high), &plan)
                }
                Plan::Write { .. } | Plan::Reclaim { .. } | Plan::Nothing { .. } => false,
            };
            if taken {
                self.metrics.squeezes.gave(rung, part);
                given = given.saturating_add(part);
            } else {
                entry.law.shrink_refused(now);
            }
        }
        self.give(now);
        given
    }

    /// Serves who waits with what others give, and writes their limits then. The other way round he would sleep longer: what the
    /// kernel makes of a crossing it computes a fraction of a millisecond later, from the limit as it then is.
    fn give(&mut self, now: Instant) {
        if self.climb.giving.is_empty() {
            return;
        }
        self.serve_waiting();
        let mut giving = std::mem::take(&mut self.climb.giving);
        for (key, plan) in giving.drain(..) {
            let Plan::Write { verb, from, to, reason, evidence, .. } = plan else { continue };
            let Some(entry) = self.registry.get(key) else { continue };
            if entry.gives_up(to.high) {
                entry.has_moved(verb, to, clock::now());
                entry.held = None;
                let current = evidence.current;
                let what =
                    What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us: 0, evidence };
                self.journal.decided(clock::unix_nanoseconds(), &entry.name, &entry.version, what);
                continue;
            }
            unsettle(&plan, &mut self.budget);
            if !actuator::slowly(&self.lanes, entry, Act::LowerHigh(to.high), &plan) {
                entry.law.shrink_refused(now);
            }
        }
        self.climb.giving = giving;
    }
}

impl Entry {
    /// Lowers `memory.high` here and now, to where it leaves room above use. False where use has come near meanwhile, or the
    /// kernel refuses: the slow lane then does what there is to do.
    fn gives_up(&self, high: Bytes) -> bool {
        self.open.as_ref().is_some_and(|open| actuator::give_up(open, high).unwrap_or(false))
    }
}

impl Waiter {
    /// As the ladder knows it.
    pub(super) fn on_ladder(&self) -> ladder::Waiter {
        ladder::Waiter { who: self.key.map_or(NODE, Key::number), priority: self.priority }
    }

    fn is_helped_by(&self, tenant: &Name) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }

    /// What these plans of these tenants will give back that can help.
    fn is_brought<'a>(&self, under_way: impl Iterator<Item = (&'a Name, Plan)>) -> Bytes {
        let can_help = under_way.filter(|(tenant, _)| self.is_helped_by(tenant));
        let lowered = can_help.map(|(_, plan)| match plan {
            Plan::Write { from, to, .. } => from.high.saturating_sub(to.high),
            Plan::Reclaim { .. } | Plan::Nothing { .. } => Bytes::ZERO,
        });
        lowered.fold(Bytes::ZERO, Bytes::saturating_add)
    }

    fn may_ask(&self, entry: &Entry, rung: Rung) -> bool {
        let is_free = entry.state == State::Running && entry.shrink.is_none() && Some(entry.key) != self.key;
        self.is_helped_by(&entry.identity().tenant)
            && is_free
            && entry.may_give(rung)
            && rung.may_take(entry.priority(), self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::Evidence;

    #[test]
    fn only_what_can_help_is_counted_as_on_its_way() {
        let [own, other] = ["own", "other"].map(|name| name.parse::<Name>().unwrap());
        let limits = |mib: u64| Limits { high: Bytes::mib(mib), max: Bytes::mib(500) };
        let evidence = Evidence::default();
        let shrink = |from: u64, to: u64| Plan::Write {
            verb: Verb::Shrink,
            from: limits(from),
            to: limits(to),
            reason: Reason::SlackTaken,
            clamped: false,
            seat: None,
            evidence,
        };
        // A band that is lowered frees no grant, and neither does what is reclaimed.
        let reclaim = Plan::Reclaim { bytes: Bytes::mib(64), reason: Reason::ColdReclaimed, evidence };
        let under_way =
            [(&own, shrink(90, 60)), (&other, shrink(300, 100)), (&own, shrink(60, 60)), (&own, reclaim)];
        let brought = |tenant: Option<Name>| {
            Waiter { key: None, priority: 200, tenant }.is_brought(under_way.into_iter())
        };
        assert_eq!(brought(None), Bytes::mib(230), "the node is short: whoever gives, helps");
        assert_eq!(
            brought(Some(own.clone())),
            Bytes::mib(30),
            "below a cap only what the tenant itself gives"
        );
        assert_eq!(brought(Some("third".parse().unwrap())), Bytes::ZERO);
    }
}
