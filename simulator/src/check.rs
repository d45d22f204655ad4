//! The rules: what holds at every step, whatever goes wrong. They are told what the agent does and what the kernel did, and
//! trust neither; the numbers are those of ARCHITECTURE.md, "Invariants".

mod cpu;
mod ladder;

use bellows_policies::{Bytes, Decision, Law, Limits, Plan, Reason, Verb, Workload};

use crate::agent::{Agent, Entry, is_open};
use crate::cgroup::Cgroup;
use crate::faults::MS;
use crate::load::SECOND;
use crate::log::{Log, NODE, What};
use crate::node::{Node, OPEN};
use crate::{replay, sums};

pub(crate) use cpu::{governed, quota, refilled, stale_quota, wrote_quota};
use ladder::stands_still;
pub(crate) use ladder::{Climbed, goes_last, gripped, killed, leases};

/// A workload that cannot go on is relieved or failed within this time.
const PARKED_MOST: u64 = 5 * SECOND;
/// Growth by so much is progress: then that time begins anew. A part that is less, or that others give, is none.
const PROGRESS: Bytes = Bytes::mib(16);
/// But nobody creeps like that for ever.
const HELPED_MOST: u64 = 60 * SECOND;
/// What somebody else wrote is put back within this time: a comparison each 5 s, a pass each second, two turns.
const PUT_BACK: u64 = 8 * SECOND;
/// A refusal of the budget explains a failure for so long: what was refused is asked for again 20 times a second.
const REFUSED: u64 = SECOND;

/// What is remembered of one cgroup for the rules.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Refills that the law does not know of: each may give quota and burst once more.
    pub(crate) refills: u64,
    born: u64,
    /// Time asleep at the limit, less five times the time awake, nanoseconds: asleep for five in six of the time is parked.
    parked: u64,
    /// Until then an answer is late, by a fault, and time parked does not count.
    delayed_until: u64,
    tampered_at: Option<u64>,
    /// Until then the agent is away, and the watchdog has not opened the limits yet.
    unattended_until: u64,
    refused_at: Option<u64>,
    /// How long it had been parked when it was given something last that let it make progress, and its use then.
    helped: u64,
    helped_at: Bytes,
    /// How long it may be parked without that: a law that is a little off may take its time.
    parked_most: u64,
    is_failed: bool,
    quota_wrote_at: Option<u64>,
    /// Memory and cpu time used when it was frozen.
    still: Option<(u64, u64)>,
}

impl Seen {
    pub(crate) fn new(now: u64, law: &Law) -> Self {
        Self {
            refills: 1,
            born: now,
            parked: 0,
            delayed_until: 0,
            tampered_at: None,
            unattended_until: 0,
            refused_at: None,
            helped: 0,
            helped_at: Bytes::ZERO,
            parked_most: if *law == Law::default() { PARKED_MOST } else { 2 * PARKED_MOST },
            is_failed: false,
            quota_wrote_at: None,
            still: None,
        }
    }

    /// Somebody other than the agent wrote its limits.
    pub(crate) fn opened(&mut self, now: u64) {
        self.tampered_at = Some(now);
    }

    /// Suspended time is no time.
    pub(crate) fn sleep(&mut self, ns: u64) {
        self.born += ns;
        self.delayed_until += ns;
        self.unattended_until += ns;
        self.tampered_at = self.tampered_at.map(|at| at + ns);
        self.refused_at = self.refused_at.map(|at| at + ns);
    }

    /// Takes in ticks, all of them asleep or none.
    pub(crate) fn passed(&mut self, from: u64, to: u64, is_asleep: bool, tick_ns: u64) {
        if is_asleep {
            let delayed = (self.delayed_until.div_ceil(tick_ns) * tick_ns).saturating_sub(tick_ns);
            self.parked += to.saturating_sub(from.max(delayed));
        } else {
            self.parked = self.parked.saturating_sub(5 * (to - from));
        }
    }

    /// Lately, not counting the time in which nobody could ask again.
    fn was_refused(&self, now: u64) -> bool {
        self.refused_at.is_some_and(|at| now < at.max(self.unattended_until) + REFUSED)
    }

    fn is_tampered(&self, now: u64) -> bool {
        self.tampered_at.is_some_and(|at| now < at + PUT_BACK)
    }
}

/// One tick of a cgroup: is it parked?
pub(crate) fn tick(log: &mut Log, now: u64, id: u64, group: &mut Cgroup, tick_ns: u64) {
    stands_still(log, now, id, group);
    let is_asleep = group.memory.asleep_until > now && !group.memory.is_dead;
    let seen = &mut group.seen;
    seen.passed(now - tick_ns, now, is_asleep, tick_ns);
    seen.helped = seen.helped.min(seen.parked);
    let is_forgotten = seen.parked - seen.helped > seen.parked_most || seen.parked > HELPED_MOST;
    if is_forgotten {
        let (parked, limits) = (seen.parked / MS, group.memory.limits);
        log.breaks(now, id, format!("parked for {parked} ms, neither relieved nor failed, at {limits}"));
    }
}

