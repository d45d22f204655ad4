//! Why a workload gives way as a whole: for whom, on which rung, and what the rungs before it had given.

use std::fmt::Write;

use bellows_policies::ladder::{Grip, GripEvidence};

use super::checks::{Check, check, plain, size, time};
use super::record::evidence_table;
use crate::api::types::WorkloadView;
use crate::journal::{Record, What};

/// The part of a record's explanation that is about a grip.
pub(crate) fn text(out: &mut String, what: &What) {
    let What::Squeezed { grip, evidence, hold_ms, .. } = what else { return };
    let (means, prevents) = advice(*grip);
    let _ = writeln!(out, "  {means}\n\ndecided by the ladder of the squeeze");
    for line in evidence_table(checks(evidence)).lines() {
        let _ = writeln!(out, "  {line}");
    }
    if *hold_ms > 0 {
        let _ = writeln!(
            out,
            "\nit is a lease: it ends when nobody more important has waited for {}, at the earliest after as long",
            time(*hold_ms)
        );
    }
    let _ = writeln!(out, "\nwould have prevented it: {prevents}\nnext: bellows tenants");
}

/// How it gives way now, in one line; empty when it does not.
pub(crate) fn state(view: &WorkloadView, records: &[Record]) -> String {
    let mut out = String::new();
    let gives = [
        (Grip::Freeze, view.is_frozen, "it is frozen"),
        (Grip::Cpu, view.lends_cpu, "part of its quota is lent"),
    ];
    for (wanted, _, words) in gives.into_iter().filter(|(_, gives, _)| *gives) {
        let last = records.iter().rev().find_map(|record| match &record.what {
            What::Squeezed { grip, waiter, .. } if *grip == wanted => Some((waiter_name(waiter), record.id)),
            _ => None,
        });
        let _ = match last {
            Some((waiter, id)) => writeln!(out, "  {words}, for {waiter} (record {id})"),
            None => writeln!(out, "  {words}"),
        };
    }
    out
}

/// Who waits, in words.
pub(crate) fn waiter_name(waiter: &str) -> &str {
    if waiter.is_empty() { "the node" } else { waiter }
}

fn checks(evidence: &GripEvidence) -> Vec<Check> {
    let GripEvidence { waiter, victim, weight, current, missing, waited_ms, idle_ms, climb_ms, gave } =
        *evidence;
    let waits = if waiter == u32::MAX { "the node".to_owned() } else { waiter.to_string() };
    vec![
        check("priority", victim.to_string(), format!("below {waits}"), victim < waiter),
        plain("weight", weight.to_string()),
        plain("use", size(current)),
        plain("still missing", size(missing)),
        plain("the other one has waited for", time(waited_ms)),
        check(
            "nothing given for",
            time(idle_ms),
            format!("at least {}", time(climb_ms)),
            idle_ms >= climb_ms,
        ),
        plain("given before by slack", size(gave.slack)),
        plain("by cold cache, and by the frozen", size(gave.reclaim)),
        plain("quotas lowered before", gave.cpu.to_string()),
        plain("frozen before", gave.frozen.to_string()),
        plain("killed before", gave.killed.to_string()),
    ]
}

const fn advice(grip: Grip) -> (&'static str, &'static str) {
    match grip {
        Grip::Cpu => (
            "somebody more important is short: part of the cpu quota of batch is lent for a time",
            "a class of another base than batch, or one whose squeeze.rungs do not say cpu",
        ),
        Grip::Freeze => (
            "nobody had slack, cold cache or quota left to give: the least important stands still for a time, and keeps its state",
            "a class whose squeeze.rungs do not say freeze, or fewer workloads on the node",
        ),
        Grip::Kill => (
            "nothing else was left to give: the least important was ended, as its class allows",
            "a class whose squeeze.rungs do not say kill, or fewer workloads on the node",
        ),
    }
}
