//! Observe mode: what would be done is told, and nothing is; a change of mode takes over who runs, both ways.

use std::path::Path;

use bellows::journal::What;
use bellows_policies::{Reason, Verb};

use crate::explain::{on_disk, replayed};
use crate::policies::Policies;
use crate::rig::{Agent, Follower, MIB, Tree, eventually, field, is_launched, number, read};
use crate::takeover::is_taken_over;

const OBSERVE: &str = "[class.watched]\nmode = \"observe\"\nmemory = { floor = \"32M\", ceiling = \"512M\" }\n\
                       cpu = { floor = 0.1, ceiling = 1 }\nweight = 321\n";

fn with(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

pub(crate) fn would(verb: Verb) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::WouldHave { verb: told, .. } if *told == verb)
}

fn is_mode(observes: bool) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::ModeChanged { observed, .. } if *observed == observes)
}

/// Of all that a class or a law writes, only what keeps it from harming the host.
fn assert_untouched(cgroup: &Path) {
    let max = number(&cgroup.join("memory.max"));
    assert!(max > 512 * MIB && max < u64::MAX, "the ceiling and a band: {max}");
    assert_eq!(field(&cgroup.join("memory.events.local"), "high"), 0, "nothing throttled it");
    for (file, value) in [
        ("memory.high", "max"),
        ("memory.low", "0"),
        ("memory.swap.max", "max"),
        ("cpu.weight", "100"),
        ("pids.max", "4096"),
    ] {
        assert_eq!(read(&cgroup.join(file)).trim(), value, "{file}");
    }
    assert!(read(&cgroup.join("cpu.max")).starts_with("max"), "{}", read(&cgroup.join("cpu.max")));
}

/// Nothing was moved: neither a limit nor a quota.
fn moves(journal: &mut Follower, workload: &str) -> usize {
    let moved = |what: &What| matches!(what, What::LimitsMoved { .. } | What::QuotaMoved { .. });
    journal.of(workload).iter().filter(|what| moved(what)).count()
}

fn listed(agent: &Agent) -> serde_json::Value {
    let listed: serde_json::Value =
        serde_json::from_slice(&agent.output("ps", &["--json"]).stdout).expect("json");
    listed[0].clone()
}

#[test]
fn an_observed_workload_grows_freely_and_what_would_have_been_is_told() {
    let policies = Policies::new("observe", OBSERVE);
    let mut agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let load = ["grow", "200", "--pause-ms", "30", "--hold-ms", "120000"];
    let run = agent.load_with("w", "32M..512M", &["--class", "watched", "--cpu", "0.1..1"], &load);
    let launched = journal.wait("default/w", is_launched);
    assert!(matches!(launched.what, What::Launched { observed: true, .. }), "{launched:?}");
    let cgroup = agent.tree.workload("w");
    assert_untouched(&cgroup);
    let grow = journal.wait("default/w", would(Verb::Grow));
    eventually("it has grown", || number(&cgroup.join("memory.current")) >= 200 * MIB);
    eventually("its limit would follow", || {
        let (listed, need) = (listed(&agent), 200 * MIB);
        listed["would_high"].as_u64() > Some(need) && listed["memory_need"].as_u64() > Some(need - 16 * MIB)
    });
    assert_untouched(&cgroup);
    assert_eq!(moves(&mut journal, "default/w"), 0, "{}", journal.told());

    let shown = listed(&agent);
    assert_eq!((&shown["mode"], &shown["memory_high"]), (&"observe".into(), &serde_json::Value::Null));
    let text = |what: &str| String::from_utf8(agent.output("explain", &[what]).stdout).expect("utf-8");
    let told = text(&grow.id.to_string());
    assert!(told.contains("nothing was written: it is observed; it would have been\n"), "{told}");
    eventually("advice is given", || text("default/w").contains("[class.watched] memory = { floor = "));
    let told = text("default/w");
    assert!(told.contains("nothing is written: memory.high is max"), "{told}");
    let metrics = agent.http("/metrics");
    assert!(metrics.contains("outcome=\"observed\"}"), "{metrics}");
    assert!(metrics.contains("bellows_workload_memory_would_high_bytes{tenant=\"default\",workload=\"w\"}"));
    assert!(metrics.contains("bellows_workload_memory_high_bytes{tenant=\"default\",workload=\"w\"} +Inf\n"));

    // Another agent goes on observing.
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    let record = journal.wait("default/w", is_taken_over);
    assert!(matches!(record.what, What::TakenOver { observed: true, .. }), "{record:?}");
    eventually("it is observed", || listed(&agent)["would_high"].as_u64() > Some(200 * MIB));
    assert_untouched(&cgroup);

    // Each of these decisions follows from its evidence.
    let (records, laws) = on_disk(&agent);
    let told = records.iter().filter(|record| matches!(record.what, What::WouldHave { .. }));
    let replayed: Vec<bool> = told.filter_map(|record| replayed(record, &laws)).collect();
    assert!(!replayed.is_empty() && replayed.iter().all(|same| *same), "{replayed:?}");
    drop(run);
}

