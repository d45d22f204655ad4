//! A record in words: what happened, by which evidence, what was written, what came of it, what would have prevented it.

use std::fmt::Write;

use bellows_policies::units::Bytes;
use bellows_policies::{Limits, Reason, Verb};

use super::advice::{Advice, advice};
use super::checks::{self, Check};
use super::grip;
use super::text::{self, sentence, table, time_of_day};
use crate::api::types::{Holder, RecordExplained};
use crate::journal::{Grounds, Incident, Kind, Laws, Record, What};

/// An incident this much older than a record does not belong to it, nanoseconds.
const RELATED_NS: u64 = 60_000_000_000;

/// The whole of it.
pub(crate) fn text(explained: &RecordExplained) -> String {
    let record = &explained.record;
    let who = if record.workload.is_empty() { "the node" } else { &record.workload };
    let mut out = format!("record {}, {} UTC, {who}\n", record.id, time_of_day(record.unix_ns));
    let _ = writeln!(out, "  {}", text::deed(record));
    let reason = record.what.reason();
    if let Some(reason) = reason {
        let if_so = if matches!(record.what, What::WouldHave { .. }) { "had it been enforced: " } else { "" };
        let _ = writeln!(out, "  {if_so}{}", advice(reason).means);
    }
    decided(&mut out, record, explained.laws.as_ref());
    grip::text(&mut out, &record.what);
    written(&mut out, &record.what);
    others(&mut out, reason, &explained.holders);
    section(&mut out, "before", &explained.before);
    section(&mut out, "after", &explained.after);
    let related = related(record, &explained.incidents);
    if let Some(What::Incident(incident)) = related.map(|record| &record.what) {
        inside(&mut out, incident);
    }
    ending(&mut out, record, related, &explained.holders);
    out
}

/// The evidence, the law, and its version.
fn decided(out: &mut String, record: &Record, laws: Option<&Laws>) {
    let Some((reason, grounds)) = record.what.decided() else { return };
    let (law, checks) = match grounds {
        Grounds::Memory(evidence) => {
            (evidence.law.as_str(), laws.map(|laws| checks::memory(evidence, reason, &laws.memory)))
        }
        Grounds::Cpu(evidence) => (evidence.law.as_str(), laws.map(|laws| checks::cpu(evidence, &laws.cpu))),
    };
    let version = record.version.as_deref().unwrap_or("unknown version");
    let _ = writeln!(out, "\ndecided by {law}, {version}");
    match checks {
        Some(checks) => out.push_str(&indented(&evidence_table(checks))),
        None => out.push_str("  the constants of that version are not known any more\n"),
    }
}

pub(crate) fn evidence_table(checks: Vec<Check>) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let met = |met| match met {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    let rows =
        checks.into_iter().map(|c| vec![c.what.to_owned(), c.value, c.threshold, met(c.met).to_owned()]);
    table(&["EVIDENCE", "VALUE", "THRESHOLD", "MET"], rows)
}

fn written(out: &mut String, what: &What) {
    let files = |from: &Limits, to: &Limits| {
        [("memory.max", from.max, to.max), ("memory.high", from.high, to.high)].map(|(file, from, to)| {
            if from == to { String::new() } else { format!("  {file} {from} -> {to}\n") }
        })
    };
    if let What::WouldHave { from, to, bytes, .. } = what {
        let reclaim =
            if *bytes > Bytes::ZERO { format!("  memory.reclaim {bytes}\n") } else { String::new() };
        let would = files(from, to).concat() + &reclaim;
        let would = if would.is_empty() { "  nothing\n".to_owned() } else { would };
        let _ = write!(out, "\nnothing was written: it is observed; it would have been\n{would}");
        return;
    }
    let (written, us) = if let What::LimitsMoved { from, to, wake_to_write_us, .. } = what {
        (files(from, to).concat(), *wake_to_write_us)
    } else if let What::QuotaMoved { from, to, wake_to_write_us, .. } = what {
        (format!("  cpu.max {from} -> {to} cpus\n"), *wake_to_write_us)
    } else {
        return;
    };
    let _ = write!(out, "\nwritten\n{written}");
    // The slow lane's time is that of the kernel's reclaim, and is not measured.
    if us > 0 {
        let _ = writeln!(out, "  {us} us after the loop woke up");
    }
}

/// Who else holds what was asked for, where that matters.
fn others(out: &mut String, reason: Option<Reason>, holders: &[Holder]) {
    if matches!(reason, Some(Reason::BudgetDeferred | Reason::BudgetInfeasible)) && !holders.is_empty() {
        out.push_str("\nlargest grants now\n");
        let rows =
            holders.iter().map(|h| vec![h.workload.clone(), h.granted.to_string(), h.current.to_string()]);
        out.push_str(&indented(&table(&["WORKLOAD", "GRANTED", "USED"], rows)));
    }
}

