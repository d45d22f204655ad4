//! The ladder above slack and cold cache: who gives way as a whole when nobody has anything left to spare.
//!
//! ```text
//! refused, and slack and cache gave nothing   squeeze
//!   -> memory of whoever is frozen            Workload::drain -> memory.reclaim, slow lane
//!   -> ladder.unmet: is it time, for what?    policies::ladder
//!   -> cpu: part of batch's quotas            an order to the cpu loop, which owns them
//!      freeze, kill: the least important one  grips, a thread of its own; the answer is a command
//! each slice of the slow pass
//!   -> is the node short, are the cpus?       node; the same ladder, on the node's behalf
//!   -> leases that are over                   leases
//! ```

use std::sync::Arc;
use std::time::Duration;

use bellows_policies::budget::LEAST_PART;
use bellows_policies::ladder::{Candidate, Grip, GripEvidence, Ladder, LadderLaw, Lease, Leases};
use bellows_policies::squeeze::{Round, Rung};
use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Base, Cpus, Plan};

use super::actuator;
use super::control_loop::Control;
use super::grips::{Act, Done, GripLane};
use super::incidents::Seen;
use super::lanes::Lanes;
use super::registry::Entry;
use super::shrinker;
use super::squeeze::{AT_ONCE, Waiter};
use crate::journal::{Ease, Kind, What};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::frozen::Note;
use crate::workload::lifecycle::State;

/// A workload that would not stand still is not asked again before this.
const FREEZE_AGAIN: Duration = Duration::from_secs(10);
/// A reclaim that found less than this has found nothing.
const WORTH: Bytes = Bytes::MIB;

/// The ladder of the control loop.
#[derive(Debug)]
pub(super) struct Climb {
    pub(super) ladder: Ladder,
    /// Used again by each round of a squeeze.
    pub(super) round: Round,
    /// Shrinks of this turn that are settled, and not written yet.
    pub(super) giving: Vec<(Key, Plan)>,
    pub(super) lane: GripLane,
    /// Workloads that lend part of their quota, and that are frozen or about to be.
    pub(super) held: [u32; 2],
    /// When the frozen are to be looked at.
    pub(super) check_at: Instant,
    /// A freeze is under way: what comes of it is waited for.
    is_freezing: bool,
    /// Until then what a kill frees is on its way.
    frees_until: Instant,
}

/// What a workload gives way with.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) leases: Leases,
    pub(super) standing: Standing,
    /// For whom it was frozen, or is to be killed, and by what.
    pub(super) by: Option<(Arc<str>, GripEvidence)>,
    /// Nothing more was found in it since it was frozen.
    is_drained: bool,
    /// Not to be frozen before this.
    freeze_again: Instant,
    /// Its quota when it was last asked to lend of it.
    pub(super) asked_at: Option<Cpus>,
    /// An order to kill it is under way, or has been carried out.
    is_dying: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    Running,
    Freezing,
    Frozen,
    /// An order to thaw is under way, for this reason.
    Thawing(Ease),
}

impl Entry {
    /// Whether it runs, and is not about to be stopped: by the ladder, or by an operator.
    pub(super) fn is_moving(&self) -> bool {
        matches!(self.way.standing, Standing::Running) && self.pausing.is_none()
    }

    /// Whether it stands still: what it seems to want is from before.
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self.way.standing, Standing::Frozen | Standing::Thawing(_))
    }

    /// So much of its memory has been taken while it was frozen.
    pub(super) fn drained(&mut self, lanes: &Lanes, taken: Bytes) {
        self.law.drained();
        self.way.is_drained |= taken < WORTH;
        // What it needs in memory has changed, and nothing that it does will tell.
        if !self.detail_pending
            && let Some(open) = &self.open
        {
            self.detail_pending = lanes.read_detail(self.key, &open.detail);
        }
    }

    pub(super) fn publish_way(&self) {
        self.published.held(self.way.leases.of(Grip::Cpu).is_some(), self.is_frozen());
    }

    fn candidate(&self) -> Candidate {
        Candidate { priority: self.priority(), weight: self.weight(), held: self.law.current() }
    }

    /// Whether it may be held by this grip for `waiter` now.
    fn may_be_held(&self, grip: Grip, waiter: &Waiter, now: Instant) -> bool {
        let allowed = self.class.rungs.iter().any(|rung| rung == grip.as_str());
        let is_free = match grip {
            // Who stands at its floor has nothing to lend, nor has who was asked and has lent nothing.
            Grip::Cpu => {
                let bounds = self.identity().cpu.zip(self.published.view().quota);
                self.class.base == Base::Batch
                    && self.pin.is_none_or(|pin| !pin.cpu)
                    && bounds.is_some_and(|(bounds, quota)| {
                        quota > bounds.floor && self.way.asked_at.is_none_or(|before| quota < before)
                    })
            }
            // Nor is there anything to be had of whoever stands at its floor.
            Grip::Freeze => {
                let has_more = self.law.current() > self.identity().memory.floor.saturating_add(LEAST_PART);
                self.way.standing == Standing::Running && now >= self.way.freeze_again && has_more
            }
            Grip::Kill => matches!(self.way.standing, Standing::Running | Standing::Frozen),
        };
        allowed
            && is_free
            && !self.way.is_dying
            && !self.is_observed()
            // Whoever made it decides on it as a whole.
            && self.adopted.is_none()
            && self.state == State::Running
            && waiter.key != Some(self.key)
            && grip.may_take(self.priority(), waiter.priority)
    }
}

