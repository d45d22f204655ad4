//! The guard: the last word before a write. Charges the budget, and keeps every invariant whatever a law wanted.
//!
//! A plan is carried out by the actuator alone. Afterwards exactly one of [`settle`] (it was written) and [`undo`] (it
//! was not) is called with it; then [`Workload::commit`] with `to`, if it was written, or
//! [`Workload::shrink_refused`], if it was a shrink that was not. A reclaim ends with [`Workload::reclaimed`] or
//! [`Workload::shrink_refused`]. One plan of a workload is under way at a time: a grow first cancels, and undoes, a shrink.
//!
//! Kept for every write but a failure: floor <= high <= ceiling; max >= high + least band; max <= ceiling + band; a grow
//! lowers nothing; after a grow max <= 2 x use + slack, unless a floor or a pin says otherwise. A shrink raises nothing and lowers one limit at a time: high not
//! below need as it was last known, nor below use unless it takes back cache; max not into the [`crate::Room`] above use.
//! A reclaim stays above the floor. A decision outside is clamped, and says so: that is a defect of its law, worth a
//! metric.

use crate::budget::{Budget, Grant, Level, Refusal, Seat};
use crate::decision::{Decision, Limits, Reason, Verb};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::target;
use crate::memory::{Law, Workload};
use crate::units::Bytes;

/// So far above a lowered `memory.high` use may stay by what the kernel charges ahead on each cpu, and by what it grew meanwhile.
const UNMET: Bytes = Bytes::MIB;

/// What is to be written, or why nothing is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plan {
    /// Limits to write.
    Write {
        /// Grow on the fast lane (`memory.max` first), shrink on the slow lane (`memory.high` first), or fail.
        verb: Verb,
        /// The governed limits before; `from.high` is what the budget held for it. All zero at a launch.
        from: Limits,
        /// The limits to write.
        to: Limits,
        /// Why.
        reason: Reason,
        /// The decision was outside an invariant, and was brought within.
        clamped: bool,
        /// On whose account.
        seat: Option<Seat>,
        /// From what, with the answer of the budget: [`replay`] gives `to`.
        evidence: Evidence,
    },
    /// Memory to take by `memory.reclaim`, on the slow lane. No limit moves, and no budget is charged.
    Reclaim {
        /// How much, bytes.
        bytes: Bytes,
        /// Why.
        reason: Reason,
        /// From what: [`replay`] gives `bytes`.
        evidence: Evidence,
    },
    /// Nothing to write.
    Nothing {
        /// Why.
        reason: Reason,
    },
}

/// What comes of a decision by its evidence: all that is left of a plan when the budget has answered.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Limits.
    Limits(Limits),
    /// Memory to reclaim, bytes.
    Reclaim(Bytes),
}

/// Decides and plans once more, by the evidence of a record and the law that was in force.
pub fn replay(evidence: &Evidence, law: &Law) -> Outcome {
    // The reason is told beside the evidence, and nothing is decided by it.
    outcome(law, &evidence.decide(law, Reason::Calm), evidence.granted)
}

/// The decision, brought within every invariant, and cut down to the `high` that was granted of a grow.
fn outcome(law: &Law, decision: &Decision, granted: Option<Bytes>) -> Outcome {
    let (evidence, want) = (&decision.evidence, decision.want);
    let from = evidence.limits();
    Outcome::Limits(match decision.verb {
        // The first limits: there is nothing yet to be kept.
        Verb::Grow if evidence.law == MemoryLaw::Launch => want,
        Verb::Grow => {
            let to = raise(law, evidence, want);
            granted.map_or(to, |high| shorten(law, evidence, to, high))
        }
        Verb::Shrink => lower(law, evidence, want),
        Verb::Fail => Limits { high: from.max, max: from.max },
        Verb::Hold => from,
        Verb::Reclaim => return Outcome::Reclaim(take(law, evidence, decision.reclaim)),
    })
}