/// The kernel killed: was there another way?
pub(crate) fn kill(log: &mut Log, now: u64, id: u64, group: &Cgroup) {
    let (seen, limits, ceiling) = (&group.seen, group.memory.limits, group.spec.memory.ceiling);
    // `memory.current` is gone with the dead.
    log.record(now, id, What::Killed { current: Bytes::ZERO, limits });
    let is_refused = seen.was_refused(now);
    // Throttling holds a single thread for 1.5 s within the least band, and the watchdog waits for 1.8 s.
    let is_left_alone = now < seen.unattended_until;
    let is_explained =
        limits.max >= ceiling || seen.is_failed || is_refused || is_left_alone || seen.is_tampered(now);
    if !is_explained {
        let free = "with nothing refused, nothing failed and room below its ceiling";
        log.breaks(now, id, format!("killed at {limits}, {free} of {ceiling}"));
    }
}

/// An answer is late by so much, for this workload.
pub(crate) fn delay(node: &mut Node, id: u64, ns: u64) {
    let now = node.now;
    if let Some(group) = node.caught_up(id) {
        group.seen.delayed_until = group.seen.delayed_until.max(now + ns);
    }
}

/// The agent is away for so long.
pub(crate) fn unattended(node: &mut Node, ns: u64) {
    let now = node.now;
    let ids: Vec<u64> = node.groups.keys().copied().collect();
    for id in ids {
        delay(node, id, ns);
        if let Some(group) = node.groups.get_mut(&id) {
            group.seen.unattended_until = now + ns;
        }
    }
}

/// What stands in the kernel is not what the agent has written.
pub(crate) fn tampered(node: &mut Node, id: u64) {
    if let Some(group) = node.groups.get_mut(&id) {
        group.seen.opened(node.now);
    }
}

/// A plan could not be written. An end that was decided when there was no room is decided still: who is failed asks no more.
pub(crate) fn unwritten(node: &mut Node, id: u64, verb: Verb) {
    tampered(node, id);
    let now = node.now;
    if let Some(group) = node.groups.get_mut(&id)
        && verb == Verb::Fail
        && group.seen.was_refused(now)
    {
        group.seen.refused_at = Some(now);
    }
}

/// What may have been lowered by halves is put back by the next comparison only.
pub(crate) fn half_done(node: &mut Node, id: u64) {
    tampered(node, id);
    delay(node, id, PUT_BACK);
}

/// A grow was refused by the budget, or cut short.
pub(crate) fn refused(node: &mut Node, id: u64) {
    if let Some(group) = node.groups.get_mut(&id) {
        group.seen.refused_at = Some(node.now);
    }
}

/// It was given something: did it make use of what it was given before?
pub(crate) fn helped(node: &mut Node, id: u64) {
    let Some(group) = node.caught_up(id) else { return };
    let current = group.current();
    let seen = &mut group.seen;
    if seen.helped >= seen.parked || current >= seen.helped_at.saturating_add(PROGRESS) {
        (seen.helped, seen.helped_at) = (seen.parked, current);
    }
}

/// Others give for one whose tripwire is about to be put back: no clock runs for it yet, and it may wait as long as it creeps.
pub(crate) fn untimed(node: &mut Node, id: u64) {
    if let Some(group) = node.caught_up(id) {
        group.seen.helped = group.seen.parked;
    }
}

/// A stale sample must not lead to anything.
pub(crate) fn stale(node: &mut Node, id: u64, decision: &Decision) {
    if decision.verb != Verb::Hold || decision.reason != Reason::SignalsStale {
        node.log.breaks(node.now, id, format!("acted upon a stale sample: {decision:?}"));
    }
}

/// A plan of the memory law, before it is carried out.
pub(crate) fn plan(node: &mut Node, id: u64, law: &Workload, current: Bytes, plan: &Plan) {
    if !node.is_checked {
        return;
    }
    let rule = match *plan {
        Plan::Nothing { .. } => None,
        Plan::Write { .. } | Plan::Reclaim { .. } if !replay::agrees(plan, law.law()) => {
            Some("a plan comes of its evidence")
        }
        Plan::Reclaim { bytes, .. } => {
            let above = current.saturating_sub(law.bounds().floor);
            (bytes == Bytes::ZERO || bytes > above).then_some("a reclaim takes from what is above the floor")
        }
        Plan::Write { clamped: true, .. } => Some("the law stays within its bounds by itself"),
        Plan::Write { verb, from, to, reason, .. } => broken_write(law, current, verb, reason, from, to),
    };
    if let Some(rule) = rule {
        node.log.breaks(node.now, id, format!("{rule}: {plan:?} at a use of {current}"));
    }
}

