//! The way down the ladder, as in `agent/src/control/leases.rs`: leases end when nobody waits any more, frozen ones before lent
//! quotas, and the last one first.

use bellows_policies::Instant;
use bellows_policies::ladder::{Grip, Lease};

use super::ladder::{Order, Standing};
use super::{Agent, Answer};
use crate::check;
use crate::faults::MS;
use crate::load::SECOND;
use crate::log::{Ease, What};
use crate::node::Node;

/// How often it is looked whether the frozen are still frozen.
const CHECK_EVERY: u64 = 5 * SECOND;
/// Loans that end in one slice.
const EASED: usize = 16;

impl Agent {
    /// Climbs down, as far as nobody waits any more.
    pub(super) fn descend(&mut self, node: &mut Node) {
        if self.climb.held == [0; 2] {
            return;
        }
        if node.now >= self.climb.check_at && self.climb.held[1] > 0 {
            self.climb.check_at = node.now + CHECK_EVERY;
            self.check_frozen(node);
        }
        if let Some(id) = self.last_over(Grip::Freeze, node.now) {
            check::goes_last(self, node, Grip::Freeze, id);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.way.standing = Standing::Thawing;
            }
            self.answer_in(node, 2 * MS, Answer::Gripped(id, Order::Thaw));
        }
        for _ in 0..EASED {
            if self.climb.held[1] > 0 {
                return;
            }
            let Some(id) = self.last_over(Grip::Cpu, node.now) else { return };
            check::goes_last(self, node, Grip::Cpu, id);
            self.quotas.loan(node, id, None);
            self.cpu_eased(node, id);
        }
    }

    /// It has ended: it holds nobody up any more.
    pub(super) fn forget_way(&mut self, id: u64) {
        self.stands_free(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let lent = entry.way.leases.give_back(Grip::Cpu, Instant(0));
        self.climb.held[0] -= u32::from(lent.is_some());
    }

    /// An earlier agent had frozen it. Where it stands still, it is held by the same rules; where it runs, that is told.
    pub(super) fn take_over_frozen(&mut self, node: &mut Node, id: u64) {
        self.climb.held[1] += 1;
        self.lease_frozen(node, id);
        if node.groups.get(&id).is_some_and(|group| !group.is_frozen) {
            self.check_frozen(node);
        }
    }

    /// Whether somebody else has thawed what is held to be frozen.
    fn check_frozen(&mut self, node: &mut Node) {
        let held = self.entries.iter().filter(|(_, entry)| entry.way.standing == Standing::Frozen);
        let held: Vec<u64> = held.map(|(id, _)| *id).collect();
        for id in held {
            // Gone: the look says so.
            let Some(group) = node.groups.get_mut(&id).filter(|group| !group.is_frozen) else { continue };
            // Its note is void.
            group.is_noted = false;
            self.eased(node, id, Ease::Elsewhere);
        }
    }

    /// Of the leases on this grip that are over, the one that was taken last.
    fn last_over(&self, grip: Grip, now: u64) -> Option<u64> {
        let over = self.entries.iter().filter_map(|(id, entry)| {
            let lease: Lease = entry.way.leases.of(grip)?;
            let is_held = grip != Grip::Freeze || entry.way.standing == Standing::Frozen;
            let is_over =
                is_held && self.climb.ladder.is_over(grip, &lease, entry.spec.priority, Instant(now));
            is_over.then_some((lease.order, *id))
        });
        over.max_by_key(|(order, _)| *order).map(|(_, id)| id)
    }

    /// It runs again.
    pub(super) fn eased(&mut self, node: &mut Node, id: u64, why: Ease) {
        let now = Instant(node.now);
        self.stands_free(id);
        self.climb.ladder.thawed(now);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.way.leases.give_back(Grip::Freeze, now).is_some() {
            node.log.record(now.0, id, What::Eased { grip: Grip::Freeze, why });
        }
    }

    fn cpu_eased(&mut self, node: &mut Node, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.way.leases.give_back(Grip::Cpu, Instant(node.now)).is_none() {
            return;
        }
        entry.way.asked_at = None;
        self.climb.held[0] -= 1;
        node.log.record(node.now, id, What::Eased { grip: Grip::Cpu, why: Ease::PressureGone });
    }

    pub(super) fn stands_free(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let was_held = std::mem::take(&mut entry.way.standing) != Standing::Running;
        self.climb.held[1] -= u32::from(was_held);
    }
}
