//! Plain text for people: tables, ages, records as sentences.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellows_policies::{Bytes, Verb};

use crate::journal::{Incident, Record, What};

/// Columns as wide as their widest cell, two spaces apart.
pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|&h| h.to_owned()).collect()).chain(rows).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// "12s", "3m", "5h", "2d" since then.
pub(super) fn age(unix_ns: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_nanos(unix_ns);
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A record as one line: when, who, what, why.
pub(super) fn sentence(record: &Record) -> String {
    let who = if record.workload.is_empty() { "node" } else { &record.workload };
    format!("{} {who:<20} {}", time_of_day(record.unix_ns), what(&record.what))
}

/// `14:03:07.120`, UTC.
pub(super) fn time_of_day(unix_ns: u64) -> String {
    let (seconds, millis) = (unix_ns / 1_000_000_000 % 86_400, unix_ns / 1_000_000 % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub(super) fn what(what: &What) -> String {
    match what {
        What::AgentStarted { root } => format!("the agent governs {root}"),
        What::AgentStopping { workloads_end: true } => "the agent stops, and ends all workloads".to_owned(),
        What::AgentStopping { workloads_end: false } => {
            "the agent stops, and leaves all workloads running".to_owned()
        }
        What::Launched { pid, limits, took_us, observed, .. } => {
            format!("started as pid {pid} in {:.1} ms, {}{limits}", millis(*took_us), stands(*observed))
        }
        What::WouldHave { verb, reason, from, to, bytes, current, .. } => {
            let what = match verb {
                Verb::Grow | Verb::Shrink | Verb::Fail => {
                    format!("{verb}: high {} -> {}, max {} -> {}", from.high, to.high, from.max, to.max)
                }
                Verb::Reclaim => format!("reclaim {bytes}"),
                Verb::Hold => format!("be held at {to}"),
            };
            format!("observed, nothing written: would {what}, at a use of {current}: {reason}")
        }
        What::Adopted { class, found_high, limits } => format!(
            "adopted in class {class}, found at high {}; its limits would be {limits}",
            or_max(*found_high)
        ),
        What::LetGo { gone: true } => "let go: its cgroup was removed".to_owned(),
        What::LetGo { gone: false } => "let go: given back as it was, by order of the policies".to_owned(),
        What::ModeChanged { observed: true, limits } => {
            format!("observed from now on: its limits stand open, and would be {limits}")
        }
        What::ModeChanged { observed: false, limits } => {
            format!("enforced from now on, governed from {limits}")
        }
        What::LaunchFailed { error } => format!("not started: {error}"),
        What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us, .. } => {
            let took = match verb {
                Verb::Grow | Verb::Fail => format!(" in {wake_to_write_us} us"),
                Verb::Shrink | Verb::Reclaim | Verb::Hold => String::new(),
            };
            format!(
                "{verb}: high {} -> {}, max {} -> {}{took}, at a use of {current}: {reason}",
                from.high, to.high, from.max, to.max
            )
        }
        What::Held { reason, limits, current, .. } => {
            format!("held at {limits}, at a use of {current}: {reason}")
        }
        What::QuotaMoved { verb, reason, from, to, .. } => {
            format!("{verb}: quota {from} -> {to} cpus: {reason}")
        }
        What::QuotaFailed { to, errno } => {
            format!("the kernel refused a quota of {to} cpus: {}", std::io::Error::from_raw_os_error(*errno))
        }
        What::Reclaimed { reason, bytes, before, after, .. } => {
            format!("reclaim: {bytes} asked for, use {before} -> {after}: {reason}")
        }
        What::OutcomeSeen { of, helped, over_ms, hits, current, .. } => {
            let seen = if *hits == 0 {
                "no limit was met".to_owned()
            } else {
                format!("limits were met {hits} times")
            };
            let helped = if *helped { "it helped" } else { "it did not help" };
            format!("record {of}: {helped}: {seen} in {over_ms} ms after it, at a use of {current}")
        }
        What::Incident(incident) => incident_line(incident),
        What::WriteFailed { to, errno } => {
            format!("the kernel refused {to}: {}", std::io::Error::from_raw_os_error(*errno))
        }
        What::SignalSent { signal, uid } => format!("signal {signal}, sent by uid {uid}"),
        What::Released { uid: Some(uid) } => {
            format!("all limits opened, no longer governed, by order of uid {uid}")
        }
        What::Released { uid: None } => "all limits opened, no longer governed".to_owned(),
        What::TakenBack { gap_ms } => {
            format!("governed again after the agent had been held up for {gap_ms} ms")
        }
        What::Ended { how, .. } => how.clone(),
        What::Trouble { text } => text.clone(),
        What::QueueOverflowed {} => "the kernel's event queue overflowed: looking at everything".to_owned(),
        What::ForeignWrite { file, expected, found } => {
            format!("somebody else wrote {found} to {file}: putting {expected} back")
        }
        What::ForeignCgroup { name } => format!("somebody else made {name}: left alone"),
        What::TakenOver { pid, found_high, found_max, limits, observed } => format!(
            "taken over as pid {pid}, found at high {}, max {}, {}{limits}",
            or_max(*found_high),
            or_max(*found_max),
            if *observed { stands(true) } else { "governed at " }
        ),
        What::PoliciesLoaded { ruleset, classes, rules, changed } => format!(
            "policies {ruleset} in force: {classes} classes, {rules} rules; {changed} workloads governed differently"
        ),
        What::PoliciesRefused { error, problems } => {
            format!("policies refused, the old ones stay: {problems} problems, the first: {error}")
        }
        What::LeftoverRemoved { name } => format!("removed {name}, a launch that was cut short"),
    }
}

fn incident_line(incident: &Incident) -> String {
    let Incident { kind, limits, current, snapshot } = incident;
    let largest = snapshot.as_ref().and_then(|snapshot| snapshot.processes.first());
    let inside = largest
        .map(|process| format!("; largest: {} ({}) with {}", process.comm, process.pid, process.rss))
        .unwrap_or_default();
    format!("incident: {}, at {limits}, at a use of {current}{inside}", kind.as_str())
}

/// What to say before limits that are not in force.
fn stands(is_observed: bool) -> &'static str {
    if is_observed { "observed: its limits stand open, and would be " } else { "" }
}

fn or_max(limit: Option<Bytes>) -> String {
    limit.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string())
}

fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::{Evidence, Limits, Reason};

    #[test]
    fn a_move_reads_as_a_sentence() {
        let record = Record {
            id: 1,
            unix_ns: (14 * 3600 + 3 * 60 + 7) * 1_000_000_000 + 120_000_000,
            workload: "acme/web".into(),
            what: What::LimitsMoved {
                verb: Verb::Grow,
                reason: Reason::TripwireHit,
                from: Limits { high: Bytes::mib(64), max: Bytes::mib(80) },
                to: Limits { high: Bytes::mib(80), max: Bytes::mib(96) },
                current: Bytes::mib(64),
                wake_to_write_us: 143,
                evidence: Evidence::default(),
            },
            version: None,
            prior: None,
        };
        assert_eq!(
            sentence(&record),
            "14:03:07.120 acme/web             grow: high 64 MiB -> 80 MiB, max 80 MiB -> 96 MiB in 143 us, \
             at a use of 64 MiB: a charge crossed memory.high"
        );
    }

    #[test]
    fn what_was_not_written_says_so() {
        let (from, to) = (
            Limits { high: Bytes::mib(64), max: Bytes::mib(80) },
            Limits { high: Bytes::mib(80), max: Bytes::mib(96) },
        );
        let told = |verb, to, bytes| {
            let (reason, current, evidence) = (Reason::TripwireHit, Bytes::mib(70), Evidence::default());
            what(&What::WouldHave { verb, reason, from, to, bytes, current, evidence })
        };
        let (none, moved) = (Bytes::ZERO, "high 64 MiB -> 80 MiB, max 80 MiB -> 96 MiB");
        for (told, said) in [
            (told(Verb::Grow, to, none), format!("would grow: {moved}, at a use of 70 MiB: a charge")),
            (told(Verb::Fail, to, none), format!("would fail: {moved}")),
            (told(Verb::Hold, from, none), "would be held at high 64 MiB, max 80 MiB, at".to_owned()),
            (told(Verb::Reclaim, from, Bytes::MIB), "would reclaim 1 MiB, at a use of".to_owned()),
        ] {
            assert!(told.starts_with(&format!("observed, nothing written: {said}")), "{told}");
        }
    }

    #[test]
    fn a_table_aligns() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["X", "N"], rows.into_iter()), "X     N\na     1\nlong  2\n");
    }
}
