//! One turn, as in `agent/src/control/turn.rs`: two reads, the law, the guard, two writes.

use bellows_policies::{Bytes, Decision, Instant, Limits, Plan, Reason, Sample, Verb, met, settle, undo};

use super::lanes::{Act, Reclaimed};
use super::{Agent, Answer, State, plus};
use crate::check;
use crate::faults::MS;
use crate::load::SECOND;
use crate::log::{Errno, What};
use crate::node::{Node, OPEN};

/// How a plan is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Raise,
    Narrow,
    Slowly(Act),
}

fn way(verb: Verb, reason: Reason, from: Limits, to: Limits) -> Way {
    if reason == Reason::Rearmed || to.high < from.high {
        Way::Slowly(Act::LowerHigh(to.high))
    } else if verb == Verb::Shrink {
        Way::Narrow
    } else {
        Way::Raise
    }
}

/// Raises both limits, `memory.max` first.
fn raise(node: &mut Node, id: u64, to: Limits) -> Result<(), Errno> {
    node.write_max(id, to.max)?;
    node.write_high(id, to.high)
}

/// Writes what is governed over what a shrink may have written. As in the agent, the answer is not looked at: the next
/// comparison finds out.
fn restore(node: &mut Node, id: u64, to: Limits) {
    if raise(node, id, to).is_err() {
        check::half_done(node, id);
    }
}

/// Lowers `memory.max`; false when use has come near meanwhile, and the limit is as it was.
fn narrow(node: &mut Node, id: u64, from: Limits, to: Limits) -> Result<bool, Errno> {
    node.write_max(id, to.max)?;
    let half = Bytes(to.max.saturating_sub(to.high).0 / 2);
    let current = node.groups.get(&id).ok_or(Errno::Gone)?.current();
    if current.saturating_add(half) <= to.max {
        return Ok(true);
    }
    node.write_max(id, from.max).map(|()| false)
}

impl Agent {
    /// Looks at a workload and acts.
    pub(super) fn look(&mut self, node: &mut Node, id: u64, woke: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.looked == woke || entry.state != State::Running {
            return;
        }
        if let Some(shrink) = entry.shrink.filter(|&number| self.lanes.is_cancelled(number)) {
            // It has not answered: the signal may have come before its thread entered the kernel.
            self.lanes.cancel(shrink, node);
        }
        let at = woke.max(entry.sampled);
        let Some(sample) = node.sample(id, at) else {
            self.ended(node, id);
            return;
        };
        entry.looked = woke;
        if node.chance.one_in(node.faults.overtaken) && entry.sampled > 0 {
            node.log.record(node.now, id, What::Fault("sample overtaken"));
            let old = Sample { at: Instant(entry.sampled.saturating_sub(1)), ..sample };
            let step = bellows_policies::step(&mut entry.law, &old);
            check::stale(node, id, &step.decision);
        }
        entry.sampled = at;
        let step = bellows_policies::step(&mut entry.law, &sample);
        if entry.is_frozen() && matches!(step.decision.verb, Verb::Grow | Verb::Fail) {
            // From before it stood still: it needs nothing now, and will say so again when it does.
            entry.law.rest();
            return self.count(node, id);
        }
        let plan = bellows_policies::plan(&entry.law, step.decision, &mut self.budget);
        check::plan(node, id, &entry.law, sample.current, &plan);
        let what =
            What::Looked { verb: step.decision.verb, reason: step.decision.reason, current: sample.current };
        node.log.record(node.now, id, what);
        self.act(node, id, &sample, &plan, &step.decision);

        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.due = step.look_again.map(|after| plus(at, after));
        let missing = step.decision.want.high.saturating_sub(entry.law.limits().high);
        if step.read_detail && !entry.detail_pending {
            entry.detail_pending = true;
            self.ask_detail(node, id);
        }
        if step.decision.verb == Verb::Grow
            && let Plan::Write { reason, .. } | Plan::Nothing { reason } = plan
        {
            self.squeeze_for(node, id, reason, missing);
        }
        self.count(node, id);
    }

