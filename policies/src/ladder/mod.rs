//! The ladder above the two milder rungs of a squeeze: what is done to others when they have nothing left to spare.
//!
//! Problem: somebody who matters waits, and slack and cold cache of all others are gone. Approach: a hold on the least
//! important, one kind after the other, each only when the one before it was tried and had time to help ([`Grip`]). A hold
//! is a *lease* ([`Leases`]): it ends by itself when nobody waits any more, the last one first, and whoever has to be held
//! again soon is held longer, so that a pressure which only goes away by the hold is no cycle.
//!
//! ```text
//! refused ---> milder rungs give ---> yielded          nothing is climbed while they do
//!         \--> they do not       ---> unmet ---> Grip ---> tried ---> the next Grip, if there was nobody to hold
//! each 100 ms ---> is_over(lease) ---> given back
//! ```
//!
//! One waiter is climbed for at a time, the most important; others wait until it asks no more. Holds serve it only from those of
//! lower priority, and only for want of room in the node: a tenant at its cap is its own affair.
//!
//! Properties: no grip without the milder ones before it in the same spell; none while a milder rung gives; a kill only after a
//! kill's own gap; a lease is kept as long as anybody waits for whom it could have been taken, and never longer than its hold
//! after that. A state of fixed size; nothing is allocated.

mod lease;
mod pressure;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::lease::{Lease, Leases};
pub use self::pressure::{NodeMemory, NodePressure, Pressed, PressureLaw};
use crate::field::Kind::{Millis, Ratio};
use crate::field::Pairs;
use crate::memory::ms;
use crate::squeeze::Rung;
use crate::units::{Bytes, Instant};

/// The waiter that stands for the node itself, and its priority: whoever may be held at all, may be held for it.
pub const NODE: u64 = u64::MAX;

crate::field::constants! {
    /// The constants of the ladder. Times are milliseconds. Those of the hold are resctl-demo's sideloader's.
    LadderLaw {
        /// How long a rung has to help before the next one is tried, ms: longer than a workload rests after a raise
        /// (`memory.squeeze_gap_ms`), so that who can give more is asked again first; shorter than the stall clock's 2 s.
        climb_ms: u64 = 1100, Millis(1);
        /// After so long without being refused, a waiter begins at the lowest rung again, ms.
        forget_ms: u64 = 1000, Millis(1);
        /// The share of its quota above the floor that one step takes of a workload of the least weight; of a heavier one as
        /// much less as it is heavier.
        cpu_step: f64 = 0.5, Ratio(1.0);
        /// The least time between two kills, ms: what the first one freed has to be seen.
        kill_gap_ms: u64 = 5000, Millis(1);
        /// How long a lease lasts at least, and for how long nobody must have waited when it ends, ms.
        hold_ms: u64 = 10_000, Millis(1);
        /// The longest hold, ms.
        hold_most_ms: u64 = 300_000, Millis(1);
        /// A lease so soon after the last one of the same workload has twice its hold, ms; a later one begins anew.
        relapse_ms: u64 = 60_000, Millis(1);
        /// The least time between two thaws, ms: the one before may bring the pressure back.
        thaw_gap_ms: u64 = 2000, Millis(0);
    }
}

impl LadderLaw {
    /// Pairs of constants of which the first may not be more than the second.
    pub const PAIRS: &Pairs = &[("hold_ms", "hold_most_ms")];
}

/// What is done to a workload as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grip {
    /// `cpu.max` is lowered towards its floor: it slows down, and what it takes of memory with it.
    Cpu,
    /// `cgroup.freeze`: it stands still, and what it holds can be reclaimed without coming back.
    Freeze,
    /// `cgroup.kill`: it ends.
    Kill,
}

/// What a spell has brought so far: evidence of the next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Gave {
    /// By slack, bytes.
    pub slack: Bytes,
    /// By cold cache, and by memory of the frozen, bytes.
    pub reclaim: Bytes,
    /// Workloads whose quota was lowered.
    pub cpu: u32,
    /// Workloads that were frozen.
    pub frozen: u32,
    /// Workloads that were killed.
    pub killed: u32,
}

