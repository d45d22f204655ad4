//! One turn: a look at one workload, from the counters to the write.
//!
//! ```text
//! two reads -> Sample -> policies::step -> Decision -> policies::plan -> Plan -> two writes -> record
//! ```
//! The cost is known: one wake-up, two reads, and for a grow two writes; no allocation. A look that hands work to another
//! lane adds one futex call, after the writes.

use bellows_policies::units::Instant;
use bellows_policies::{Decision, Plan, Reason, Sample, Verb};

use super::actuator;
use super::control_loop::Control;
use super::registry::Entry;
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::Outcome;
use crate::workload::lifecycle::State;

impl Control {
    /// Looks at a workload and acts. `woke` is when the loop woke up: reaction time is counted from there.
    pub(super) fn look(&mut self, key: Key, woke: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        // The other way of hearing told of the same thing in the same wake-up; or it is being cleared away.
        if entry.looked == woke || entry.state != State::Running {
            return;
        }
        let Some(open) = &entry.open else { return };
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
        entry.sampled = at;
        entry.published.sample(&sample);

        let step = bellows_policies::step(&mut entry.law, &sample);
        let plan = bellows_policies::plan(&entry.law, step.decision, &mut self.budget);
        let outcome = self.act(key, woke, &sample, &plan, step.decision);

        let Some(entry) = self.registry.get(key) else { return };
        self.metrics.decided(step.decision.verb, plan_reason(&plan), outcome);
        entry.due = step.look_again.map(|after| sample.at.plus(after));
        if let Some(due) = entry.due {
            self.timers.push(due, key);
        }
        if step.read_detail && !entry.detail_pending {
            let Some(open) = &entry.open else { return };
            entry.detail_pending = self.lanes.read_detail(key, &open.detail);
            if !entry.detail_pending {
                self.metrics.details_dropped.inc();
            }
        }
    }

    fn act(&mut self, key: Key, woke: Instant, sample: &Sample, plan: &Plan, decision: Decision) -> Outcome {
        let Some(entry) = self.registry.get(key) else { return Outcome::Nothing };
        let Plan::Write { verb, from, to, reason, clamped: _ } = *plan else {
            Self::hold(&mut self.journal, &self.metrics, entry, sample, plan, decision);
            return Outcome::Nothing;
        };
        entry.held = None;
        match verb {
            Verb::Hold => Outcome::Nothing,
            // To put a tripwire back lowers it from `max`, whatever it is for the law.
            Verb::Shrink | Verb::Grow if verb == Verb::Shrink || reason == Reason::Rearmed => {
                // One at a time; the law asks again.
                if entry.shrink.is_none() && actuator::lower(&self.lanes, entry, *plan) {
                    return Outcome::Applied;
                }
                bellows_policies::undo(plan, &mut self.budget);
                Outcome::Nothing
            }
            Verb::Shrink | Verb::Grow | Verb::Fail => {
                if let Some(shrink) = &entry.shrink {
                    self.lanes.cancel(shrink);
                }
                let Some(open) = &entry.open else { return Outcome::Nothing };
                let result = actuator::raise(open, to);
                let wrote = clock::now();
                if let Err(error) = result {
                    bellows_policies::undo(plan, &mut self.budget);
                    entry.is_unsure = true;
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    self.journal.record(
                        clock::unix_nanoseconds(),
                        &entry.name,
                        What::WriteFailed { to, errno },
                    );
                    return Outcome::Failed;
                }
                bellows_policies::settle(plan, &mut self.budget);
                entry.law.commit(to, wrote);
                entry.is_unsure = false;
                let wake_to_write = wrote.since(woke);
                self.metrics.reaction.observe(wake_to_write.as_secs_f64());
                entry.published.limits(to);
                entry.published.moved();
                let wake_to_write_us = u64::try_from(wake_to_write.as_micros()).unwrap_or(u64::MAX);
                let current = sample.current;
                let what = What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us };
                self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
                Outcome::Applied
            }
        }
    }

    /// Tells why nothing was done, once per reason.
    fn hold(
        journal: &mut crate::journal::Writer,
        metrics: &crate::metrics::Metrics,
        entry: &mut Entry,
        sample: &Sample,
        plan: &Plan,
        decision: Decision,
    ) {
        let reason = plan_reason(plan);
        match (decision.verb, reason) {
            (Verb::Grow, Reason::BudgetDeferred) => metrics.deferred.inc(),
            (Verb::Grow, Reason::BudgetInfeasible) => metrics.infeasible.inc(),
            _ => {}
        }
        let worth_telling = matches!(
            reason,
            Reason::BudgetDeferred | Reason::BudgetInfeasible | Reason::CeilingReached | Reason::CacheHeld
        );
        if worth_telling && entry.held != Some(reason) {
            entry.held = Some(reason);
            let what = What::Held { reason, limits: entry.law.limits(), current: sample.current };
            journal.record(clock::unix_nanoseconds(), &entry.name, what);
        }
    }
}

fn plan_reason(plan: &Plan) -> Reason {
    match plan {
        Plan::Write { reason, .. } | Plan::Nothing { reason } => *reason,
    }
}