impl Climb {
    pub(super) fn new(law: LadderLaw, lane: GripLane) -> Self {
        Self {
            ladder: Ladder::new(law),
            round: Round::default(),
            giving: Vec::with_capacity(AT_ONCE),
            lane,
            held: [0; 2],
            check_at: Instant(0),
            is_freezing: false,
            frees_until: Instant(0),
        }
    }
}

impl Control {
    /// Nothing milder helps: memory of the frozen, or the next grip. Whether anything was done, or is to come.
    pub(super) fn climb(&mut self, waiter: &Waiter, missing: Bytes, now: Instant) -> bool {
        if let Some(drained) = self.drain(waiter, missing, now) {
            self.climb.ladder.yielded(waiter.on_ladder().who, Rung::Reclaim, drained, now);
            return true;
        }
        if self.climb.is_freezing {
            return true;
        }
        let mut next = self.climb.ladder.unmet(waiter.on_ladder().who, now);
        while let Some(grip) = next {
            let count = match grip {
                Grip::Cpu => self.slow_down(waiter, missing, now),
                Grip::Freeze | Grip::Kill => u32::from(self.hold_one(grip, waiter, missing, now)),
            };
            next = self.climb.ladder.tried(grip, count, now);
            if count > 0 {
                return true;
            }
        }
        now < self.climb.frees_until || self.may_free(waiter, now)
    }

    /// Whether a grip that frees memory is left, whose time comes. Who waits must not fail meanwhile.
    fn may_free(&mut self, waiter: &Waiter, now: Instant) -> bool {
        let grips = [Grip::Freeze, Grip::Kill];
        self.registry.iter_mut().any(|entry| grips.iter().any(|&grip| entry.may_be_held(grip, waiter, now)))
    }

    /// Takes memory of the frozen. `None` when there is none to be had, and none on its way.
    fn drain(&mut self, waiter: &Waiter, missing: Bytes, now: Instant) -> Option<Bytes> {
        if self.climb.held[1] == 0 || !self.can_reclaim {
            return None;
        }
        let (mut sum, mut is_under_way) = (Bytes::ZERO, false);
        for entry in self.registry.iter_mut() {
            let is_still = entry.way.standing == Standing::Frozen && !entry.way.is_drained;
            if sum >= missing || !is_still || entry.priority() >= waiter.priority {
                continue;
            }
            if entry.shrink.is_some() {
                is_under_way = true;
                continue;
            }
            let Some(decision) = entry.law.drain(missing.saturating_sub(sum), now) else { continue };
            let plan = bellows_policies::plan(&entry.law, decision, &mut self.budget);
            match plan {
                Plan::Reclaim { bytes, .. }
                    if actuator::slowly(&self.lanes, entry, shrinker::Act::Reclaim(bytes), &plan) =>
                {
                    self.metrics.squeezes.gave(Rung::Reclaim, bytes);
                    sum = sum.saturating_add(bytes);
                    is_under_way = true;
                }
                Plan::Reclaim { .. } | Plan::Write { .. } | Plan::Nothing { .. } => entry.law.drained(),
            }
        }
        is_under_way.then_some(sum)
    }

    /// Lowers the quotas of the least important, in proportion to their weights. Returns how many.
    pub(super) fn slow_down(&mut self, waiter: &Waiter, missing: Bytes, now: Instant) -> u32 {
        let may = |entry: &&mut Entry| entry.may_be_held(Grip::Cpu, waiter, now);
        let ranks = self.registry.iter_mut().filter(may).map(|entry| (entry.priority(), entry.weight()));
        let Some((lowest, lightest)) = ranks.min() else { return 0 };
        let name = self.name_of(waiter);
        let (climb, mut count) = (&mut self.climb, 0);
        for entry in self.registry.iter_mut().filter(may).filter(|entry| entry.priority() == lowest) {
            let share = climb.ladder.law().cpu_step * f64::from(lightest) / f64::from(entry.weight().max(1));
            if !self.cpu.squeeze(entry.key, share) {
                continue;
            }
            entry.way.asked_at = entry.published.view().quota;
            let evidence = climb.ladder.evidence(waiter.on_ladder(), &entry.candidate(), missing, now);
            climb.held[0] += u32::from(entry.way.leases.of(Grip::Cpu).is_none());
            let order = climb.ladder.next_order();
            let lease = entry.way.leases.take(Grip::Cpu, climb.ladder.law(), order, now);
            entry.publish_way();
            self.metrics.squeezes.acted(Grip::Cpu);
            let waiter = Arc::clone(&name);
            let what = What::Squeezed { grip: Grip::Cpu, waiter, hold_ms: lease.hold_ms, evidence };
            self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
            count += 1;
        }
        count
    }