fn section(out: &mut String, name: &str, records: &[Record]) {
    if !records.is_empty() {
        let _ = writeln!(out, "\n{name}");
    }
    for record in records {
        let _ = writeln!(out, "  {:>6}  {}", record.id, sentence(record));
    }
}

/// The incident that a record led to; of an end the last one before it that somebody has looked at.
fn related<'a>(record: &Record, incidents: &'a [Record]) -> Option<&'a Record> {
    let own = |other: &&Record| other.id == record.id || other.prior == Some(record.id);
    let is_end = matches!(record.what, What::Ended { .. } | What::LimitsMoved { verb: Verb::Fail, .. });
    let last = |other: &&Record| {
        let is_seen = matches!(&other.what, What::Incident(incident) if incident.snapshot.is_some());
        is_end && is_seen && other.unix_ns.abs_diff(record.unix_ns) < RELATED_NS
    };
    incidents.iter().find(own).or_else(|| incidents.iter().rfind(last))
}

/// What a workload looked like inside.
pub(crate) fn inside(out: &mut String, incident: &Incident) {
    let Some(snapshot) = &incident.snapshot else {
        out.push_str("\ninside\n  it was gone before anybody could look\n");
        return;
    };
    let _ = writeln!(out, "\ninside, at {} UTC ({})", time_of_day(snapshot.unix_ns), incident.kind.as_str());
    let rows = snapshot.processes.iter().map(|p| vec![p.pid.to_string(), p.comm.clone(), p.rss.to_string()]);
    out.push_str(&indented(&table(&["PID", "PROCESS", "RSS"], rows)));
    let rest = snapshot.count.saturating_sub(snapshot.processes.len());
    if rest > 0 {
        let _ = writeln!(out, "  and {rest} more");
    }
    let _ = writeln!(
        out,
        "  anon {}, page cache {}, of which tmpfs {}, kernel {}",
        snapshot.anon, snapshot.file, snapshot.shmem, snapshot.kernel
    );
}

/// What would have prevented it, and what to do next.
fn ending(out: &mut String, record: &Record, incident: Option<&Record>, holders: &[Holder]) {
    let by_reason = record.what.decided().map(|(reason, grounds)| {
        let Advice { prevents, next, .. } = advice(reason);
        (precisely(reason, grounds, holders).unwrap_or_else(|| prevents.to_owned()), next)
    });
    let is_end = matches!(record.what, What::Ended { .. } | What::Incident(_));
    let by_end = incident.filter(|_| is_end).and_then(|record| {
        let What::Incident(incident) = &record.what else { return None };
        let is_memory = matches!(incident.kind, Kind::OomKilled | Kind::CeilingReached | Kind::Stalled);
        is_memory
            .then(|| (format!("more memory than {}", incident.limits.high), "bellows explain {workload}"))
    });
    if let Some((prevents, next)) = by_reason.or(by_end) {
        let _ = writeln!(out, "\nwould have prevented it: {prevents}");
        let _ = writeln!(out, "next: {}", next.replace("{workload}", &record.workload));
    }
}

/// What would have prevented it in this very case, where there are figures to tell.
pub(crate) fn precisely(reason: Reason, grounds: Grounds<'_>, holders: &[Holder]) -> Option<String> {
    let Grounds::Memory(evidence) = grounds else { return None };
    let is_stalled = matches!(reason, Reason::StalledAtLimit | Reason::ThrashedAtLimit);
    if reason == Reason::CeilingReached || (is_stalled && evidence.high >= evidence.ceiling) {
        return Some(format!("a ceiling above {}", evidence.ceiling));
    }
    if is_stalled {
        return Some(format!("a budget that can grant it more than {}", evidence.high));
    }
    let is_budget = matches!(reason, Reason::BudgetDeferred | Reason::BudgetInfeasible);
    let is_cap = matches!(reason, Reason::TenantDeferred | Reason::TenantInfeasible);
    let asked = evidence.want.saturating_sub(evidence.high);
    let missing = asked.saturating_sub(evidence.free.unwrap_or(Bytes::ZERO));
    // Nothing is missing for one who only stands in line behind others.
    if !(is_budget || is_cap) || missing == Bytes::ZERO {
        return None;
    }
    if is_cap {
        return Some(format!("{missing} more below the cap of its tenant"));
    }
    let largest = holders.first().map(|h| format!("; the largest grant is that of {}", h.workload));
    Some(format!("{missing} more budget{}", largest.unwrap_or_default()))
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "  {line}");
        out
    })
}
