//! Rules of the repository as tests: what a reader may rely on everywhere. STYLE.md gives the reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const LONGEST: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace").to_owned()
}

/// Files with this extension that belong to the repository.
fn files(extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("readable").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let relative = path.strip_prefix(root()).expect("below").display().to_string();
                found.push((relative, fs::read_to_string(&path).expect("utf-8")));
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} file: the walk is broken");
    found.sort();
    found
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = |text: &str| text.lines().count() > LONGEST;
    let broken: Vec<String> = files("rs")
        .iter()
        .filter(|(_, t)| long(t))
        .map(|(p, t)| format!("{p}: {} lines", t.lines().count()))
        .collect();
    report("a source file longer than 400 lines wants to be two", &broken);
}

#[test]
fn every_source_file_begins_with_its_purpose() {
    let broken: Vec<String> =
        files("rs").iter().filter(|(_, t)| !t.starts_with("//! ")).map(|(p, _)| p.clone()).collect();
    report("a source file begins with `//!`: what it is for", &broken);
}

#[test]
fn markdown_has_one_title() {
    let titles = |text: &str| {
        let mut fenced = false;
        text.lines()
            .filter(|line| {
                fenced ^= line.starts_with("```");
                !fenced && line.starts_with("# ")
            })
            .count()
    };
    let broken: Vec<String> = files("md")
        .iter()
        .filter(|(_, t)| titles(t) != 1 || !t.starts_with("# "))
        .map(|(p, t)| format!("{p}: {} titles", titles(t)))
        .collect();
    report("a markdown file begins with its one title", &broken);
}

/// Who may import whom, inside the agent: part, and the parts that it may name. ARCHITECTURE.md has the same table.
const IMPORTS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("workload", &["kernel"]),
    ("journal", &[]),
    ("metrics", &[]),
    ("watchdog", &["kernel", "workload"]),
    ("control", &["kernel", "workload", "journal", "metrics", "watchdog"]),
    // Of policy only how mistakes are told; of workload only the pool of user ids; of metrics only the tiers.
    ("config", &["access", "journal", "kernel", "metrics", "policy", "workload"]),
    ("access", &["workload"]),
    // Of workload only what a name is.
    ("policy", &["workload"]),
    ("simulate", &["policy", "workload"]),
    ("notify", &["control", "kernel"]),
    ("reload", &["control", "kernel", "notify", "policy"]),
    // From kernel received descriptors, the name of a peer, checks and pressure; from workload the types of the wire; of policy only
    // what is shown of it.
    ("api", &["access", "control", "journal", "metrics", "workload", "kernel", "policy"]),
    // The types of the wire, which are everybody's who answers.
    ("client", &["api", "control", "journal", "workload"]),
    (
        "cli",
        &[
            "api", "client", "config", "control", "journal", "kernel", "workload", "agent", "watchdog",
            "policy", "simulate",
        ],
    ),
];

#[test]
fn parts_import_only_downwards() {
    let mut broken = Vec::new();
    for (path, text) in files("rs") {
        let Some(inside) = path.strip_prefix("agent/src/") else { continue };
        let part = inside.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = IMPORTS.iter().find(|(p, _)| *p == part) else { continue };
        for named in text.split("crate::").skip(1) {
            let name: String = named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if name != part && !name.is_empty() && !allowed.contains(&name.as_str()) {
                broken.push(format!("{path} names crate::{name}"));
            }
        }
    }
    report("a part of the agent may import only what ARCHITECTURE.md allows it", &broken);
}

#[test]
fn policies_and_simulator_are_pure() {
    let forbidden = [
        "std::fs",
        "std::net",
        // Whether it panics may be asked.
        "use std::thread",
        "std::thread::s",
        "std::process",
        "std::io",
        "SystemTime",
        "Instant::now",
        "tokio",
    ];
    let mut broken = Vec::new();
    let pure = |path: &str| path.starts_with("policies/src") || path.starts_with("simulator/src");
    for (path, text) in files("rs").iter().filter(|(path, _)| pure(path)) {
        broken.extend(forbidden.iter().filter(|f| text.contains(**f)).map(|f| format!("{path}: {f}")));
    }
    report("policies and the simulator do no I/O and read no clock", &broken);
}