    fn act(&mut self, node: &mut Node, id: u64, sample: &Sample, plan: &Plan, decision: &Decision) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (verb, from, to, reason) = match *plan {
            Plan::Write { verb, from, to, reason, .. } => (verb, from, to, reason),
            Plan::Reclaim { bytes, .. } => return self.slowly(node, id, Act::Reclaim(bytes), plan),
            Plan::Nothing { reason } => {
                if decision.verb == Verb::Grow {
                    check::refused(node, id);
                    // A tripwire is put back whole or not at all: a part would lie below use.
                    if decision.reason != Reason::Rearmed {
                        crate::sums::guarantee(self, node, id);
                    }
                    node.log.record(node.now, id, What::Refused(reason));
                }
                return;
            }
        };
        if verb == Verb::Grow && to.high < decision.want.high.page_floor() {
            check::refused(node, id);
        }
        let way = way(verb, reason, from, to);
        if let Way::Slowly(act) = way {
            return self.slowly(node, id, act, plan);
        }
        if let Some(shrink) = entry.shrink {
            self.lanes.cancel(shrink, node);
        }
        if node.chance.one_in(node.faults.preempted) {
            node.log.record(node.now, id, What::Fault("preempted"));
            let pause = node.chance.below(5 * MS);
            node.pass(pause);
        }
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let written = match way {
            Way::Narrow => narrow(node, id, from, to),
            Way::Raise | Way::Slowly(_) => raise(node, id, to).map(|()| true),
        };
        let now = node.now;
        match written {
            Ok(true) => {}
            Ok(false) => {
                undo(plan, &mut self.budget);
                entry.law.shrink_refused(Instant(now));
                return;
            }
            Err(errno) => {
                undo(plan, &mut self.budget);
                if way == Way::Narrow {
                    entry.law.shrink_refused(Instant(now));
                }
                entry.is_unsure = true;
                node.log.record(now, id, What::WriteFailed(errno));
                check::unwritten(node, id, verb);
                return;
            }
        }
        check::fail(node, id, entry, verb);
        if to.high > from.high {
            check::helped(node, id);
        }
        settle(plan, &mut self.budget);
        entry.law.commit(to, Instant(now));
        entry.is_unsure = false;
        node.log.record(now, id, What::Wrote { verb, reason, from, to, current: sample.current });
    }

    /// Hands a plan to the slow lane. One at a time; the law asks again.
    fn slowly(&mut self, node: &mut Node, id: u64, act: Act, plan: &Plan) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.shrink.is_some() {
            undo(plan, &mut self.budget);
            entry.law.shrink_refused(Instant(node.now));
            return;
        }
        if let Plan::Write { verb, reason, to, .. } = *plan {
            node.log.record(node.now, id, What::Handed { verb, reason, to });
        }
        entry.shrink = Some(self.lanes.hand_over(id, act, plan));
    }

    /// Takes in what the slow lane has done.
    pub(super) fn shrink_done(
        &mut self,
        node: &mut Node,
        id: u64,
        number: u64,
        result: Result<Option<Reclaimed>, Errno>,
    ) {
        let Some(job) = self.lanes.take(number) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.shrink = None;
        let (from, now) = (entry.law.limits(), Instant(node.now));
        if job.is_cancelled {
            // Whatever was written, a grow or a release has come after: its values are the right ones.
            node.log.record(now.0, id, What::Cancelled);
            undo(&job.plan, &mut self.budget);
            entry.law.shrink_refused(now);
            let to = if entry.law.is_failed() {
                Limits { high: from.max, max: from.max }
            } else if entry.law.is_released() {
                Limits { high: OPEN, max: from.max }
            } else {
                from
            };
            restore(node, id, to);
            return self.count(node, id);
        }
        let left = result.ok().flatten().map(|reclaimed| reclaimed.after);
        let plan = left.map_or(job.plan, |left| met(job.plan, entry.law.law(), left));
        if let Plan::Write { to, .. } = plan
            && plan != job.plan
        {
            entry.law.found_warm();
            restore(node, id, to);
        }
        match (plan, result) {
            (Plan::Write { verb, to, reason, .. }, Ok(_)) => {
                settle(&plan, &mut self.budget);
                let current = entry.law.current();
                entry.law.commit(to, now);
                entry.is_unsure = false;
                if let (Reason::Rearmed, Some(group)) = (reason, node.groups.get_mut(&id)) {
                    group.lease = None;
                }
                node.log.record(now.0, id, What::Wrote { verb, reason, from, to, current });
            }
            (Plan::Reclaim { reason, .. }, Ok(Some(Reclaimed { before, after }))) => {
                if reason == Reason::FrozenReclaimed {
                    entry.drained(before.saturating_sub(after));
                    // What it needs in memory has changed, and nothing that it does will tell.
                    if !std::mem::replace(&mut entry.detail_pending, true) {
                        self.ask_detail(node, id);
                    }
                } else {
                    entry.law.reclaimed(now);
                }
                node.log.record(now.0, id, What::Reclaimed { before, after });
            }
            (plan, result) => {
                undo(&plan, &mut self.budget);
                entry.law.shrink_refused(now);
                let lowered = matches!(plan, Plan::Write { reason, .. } if reason != Reason::Rearmed);
                if let (Plan::Write { reason: Reason::Rearmed, .. }, Err(_)) = (plan, result) {
                    // Half done it would hold who is not governed yet, for as long as the budget refuses what it needs by now.
                    restore(node, id, Limits { high: OPEN, max: from.max });
                }
                match result {
                    // The signal was for the shrink that this thread had before: half done is undone.
                    Err(Errno::Interrupted) if lowered => {
                        restore(node, id, from);
                        return self.count(node, id);
                    }
                    Ok(_) | Err(Errno::Interrupted) => return self.count(node, id),
                    Err(errno) => {
                        entry.is_unsure = true;
                        node.log.record(now.0, id, What::WriteFailed(errno));
                        check::tampered(node, id);
                    }
                }
            }
        }
        self.count(node, id);
        // Use may have risen meanwhile.
        self.look(node, id, node.now);
    }

    pub(super) fn ask_detail(&mut self, node: &mut Node, id: u64) {
        let mut detail = node.detail(id);
        let mut most = 3 * MS;
        if node.chance.one_in(node.faults.detail_lost) {
            node.log.record(node.now, id, What::Fault("detail lost"));
            detail = None;
            check::delay(node, id, SECOND / 2);
        }
        if node.chance.one_in(node.faults.detail_late) {
            node.log.record(node.now, id, What::Fault("detail late"));
            most = 2 * SECOND;
            check::delay(node, id, most + SECOND / 2);
        }
        self.answer_in(node, most, Answer::Detail(id, detail));
    }

    pub(super) fn detail_read(&mut self, node: &mut Node, id: u64, detail: Option<bellows_policies::Detail>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.detail_pending = false;
        let Some(detail) = detail else { return self.count(node, id) };
        entry.law.observe(&detail);
        node.log.record(node.now, id, What::DetailRead);
        self.count(node, id);
        // The verdict may allow what the last look had to wait for.
        self.look(node, id, node.now);
    }
}