/// Turns a decision into a plan. A grow is charged to the budget here; it may be cut short, or refused: then nothing is
/// written, or only a wider band (`memory.max`), with the reason of the refusal. Whoever is refused stands in the budget's
/// line until it is granted, or wants nothing any more.
pub fn plan(workload: &Workload, decision: Decision, budget: &mut Budget) -> Plan {
    let (law, from, seat) = (workload.law(), workload.limits(), workload.seat());
    let asks_again = decision.verb == Verb::Hold && workload.is_deferred();
    if decision.verb != Verb::Grow && !asks_again {
        budget.withdraw(seat);
    }
    let nothing = Plan::Nothing { reason: decision.reason };
    let to = match outcome(law, &decision, None) {
        Outcome::Reclaim(Bytes::ZERO) => return nothing,
        Outcome::Reclaim(bytes) => {
            return Plan::Reclaim { bytes, reason: decision.reason, evidence: decision.evidence };
        }
        Outcome::Limits(to) => to,
    };
    if decision.verb == Verb::Hold {
        return nothing;
    }
    let clamped = !same(to, decision.want);
    let free = (decision.verb == Verb::Grow).then(|| budget.free_for(seat));
    let evidence = Evidence { free, ..decision.evidence };
    let write = |to, reason| Plan::Write { verb: decision.verb, from, to, reason, clamped, seat, evidence };
    let part = |high, reason| {
        let granted = Some(high);
        match outcome(law, &decision, granted) {
            Outcome::Limits(to) => {
                let evidence = Evidence { granted, ..evidence };
                Plan::Write { verb: decision.verb, from, to, reason, clamped, seat, evidence }
            }
            Outcome::Reclaim(_) => nothing,
        }
    };
    if to == from && decision.reason != Reason::Rearmed {
        budget.withdraw(seat);
        return nothing;
    }
    if decision.verb != Verb::Grow {
        return write(to, decision.reason);
    }
    let refused = |reason| {
        // A band costs no grant: it may still be widened, so that waiting for the budget does not end in a kill.
        let widened = shorten(law, &evidence, to, from.high);
        let is_worth = widened.max >= from.max.saturating_add(law.band_min);
        if is_worth { part(from.high, reason) } else { Plan::Nothing { reason } }
    };
    let grant = budget.request(seat, from.high, to.high);
    if decision.reason == Reason::Rearmed && grant != Grant::Full {
        // The kernel's tripwire is open: part of a grant would put it below use. It stays open until there is room, and is
        // asked for again without a place in line, where it would be offered parts.
        if let Grant::Partial(high) = grant {
            budget.give_back(seat, high.saturating_sub(from.high));
        }
        budget.withdraw(seat);
        return Plan::Nothing { reason: Reason::BudgetDeferred };
    }
    match grant {
        Grant::Full => write(to, decision.reason),
        Grant::Partial(high) => part(high, decision.reason),
        Grant::Deferred(Level::Node) => refused(Reason::BudgetDeferred),
        Grant::Deferred(Level::Tenant) => refused(Reason::TenantDeferred),
        Grant::Infeasible(Level::Node) => refused(Reason::BudgetInfeasible),
        Grant::Infeasible(Level::Tenant) => refused(Reason::TenantInfeasible),
    }
}

/// Plans the limits of a launch, and charges its floor.
pub fn launch(workload: &Workload, budget: &mut Budget) -> Result<Plan, Refusal> {
    let Decision { verb, want: to, reason, evidence, .. } =
        workload.decide(MemoryLaw::Launch, Reason::Launched);
    let (from, seat) = (Limits::default(), workload.seat());
    let evidence = Evidence { free: Some(budget.free_for(seat)), ..evidence };
    budget.admit(seat, to.high)?;
    Ok(Plan::Write { verb, from, to, reason, clamped: false, seat, evidence })
}

/// The plan was written: gives back what a shrink freed.
pub fn settle(plan: &Plan, budget: &mut Budget) {
    if let Plan::Write { verb: Verb::Shrink, from, to, seat, .. } = plan {
        budget.give_back(*seat, from.high.saturating_sub(to.high));
    }
}

