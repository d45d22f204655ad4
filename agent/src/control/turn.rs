//! One turn: a look at one workload, from the counters to the write.
//!
//! ```text
//! two reads -> Sample -> policies::step -> Decision -> policies::plan -> Plan -> two writes -> record
//! ```
//! The cost is known: one wake-up, two reads, and for a grow two writes; no allocation. A look that hands work to another
//! lane adds one futex call, after the writes.

use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Decision, Evidence, Limits, Plan, Reason, Sample, Verb, met, settle, undo};

use super::actuator::{self, Way};
use super::control_loop::Control;
use super::incidents;
use super::registry::Entry;
use super::shrinker::{Act, Reclaimed};
use super::takeover::end_lease;
use crate::journal::{Kind, What};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::{Outcome, Resource};
use crate::workload::lifecycle::State;

/// Reasons for which a grow was not granted, and others may be asked to give.
const REFUSED: [Reason; 4] =
    [Reason::BudgetDeferred, Reason::TenantDeferred, Reason::BudgetInfeasible, Reason::TenantInfeasible];
/// Reasons to leave a limit as it is that somebody may want to know of.
const TELLING: [Reason; 6] = [
    Reason::TenantDeferred,
    Reason::BudgetInfeasible,
    Reason::TenantInfeasible,
    Reason::CeilingReached,
    Reason::CacheHeld,
    Reason::LimitPinned,
];

impl Control {
    /// Looks at a workload and acts. `woke` is when the loop woke up: reaction time is counted from there.
    pub(super) fn look(&mut self, key: Key, woke: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        // The other way of hearing told of the same thing in the same wake-up; or it is being cleared away.
        if entry.looked == woke || !entry.is_governed() {
            return;
        }
        let Some(open) = &entry.open else { return };
        if let Some(shrink) = entry.shrink.as_ref().filter(|shrink| shrink.is_cancelled()) {
            // It has not answered: the signal may have come before its thread entered the kernel.
            shrink.cancel();
        }
        // A look on a lane's answer may already have been later than this wake-up.
        let at = woke.max(entry.sampled);
        let sample = match open.sample(at) {
            Ok(sample) => sample,
            Err(error) => {
                if error.raw_os_error() == Some(libc::ENODEV) {
                    self.vanished(key);
                }
                return;
            }
        };
        entry.looked = woke;
        self.looked = woke;
        entry.sampled = at;
        entry.published.sample(&sample);
        let killed = sample.events.oom_kill > entry.oom_kills;
        entry.oom_kills = sample.events.oom_kill;
        if killed {
            incidents::tell(&self.lanes, &self.metrics, entry, Kind::OomKilled);
        }

        if entry.state == State::Frozen && self.check_paused(key) {
            return;
        }
        let Some(entry) = self.registry.get(key) else { return };
        let high = entry.law.limits().high;
        let seen = entry.shadow.as_mut().map_or(sample, |shadow| shadow.sample(high, &sample));
        let step = bellows_policies::step(&mut entry.law, &seen);
        if entry.is_frozen() && matches!(step.decision.verb, Verb::Grow | Verb::Fail) {
            // From before it stood still: it needs nothing now, and will say so again when it does.
            entry.law.rest();
            return;
        }
        let plan = bellows_policies::plan(&entry.law, step.decision, &mut self.budget);
        entry.due = step.look_again.map(|after| sample.at.plus(after));
        if let Some(due) = entry.due {
            self.timers.push(due, key);
        }
        let reason = plan_reason(&plan);
        // Nobody gives for what is only told.
        let grows = step.decision.verb == Verb::Grow && !entry.is_observed();
        let from = entry.law.limits();
        let missing = step.decision.want.high.saturating_sub(from.high);
        if grows && REFUSED.contains(&reason) {
            // Before anything else: it may be asleep for seconds if it is not served within a fraction of a millisecond.
            self.squeeze_for(key, reason, missing, sample.at);
            if self.registry.get(key).is_none_or(|entry| entry.law.limits() != from) {
                // It was, by a look of its own in this very turn.
                undo(&plan, &mut self.budget);
                self.metrics.decided(Resource::Memory, step.decision.verb, reason, Outcome::Nothing);
                if step.read_detail {
                    self.read_detail(key);
                }
                return;
            }
        }
        let outcome = self.act(key, woke, &sample, &plan, &step.decision);

        let Some(entry) = self.registry.get(key) else { return };
        self.metrics.decided(Resource::Memory, step.decision.verb, reason, outcome);
        entry.count_denials(step.decision.verb, reason, outcome);
        let missing = step.decision.want.high.saturating_sub(entry.law.limits().high);
        if step.read_detail {
            self.read_detail(key);
        }
        if grows && !REFUSED.contains(&reason) {
            self.squeeze_ahead(key, missing, step.decision.evidence.rate, sample.at);
        }
    }