#[test]
fn only_kernel_opens_kernel_files() {
    let mut broken = Vec::new();
    for (path, text) in files("rs").iter().filter(|(p, _)| p.starts_with("agent/src")) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let opens = code.lines().filter(|l| !l.trim_start().starts_with("//")).any(|l| {
            // /proc/self/exe is executed, not opened; messages may name paths.
            (l.contains("\"/proc/") || l.contains("\"/sys/fs/cgroup")) && !l.contains("/proc/self/exe")
        });
        if opens && !path.starts_with("agent/src/kernel/") {
            broken.push(path.clone());
        }
    }
    report("only kernel/ opens files below /proc and cgroupfs", &broken);
}

#[test]
fn unsafe_code_has_few_homes() {
    let homes = [
        "agent/src/kernel/sys.rs",
        "agent/init/src/signals.rs",
        "agent/init/src/sys.rs",
        "tests/load/sys.rs",
        "tests/bench/sys.rs",
        "policies/tests/no_alloc.rs",
    ];
    let broken: Vec<String> = files("rs")
        .iter()
        .filter(|(p, t)| {
            (t.contains("unsafe {") || t.contains("unsafe fn"))
                && !homes.contains(&p.as_str())
                && p != "tests/tidy.rs"
        })
        .map(|(p, _)| p.clone())
        .collect();
    report("unsafe code lives in the sys files", &broken);
}

#[test]
fn dependencies_have_a_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .and_then(|s| s.split("\n[").next())
        .expect("section");
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let broken: Vec<String> = section
        .lines()
        .filter(|l| !l.starts_with(' '))
        .filter_map(|l| l.split_once(" = ").map(|(name, _)| name))
        .filter(|name| !name.starts_with("bellows") && !architecture.contains(&format!("| {name} |")))
        .map(str::to_owned)
        .collect();
    report("each dependency has a row with its reason in ARCHITECTURE.md", &broken);
}

/// Names of metrics in a text. What ends with `_` is the beginning of several.
fn metrics_named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|w| w.starts_with("bellows_") && !w.ends_with('_'))
        .filter(|w| !["bellows_policies", "bellows_tests", "bellows_simulator"].contains(w))
        .map(str::to_owned)
        .collect()
}

#[test]
fn documents_name_only_metrics_that_exist() {
    let real: BTreeSet<&str> = bellows::metrics::catalogue::all().map(|metric| metric.name).collect();
    let mut broken = Vec::new();
    for (path, text) in files("md") {
        // What is recorded has a colon in its name.
        for name in metrics_named(&text).iter().filter(|name| !real.contains(name.as_str())) {
            broken.push(format!("{path}: {name}"));
        }
    }
    report("documents name only metrics of the catalogue", &broken);
}

/// Each metric that the agent keeps is written somewhere outside of `metrics/`: one that nobody counts is always zero.
#[test]
fn every_metric_is_counted_somewhere() {
    let code: String = files("rs")
        .iter()
        .filter(|(path, _)| path.starts_with("agent/src/") && !path.starts_with("agent/src/metrics/"))
        .map(|(_, text)| text.split("#[cfg(test)]").next().unwrap_or_default())
        .flat_map(|text| text.chars().filter(|c| !c.is_whitespace()))
        .collect();
    let text = |file: &str| fs::read_to_string(root().join("agent/src/metrics").join(file)).expect("source");
    let mut broken = Vec::new();
    let (agent, published) = (text("agent.rs"), text("published.rs"));
    let kinds = ["IntCounter", "Gauge", "Histogram"];
    for line in agent.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.strip_suffix(',')) {
        let Some((field, kind)) = line.split_once(": ") else { continue };
        let uses = [".inc(", ".inc_by(", ".set(", ".observe("];
        // One that is handed on is counted by whoever has it.
        let is_counted = uses.iter().chain(&[".clone("]).any(|u| code.contains(&format!(".{field}{u}")));
        let is_handed_on =
            field == "oom_kills" && text("tenant.rs").contains("self.oom_kills_of_node.inc_by(");
        if kinds.contains(&kind) && !is_counted && !is_handed_on {
            broken.push(format!("agent.rs: {field}"));
        }
    }
    for (file, text) in [
        ("squeezes.rs", text("squeezes.rs")),
        ("reloads.rs", text("reloads.rs")),
        ("published.rs", published),
    ] {
        let setters = text.lines().filter_map(|line| line.trim().strip_prefix("pub fn ")?.split('(').next());
        for setter in setters.filter(|name| *name != "new") {
            if !code.contains(&format!(".{setter}(")) && !text.contains(&format!("self.{setter}(")) {
                broken.push(format!("{file}: {setter}"));
            }
        }
    }
    report("each metric is written by somebody", &broken);
}
