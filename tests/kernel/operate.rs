//! The operator's word: what is set of a live workload holds over a restart and a reload, a pin stands above the law while it
//! lasts, and the journal names who gave an order, refused or not.

use std::process::Output;

use bellows::journal::{Record, What};
use bellows_policies::Reason;

use crate::policies::Policies;
use crate::rig::{Agent, Follower, MIB, Tree, eventually, is_grow, is_launched, number, program, read};
use crate::takeover::is_taken_over;

const CLASSES: &str = r#"
    [class.narrow]
    weight = 50
    memory = { floor = "16MiB", ceiling = "256MiB" }
    [[rule]]
    tenant = "bound"
    class = "narrow"
    force = true
"#;

fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code 5, and the reason.
fn refused(agent: &Agent, verb: &str, arguments: &[&str], said: &str) {
    let output = agent.output(verb, arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{arguments:?}: {text}");
    assert!(text.contains(said), "{arguments:?}: {text}");
}

fn is_set(what: &What) -> bool {
    matches!(what, What::SettingsChanged { .. })
}

/// The record names a process of this user that was called bellows.
fn assert_named(record: &Record, journal: &Follower) {
    let by = record.by.as_ref().unwrap_or_else(|| panic!("{record:?}\n{}", journal.told()));
    assert_eq!((by.uid, by.command.as_str()), (nix::unistd::getuid().as_raw(), "bellows"), "{by}");
    assert!(by.pid > 0, "{by}");
}

#[test]
fn what_is_set_holds_over_a_restart_and_a_reload() {
    let policies = Policies::new("set", CLASSES);
    let mut agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let run = agent.run_with("web", "32M..128M", &["--class", "standard"], &[&load, "idle", "300"]);
    journal.wait("default/web", is_launched);
    let cgroup = agent.tree.workload("web");
    let said = ok(&agent.output("set", &["web", "--memory", "64M..512M", "--weight", "321"]));
    assert!(said.contains("memory 32 MiB..128 MiB -> 64 MiB..512 MiB, weight 100 -> 321"), "{said}");
    let record = journal.wait("default/web", is_set);
    assert_named(&record, &journal);
    let What::SettingsChanged { from, to } = record.what else { unreachable!() };
    assert_eq!((from.memory.floor.0, to.memory.ceiling.0, to.weight), (32 * MIB, 512 * MIB, 321));
    // In the turn of the order: the floor is granted. By a worker: what no law moves.
    assert!(number(&cgroup.join("memory.high")) >= 64 * MIB);
    let raised = journal.wait("default/web", is_grow);
    assert_eq!(raised.what.reason(), Some(Reason::PolicyChanged));
    let stands = |weight: &str, low: u64| {
        read(&cgroup.join("cpu.weight")).trim() == weight && number(&cgroup.join("memory.low")) == low
    };
    eventually("weight and protection are written", || stands("321", 64 * MIB));

    let said = ok(&agent.output("set", &["web", "--pids", "77", "--swap", "1M"]));
    assert!(said.contains("pids as its class -> 77, swap as its class -> 1 MiB"), "{said}");
    let parts_stand = |pids: &str, swap: &str| {
        read(&cgroup.join("pids.max")).trim() == pids && read(&cgroup.join("memory.swap.max")).trim() == swap
    };
    eventually("processes and swap are bounded anew", || parts_stand("77", "1048576"));
    for weight in 301..=316 {
        ok(&agent.output("set", &["web", "--weight", &weight.to_string()]));
    }
    eventually("what was said last is what stands", || stands("316", 64 * MIB));
    ok(&agent.output("set", &["web", "--weight", "321"]));
    eventually("and again", || stands("321", 64 * MIB));

    policies.write("[class.standard]\nweight = 77\n");
    journal.wait("", |w| matches!(w, What::PoliciesLoaded { .. }));
    assert!(stands("321", 64 * MIB), "what is its own stays over a reload");
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/web", is_taken_over);
    let listed = ok(&agent.output("ps", &["--json"]));
    assert!(listed.contains(r#""memory":{"floor":67108864,"ceiling":536870912}"#), "{listed}");
    assert!(stands("321", 64 * MIB) && parts_stand("77", "1048576"));
    // Given back to its class, it follows it as it is now.
    ok(&agent.output("set", &["web", "--weight", "class"]));
    eventually("the weight is the class's", || stands("77", 64 * MIB));
    ok(&agent.output("set", &["web", "--pids", "class", "--swap", "class"]));
    eventually("so are its processes and its swap", || parts_stand("4096", "max"));
    drop(run);
}

#[test]
fn what_may_not_be_is_refused_and_told_with_who_asked() {
    let policies = Policies::new("refused", CLASSES);
    let agent = policies.agent_with(Tree::new(), &["--capacity", "1G", "--reserve", "100M"]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let run = agent.run("web", "32M..128M", &[&load, "idle", "300"]);
    let bound = agent.run_with("web", "32M..128M", &["--tenant", "bound"], &[&load, "idle", "300"]);
    for name in ["default/web", "bound/web"] {
        let record = journal.wait(name, is_launched);
        assert_named(&record, &journal);
        let What::Launched { class, assigned, .. } = record.what else { unreachable!() };
        let why = assigned.expect("a reason").to_string();
        let by_rule = class == "narrow" && why.ends_with("10-test.toml:5");
        assert!(by_rule || (class == "standard" && why == "by default"), "{class} {why}");
    }
    let class = &["web", "--class", "narrow", "--memory", "16M..512M"];
    refused(
        &agent,
        "set",
        class,
        "--memory 16 MiB..512 MiB is refused: the class narrow has a ceiling of 256 MiB",
    );
    refused(&agent, "set", &["web", "--class", "wide"], "there is no class `wide`: there are");
    refused(&agent, "set", &["web", "--memory", "2G..4G"], "can never fit");
    refused(
        &agent,
        "set",
        &["web", "--cpu", "0.1..1"],
        "whether a workload has a quota is decided at its launch",
    );
    let forced = &["--tenant", "bound", "web", "--class", "latency"];
    refused(&agent, "set", forced, "it has the class narrow by the rule");
    refused(&agent, "pin", &["web", "--high", "1G"], "its bounds are 32 MiB..128 MiB");
    refused(&agent, "pin", &["web", "--cpu", "1"], "it has no cpu quota");
    refused(&agent, "pin", &["web", "--for", "25h"], "24 hours at most");
    refused(&agent, "unpin", &["web"], "it is not pinned");
    for (verb, flags, code) in
        [("set", &["web"][..], 2), ("set", &["nobody", "--weight", "7"], 4), ("pin", &["nobody"], 4)]
    {
        assert_eq!(agent.output(verb, flags).status.code(), Some(code), "{verb} {flags:?}");
    }
    for order in ["set", "pin", "unpin"] {
        let is_it = |w: &What| matches!(w, What::OrderRefused { order: told, .. } if told == order);
        let record = journal.wait("default/web", is_it);
        assert_named(&record, &journal);
    }
    ok(&agent.output("kill", &["web"]));
    let record = journal.wait("default/web", |w| matches!(w, What::SignalSent { signal: 15 }));
    assert_named(&record, &journal);
    ok(&agent.output("release", &["--all"]));
    let record = journal.wait("", |w| matches!(w, What::Released {}));
    assert_named(&record, &journal);
    drop((run, bound));
}

/// It wants 200 MiB and may have 512, and is pinned at 64: the limit stays for as long as that lasts, over a restart of the agent
/// too, and then the law raises it.
#[test]
fn a_pin_holds_until_it_is_over() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let grow = format!("sleep 2; exec {} grow 200 --pause-ms 50", program("bellows-load").display());
    let run = agent.run("big", "32M..512M", &["sh", "-c", &grow]);
    journal.wait("default/big", is_launched);
    let said = ok(&agent.output("pin", &["big", "--high", "64M"]));
    assert!(said.contains("pinned at high 64 MiB until"), "{said}");
    let cgroup = agent.tree.workload("big");
    let high = || number(&cgroup.join("memory.high"));
    assert_eq!(high(), 64 * MIB);
    let moved = journal.wait("default/big", is_grow);
    assert_eq!(moved.what.reason(), Some(Reason::LimitPinned));
    let record = journal.wait("default/big", |w| matches!(w, What::Pinned { .. }));
    assert_named(&record, &journal);
    // It is in the way, which is told once. The law would have raised it within milliseconds, and failed it within seconds.
    let is_held = |w: &What| matches!(w, What::Held { reason: Reason::LimitPinned, .. });
    journal.wait("default/big", is_held);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(high(), 64 * MIB);
    assert_eq!(journal.of("default/big").iter().filter(|w| is_held(w)).count(), 1, "{}", journal.told());
    let explained = ok(&agent.output("explain", &["big"]));
    assert!(explained.contains("pinned (memory) by uid 0 until"), "{explained}");
    let is_pinned = |agent: &Agent, yes: u8| {
        let line = format!("bellows_workload_pinned{{tenant=\"default\",workload=\"big\"}} {yes}\n");
        agent.http("/metrics").contains(&line)
    };
    assert!(is_pinned(&agent, 1));

    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/big", is_taken_over);
    eventually("the tripwire stands again", || high() < u64::MAX);
    assert!(is_pinned(&agent, 1));
    let said = ok(&agent.output("pin", &["big", "--for", "2s"]));
    assert!(said.contains("pinned at high"), "{said}");
    let over = journal.wait("default/big", |w| matches!(w, What::Unpinned { .. }));
    assert!(matches!(over.what, What::Unpinned { expired: true }) && over.by.is_none(), "{over:?}");
    assert!(is_pinned(&agent, 0));
    let is_own = |w: &What| is_grow(w) && !matches!(w.reason(), Some(Reason::Rearmed | Reason::LimitPinned));
    let grown = journal.wait("default/big", is_own);
    assert!(grown.id > over.id, "no law moved it before: {}", journal.told());
    let finished = run.finish();
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
}

#[test]
fn a_pinned_quota_stays_and_a_pin_is_lifted() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let _run = agent.run_with("job", "16M..64M", &["--cpu", "0.1..1"], &[&load, "burn", "--seconds", "300"]);
    journal.wait("default/job", is_launched);
    ok(&agent.output("pin", &["job", "--cpu", "0.2"]));
    let cgroup = agent.tree.workload("job");
    let quota = || read(&cgroup.join("cpu.max")).trim().to_owned();
    eventually("the quota is the operator's", || quota() == "20000 100000");
    let throttled = || crate::rig::field(&cgroup.join("cpu.stat"), "nr_throttled");
    let before = throttled();
    eventually("it runs out of it", || throttled() > before + 20);
    assert_eq!(quota(), "20000 100000");
    let said = ok(&agent.output("unpin", &["job"]));
    assert!(said.contains("the pin was lifted"), "{said}");
    let record = journal.wait("default/job", |w| matches!(w, What::Unpinned { expired: false }));
    assert_named(&record, &journal);
    eventually("the law raises it", || quota() != "20000 100000");
}
