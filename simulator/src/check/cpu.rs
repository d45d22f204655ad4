//! The rules of quotas.

use bellows_policies::cpu::CpuDecision;
use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::{CpuPlan, CpuWorkload, Cpus, Reason, Verb};

use crate::faults::MS;
use crate::node::Node;
use crate::replay;

/// A quota rests this long: a period, less the jitter that the grid is allowed.
const QUOTA_RESTS: u64 = PERIOD_US * 1000 - 10 * MS;
/// What does not wait for its turn: what stands open, and what is lent or given back.
const OUT_OF_TURN: [Reason; 3] = [Reason::QuotaPutBack, Reason::CpuSqueezed, Reason::CpuGivenBack];
/// Use in the long run, as a share of the ceiling.
const USE_MOST: f64 = 1.02;

/// A stale sample must not lead to anything.
pub(crate) fn stale_quota(node: &mut Node, id: u64, decision: CpuDecision) {
    if decision.verb != Verb::Hold {
        node.log.breaks(node.now, id, format!("acted upon a stale cpu sample: {decision:?}"));
    }
}

/// A plan of the cpu law, before it is carried out.
pub(crate) fn quota(node: &mut Node, id: u64, law: &CpuWorkload, plan: CpuPlan) {
    if !node.is_checked {
        return;
    }
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
        (rested || OUT_OF_TURN.contains(&reason), "a quota changes once a period"),
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
