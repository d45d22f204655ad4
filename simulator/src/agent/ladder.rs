//! The ladder above slack and cold cache, as in `agent/src/control/{ladder,grips,node}.rs`: who gives way as a whole when nobody
//! has anything left to spare. A freeze, a thaw or a kill is carried out when its answer comes: that the lane does it while
//! the loop hangs is left out.

use bellows_policies::budget::LEAST_PART;
use bellows_policies::ladder::{Candidate, Grip, Ladder, Leases, NODE, NodePressure, PressureLaw};
use bellows_policies::squeeze::Rung;
use bellows_policies::{Base, Bytes, Cpus, Instant, Plan};

use super::lanes::Act;
use super::squeeze::Waiter;
use super::{Agent, Answer, Entry, State};
use crate::check;
use crate::faults::MS;
use crate::host::Setup;
use crate::load::SECOND;
use crate::log::{Ease, Errno, What};
use crate::node::Node;

/// A workload that would not stand still is not asked again before this.
const FREEZE_AGAIN: u64 = 10 * SECOND;
/// A reclaim that found less than this has found nothing.
const WORTH: Bytes = Bytes::MIB;
/// Time between two reads of what is available while all is well.
const READ_EVERY: u64 = SECOND;
/// Slices that a trigger on the subtree's pressure looks back on: 2 s, as [`PressureLaw::WINDOW_MS`].
const WINDOW: u32 = (1 << 20) - 1;

/// The ladder of the control loop.
#[derive(Debug)]
pub(crate) struct Climb {
    pub(crate) ladder: Ladder,
    /// Workloads that lend part of their quota, and that are frozen or about to be.
    pub(crate) held: [u32; 2],
    /// When the frozen are to be looked at.
    pub(super) check_at: u64,
    is_freezing: bool,
    frees_until: u64,
    law: PressureLaw,
    pressure: NodePressure,
    next_read: u64,
    /// In which of the last slices somebody waited for memory.
    stalls: u32,
    pub(crate) seen: check::Climbed,
}

/// What a workload gives way with.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) leases: Leases,
    pub(crate) standing: Standing,
    /// The priority of whoever it is held for.
    by: u32,
    is_drained: bool,
    freeze_again: u64,
    /// Its quota when it was last asked to lend of it.
    pub(super) asked_at: Option<Cpus>,
    is_dying: bool,
    /// Slices in which its leases should have ended, and have not: of quota and of freezing.
    pub(crate) overdue: [u32; 2],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Running,
    Freezing,
    Frozen,
    Thawing,
}

/// What the lane of the harder rungs is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Freeze,
    Thaw,
    Kill,
}

/// What it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Frozen,
    NotFrozen,
    Thawed,
    Killed,
}

impl Entry {
    /// Whether it stands still: what it seems to want is from before.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.way.standing, Standing::Frozen | Standing::Thawing)
    }

    /// So much of its memory has been taken while it was frozen; whether that is to be looked at.
    pub(super) fn drained(&mut self, taken: Bytes) {
        self.law.drained();
        self.way.is_drained |= taken < WORTH;
    }

    fn candidate(&self) -> Candidate {
        Candidate { priority: self.spec.priority, weight: self.spec.weight, held: self.law.current() }
    }
}

impl Climb {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            ladder: Ladder::new(setup.ladder),
            held: [0; 2],
            check_at: 0,
            is_freezing: false,
            frees_until: 0,
            law: setup.pressure,
            pressure: NodePressure::default(),
            next_read: 0,
            stalls: 0,
            seen: check::Climbed::default(),
        }
    }
}

impl Agent {
    /// One slice: looks whether the node is short of anything, and climbs or descends.
    pub(super) fn tend_ladder(&mut self, node: &mut Node) {
        let now = Instant(node.now);
        let missing = self.look_at_node(node);
        if missing > Bytes::ZERO {
            let waiter = Waiter { id: NODE, priority: u32::MAX, tenant: None };
            self.squeeze_round(node, &waiter, true, missing);
        }
        if let Some(who) = self.quotas.who_is_short(node.now) {
            let entry = self.entries.get(&who);
            let priority = if who == NODE { Some(u32::MAX) } else { entry.map(|entry| entry.spec.priority) };
            if let Some(priority) = priority {
                self.climb.seen.pressed = node.now;
                if self.climb.ladder.cpu_short(priority, now) {
                    let waiter = Waiter { id: who, priority, tenant: None };
                    self.slow_down(node, &waiter);
                }
            }
        }
        self.descend(node);
        if node.is_checked && self.climb.held != [0; 2] {
            check::leases(self, node);
        }
    }

