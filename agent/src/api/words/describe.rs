//! Everything about one workload: how it stands, what was asked for, what the kernel has, what happened.

use std::fmt::Write;

use super::text::{age, sentence};
use super::{grip, workload};
use crate::api::types::{AskedView, Described, DetachedView, Kin, Waits, WorkloadDetail, WorkloadView};
use crate::workload::isolation::{Isolation, Mount, Root};
use crate::workload::life::{Life, Restart};

/// Decisions, orders, and ends; `explain` has more.
const RECENT: usize = 8;

/// The whole of it.
pub(crate) fn text(described: &Described) -> String {
    let Described { detail, explained } = described;
    let mut out = String::new();
    if let Some(detail) = detail {
        out.push_str(&stands(detail));
        out.push_str(&grip::state(&detail.view, &explained.records));
        if let Some(held) = &explained.held {
            out.push_str(&workload::hold(explained, held));
        }
        if let Some(asked) = &detail.asked {
            asked_for(&mut out, asked, detail.view.detached.as_ref());
        }
        kernel(&mut out, detail);
    } else {
        let _ = writeln!(out, "{} has ended", explained.workload);
    }
    out.push_str("\nwhat happened last\n");
    let skipped = explained.records.len().saturating_sub(RECENT);
    for record in explained.records.iter().skip(skipped) {
        let _ = writeln!(out, "  {:>6}  {}", record.id, sentence(record));
    }
    let _ = writeln!(out, "\nincidents: {}", explained.incidents.len());
    let _ = writeln!(out, "next: bellows explain {}   (why)", explained.workload);
    out
}

/// One that is over, and remembered, has nothing to be measured.
fn stands(detail: &WorkloadDetail) -> String {
    let WorkloadDetail { view, .. } = detail;
    let WorkloadView { tenant, name, state, .. } = view;
    if view.started_unix_ns > 0 {
        let mut out = workload::state(view, &age(view.started_unix_ns));
        let mode = if view.mode == "observe" { "observed only" } else { "enforced" };
        let _ = write!(out, "  {mode}, pid {}, {} OOM kills", view.pid, view.oom_kills);
        // Without a quota it is looked at for scrapes alone.
        if view.cpu.is_some() {
            let _ = write!(out, ", {:.1} s of cpu time used", view.cpu_usage_us as f64 / 1e6);
        }
        out.push('\n');
        return out;
    }
    let ended =
        view.detached.as_ref().and_then(|detached| detached.ended.as_deref()).unwrap_or("not started yet");
    format!("{tenant}/{name}, {state}: {ended}\n")
}

fn asked_for(out: &mut String, asked: &AskedView, detached: Option<&DetachedView>) {
    let AskedView { cwd, env, isolation, life } = asked;
    out.push_str("\nasked for\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:<16} {value}");
    };
    if let Some(DetachedView { argv, restarts, .. }) = detached {
        row("command", argv.iter().map(|part| format!("{part:?}")).collect::<Vec<_>>().join(" "));
        row("started again", format!("{}, {restarts} times so far", when(life.restart)));
    }
    row("in", format!("{cwd:?}"));
    row("environment", if env.is_empty() { "empty".to_owned() } else { plain(&env.join(" ")) });
    let Life { stop_signal, grace_seconds, log, journal, terminal, .. } = life;
    row("stop", format!("signal {stop_signal}, then {grace_seconds} s"));
    let files = || format!("{} files of {}", log.files, log.bytes);
    row("log", if *journal { "the system's journal".to_owned() } else { files() });
    row("terminal", yes(*terminal).to_owned());
    let Isolation { root, mounts, user, no_new_privs, capabilities, seccomp, nested, rlimits, .. } =
        isolation;
    row(
        "root",
        match root {
            Root::Host => "the host's".to_owned(),
            Root::Directory { path, upper: None } => format!("{path:?}, read-only"),
            Root::Directory { path, upper: Some(size) } => format!("{path:?}, {size} of changes in memory"),
        },
    );
    for mount in mounts {
        match mount {
            Mount::Bind { source, target, writable } => {
                let access = if *writable { "writable" } else { "read-only" };
                row("mount", format!("{source:?} at {target:?}, {access}"));
            }
            Mount::Tmpfs { target, size } => row("mount", format!("memory at {target:?}, {size}")),
        }
    }
    row("user", plain(user.as_deref().unwrap_or("root")));
    let kept =
        capabilities.as_ref().map(|kept| kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    row("capabilities", kept.unwrap_or_else(|| "all".to_owned()));
    row("no new privileges", yes(*no_new_privs).to_owned());
    row("seccomp", yes(*seccomp).to_owned());
    row("nested", yes(*nested).to_owned());
    if !rlimits.is_empty() {
        row("limits", format!("{} of processes", rlimits.len()));
    }
}

/// In the kernel's own words, so that they can be looked up there.
fn kernel(out: &mut String, detail: &WorkloadDetail) {
    let WorkloadDetail { files, namespaces, lease, .. } = detail;
    if !files.is_empty() {
        out.push_str("\nlimits, as the kernel has them\n");
    }
    for (file, value) in files {
        let _ = writeln!(out, "  {file:<22} {}", value.replace('\n', "; "));
    }
    if let Some(lease) = lease {
        let _ = writeln!(out, "  opened by somebody; to go back to: high {}, max {}", lease.high, lease.max);
    }
    let waits = [("memory", detail.memory), ("cpu", detail.cpu), ("io", detail.io)];
    if waits.iter().any(|(_, waits)| waits.is_some()) {
        out.push_str("\npressure: time waited since it was made, by some, by all\n");
    }
    for (name, waits) in waits {
        if let Some(Waits { some_us, full_us }) = waits {
            let seconds = |us: u64| format!("{:.3} s", us as f64 / 1e6);
            let _ = writeln!(out, "  {name:<22} {}, {}", seconds(some_us), seconds(full_us));
        }
    }
    let of = |wanted: Kin| {
        let kinds = namespaces.iter().filter(|(_, kin)| **kin == wanted).map(|(kind, _)| kind.as_str());
        kinds.collect::<Vec<_>>().join(" ")
    };
    if !namespaces.is_empty() {
        let _ = writeln!(
            out,
            "\nnamespaces\n  {:<22} {}\n  {:<22} {}",
            "its own",
            of(Kin::Own),
            "the host's",
            of(Kin::Host)
        );
    }
}

/// Nothing in it may steer a terminal.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

fn when(restart: Restart) -> &'static str {
    match restart {
        Restart::Never => "never",
        Restart::OnFailure => "on failure",
        Restart::Always => "always",
    }
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}
