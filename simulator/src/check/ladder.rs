//! The rules of the ladder: who is held, and for how long.

use bellows_policies::Instant;
use bellows_policies::ladder::Grip;

use crate::agent::{Agent, Standing};
use crate::cgroup::{Cgroup, Spec};
use crate::faults::MS;
use crate::log::Log;
use crate::node::Node;

/// Slices of the slow pass, ten a second, by which a lease may be late: somebody looks each 5 s whether the frozen still are,
/// and a write that fails is tried again.
const LATE: u32 = 150;

/// What is remembered of the ladder for the rules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Climbed {
    /// Somebody was refused, or short of cpu: for whoever that was, a lease may be kept.
    pub(crate) pressed: u64,
    /// Somebody was frozen.
    stood: u64,
    killed: Option<u64>,
}

/// A workload is held.
pub(crate) fn gripped(node: &mut Node, id: u64, victim: &Spec, grip: Grip, waiter: u32) {
    let name = grip.as_str();
    if !victim.yields[grip as usize] {
        node.log.breaks(node.now, id, format!("held by {name}, which its class does not allow"));
    }
    if victim.priority >= waiter {
        let own = victim.priority;
        node.log.breaks(node.now, id, format!("held by {name} at priority {own} for one of {waiter}"));
    }
}

/// A workload is killed by the ladder: what the kill before it freed had time to be seen.
pub(crate) fn killed(node: &mut Node, id: u64, seen: &mut Climbed, gap: u64) {
    // An order is carried out up to 20 ms after it was given.
    if let Some(before) = seen.killed.replace(node.now)
        && node.now + 20 * MS < before + gap
    {
        let apart = (node.now - before) / MS;
        node.log.breaks(node.now, id, format!("killed {apart} ms after another one"));
    }
}

/// A lease ends: it is the one that was taken last of those that may end, and lent quotas come after the frozen.
pub(crate) fn goes_last(agent: &Agent, node: &mut Node, grip: Grip, id: u64) {
    if !node.is_checked {
        return;
    }
    let now = Instant(node.now);
    let lease = |entry: &crate::agent::Entry, grip| entry.way.leases.of(grip);
    let Some(own) = agent.entries.get(&id).and_then(|entry| lease(entry, grip)) else { return };
    let may_end = |entry: &crate::agent::Entry| {
        lease(entry, grip).is_some_and(|other| {
            let is_over = agent.climb.ladder.is_over(grip, &other, entry.spec.priority, now);
            other.order > own.order && is_over && entry.way.standing != Standing::Thawing
        })
    };
    if agent.entries.values().any(may_end) {
        node.log.breaks(node.now, id, format!("{} ends before a later lease", grip.as_str()));
    }
    let is_frozen = |entry: &crate::agent::Entry| lease(entry, Grip::Freeze).is_some();
    if grip == Grip::Cpu && agent.entries.values().any(is_frozen) {
        node.log.breaks(node.now, id, "a quota is given back while somebody is frozen".to_owned());
    }
}

/// One slice of the ladder: a lease ends, once nobody has been refused anything for its hold.
pub(crate) fn leases(agent: &mut Agent, node: &mut Node) {
    let now = node.now;
    let Climbed { pressed, stood, .. } = agent.climb.seen;
    let gap = agent.climb.ladder.law().thaw_gap_ms;
    let mut frozen = 0;
    for (&id, entry) in &mut agent.entries {
        for (index, grip) in [Grip::Cpu, Grip::Freeze].into_iter().enumerate() {
            let lease = entry.way.leases.of(grip);
            frozen += u32::from(grip == Grip::Freeze && lease.is_some());
            // Lent quotas wait for the frozen.
            let last = if grip == Grip::Cpu { pressed.max(stood) } else { pressed };
            let is_due = lease.is_some_and(|lease| now > last.max(lease.since.0) + lease.hold_ms * MS);
            let overdue = &mut entry.way.overdue[index];
            *overdue = if is_due { *overdue + 1 } else { 0 };
            // Those that were frozen after it go before it.
            let others =
                u32::try_from(gap / 100 + 10).unwrap_or(u32::MAX).saturating_mul(agent.climb.held[1]);
            if *overdue > LATE.saturating_add(others) {
                let text = format!("still held by {}, though nobody waits", grip.as_str());
                node.log.breaks(now, id, text);
            }
        }
    }
    if frozen > 0 {
        agent.climb.seen.stood = now;
    }
}

/// One tick: whoever is frozen stands still.
pub(crate) fn stands_still(log: &mut Log, now: u64, id: u64, group: &mut Cgroup) {
    if !group.is_frozen || !group.runs() {
        group.seen.still = None;
        return;
    }
    let used = (group.memory.stat.anon.0, group.cpu.stat.usage_us);
    let (memory, cpu) = *group.seen.still.get_or_insert(used);
    if used.0 > memory || used.1 > cpu {
        log.breaks(
            now,
            id,
            format!("it is frozen, and uses more than {memory} bytes and {cpu} us: {used:?}"),
        );
    }
}