    /// What the node lacks of memory.
    fn look_at_node(&mut self, node: &Node) -> Bytes {
        let (climb, now) = (&mut self.climb, Instant(node.now));
        let was_stalled = climb.stalls.count_ones();
        climb.stalls = (climb.stalls << 1 | u32::from(node.stalls())) & WINDOW;
        let needed = f64::from(WINDOW.count_ones()) * climb.law.stalled;
        if f64::from(climb.stalls.count_ones()) >= needed && climb.stalls.count_ones() > was_stalled {
            climb.pressure.stalled(now);
            climb.next_read = node.now;
        }
        if node.now >= climb.next_read {
            climb.pressure.observe(&climb.law, now, node.meminfo());
            climb.next_read = node.now + READ_EVERY;
        }
        let missing = climb.pressure.missing(&climb.law, now).unwrap_or_default();
        if missing > Bytes::ZERO {
            climb.next_read = node.now;
        }
        missing
    }

    /// Nothing milder helps: memory of the frozen, or the next grip. Whether anything was done, or is to come.
    pub(super) fn climb(&mut self, node: &mut Node, waiter: &Waiter, missing: Bytes) -> bool {
        let now = Instant(node.now);
        if let Some(drained) = self.drain(node, waiter, missing) {
            self.climb.ladder.yielded(waiter.id, Rung::Reclaim, drained, now);
            return true;
        }
        if self.climb.is_freezing {
            return true;
        }
        let mut next = self.climb.ladder.unmet(waiter.id, now);
        while let Some(grip) = next {
            let count = match grip {
                Grip::Cpu => self.slow_down(node, waiter),
                Grip::Freeze | Grip::Kill => u32::from(self.hold_one(node, grip, waiter)),
            };
            next = self.climb.ladder.tried(grip, count, now);
            if count > 0 {
                return true;
            }
        }
        node.now < self.climb.frees_until || self.may_free(waiter, node.now)
    }

    /// Whether a grip that frees memory is left, whose time comes. Who waits must not fail meanwhile.
    fn may_free(&self, waiter: &Waiter, now: u64) -> bool {
        let grips = [Grip::Freeze, Grip::Kill];
        let is_left = |(id, entry): (&u64, &Entry)| {
            grips.iter().any(|&grip| self.may_be_held(*id, entry, grip, waiter, now))
        };
        self.entries.iter().any(is_left)
    }

    /// Takes memory of the frozen. `None` when there is none to be had, and none on its way.
    fn drain(&mut self, node: &mut Node, waiter: &Waiter, missing: Bytes) -> Option<Bytes> {
        if self.climb.held[1] == 0 {
            return None;
        }
        let (mut sum, mut is_under_way) = (Bytes::ZERO, false);
        for (&id, entry) in &mut self.entries {
            let is_still = entry.way.standing == Standing::Frozen && !entry.way.is_drained;
            if sum >= missing || !is_still || entry.spec.priority >= waiter.priority {
                continue;
            }
            if entry.shrink.is_some() {
                is_under_way = true;
                continue;
            }
            let Some(decision) = entry.law.drain(missing.saturating_sub(sum), Instant(node.now)) else {
                continue;
            };
            let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
            check::plan(node, id, &entry.law, entry.law.current(), &plan);
            if let Plan::Reclaim { bytes, .. } = plan {
                entry.shrink = Some(self.lanes.hand_over(id, Act::Reclaim(bytes), &plan));
                sum = sum.saturating_add(bytes);
                is_under_way = true;
            } else {
                entry.law.drained();
            }
        }
        is_under_way.then_some(sum)
    }

    /// Whether it may be held by this grip for `waiter` now.
    fn may_be_held(&self, id: u64, entry: &Entry, grip: Grip, waiter: &Waiter, now: u64) -> bool {
        let spec = &entry.spec;
        let is_allowed = spec.yields[grip as usize]
            && grip.may_take(spec.priority, waiter.priority)
            && entry.state == State::Running
            && !entry.way.is_dying
            && waiter.id != id;
        is_allowed
            && match grip {
                // Who stands at its floor has nothing to lend, nor has who was asked and has lent nothing.
                Grip::Cpu => {
                    let is_higher = |quota| entry.way.asked_at.is_none_or(|before| quota < before);
                    let law = (spec.class == Base::Batch).then(|| self.quotas.law(id)).flatten();
                    law.is_some_and(|law| law.quota() > law.bounds().floor && is_higher(law.quota()))
                }
                Grip::Freeze => {
                    let floor = spec.memory.floor.saturating_add(LEAST_PART);
                    let has_more = entry.law.current() > floor;
                    entry.way.standing == Standing::Running && now >= entry.way.freeze_again && has_more
                }
                Grip::Kill => matches!(entry.way.standing, Standing::Running | Standing::Frozen),
            }
    }