#[test]
fn a_reload_enforces_what_was_observed_and_opens_it_again() {
    let policies = Policies::new("modes", OBSERVE);
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let load = ["grow", "200", "--hold-ms", "120000"];
    let mut child = agent.command("run");
    let program = crate::rig::program("bellows-load");
    let mut child = child.args(["--name", "w", "--class", "watched", "--"]).arg(program).args(load);
    child = child.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    let mut child = child.spawn().expect("bellows run");
    journal.wait("default/w", is_launched);
    let cgroup = agent.tree.workload("w");
    eventually("it has grown", || number(&cgroup.join("memory.current")) >= 200 * MIB);

    // It needs more than that: limits would end it, so it is left alone.
    let enforce = ("observe", "enforce");
    policies.write(&with(OBSERVE, &[enforce, ("512M", "128M")]));
    journal.wait("", |what| matches!(what, What::PoliciesLoaded { changed: 1, .. }));
    journal.wait("default/w", would(Verb::Fail));
    assert_eq!(read(&cgroup.join("memory.high")).trim(), "max");

    // With a ceiling above it, it is governed in that very turn.
    policies.write(&with(OBSERVE, &[enforce]));
    let changed = journal.wait("default/w", is_mode(false));
    let rearmed =
        journal.wait("default/w", |what| matches!(what, What::LimitsMoved { reason: Reason::Rearmed, .. }));
    assert!(rearmed.id > changed.id);
    let current = || number(&cgroup.join("memory.current"));
    let high = number(&cgroup.join("memory.high"));
    assert!(high >= current() && high <= 512 * MIB, "{high} at a use of {}", current());
    assert!(number(&cgroup.join("memory.max")) > high);
    eventually("its quota is governed", || !read(&cgroup.join("cpu.max")).starts_with("max"));
    eventually("its floor is protected", || number(&cgroup.join("memory.low")) == 32 * MIB);
    eventually("its weight is the class's", || read(&cgroup.join("cpu.weight")).trim() == "321");
    assert_eq!(listed(&agent)["mode"], "enforce");

    // And back.
    policies.write(OBSERVE);
    journal.wait("default/w", is_mode(true));
    eventually("its quota is lifted", || read(&cgroup.join("cpu.max")).starts_with("max"));
    eventually("its floor is not protected", || number(&cgroup.join("memory.low")) == 0);
    eventually("its weight is the kernel's", || read(&cgroup.join("cpu.weight")).trim() == "100");
    assert_eq!(read(&cgroup.join("memory.high")).trim(), "max");
    assert_eq!(listed(&agent)["mode"], "observe");
    assert_eq!(field(&cgroup.join("memory.events"), "oom_kill"), 0);
    assert!(child.try_wait().expect("wait").is_none(), "it lives\n{}", journal.told());
    let _ = child.kill();
    let _ = child.wait();
}
