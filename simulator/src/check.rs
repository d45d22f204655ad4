//! The rules: what holds at every step, whatever goes wrong. They are told what the agent does and what the kernel did, and
//! trust neither; the numbers are those of ARCHITECTURE.md, "Invariants".

use bellows_policies::cpu::CpuDecision;
use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::{Bytes, CpuPlan, CpuWorkload, Cpus, Decision, Limits, Plan, Reason, Verb, Workload};

use crate::agent::{Agent, Entry, is_open};
use crate::faults::MS;
use crate::load::SECOND;
use crate::log::{Log, NODE, What};
use crate::node::{Cgroup, Node, OPEN};
use crate::{replay, sums};

/// `memory.max` stands so far above `memory.high`, at least.
const BAND: Bytes = Bytes::mib(4);
/// A workload that cannot go on is relieved or failed within this time.
const PARKED_MOST: u64 = 5 * SECOND;
/// What somebody else wrote is put back within this time: a comparison each 5 s, a pass each second, two turns.
const PUT_BACK: u64 = 8 * SECOND;
/// A refusal of the budget explains a failure for so long: what was refused is asked for again 20 times a second.
const REFUSED: u64 = SECOND;
/// A quota rests this long: a period, less the jitter that the grid is allowed.
const QUOTA_RESTS: u64 = PERIOD_US * 1000 - 10 * MS;
/// Use in the long run, as a share of the ceiling.
const USE_MOST: f64 = 1.02;

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
    is_failed: bool,
    quota_wrote_at: Option<u64>,
}

