//! A class that yields: a limit that somebody else writes is left to them, by this agent, the next one and the watchdog, until it is
//! asked for again.

use std::fs;
use std::path::Path;

use bellows::journal::What;

use crate::policies::Policies;
use crate::rig::{Agent, MIB, Tree, eventually, is_launched, number, read};
use crate::takeover::is_taken_over;

const YIELDING: &str = "[class.shared]\nforeign = \"yield\"\n";

fn left(name: &str) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::ForeignWrite { file, yielded: true, .. } if file == name)
}

fn is_governed(yes: bool) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::ModeChanged { observed, yielded, .. } if (*observed, *yielded) == (!yes, !yes))
}

fn stands(cgroup: &Path) -> [String; 3] {
    ["memory.high", "memory.max", "cpu.max"].map(|file| read(&cgroup.join(file)).trim().to_owned())
}

fn view(agent: &Agent, key: &str) -> serde_json::Value {
    let listed: serde_json::Value =
        serde_json::from_slice(&agent.output("ps", &["--json"]).stdout).expect("json");
    listed[0][key].clone()
}

#[test]
fn a_limit_that_somebody_else_writes_is_left_to_them() {
    let policies = Policies::new("yields", YIELDING);
    let mut agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let flags = ["--class", "shared", "--cpu", "0.2..1"];
    let run = agent.load_with("w", "32M..128M", &flags, &["idle", "300"]);
    journal.wait("default/w", is_launched);
    let cgroup = agent.tree.workload("w");
    fs::write(cgroup.join("memory.high"), (100 * MIB).to_string()).expect("write");
    journal.wait("default/w", left("memory.high"));
    journal.wait("default/w", is_governed(false));
    let theirs = stands(&cgroup);
    assert_eq!(theirs[0], (100 * MIB).to_string());
    eventually("it is told", || view(&agent, "yielded") == true && view(&agent, "memory_high") == 100 * MIB);
    // They go on, and so does another agent, whose predecessor's watchdog has opened nothing.
    fs::write(cgroup.join("memory.max"), (120 * MIB).to_string()).expect("write");
    fs::write(cgroup.join("cpu.max"), "30000 100000").expect("write");
    let theirs = [&theirs[0], &(120 * MIB).to_string(), "30000 100000"].map(str::to_owned);
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    let record = journal.wait("default/w", is_taken_over);
    assert!(matches!(record.what, What::TakenOver { observed: true, .. }), "{record:?}");
    eventually("it shows what they wrote", || view(&agent, "memory_max") == 120 * MIB);
    assert_eq!(stands(&cgroup), theirs);

    let unpinned = agent.output("unpin", &["w"]);
    assert!(unpinned.status.success(), "{unpinned:?}");
    journal.wait("default/w", is_governed(true));
    eventually("it is governed", || {
        number(&cgroup.join("memory.high")) < 100 * MIB && stands(&cgroup)[2] != theirs[2]
    });
    assert_eq!(view(&agent, "yielded"), false);
    drop(run);
}

#[test]
fn a_quota_that_somebody_else_writes_is_left_to_them_until_the_class_changes() {
    let policies = Policies::new("yields-cpu", YIELDING);
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let flags = ["--class", "shared", "--cpu", "0.2..1"];
    let run = agent.load_with("w", "32M..128M", &flags, &["idle", "300"]);
    journal.wait("default/w", is_launched);
    let cgroup = agent.tree.workload("w");
    eventually("the quota is at its floor", || stands(&cgroup)[2] == "20000 100000");
    fs::write(cgroup.join("cpu.max"), "50000 100000").expect("write");
    journal.wait("default/w", left("cpu.max"));
    assert!(agent.http("/metrics").contains("bellows_foreign_writes_total 1\n"), "it is counted");
    journal.wait("default/w", is_governed(false));
    assert_eq!(stands(&cgroup)[2], "50000 100000");

    policies.write(&YIELDING.replace("yield", "reassert"));
    journal.wait("default/w", is_governed(true));
    eventually("the quota is governed", || stands(&cgroup)[2] != "50000 100000");
    drop(run);
}
