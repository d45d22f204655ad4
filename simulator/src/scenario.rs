//! Random scenarios: a drawn trace under drawn policies, on a node that may be too small and on which things may go wrong, with
//! every rule checked after every step. A seed is a scenario.

use std::fmt;
use std::sync::Arc;

use bellows_policies::field::{Amount, Field, Pairs, Value};
use bellows_policies::ladder::{LadderLaw, PressureLaw};
use bellows_policies::ruleset::{Defaults, RUNGS, Tenant};
use bellows_policies::{Bytes, Class, CpuLaw, Cpus, Law, Ruleset};

use crate::chance::Chance;
use crate::generate::{Kind, generate};
use crate::load::SECOND;
use crate::outcome::Outcome;
use crate::play::{Misfit, Options, Place, play};

/// What a scenario came to.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was drawn from.
    pub seed: u64,
    /// The trace's kind.
    kind: Kind,
    /// What came of it.
    pub outcome: Outcome,
}

impl Scenario {
    /// Draws a scenario and plays it. The error would be one of the drawing.
    pub fn play(seed: u64) -> Result<Self, Misfit> {
        let mut chance = Chance::new(seed);
        let kinds = [Kind::Mixed, Kind::Diurnal, Kind::Bursty, Kind::Leaking, Kind::Batch, Kind::Churning];
        let kind = chance.of(&kinds);
        let workloads = usize::try_from(chance.between(2, 20)).unwrap_or(2);
        let length = chance.between(300, 1200) * SECOND;
        let trace = generate(kind, workloads, length, chance.below(u64::MAX));
        // Some nodes have room for all, and some for a fifth.
        let peaks = trace.lives.iter().filter_map(|life| life.memory).map(|memory| memory.ceiling);
        let all = peaks.fold(Bytes::ZERO, Bytes::saturating_add);
        let capacity = Bytes::mib(256).max(all.scale(chance.of(&[0.05, 0.2, 0.5, 1.5])));
        let place = Place { capacity, reserve: capacity.scale(0.1), cpus: chance.of(&[2, 8, 32]) };
        let mut rules = policies(&mut chance, capacity);
        climb(&mut rules, &mut Chance::new(!seed));
        let failures = chance.one_in(2).then(|| chance.below(u64::MAX));
        let options = Options { failures, check: true, ..Options::default() };
        Ok(Self { seed, kind, outcome: play(&trace, &rules, place, options)? })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, kind, outcome } = self;
        let report = &outcome.report;
        write!(
            f,
            "scenario {seed}: {kind:?}, {} steps, {} s, {} lives, {} kills, {:.0} s frozen, {} killed by policy, {} faults",
            report.steps,
            report.seconds,
            report.all.lives,
            report.all.kills,
            report.all.frozen_s,
            report.all.policy_kills,
            report.faults
        )?;
        if let Some((broken, last)) = &outcome.broken {
            write!(
                f,
                "\nBROKEN at {:.1} ms, workload #{}: {}\n{last}again: make sim SCENARIO={seed} STEPS=1",
                broken.at as f64 / 1e6,
                broken.id,
                broken.text
            )?;
        }
        Ok(())
    }
}

/// A rule set: the built-in classes with laws that are a little off, and tenants with promises and caps.
fn policies(chance: &mut Chance, capacity: Bytes) -> Ruleset {
    let mut rules = Ruleset::built_in(Defaults::default());
    let mut ratio = || chance.of(&[1.0, 1.0, 1.5, 3.0]);
    (rules.node.overcommit.latency, rules.node.overcommit.standard) = (1.0, ratio());
    rules.node.overcommit.batch = ratio();
    for class in rules.classes.values_mut() {
        let mut varied: Class = Class::clone(class);
        vary(&mut varied.memory.law, &Law::fields(), Law::PAIRS, chance);
        vary(&mut varied.cpu.law, &CpuLaw::fields(), CpuLaw::PAIRS, chance);
        let _ = chance.below(RUNGS.len() as u64 + 1);
        *class = Arc::new(varied);
    }
    // Those of generated traces. Together they are promised two fifths.
    for name in ["day", "burst", "leak", "farm"] {
        let guarantee = capacity.scale(chance.of(&[0.0, 0.0, 0.1]));
        let cap = capacity.scale(chance.of(&[0.2, 0.5, 1.0]));
        let tenant = Tenant {
            weight: u32::try_from(chance.between(1, 400)).unwrap_or(1),
            guarantee: Some(Amount::Size(guarantee)),
            cap: chance.one_in(2).then_some(Amount::Size(cap)),
            ..Tenant::plain()
        };
        rules.tenants.insert(name.to_owned(), tenant);
    }
    rules
}

/// How far each class goes on the ladder, more often than not all the way, and its laws a little off; by a chance of its own.
fn climb(rules: &mut Ruleset, chance: &mut Chance) {
    for class in rules.classes.values_mut() {
        let rungs = chance.of(&[0, 2, 3, 4, 5, 5, 5, 5]);
        let rungs = RUNGS[..rungs].iter().map(|&rung| rung.to_owned()).collect();
        *class = Arc::new(Class { rungs, ..Class::clone(class) });
    }
    vary(&mut rules.node.ladder, &LadderLaw::fields(), LadderLaw::PAIRS, chance);
    vary(&mut rules.node.pressure, &PressureLaw::fields(), PressureLaw::PAIRS, chance);
}

/// Halves or doubles some of the constants, within their ranges and in their order.
fn vary<T: Clone>(law: &mut T, fields: &[Field<T>], pairs: &Pairs, chance: &mut Chance) {
    for field in fields {
        if !chance.one_in(4) || KEPT.iter().any(|kept| field.key.starts_with(kept)) {
            continue;
        }
        let factor = chance.of(&[0.5, 0.8, 1.25, 2.0]);
        let value = match (field.get)(law) {
            Value::Size(bytes) => Value::Size(bytes.scale(factor)),
            Value::Count(n) => Value::Count(Bytes(n).scale(factor).0),
            Value::Ratio(ratio) => Value::Ratio(ratio * factor),
            Value::Cores(cpus) => Value::Cores(Cpus::scale(cpus, factor)),
            Value::Unset
            | Value::Amount(_)
            | Value::Limit(_)
            | Value::Flag(_)
            | Value::Word(_)
            | Value::Words(_) => {
                continue;
            }
        };
        let mut varied = law.clone();
        (field.set)(&mut varied, value.clone());
        let get = |key: &str| fields.iter().find(|field| field.key == key).map(|field| (field.get)(&varied));
        let is_ordered = pairs.iter().all(|(low, high)| match (get(low), get(high)) {
            (Some(low), Some(high)) => !low.is_above(&high),
            _ => true,
        });
        if field.kind.problem(&value).is_none() && is_ordered {
            *law = varied;
        }
    }
}

/// Constants that the rules themselves are made of: how long anybody may be parked, what a quota may be overdrawn by, and how
/// long it rests.
const KEPT: [&str; 5] = ["stall_", "thrash_", "gift_", "change_gap", "jitter_"];