/// What a grip was decided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GripEvidence {
    /// The priority of whoever waits; `u32::MAX` is the node's.
    pub waiter: u32,
    /// That of whoever is held.
    pub victim: u32,
    /// Its weight.
    pub weight: u32,
    /// Its memory.
    pub current: Bytes,
    /// What the waiter misses.
    pub missing: Bytes,
    /// For how long it has been refused, ms.
    pub waited_ms: u64,
    /// For how long no rung has given anything, ms.
    pub idle_ms: u64,
    /// How long a rung has to help, ms: what that is held to.
    pub climb_ms: u64,
    /// What earlier rungs gave.
    pub gave: Gave,
}

/// Somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who: any number that is its own, or [`NODE`].
    pub who: u64,
    /// How important.
    pub priority: u32,
}

/// Someone who may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How important.
    pub priority: u32,
    /// The more, the later its turn comes.
    pub weight: u32,
    /// What it holds, bytes.
    pub held: Bytes,
}

/// The time of one waiter on the ladder.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spell {
    waiter: Waiter,
    since: Instant,
    /// Refused last.
    last: Instant,
    /// A rung gave something last, or the spell began.
    given: Instant,
    gave: Gave,
}

/// The ladder's state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ladder {
    law: LadderLaw,
    spell: Option<Spell>,
    memory: Pressed,
    cpu: Pressed,
    /// Since when the cpus are short without a break, and when that led to a step last.
    cpu_since: Option<Instant>,
    cpu_stepped: Option<Instant>,
    killed: Option<Instant>,
    thawed: Option<Instant>,
    order: u64,
}

impl Grip {
    /// All, the milder one first.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Freeze, Self::Kill];

    /// As a policy spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Freeze => "freeze",
            Self::Kill => "kill",
        }
    }

    /// Whether a workload of priority `victim` may be held for one of priority `waiter`.
    #[must_use]
    pub const fn may_take(self, victim: u32, waiter: u32) -> bool {
        victim < waiter
    }

    const fn harder(self) -> Option<Self> {
        match self {
            Self::Cpu => Some(Self::Freeze),
            Self::Freeze => Some(Self::Kill),
            Self::Kill => None,
        }
    }
}

impl Candidate {
    /// Whether its turn comes before that of `other`: the lower priority, and of equals who holds more for its weight.
    #[must_use]
    pub fn goes_before(&self, other: &Self) -> bool {
        let share = |one: &Self| one.held.0 as f64 / f64::from(one.weight.max(1));
        self.priority < other.priority || (self.priority == other.priority && share(self) > share(other))
    }
}

impl Ladder {
    /// Nobody waits, and nobody is held.
    #[must_use]
    pub const fn new(law: LadderLaw) -> Self {
        Self {
            law,
            spell: None,
            memory: Pressed::NONE,
            cpu: Pressed::NONE,
            cpu_since: None,
            cpu_stepped: None,
            killed: None,
            thawed: None,
            order: 0,
        }
    }

    /// The constants.
    #[must_use]
    pub const fn law(&self) -> &LadderLaw {
        &self.law
    }

    /// Takes in other constants.
    pub const fn govern(&mut self, law: LadderLaw) {
        self.law = law;
    }

    /// A waiter was refused; leases of those below it are kept.
    pub fn refused(&mut self, waiter: Waiter, now: Instant) {
        self.memory.note(waiter.priority, now);
        let forget = ms(self.law.forget_ms);
        match &mut self.spell {
            Some(spell) if spell.waiter.who == waiter.who && now.since(spell.last) < forget => {
                spell.last = now;
            }
            Some(spell) if now.since(spell.last) < forget && spell.waiter.priority >= waiter.priority => {}
            spell => {
                *spell = Some(Spell { waiter, since: now, last: now, given: now, gave: Gave::default() });
            }
        }
    }

    /// A milder rung gave `bytes` for `who`, or they are on their way.
    pub fn yielded(&mut self, who: u64, rung: Rung, bytes: Bytes, now: Instant) {
        let Some(spell) = self.spell.as_mut().filter(|spell| spell.waiter.who == who) else { return };
        spell.given = now;
        let sum = match rung {
            Rung::Slack => &mut spell.gave.slack,
            Rung::Reclaim => &mut spell.gave.reclaim,
        };
        *sum = sum.saturating_add(bytes);
    }