    /// Orders the least important one to be frozen, or killed. What comes of it is told by [`Self::gripped`].
    fn hold_one(&mut self, grip: Grip, waiter: &Waiter, missing: Bytes, now: Instant) -> bool {
        let mut first: Option<(Candidate, Key)> = None;
        for entry in self.registry.iter_mut().filter(|entry| entry.may_be_held(grip, waiter, now)) {
            let candidate = entry.candidate();
            if first.is_none_or(|(best, _)| candidate.goes_before(&best)) {
                first = Some((candidate, entry.key));
            }
        }
        let Some((candidate, key)) = first else { return false };
        let name = self.name_of(waiter);
        let evidence = self.climb.ladder.evidence(waiter.on_ladder(), &candidate, missing, now);
        let Some(entry) = self.registry.get(key) else { return false };
        let Some(open) = &entry.open else { return false };
        let is_freeze = grip == Grip::Freeze;
        let act = if is_freeze {
            Act::Freeze(Note { waiter: Arc::clone(&name), unix_ns: clock::unix_nanoseconds() })
        } else {
            Act::Kill(Box::new(Seen::new(entry, Kind::Sacrificed)))
        };
        if !self.climb.lane.order(key, &open.running, act) {
            return false;
        }
        entry.way.by = Some((name, evidence));
        if is_freeze {
            entry.way.standing = Standing::Freezing;
            self.climb.held[1] += 1;
            self.climb.is_freezing = true;
        } else {
            entry.way.is_dying = true;
        }
        true
    }

    /// Takes in what the lane has done.
    pub(super) fn gripped(&mut self, key: Key, result: Result<Done, String>) {
        let now = clock::now();
        self.climb.is_freezing = false;
        let Some(entry) = self.registry.get(key) else { return };
        let standing = entry.way.standing;
        match (result, standing) {
            (Ok(Done::Frozen), Standing::Freezing) => {
                let lease = self.lease_frozen(key, now);
                self.tell_squeezed(key, Grip::Freeze, lease.hold_ms);
            }
            (Ok(Done::Killed), _) => {
                self.climb.frees_until = now.plus(Duration::from_millis(self.climb.ladder.law().kill_gap_ms));
                self.tell_squeezed(key, Grip::Kill, 0);
            }
            (Ok(Done::NotFrozen), Standing::Freezing) => {
                entry.way.freeze_again = now.plus(FREEZE_AGAIN);
                let text = "it was to be frozen, and would not stand still: it runs on".to_owned();
                self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
                self.stands_free(key);
            }
            (Ok(Done::Thawed), Standing::Thawing(why)) => self.eased(key, why, now),
            // Overtaken by an order to thaw, which is under way.
            (Ok(Done::Frozen | Done::NotFrozen | Done::Thawed), _) => {}
            (Err(text), _) => {
                self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
                entry.way.is_dying = false;
                // The lane has tried to thaw it. How it stands is looked at, and until then it counts as frozen.
                self.climb.check_at = now;
                match standing {
                    Standing::Freezing => {
                        let _ = self.lease_frozen(key, now);
                    }
                    Standing::Thawing(_) => entry.way.standing = Standing::Frozen,
                    Standing::Running | Standing::Frozen => {}
                }
            }
        }
    }

    /// It stands still, under a lease.
    pub(super) fn lease_frozen(&mut self, key: Key, now: Instant) -> Lease {
        let order = self.climb.ladder.next_order();
        let Some(entry) = self.registry.get(key) else { return Lease::default() };
        let lease = entry.way.leases.take(Grip::Freeze, self.climb.ladder.law(), order, now);
        entry.way.standing = Standing::Frozen;
        entry.way.is_drained = false;
        entry.law.rest();
        entry.publish_way();
        self.budget.withdraw(entry.law.seat());
        lease
    }

    fn tell_squeezed(&mut self, key: Key, grip: Grip, hold_ms: u64) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some((waiter, evidence)) = entry.way.by.take() else { return };
        entry.publish_way();
        self.metrics.squeezes.acted(grip);
        let what = What::Squeezed { grip, waiter, hold_ms, evidence };
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
    }

    fn name_of(&mut self, waiter: &Waiter) -> Arc<str> {
        let entry = waiter.key.and_then(|key| self.registry.get(key));
        entry.map_or_else(|| Arc::clone(&self.node), |entry| Arc::clone(&entry.name))
    }
}