    /// Lowers the quotas of the least important, in proportion to their weights. Returns how many.
    fn slow_down(&mut self, node: &mut Node, waiter: &Waiter) -> u32 {
        let now = node.now;
        let may = |id: &u64, entry: &Entry| self.may_be_held(*id, entry, Grip::Cpu, waiter, now);
        let held: Vec<u64> = self.entries.iter().filter(|(id, e)| may(id, e)).map(|(id, _)| *id).collect();
        let ranks = held.iter().map(|id| (self.entries[id].spec.priority, self.entries[id].spec.weight));
        let Some((lowest, lightest)) = ranks.min() else { return 0 };
        let mut count = 0;
        for id in held {
            let quota = self.quotas.law(id).map(bellows_policies::CpuWorkload::quota);
            let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.spec.priority == lowest) else {
                continue;
            };
            let law = *self.climb.ladder.law();
            let share = law.cpu_step * f64::from(lightest) / f64::from(entry.spec.weight.max(1));
            entry.way.asked_at = quota;
            self.climb.held[0] += u32::from(entry.way.leases.of(Grip::Cpu).is_none());
            let order = self.climb.ladder.next_order();
            let _ = entry.way.leases.take(Grip::Cpu, &law, order, Instant(now));
            check::gripped(node, id, &entry.spec, Grip::Cpu, waiter.priority);
            node.log.record(now, id, What::Gripped { grip: Grip::Cpu, waiter: waiter.priority });
            self.quotas.loan(node, id, Some(share));
            count += 1;
        }
        count
    }

    /// Orders the least important one to be frozen, or killed.
    fn hold_one(&mut self, node: &mut Node, grip: Grip, waiter: &Waiter) -> bool {
        let mut first: Option<(Candidate, u64)> = None;
        for (&id, entry) in &self.entries {
            if !self.may_be_held(id, entry, grip, waiter, node.now) {
                continue;
            }
            let candidate = entry.candidate();
            if first.is_none_or(|(best, _)| candidate.goes_before(&best)) {
                first = Some((candidate, id));
            }
        }
        let Some((_, id)) = first else { return false };
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        entry.way.by = waiter.priority;
        let order = if grip == Grip::Freeze {
            entry.way.standing = Standing::Freezing;
            self.climb.held[1] += 1;
            self.climb.is_freezing = true;
            Order::Freeze
        } else {
            entry.way.is_dying = true;
            Order::Kill
        };
        self.answer_in(node, 20 * MS, Answer::Gripped(id, order));
        true
    }

    /// The lane has come to an order: carries it out, and takes in what came of it.
    pub(super) fn gripped(&mut self, node: &mut Node, id: u64, order: Order) {
        self.climb.is_freezing &= order != Order::Freeze;
        let result = carry_out(node, id, order);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (standing, waiter, now) = (entry.way.standing, entry.way.by, node.now);
        match (result, standing) {
            (Ok(Done::Frozen), Standing::Freezing) => {
                check::gripped(node, id, &entry.spec, Grip::Freeze, waiter);
                node.log.record(now, id, What::Gripped { grip: Grip::Freeze, waiter });
                self.lease_frozen(node, id);
            }
            (Ok(Done::Killed), _) => {
                let gap = self.climb.ladder.law().kill_gap_ms * MS;
                self.climb.frees_until = now + gap;
                check::gripped(node, id, &entry.spec, Grip::Kill, waiter);
                check::killed(node, id, &mut self.climb.seen, gap);
                node.log.record(now, id, What::Gripped { grip: Grip::Kill, waiter });
                node.end(id);
            }
            (Ok(Done::NotFrozen), Standing::Freezing) => {
                entry.way.freeze_again = now + FREEZE_AGAIN;
                self.stands_free(id);
            }
            (Ok(Done::Thawed), Standing::Thawing) => self.eased(node, id, Ease::PressureGone),
            (Ok(_), _) => {}
            (Err(errno), _) => {
                node.log.record(now, id, What::GripFailed(errno));
                entry.way.is_dying = false;
                self.climb.check_at = now;
                match standing {
                    Standing::Freezing => self.lease_frozen(node, id),
                    Standing::Thawing => entry.way.standing = Standing::Frozen,
                    Standing::Running | Standing::Frozen => {}
                }
            }
        }
        self.count(node, id);
    }

    /// It stands still, under a lease.
    pub(super) fn lease_frozen(&mut self, node: &Node, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let order = self.climb.ladder.next_order();
        let _ = entry.way.leases.take(Grip::Freeze, self.climb.ladder.law(), order, Instant(node.now));
        entry.way.standing = Standing::Frozen;
        entry.way.is_drained = false;
        entry.law.rest();
        self.budget.withdraw(entry.law.seat());
    }
}

fn carry_out(node: &mut Node, id: u64, order: Order) -> Result<Done, Errno> {
    if order == Order::Freeze && node.chance.one_in(node.faults.slow) {
        node.log.record(node.now, id, What::Fault("would not stand still"));
        return Ok(Done::NotFrozen);
    }
    let done = match order {
        Order::Freeze => node.write_freeze(id, true).map(|()| Done::Frozen),
        Order::Thaw => node.write_freeze(id, false).map(|()| Done::Thawed),
        Order::Kill => node.write_kill(id).map(|()| Done::Killed),
    };
    // It has ended, and the loop hears of that by itself.
    if done == Err(Errno::Gone) { Ok(Done::Thawed) } else { done }
}
