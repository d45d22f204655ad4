//! A workload in words: how it stands, what happened last, why its limits stay, and what was in its way.

use std::fmt::Write;

use bellows_policies::Bytes;

use super::advice::advice;
use super::grip;
use super::record::{inside, precisely};
use super::text::{age, class_and_why, left, sentence, time_of_day};
use crate::api::types::{PinView, Sizing, WorkloadExplained, WorkloadView as View};
use crate::journal::{Grounds, Record, What};

/// The whole of it.
pub(crate) fn text(explained: &WorkloadExplained) -> String {
    let mut out = String::new();
    match &explained.view {
        Some(view) => {
            out.push_str(&state(view, &age(view.started_unix_ns)));
            out.push_str(&grip::state(view, &explained.records));
        }
        None => {
            let _ = writeln!(out, "{} has ended", explained.workload);
        }
    }
    if let (Some(held), Some(_)) = (&explained.held, &explained.view) {
        out.push_str(&hold(explained, held));
    }
    if let Some(view) = &explained.view
        && let Some(seen) = &view.sizing
    {
        out.push_str(&sizing(seen, &view.class));
    }
    out.push_str("\nwhat happened last\n");
    for record in &explained.records {
        let _ = writeln!(out, "  {:>6}  {}", record.id, sentence(record));
    }
    if !explained.incidents.is_empty() {
        out.push_str("\nincidents\n");
        for record in &explained.incidents {
            let _ = writeln!(out, "  {:>6}  {}", record.id, sentence(record));
        }
    }
    if let Some(What::Incident(incident)) = explained.incidents.last().map(|record| &record.what) {
        inside(&mut out, incident);
    }
    out.push_str(&next(explained));
    out
}

/// How it stands.
pub(super) fn state(view: &View, age: &str) -> String {
    let limit = |limit: Option<Bytes>| limit.map_or_else(|| "max".to_owned(), |b| b.to_string());
    let View { tenant, name, state, memory, .. } = view;
    let class = class_and_why(&view.class, view.assigned.as_ref());
    let mut out = format!("{tenant}/{name}, {class}, {state} for {age}\n");
    let _ = write!(out, "  memory: uses {}, of which {} is needed; ", view.memory_current, view.memory_need);
    let (high, max) = (limit(view.memory_high), limit(view.memory_max));
    let (floor, ceiling) = (memory.floor, memory.ceiling);
    if let (Some(would_high), Some(would_max)) = (view.would_high, view.would_max) {
        let _ = writeln!(
            out,
            "observed: memory.high would be {would_high}, memory.max {would_max}, between {floor} and {ceiling}, \
             after {} moves\n  nothing is written{}: memory.high is {high}, memory.max {max}",
            view.would_moves,
            if view.yielded { ", its limits are left to whoever wrote one" } else { "" }
        );
    } else {
        let _ = writeln!(
            out,
            "memory.high {high}, memory.max {max}, between {floor} and {ceiling}; {} moves",
            view.limit_moves
        );
    }
    let at = match view.would_high.or(view.memory_high) {
        None => "its limits stand open: nobody governs it",
        Some(high) if high.page_floor() >= ceiling.page_floor() => "it stands at its ceiling",
        Some(high) if high <= floor => "it stands at its floor",
        Some(_) => "it stands between its floor and its ceiling",
    };
    let _ = writeln!(out, "  {at}");
    if let Some(PinView { memory, cpu, until_unix_ns, uid }) = view.pin {
        let what = if memory && cpu {
            "both"
        } else if memory {
            "memory"
        } else {
            "cpu"
        };
        let (until, left) = (time_of_day(until_unix_ns), left(until_unix_ns));
        let _ =
            writeln!(out, "  pinned ({what}) by uid {uid} until {until} UTC, for {left}: no law moves it");
    }
    if let (Some(quota), Some(bounds)) = (view.cpu_quota, view.cpu) {
        let _ = writeln!(
            out,
            "  cpu: quota {quota}, between {} and {}; {} moves",
            bounds.floor, bounds.ceiling, view.quota_moves
        );
    }
    out
}

/// Which bounds what was seen suggests.
fn sizing(sizing: &Sizing, class: &str) -> String {
    let Sizing { since_unix_ns, looks, use_peak, use_p95, need_peak, need_p95, need_p50, floor, ceiling } =
        *sizing;
    format!(
        "\nadvice, from {looks} looks in {}, while it was observed\n  \
         use: at most {use_p95} in 95 of 100 looks, peak {use_peak}\n  \
         need: at most {need_p50} in half of them, {need_p95} in 95 of 100, peak {need_peak}\n  \
         [class.{class}] memory = {{ floor = \"{}M\", ceiling = \"{}M\" }}\n",
        age(since_unix_ns),
        floor.0 / Bytes::MIB.0,
        ceiling.0 / Bytes::MIB.0
    )
}

/// Why its limits stay.
pub(super) fn hold(explained: &WorkloadExplained, held: &Record) -> String {
    let What::Held { reason, evidence, .. } = &held.what else { return String::new() };
    let advice = advice(*reason);
    let prevents = precisely(*reason, Grounds::Memory(evidence), &explained.holders);
    format!(
        "  held since record {}: {reason}; {}\n  would have prevented it: {}\n",
        held.id,
        advice.means,
        prevents.unwrap_or_else(|| advice.prevents.to_owned())
    )
}

fn next(explained: &WorkloadExplained) -> String {
    let decided = explained.records.iter().rev().find(|record| record.version.is_some());
    decided.map_or_else(String::new, |record| {
        format!("\nnext: bellows explain {}   (why its limits are what they are)\n", record.id)
    })
}