    /// No milder rung gives anything for `who`, who was just refused: the grip to be tried now, if it is time for one. That is the
    /// mildest each time, since somebody may have come meanwhile whom it can be tried on; but of quotas one step in a spell: they
    /// free no memory, and who waits for it is throttled.
    #[must_use]
    pub fn unmet(&self, who: u64, now: Instant) -> Option<Grip> {
        let spell = self.spell.filter(|spell| spell.waiter.who == who)?;
        let first = if spell.gave.cpu > 0 { Grip::Freeze } else { Grip::Cpu };
        (now.since(spell.given) >= ms(self.law.climb_ms)).then_some(first)
    }

    /// A grip was tried on `count` workloads. With nobody to be held, it is the next one's turn at once.
    pub fn tried(&mut self, grip: Grip, count: u32, now: Instant) -> Option<Grip> {
        if count == 0 {
            return grip.harder().filter(|next| *next != Grip::Kill || self.may_kill(now));
        }
        let spell = self.spell.as_mut()?;
        spell.given = now;
        let sum = match grip {
            Grip::Cpu => &mut spell.gave.cpu,
            Grip::Freeze => &mut spell.gave.frozen,
            Grip::Kill => &mut spell.gave.killed,
        };
        *sum = sum.saturating_add(count);
        if grip == Grip::Kill {
            self.killed = Some(now);
        }
        None
    }

    /// The cpus are short on behalf of whoever has this priority; true when it is time for a step of [`Grip::Cpu`].
    pub fn cpu_short(&mut self, priority: u32, now: Instant) -> bool {
        let climb = ms(self.law.climb_ms);
        let is_new = self.cpu.last().is_none_or(|last| now.since(last) >= ms(self.law.forget_ms));
        self.cpu.note(priority, now);
        if is_new {
            self.cpu_since = Some(now);
        }
        let is_due = [self.cpu_since, self.cpu_stepped].iter().flatten().all(|at| now.since(*at) >= climb);
        if is_due {
            self.cpu_stepped = Some(now);
        }
        is_due
    }

    /// What is known of a grip on `victim` for `waiter`.
    #[must_use]
    pub fn evidence(&self, waiter: Waiter, victim: &Candidate, missing: Bytes, now: Instant) -> GripEvidence {
        let age = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let short_ms = self.cpu_since.map_or(0, age);
        let known = GripEvidence {
            waiter: waiter.priority,
            waited_ms: short_ms,
            idle_ms: short_ms,
            victim: victim.priority,
            weight: victim.weight,
            current: victim.held,
            missing,
            climb_ms: self.law.climb_ms,
            ..GripEvidence::default()
        };
        self.spell.filter(|spell| spell.waiter.who == waiter.who).map_or(known, |spell| GripEvidence {
            waited_ms: age(spell.since),
            idle_ms: age(spell.given),
            gave: spell.gave,
            ..known
        })
    }

    /// A place in the order of leases.
    pub const fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Whether a lease on a workload of priority `victim` may end now, as far as time tells. Of several, the last one taken
    /// goes first, and a milder grip after the harder ones: that is for whoever asks to keep.
    #[must_use]
    pub fn is_over(&self, grip: Grip, lease: &Lease, victim: u32, now: Instant) -> bool {
        let hold = ms(lease.hold_ms);
        let cpu = if grip == Grip::Cpu { self.cpu.on(victim) } else { None };
        let pressed = self.memory.on(victim).max(cpu);
        let is_next = grip != Grip::Freeze
            || self.thawed.is_none_or(|thawed| now.since(thawed) >= ms(self.law.thaw_gap_ms));
        is_next && now.since(lease.since) >= hold && pressed.is_none_or(|at| now.since(at) >= hold)
    }

    /// A workload was thawed.
    pub const fn thawed(&mut self, now: Instant) {
        self.thawed = Some(now);
    }

    fn may_kill(&self, now: Instant) -> bool {
        self.killed.is_none_or(|killed| now.since(killed) >= ms(self.law.kill_gap_ms))
    }
}
