//! The way down the ladder: leases end when nobody waits any more, when limits are opened, or with the workload. Frozen ones
//! before lent quotas, and the last one first.

use std::time::Duration;

use bellows_policies::ladder::{Grip, GripEvidence, Lease};
use bellows_policies::units::Instant;

use super::control_loop::Control;
use super::grips::Act;
use super::ladder::Standing;
use super::registry::Entry;
use crate::journal::{Ease, What};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::frozen::{self, Note};

/// How often it is looked whether the frozen are still frozen.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Loans that end in one slice: each is looked for among all workloads.
const EASED: usize = 16;

impl Control {
    /// Climbs down, as far as nobody waits any more.
    pub(super) fn descend(&mut self, now: Instant) {
        if self.climb.held == [0; 2] {
            return;
        }
        if now >= self.climb.check_at && self.climb.held[1] > 0 {
            self.climb.check_at = now.plus(CHECK_EVERY);
            self.check_frozen(now);
        }
        if let Some(key) = self.last_over(Grip::Freeze, now) {
            self.thaw(key, Ease::PressureGone);
        }
        for _ in 0..EASED {
            if self.climb.held[1] > 0 {
                return;
            }
            let Some(key) = self.last_over(Grip::Cpu, now).filter(|key| self.cpu.give_back(*key)) else {
                return;
            };
            self.cpu_eased(key, Ease::PressureGone, now);
        }
    }

    /// Thaws a workload, if it is frozen or about to be.
    pub(super) fn thaw(&mut self, key: Key, why: Ease) {
        let Some(entry) = self.registry.get(key) else { return };
        if !matches!(entry.way.standing, Standing::Freezing | Standing::Frozen) {
            return;
        }
        let Some(open) = &entry.open else { return };
        if self.climb.lane.order(key, &open.running, Act::Thaw) {
            entry.way.standing = Standing::Thawing(why);
        }
    }

    /// Its limits are opened: it is thawed at once, whatever is under way, and lends nothing.
    pub(super) fn end_leases(&mut self, key: Key) {
        let now = clock::now();
        let Some(entry) = self.registry.get(key) else { return };
        let is_held = entry.way.standing != Standing::Running;
        if is_held && let Some(open) = &entry.open {
            if let Err(error) = frozen::thaw(open.cgroup()) {
                let text = error.to_string();
                self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
            }
            self.eased(key, Ease::Released, now);
        }
        self.cpu_eased(key, Ease::Released, now);
    }

    /// It has ended: it holds nobody up any more.
    pub(super) fn forget_way(&mut self, key: Key) {
        self.stands_free(key);
        let Some(entry) = self.registry.get(key) else { return };
        let lent = entry.way.leases.give_back(Grip::Cpu, Instant(0));
        self.climb.held[0] -= u32::from(lent.is_some());
    }

    /// An earlier agent had frozen it. Where it stands still, it is held by the same rules; where it runs, that is told.
    pub(super) fn take_over_frozen(&mut self, key: Key, note: Note) {
        let now = clock::now();
        let Some(entry) = self.registry.get(key) else { return };
        let Some(open) = &entry.open else { return };
        let is_frozen = frozen::is_frozen(open.cgroup()).unwrap_or(false);
        entry.way.by = Some((note.waiter, GripEvidence::default()));
        self.climb.held[1] += 1;
        let _ = self.lease_frozen(key, now);
        if !is_frozen {
            self.check_frozen(now);
        }
    }

    /// Whether somebody else has thawed what is held to be frozen.
    fn check_frozen(&mut self, now: Instant) {
        let still = |entry: &mut Entry| {
            let open = entry.open.as_ref().filter(|_| entry.way.standing == Standing::Frozen)?;
            // Gone or unreadable: the look says so.
            let is_thawed = !frozen::is_frozen(open.cgroup()).ok()?;
            // Its note is void.
            if is_thawed {
                let _ = frozen::thaw(open.cgroup());
            }
            is_thawed.then_some(entry.key)
        };
        loop {
            let Some(key) = self.registry.iter_mut().find_map(still) else { return };
            self.eased(key, Ease::Elsewhere, now);
        }
    }

    /// Of the leases on this grip that are over, the one that was taken last.
    fn last_over(&mut self, grip: Grip, now: Instant) -> Option<Key> {
        let ladder = &self.climb.ladder;
        let over = self.registry.iter_mut().filter_map(|entry| {
            let lease: Lease = entry.way.leases.of(grip)?;
            let is_held = grip != Grip::Freeze || entry.way.standing == Standing::Frozen;
            let is_over = is_held && ladder.is_over(grip, &lease, entry.priority(), now);
            is_over.then_some((lease.order, entry.key))
        });
        over.max_by_key(|(order, _)| *order).map(|(_, key)| key)
    }

    /// It runs again.
    pub(super) fn eased(&mut self, key: Key, why: Ease, now: Instant) {
        self.stands_free(key);
        self.climb.ladder.thawed(now);
        let Some(entry) = self.registry.get(key) else { return };
        let Some(lease) = entry.way.leases.give_back(Grip::Freeze, now) else { return };
        entry.publish_way();
        let what = What::Eased { grip: Grip::Freeze, why, held_ms: held_ms(&lease, now) };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
    }

    fn cpu_eased(&mut self, key: Key, why: Ease, now: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(lease) = entry.way.leases.give_back(Grip::Cpu, now) else { return };
        entry.way.asked_at = None;
        entry.publish_way();
        self.climb.held[0] -= 1;
        let what = What::Eased { grip: Grip::Cpu, why, held_ms: held_ms(&lease, now) };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
    }

    pub(super) fn stands_free(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        let before = std::mem::take(&mut entry.way.standing);
        let was_held = matches!(before, Standing::Freezing | Standing::Frozen | Standing::Thawing(_));
        self.climb.held[1] -= u32::from(was_held);
    }

    /// Publishes how many are held.
    pub(super) fn publish_leases(&self) {
        self.metrics.squeezes.leases(self.climb.held);
    }
}

fn held_ms(lease: &Lease, now: Instant) -> u64 {
    u64::try_from(now.since(lease.since).as_millis()).unwrap_or(u64::MAX)
}
