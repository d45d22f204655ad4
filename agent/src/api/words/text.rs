//! Plain text for people: tables, ages, records as sentences.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellows_policies::ladder::{Grip, GripEvidence};
use bellows_policies::{AssignedBy, Bytes, Cpus, Limits, Resources, Verb};

use super::grip::waiter_name;
use crate::journal::{Conditions, Deed, Ease, Incident, Record, What};

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
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
pub(crate) fn age(unix_ns: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_nanos(unix_ns);
    span(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// The same until then.
pub(crate) fn left(unix_ns: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_nanos(unix_ns);
    span(then.duration_since(SystemTime::now()).unwrap_or_default())
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A record as one line: when, who, what, why.
pub(crate) fn sentence(record: &Record) -> String {
    let who = if record.workload.is_empty() { "node" } else { &record.workload };
    format!("{} {who:<20} {}", time_of_day(record.unix_ns), deed(record))
}

/// What happened, and who asked for it.
pub(crate) fn deed(record: &Record) -> String {
    let by = record.by.as_ref().map(|by| format!(", by order of {by}")).unwrap_or_default();
    what(&record.what) + &by
}

/// `14:03:07.120`, UTC.
pub(crate) fn time_of_day(unix_ns: u64) -> String {
    let (seconds, millis) = (unix_ns / 1_000_000_000 % 86_400, unix_ns / 1_000_000 % 1000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

pub(crate) fn what(what: &What) -> String {
    match what {
        What::AgentStarted { root } => format!("the agent governs {root}"),
        What::AgentStopping { workloads_end: true } => "the agent stops, and ends all workloads".to_owned(),
        What::AgentStopping { .. } => "the agent stops, and leaves all workloads running".to_owned(),
        What::Launched { pid, class, assigned, limits, took_us, observed, .. } => {
            let (class, stands) = (class_and_why(class, assigned.as_ref()), stands(*observed));
            format!("started as pid {pid} in {:.1} ms, {class}, {stands}{limits}", millis(*took_us))
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
        What::ModeChanged { observed, yielded, limits } => mode_changed(*observed, *yielded, limits),
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
        What::QuotaHeld { reason, quota, .. } => format!("held at a quota of {quota} cpus: {reason}"),
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
        What::Squeezed { grip, waiter, evidence, .. } => squeezed(*grip, waiter, evidence),
        What::Eased { grip, why, held_ms } => eased(*grip, *why, *held_ms),
        What::Incident(incident) => incident_line(incident),
        What::WriteFailed { to, errno } => {
            format!("the kernel refused {to}: {}", std::io::Error::from_raw_os_error(*errno))
        }
        What::Life(deed) => step(deed),
        What::SignalSent { signal } => format!("signal {signal} sent"),
        What::SettingsChanged { from, to } => settings(from, to),
        What::Pinned { high, cpu, until_unix_ns } => pinned(*high, *cpu, *until_unix_ns),
        What::Unpinned { expired: true } => "the pin is over: the law moves the limits again".to_owned(),
        What::Unpinned { expired: false } => "the pin was lifted: the law moves the limits again".to_owned(),
        What::OrderRefused { order, error } => format!("{order} refused: {error}"),
        What::Released {} => "all limits opened, no longer governed".to_owned(),
        What::TakenBack { gap_ms } => {
            format!("governed again after the agent had been held up for {gap_ms} ms")
        }
        What::Ended { how, .. } => how.clone(),
        What::Trouble { text } => text.clone(),
        What::QueueOverflowed {} => "the kernel's event queue overflowed: looking at everything".to_owned(),
        What::ForeignWrite { file, expected, found, yielded: true } => {
            format!("somebody else wrote {found} to {file}: leaving it, where {expected} was governed")
        }
        What::ForeignWrite { file, expected, found, yielded: false } => {
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

fn mode_changed(observed: bool, yielded: bool, limits: &Limits) -> String {
    if yielded {
        format!("observed from now on: its limits are left to whoever wrote them, and would be {limits}")
    } else if observed {
        format!("observed from now on: its limits stand open, and would be {limits}")
    } else {
        format!("enforced from now on, governed from {limits}")
    }
}

fn squeezed(grip: Grip, waiter: &str, evidence: &GripEvidence) -> String {
    let act = match grip {
        Grip::Cpu => "cpu quota lent",
        Grip::Freeze => "frozen",
        Grip::Kill => "killed",
    };
    let lack = match evidence.missing {
        Bytes::ZERO => "is short of cpu".to_owned(),
        missing => format!("misses {missing}"),
    };
    format!("squeezed: {act} for {}, which {lack}, at a use of {}", waiter_name(waiter), evidence.current)
}

fn eased(grip: Grip, why: Ease, held_ms: u64) -> String {
    let act = match grip {
        Grip::Cpu => "cpu quota given back",
        Grip::Freeze => "thawed",
        Grip::Kill => "spared",
    };
    format!("{act} after {:.1} s: {}", millis(held_ms), why.as_str())
}

fn step(deed: &Deed) -> String {
    match deed {
        Deed::StopOrdered { signal, grace_ms, .. } => format!(
            "told to end by signal {signal}, and killed where it has not ended in {} s",
            millis(*grace_ms)
        ),
        Deed::StopForced {} => "has not ended in the time that it was given: killed".to_owned(),
        Deed::RestartDue { after_ms, failures: 0 | 1 } => {
            format!("is started again in {:.1} s", millis(*after_ms))
        }
        Deed::RestartDue { after_ms, failures } => {
            format!("is started again in {:.1} s, after {failures} failures in a row", millis(*after_ms))
        }
        Deed::RestartCancelled {} => "is not started again".to_owned(),
        Deed::Applied { differences } => format!("applied: {}", differences.join(", ")),
        Deed::Executed { command } => format!("{command} was started beside it"),
        Deed::Removed {} => "forgotten, with its log".to_owned(),
        Deed::Frozen {} => "frozen".to_owned(),
        Deed::Thawed { elsewhere: false } => "thawed".to_owned(),
        Deed::Thawed { elsewhere: true } => {
            "thawed by somebody else in the kernel: governed again".to_owned()
        }
    }
}

fn own(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "as its class".to_owned(), |value| value.to_string())
}

fn lines(resources: &Resources) -> String {
    let lines = resources.io_max.join("; ");
    own(Some(lines).filter(|lines| !lines.is_empty()))
}

fn pages(resources: &Resources) -> String {
    let sizes: Vec<String> = resources.hugetlb.iter().map(|(page, most)| format!("{page}={most}")).collect();
    list(Some(&sizes.join(" ")).filter(|sizes| !sizes.is_empty()))
}

/// What no class has any of.
fn list(value: Option<&String>) -> String {
    value.map_or_else(|| "all".to_owned(), String::clone)
}

fn settings(from: &Conditions, to: &Conditions) -> String {
    let cpu = |settings: &Conditions| settings.cpu.map_or_else(|| "max".to_owned(), |cpu| cpu.to_string());
    let pairs = [
        ("class", from.class.clone(), to.class.clone()),
        ("memory", from.memory.to_string(), to.memory.to_string()),
        ("cpu", cpu(from), cpu(to)),
        ("weight", from.weight.to_string(), to.weight.to_string()),
        ("pids", own(from.pids), own(to.pids)),
        ("swap", own(from.swap), own(to.swap)),
        ("io weight", own(from.resources.io_weight), own(to.resources.io_weight)),
        ("io max", lines(&from.resources), lines(&to.resources)),
        ("cpus", list(from.resources.cpuset_cpus.as_ref()), list(to.resources.cpuset_cpus.as_ref())),
        ("memory nodes", list(from.resources.cpuset_mems.as_ref()), list(to.resources.cpuset_mems.as_ref())),
        ("huge pages", pages(&from.resources), pages(&to.resources)),
    ];
    let other = pairs.iter().filter(|(_, from, to)| from != to);
    let changes: Vec<String> = other.map(|(what, from, to)| format!("{what} {from} -> {to}")).collect();
    if changes.is_empty() { "set: as it was".to_owned() } else { format!("set: {}", changes.join(", ")) }
}

fn pinned(high: Option<Bytes>, cpu: Option<(Cpus, Cpus)>, until_unix_ns: u64) -> String {
    let high = high.map(|high| format!("high {high}"));
    let cpu =
        cpu.map(
            |(from, to)| {
                if from == to { format!("quota {to} cpus") } else { format!("quota {from} -> {to} cpus") }
            },
        );
    let what: Vec<String> = high.into_iter().chain(cpu).collect();
    format!("pinned at {} until {} UTC", what.join(", "), time_of_day(until_unix_ns))
}

/// The class of a workload, and what gave it that.
pub(crate) fn class_and_why(class: &str, assigned: Option<&AssignedBy>) -> String {
    let why = assigned.map(|by| format!(" {by}")).unwrap_or_default();
    format!("class {class}{why}")
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
    use crate::journal::Caller;
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
            by: None,
        };
        assert_eq!(
            sentence(&record),
            "14:03:07.120 acme/web             grow: high 64 MiB -> 80 MiB, max 80 MiB -> 96 MiB in 143 us, \
             at a use of 64 MiB: a charge crossed memory.high"
        );
    }

    #[test]
    fn who_asked_is_told() {
        let by = Caller { uid: 1000, groups: Box::default(), pid: 118, command: "bellows".to_owned() };
        let record = Record {
            id: 1,
            unix_ns: 0,
            workload: "acme/web".into(),
            version: None,
            prior: None,
            by: Some(by.into()),
            what: What::SignalSent { signal: 15 },
        };
        assert_eq!(deed(&record), "signal 15 sent, by order of uid 1000 (pid 118, bellows)");
        let read: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(read.by, record.by);
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