impl Seen {
    pub(crate) const fn new(now: u64) -> Self {
        Self {
            refills: 1,
            born: now,
            parked: 0,
            delayed_until: 0,
            tampered_at: None,
            unattended_until: 0,
            refused_at: None,
            is_failed: false,
            quota_wrote_at: None,
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
    let is_asleep = group.memory.asleep_until > now && !group.memory.is_dead;
    let seen = &mut group.seen;
    seen.passed(now - tick_ns, now, is_asleep, tick_ns);
    // The agent does not compare the limits of one that it has failed: there a foreign write stays.
    let is_spoilt = seen.is_failed && seen.tampered_at.is_some();
    if seen.parked > PARKED_MOST && !is_spoilt {
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

/// A stale sample must not lead to anything.
pub(crate) fn stale(node: &mut Node, id: u64, decision: &Decision) {
    if decision.verb != Verb::Hold || decision.reason != Reason::SignalsStale {
        node.log.breaks(node.now, id, format!("acted upon a stale sample: {decision:?}"));
    }
}

/// The same of the cpu.
pub(crate) fn stale_quota(node: &mut Node, id: u64, decision: CpuDecision) {
    if decision.verb != Verb::Hold {
        node.log.breaks(node.now, id, format!("acted upon a stale cpu sample: {decision:?}"));
    }
}

/// A plan of the memory law, before it is carried out.
pub(crate) fn plan(node: &mut Node, id: u64, law: &Workload, current: Bytes, plan: &Plan) {
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
    let room = BAND.max(current.scale(0.1));
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
            (to.max >= to.high.saturating_add(BAND), "max leaves a band above high"),
        ],
        Verb::Shrink => [
            (to.high <= from.high && to.max <= from.max, "a shrink never raises"),
            (to.high >= bounds.floor && to.high >= need.min(from.high), "a shrink leaves floor and need"),
            (
                reason == Reason::CacheTakenBack || to.high >= current.min(from.high),
                "only a take-back of cache goes below use",
            ),
            (
                to.max >= to.high.saturating_add(BAND)
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
        }
    }
}

fn broken_entry(node: &Node, id: u64, entry: &Entry) -> Option<String> {
    let (governed, bounds, law) = (entry.law.limits(), entry.law.bounds(), entry.law.law());
    let Limits { high, max } = governed;
    if high < bounds.floor || high > bounds.ceiling {
        return Some(format!("{high} is granted, outside {bounds}"));
    }
    if max < high.saturating_add(BAND) {
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
    let is_banded = stands.max >= stands.high.saturating_add(BAND);
    if !is_banded && stands.high != OPEN {
        return Some(format!("no band: {stands} stands"));
    }
    None
}

/// A plan of the cpu law, before it is carried out.
pub(crate) fn quota(node: &mut Node, id: u64, law: &CpuWorkload, plan: CpuPlan) {
    let CpuPlan::Write { verb, from, to, reason, .. } = plan else { return };
    let bounds = law.bounds();
    let is_within = bounds.floor <= to && to <= bounds.ceiling;
    let is_directed = match verb {
        Verb::Grow => to > from,
        Verb::Shrink => to < from,
        Verb::Hold | Verb::Reclaim | Verb::Fail => false,
    };
    let rests = node.groups.get(&id).and_then(|group| group.seen.quota_wrote_at);
    let rested = rests.is_none_or(|at| node.now >= at + QUOTA_RESTS);
    for (holds, rule) in [
        (replay::agrees_quota(&plan, law.law()), "a plan comes of its evidence"),
        (is_within, "a quota stays within its bounds"),
        (is_directed || reason == Reason::QuotaPutBack, "a grow raises and a shrink lowers"),
        (rested || reason == Reason::QuotaPutBack, "a quota changes once a period"),
    ] {
        if !holds {
            node.log.breaks(node.now, id, format!("{rule}: {plan:?}"));
        }
    }
}

/// More cpu time may be used than the law knows of: by a write of somebody else, or by counting that began anew.
pub(crate) fn refilled(node: &mut Node, id: u64) {
    if let Some(group) = node.groups.get_mut(&id) {
        group.seen.refills += 1;
    }
}

/// A quota was written by its law.
pub(crate) fn wrote_quota(node: &mut Node, id: u64) {
    if let Some(group) = node.groups.get_mut(&id) {
        group.seen.quota_wrote_at = Some(node.now);
    }
}

/// After a look at a quota: what is governed stands, and use in the long run is that of the ceiling.
pub(crate) fn governed(node: &mut Node, id: u64, law: &CpuWorkload) {
    let Some(group) = node.groups.get(&id) else { return };
    let (quota, bounds, stands) = (law.quota(), law.bounds(), group.cpu.quota_us);
    let seen = &group.seen;
    let lived_us = (node.now - seen.born) / 1000;
    // The gift of the law itself, and a whole refill for each write that was not its own.
    let periods = lived_us as f64 / PERIOD_US as f64 * USE_MOST + 2.0;
    let refill = bounds.ceiling.saturating_add(bounds.floor).quota_us();
    let most = Cpus(bounds.ceiling.quota_us()).scale(periods).0 + seen.refills * refill;
    let used = group.cpu.stat.usage_us;
    let broken = if quota < bounds.floor || quota > bounds.ceiling {
        format!("a quota of {quota} is governed, outside {}..{}", bounds.floor, bounds.ceiling)
    } else if stands != quota.quota_us() && !seen.is_tampered(node.now) && !law.is_released() {
        format!("governed is a quota of {quota}, and {stands} us a period stand")
    } else if used > most {
        format!("{used} us of cpu used in {lived_us} us, more than {most}")
    } else {
        return;
    };
    node.log.breaks(node.now, id, broken);
}

/// Nothing is left behind: told when all workloads have ended.
pub(crate) fn end(agent: &Agent, node: &mut Node) {
    let granted = agent.budget.granted();
    if !agent.entries.is_empty() || !node.groups.is_empty() || !agent.quotas.governed.is_empty() {
        let (left, groups) = (agent.entries.len(), node.groups.len());
        node.log.breaks(node.now, NODE, format!("{left} workloads and {groups} cgroups are left over"));
    } else if granted != Bytes::ZERO {
        node.log.breaks(node.now, NODE, format!("all have ended, and {granted} are still granted"));
    }
}