/// What came of a plan, by the use that it left: page cache that the kernel could not take, since it is not as cold as it looked,
/// is not given up. Where that is other than `plan`, `memory.high` has to be raised to it.
pub fn met(plan: Plan, law: &Law, current: Bytes) -> Plan {
    let Plan::Write { verb, from, to, reason: reason @ Reason::CacheSqueezed, clamped, seat, evidence } =
        plan
    else {
        return plan;
    };
    let unmet = current.page_ceil().saturating_sub(to.high);
    if unmet < UNMET {
        return plan;
    }
    let evidence = Evidence { asked: evidence.asked.saturating_sub(unmet), ..evidence };
    let decision = evidence.decide(law, reason);
    let Outcome::Limits(to) = outcome(law, &decision, None) else { return plan };
    Plan::Write { verb, from, to, reason, clamped, seat, evidence: decision.evidence }
}

/// A shrink that was settled before its write could not be written: charges again what it gave back, whether that fits by now
/// or not. It is as after [`plan`].
pub fn unsettle(plan: &Plan, budget: &mut Budget) {
    if let Plan::Write { verb: Verb::Shrink, from, to, seat, .. } = plan {
        budget.charge(*seat, from.high.saturating_sub(to.high));
    }
}

/// The plan was not written: gives back what a grow or a launch was charged.
pub fn undo(plan: &Plan, budget: &mut Budget) {
    if let Plan::Write { verb: Verb::Grow, from, to, seat, .. } = plan {
        budget.give_back(*seat, to.high.saturating_sub(from.high));
    }
}

fn raise(law: &Law, evidence: &Evidence, want: Limits) -> Limits {
    let (bounds, from) = (evidence.bounds(), evidence.limits());
    let is_named = matches!(evidence.law, MemoryLaw::Floor | MemoryLaw::Pin);
    let top = if is_named { Bytes(u64::MAX) } else { target::most_max(law, from, evidence.current) };
    let high = bounds.clamp(want.high).min(top.saturating_sub(law.band_min)).page_floor().max(from.high);
    let most = evidence.released_max(law).min(top).max(from.max);
    let max = want.max.min(most).max(high.saturating_add(law.band_min)).page_floor().max(from.max);
    Limits { high, max }
}

fn lower(law: &Law, evidence: &Evidence, want: Limits) -> Limits {
    let (from, current, need) = (evidence.limits(), evidence.current, evidence.need);
    // Above high stands only what reclaims cheaply. A tripwire that is put back goes to where it was.
    let is_cache = matches!(evidence.law, MemoryLaw::TakeBack | MemoryLaw::SqueezeCache);
    let least = if is_cache { need } else { need.max(current) };
    let high = evidence.bounds().clamp(want.high.max(least)).page_floor().min(from.high);
    // memory.high comes first and settles before memory.max.
    let max = if high < from.high { from.max } else { want.max };
    let least = evidence.room(law).above(current).max(high.saturating_add(law.band_min)).page_ceil();
    Limits { high, max: max.max(least).page_floor().min(from.max) }
}

/// What a reclaim may take: never down to the floor, and never much at once.
fn take(law: &Law, evidence: &Evidence, want: Bytes) -> Bytes {
    let above = evidence.current.saturating_sub(evidence.floor);
    want.min(law.reclaim_max).min(above).page_floor()
}

/// Cuts a grow down to the `high` that the budget gave, with a band above it if the grow reached that far. What it holds for growth
/// is bounded there: nobody is about to raise this limit, so the kernel throttles, and whoever is failed has the band to fill.
fn shorten(law: &Law, evidence: &Evidence, to: Limits, high: Bytes) -> Limits {
    let from = evidence.limits();
    let high = high.page_floor().min(to.high).max(from.high);
    let still = law.band(high, evidence.threads, 0);
    let band = evidence.band_above(law, high).min(still.max(law.jump_slack.page_ceil()));
    let max = high.saturating_add(band).min(to.max).max(from.max);
    Limits { high, max }
}

fn same(to: Limits, want: Limits) -> bool {
    to.high.page_floor() == want.high.page_floor() && to.max.page_floor() == want.max.page_floor()
}
