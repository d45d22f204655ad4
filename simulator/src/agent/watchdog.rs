//! The watchdog, as in `agent/src/watchdog.rs`: opens the limits of an agent that is dead or hung, and notes what they were.

use bellows_policies::Cpus;
use bellows_policies::cpu::units::PERIOD_US;

use super::is_open;
use crate::faults::MS;
use crate::log::What;
use crate::node::{Node, OPEN};

/// Silence that means a hung agent, nanoseconds.
pub(crate) const PATIENCE: u64 = 1800 * MS;

/// Opens every workload to its failsafe; only ever up. The watchdog's writes do not fail here: it tries again and again.
pub(crate) fn open_limits(node: &mut Node) {
    let now = node.now;
    let ids: Vec<u64> = node.groups.keys().copied().collect();
    for id in ids {
        node.stir(id);
    }
    for (&id, group) in node.groups.iter_mut().filter(|(_, group)| group.runs()) {
        let limits = &mut group.memory.limits;
        if !is_open(*limits) {
            group.lease = Some((limits.high, Cpus::from_quota(group.cpu.quota_us, PERIOD_US)));
        }
        // Its note stays: the next agent finds by it that somebody has thawed it.
        (group.is_frozen, group.lends_of) = (false, None);
        if limits.high == OPEN && limits.max >= group.failsafe {
            continue;
        }
        limits.max = limits.max.max(group.failsafe);
        limits.high = OPEN;
        if let Some(bounds) = group.spec.cpu
            && group.cpu.quota_us != bounds.ceiling.quota_us()
        {
            group.cpu.write(bounds.ceiling);
            group.seen.refills += 1;
        }
        node.log.record(now, id, What::Opened);
        group.seen.opened(now);
    }
}