    fn read_detail(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key).filter(|entry| !entry.detail_pending) else { return };
        let Some(open) = &entry.open else { return };
        entry.detail_pending = self.lanes.read_detail(key, &open.detail);
        if !entry.detail_pending {
            self.metrics.details_dropped.inc();
        }
    }

    pub(super) fn act(
        &mut self,
        key: Key,
        woke: Instant,
        sample: &Sample,
        plan: &Plan,
        decision: &Decision,
    ) -> Outcome {
        let Some(entry) = self.registry.get(key) else { return Outcome::Nothing };
        if entry.takes_band(plan) {
            return Outcome::Nothing;
        }
        if entry.is_observed() && !matches!(plan, Plan::Nothing { .. }) {
            return self.on_paper(key, sample.current, plan);
        }
        let (verb, from, to, reason, evidence) = match *plan {
            Plan::Write { verb, from, to, reason, evidence, .. } => (verb, from, to, reason, evidence),
            Plan::Reclaim { bytes, .. } => return self.slowly(key, Act::Reclaim(bytes), plan),
            Plan::Nothing { .. } => {
                self.hold(key, sample, plan, decision);
                return Outcome::Nothing;
            }
        };
        entry.held = None;
        let is_end = reason == Reason::ThrashedAtLimit;
        if is_end && entry.adopted.is_some() {
            return Outcome::Nothing;
        }
        let way = actuator::way(verb, reason, from, to);
        if let Way::Slowly(act) = way {
            return self.slowly(key, act, plan);
        }
        if let Some(shrink) = &entry.shrink {
            shrink.cancel();
        }
        let Some(open) = &entry.open else { return Outcome::Nothing };
        let written = match way {
            Way::Narrow => actuator::narrow(open, from, to),
            Way::Raise | Way::Slowly(_) => actuator::raise(open, to).map(|()| true),
        };
        let wrote = clock::now();
        match written {
            Ok(true) => {}
            Ok(false) => {
                undo(plan, &mut self.budget);
                entry.law.shrink_refused(wrote);
                return Outcome::Nothing;
            }
            Err(error) => {
                undo(plan, &mut self.budget);
                if way == Way::Narrow {
                    entry.law.shrink_refused(wrote);
                }
                entry.is_unsure = true;
                let what = What::WriteFailed { to, errno: error.raw_os_error().unwrap_or(libc::EIO) };
                self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
                return Outcome::Failed;
            }
        }
        settle(plan, &mut self.budget);
        entry.has_moved(verb, to, wrote);
        let wake_to_write = wrote.since(woke);
        if way == Way::Raise {
            self.metrics.reaction.observe(wake_to_write.as_secs_f64());
        }
        let wake_to_write_us = u64::try_from(wake_to_write.as_micros()).unwrap_or(u64::MAX);
        let current = sample.current;
        let what = What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us, evidence };
        self.journal.decided(clock::unix_nanoseconds(), &entry.name, &entry.version, what);
        if is_end {
            entry.killed_for = Some(reason);
            self.kill(key);
        } else if verb == Verb::Fail {
            if entry.adopted.is_some() {
                let text = "it is not ended, since others made it: its memory.high stands open until it fits"
                    .to_owned();
                self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
            }
            incidents::tell(&self.lanes, &self.metrics, entry, Kind::Stalled);
        }
        Outcome::Applied
    }

    /// Raises a limit that stands below the floor that a policy has raised, as far as there is room.
    pub(super) fn raise_to_floor(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        let (Some(open), Some(decision)) = (&entry.open, entry.law.to_floor()) else { return };
        // Gone or unreadable: the next look says so.
        let Ok(sample) = open.sample(now.max(entry.sampled)) else { return };
        let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
        let outcome = self.act(key, now, &sample, &plan, &decision);
        self.metrics.decided(Resource::Memory, decision.verb, plan_reason(&plan), outcome);
    }

    /// Hands a plan to the slow lane. One at a time; the law asks again.
    fn slowly(&mut self, key: Key, act: Act, plan: &Plan) -> Outcome {
        let Some(entry) = self.registry.get(key) else { return Outcome::Nothing };
        if actuator::slowly(&self.lanes, entry, act, plan) {
            return Outcome::Applied;
        }
        undo(plan, &mut self.budget);
        entry.law.shrink_refused(clock::now());
        Outcome::Nothing
    }

    /// Takes in what the slow lane has done.
    pub(super) fn shrink_done(&mut self, key: Key, result: Result<Option<Reclaimed>, i32>) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(shrink) = entry.shrink.take() else { return };
        let Some(open) = &entry.open else { return };
        let from = entry.law.limits();
        let now = clock::now();
        if shrink.is_cancelled() {
            // Whatever was written, a grow or a release has come after: its values are the right ones.
            undo(&shrink.plan, &mut self.budget);
            entry.law.shrink_refused(now);
            if self.released {
                self.release_one(key);
            } else if entry.published.is_yielded() {
                // Half done is undone; what the law has decided on paper since is not written.
                if let Plan::Write { from, .. } = shrink.plan {
                    let _ = actuator::raise(open, from);
                }
            } else if entry.is_observed() {
                let _ = actuator::open_up(open, from.max.max(entry.law.released_max()));
            } else if entry.law.is_failed() {
                let _ = actuator::raise(open, Limits { high: from.max, max: from.max });
            } else if entry.law.is_released() {
                let _ = actuator::open_up(open, from.max);
            } else {
                let _ = actuator::raise(open, from);
            }
            return;
        }
        let left = result.ok().flatten().map(|reclaimed| reclaimed.after);
        let plan = left.map_or(shrink.plan, |left| met(shrink.plan, entry.law.law(), left));
        if let Plan::Write { to, .. } = plan
            && plan != shrink.plan
        {
            entry.law.found_warm();
            entry.is_unsure |= actuator::raise(open, to).is_err();
        }
        let what = match (plan, result) {
            (Plan::Write { verb, to, reason, evidence, .. }, Ok(_)) => {
                settle(&plan, &mut self.budget);
                entry.has_moved(verb, to, now);
                if reason == Reason::Rearmed {
                    end_lease(&self.journal, entry);
                }
                let current = entry.law.current();
                What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us: 0, evidence }
            }
            (Plan::Reclaim { bytes, reason, evidence }, Ok(Some(Reclaimed { before, after }))) => {
                if reason == Reason::FrozenReclaimed {
                    entry.drained(&self.lanes, before.saturating_sub(after));
                } else {
                    entry.law.reclaimed(now);
                }
                What::Reclaimed { reason, bytes, before, after, evidence }
            }
            (plan, result) => {
                undo(&plan, &mut self.budget);
                entry.law.shrink_refused(now);
                let lowered = matches!(plan, Plan::Write { reason, .. } if reason != Reason::Rearmed);
                if let (Plan::Write { reason: Reason::Rearmed, .. }, Err(_)) = (plan, result) {
                    // Half done it would hold who is not governed yet, for as long as the budget refuses what it needs by now.
                    let _ = actuator::open_up(open, from.max);
                }
                match result {
                    // The signal was for the shrink that this thread had before: half done is undone.
                    Err(libc::EINTR) if lowered => {
                        let _ = actuator::raise(open, from);
                        return;
                    }
                    Ok(_) | Err(libc::EINTR) => return,
                    Err(errno) => {
                        entry.is_unsure = true;
                        What::WriteFailed { to: from, errno }
                    }
                }
            }
        };
        self.journal.decided(clock::unix_nanoseconds(), &entry.name, &shrink.version, what);
        // Use may have risen meanwhile.
        self.look(key, now);
    }

    /// Tells why nothing was done, once per reason.
    fn hold(&mut self, key: Key, sample: &Sample, plan: &Plan, decision: &Decision) {
        let Some(entry) = self.registry.get(key) else { return };
        let reason = plan_reason(plan);
        let is_refused = decision.verb == Verb::Grow;
        if is_refused && matches!(reason, Reason::BudgetDeferred | Reason::TenantDeferred) {
            self.metrics.deferred.inc();
        } else if is_refused && matches!(reason, Reason::BudgetInfeasible | Reason::TenantInfeasible) {
            self.metrics.infeasible.inc();
        }
        // Between two requests the law does not know at which level the first one was refused: that has been told.
        let worth_telling =
            if reason == Reason::BudgetDeferred { is_refused } else { TELLING.contains(&reason) };
        if worth_telling && entry.held != Some(reason) {
            entry.held = Some(reason);
            let free = Some(self.budget.free_for(entry.law.seat()));
            let evidence = Evidence { free, ..decision.evidence };
            let (limits, current) = (entry.law.limits(), sample.current);
            let what = if entry.is_observed() {
                let (verb, bytes) = (Verb::Hold, Bytes::ZERO);
                What::WouldHave { verb, reason, from: limits, to: limits, bytes, current, evidence }
            } else {
                What::Held { reason, limits, current, evidence }
            };
            self.journal.decided(clock::unix_nanoseconds(), &entry.name, &entry.version, what);
            // A reader that is held is well, a pin is meant to be in the way, and who is observed meets no limit.
            if !matches!(reason, Reason::CacheHeld | Reason::LimitPinned) && !entry.is_observed() {
                let is_ceiling = reason == Reason::CeilingReached;
                let kind = if is_ceiling { Kind::CeilingReached } else { Kind::GrantDenied };
                incidents::tell(&self.lanes, &self.metrics, entry, kind);
            }
        }
    }
}

impl Entry {
    /// Counts what it asks for in vain.
    fn count_denials(&mut self, verb: Verb, reason: Reason, outcome: Outcome) {
        let is_denied = (verb == Verb::Grow && REFUSED.contains(&reason)) || reason == Reason::CeilingReached;
        if is_denied {
            self.denials = self.denials.saturating_add(1);
        } else if verb == Verb::Grow && outcome == Outcome::Applied {
            self.denials = 0;
        }
    }
}

fn plan_reason(plan: &Plan) -> Reason {
    match plan {
        Plan::Write { reason, .. } | Plan::Reclaim { reason, .. } | Plan::Nothing { reason } => *reason,
    }
}