fn broken_write(
    law: &Workload,
    current: Bytes,
    verb: Verb,
    reason: Reason,
    from: Limits,
    to: Limits,
) -> Option<&'static str> {
    let bounds = law.bounds();
    let jump = current.saturating_add(current).saturating_add(law.law().jump_slack);
    let need = law.detail().map_or(Bytes::ZERO, |detail| detail.stat.need());
    let (band, law_room) = (law.law().band_min, current.scale(law.law().max_share));
    let room = band.max(law_room);
    let rules = match verb {
        Verb::Fail => [
            (to.high == from.max && to.max == from.max, "a failure moves the tripwire to memory.max"),
            (from == law.limits(), "a plan begins at what is governed"),
            (true, ""),
            (true, ""),
        ],
        Verb::Grow => [
            (to.high >= from.high && to.max >= from.max, "a grow never lowers"),
            (to.high <= bounds.ceiling, "high is at most the ceiling"),
            (to.max <= jump.max(from.max), "no grow jumps beyond twice the use"),
            (to.max >= to.high.saturating_add(band), "max leaves a band above high"),
        ],
        Verb::Shrink => [
            (to.high <= from.high && to.max <= from.max, "a shrink never raises"),
            (to.high >= bounds.floor && to.high >= need.min(from.high), "a shrink leaves floor and need"),
            (
                matches!(reason, Reason::CacheTakenBack | Reason::CacheSqueezed)
                    || to.high >= current.min(from.high),
                "only what takes back cache goes below use",
            ),
            (
                to.max >= to.high.saturating_add(band)
                    && to.max >= current.saturating_add(room).min(from.max),
                "max leaves a band above high, and room above use",
            ),
        ],
        Verb::Hold | Verb::Reclaim => [(false, "a hold writes nothing"), (true, ""), (true, ""), (true, "")],
    };
    rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
}

/// A failure that is about to be committed needs a limit that cannot be raised.
pub(crate) fn fail(node: &mut Node, id: u64, entry: &Entry, verb: Verb) {
    if verb != Verb::Fail {
        return;
    }
    let Some(group) = node.groups.get_mut(&id) else { return };
    let is_at_ceiling = entry.law.limits().high.0 + 4096 > entry.law.bounds().ceiling.0;
    let is_refused = group.seen.was_refused(node.now);
    group.seen.is_failed = true;
    if !is_at_ceiling && !is_refused {
        let limits = entry.law.limits();
        node.log.breaks(node.now, id, format!("failed below its ceiling, with nothing refused, at {limits}"));
    }
}

/// Everything that the agent holds, after each event that it handled.
pub(crate) fn agent(agent: &mut Agent, node: &mut Node, id: u64) {
    let now = node.now;
    sums::add_up(agent, node, id);
    for (&id, entry) in &agent.entries {
        if let Some(rule) = broken_entry(node, id, entry) {
            node.log.breaks(now, id, rule);
        }
    }
    if let (Some(entry), Some(group)) = (agent.entries.get(&id), node.groups.get_mut(&id)) {
        group.seen.is_failed &= entry.law.is_failed();
        // Nothing is compared while a shrink is under way, nor before the law governs again, which waits for the budget.
        if group.seen.is_tampered(now) && !entry.is_settled() {
            group.seen.opened(now);
            group.seen.delayed_until = group.seen.delayed_until.max(now + PUT_BACK);
        }
    }
}

fn broken_entry(node: &Node, id: u64, entry: &Entry) -> Option<String> {
    let (governed, bounds, law) = (entry.law.limits(), entry.law.bounds(), entry.law.law());
    let Limits { high, max } = governed;
    if high < bounds.floor || high > bounds.ceiling {
        return Some(format!("{high} is granted, outside {bounds}"));
    }
    if max < high.saturating_add(law.band_min) {
        return Some(format!("no band: {governed}"));
    }
    let group = node.groups.get(&id)?;
    let was_tampered = group.seen.tampered_at.is_some();
    let threads = group.spec.threads.max(law.launch_threads);
    let most = bounds.ceiling.saturating_add(law.band(bounds.ceiling, threads, 0));
    if max > most && !was_tampered {
        return Some(format!("max {max} is more than the ceiling and its band, {most}"));
    }
    let stands = group.memory.limits;
    if !group.runs() || group.seen.is_tampered(node.now) || entry.law.is_failed() {
        return None;
    }
    if entry.is_settled()
        && (stands.high != high || (stands.max != max && !(was_tampered && stands.max > max)))
    {
        return Some(format!("governed is {governed}, and {stands} stands"));
    }
    if !is_open(stands) && (stands.high < bounds.floor || stands.high > bounds.ceiling) {
        return Some(format!("{stands} stands, outside {bounds}"));
    }
    let is_banded = stands.max >= stands.high.saturating_add(law.band_min);
    if !is_banded && stands.high != OPEN {
        return Some(format!("no band: {stands} stands"));
    }
    None
}

/// Nothing is left behind: told when all workloads have ended.
pub(crate) fn end(agent: &Agent, node: &mut Node) {
    let granted = agent.budget.granted();
    if !agent.entries.is_empty() || !node.groups.is_empty() || !agent.quotas.governed.is_empty() {
        let (left, groups) = (agent.entries.len(), node.groups.len());
        node.log.breaks(node.now, NODE, format!("{left} workloads and {groups} cgroups are left over"));
    } else if agent.climb.held != [0; 2] {
        node.log.breaks(node.now, NODE, format!("all have ended, and {:?} are still held", agent.climb.held));
    } else if granted != Bytes::ZERO {
        node.log.breaks(node.now, NODE, format!("all have ended, and {granted} are still granted"));
    }
}
