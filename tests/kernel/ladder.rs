//! The ladder of the squeeze, climbed and descended on a real kernel: who matters gets what it needs, the least important
//! gives way first and little by little, and nobody is frozen or killed without having opted in.

use bellows::journal::{Ease, Kind, Record, What};
use bellows_policies::ladder::Grip;
use bellows_policies::{Reason, Verb};

use crate::held::big_file;
use crate::policies::Policies;
use crate::rig::{
    Agent, Follower, MIB, Run, Tree, eventually, held, is_ended, is_launched, number, program, read,
};

/// 336 MiB to grant. The node's own shortage is no part of this, and holds are short.
const NODE: &str = "[node]\ncapacity = \"400M\"\nreserve = \"64M\"\npressure.available_least = 0.0\n\
                    pressure.available_low = 0.0\npressure.swap_low = 0.0\nsqueeze.hold_ms = 2000\n";
/// Nor are its cpus': the guard would have shed the quotas before any of them could be lent.
const UNGUARDED: &str = "[cpu]\nslow_at = 1.0\nstop_at = 1.0\n";

const NONE: [u64; 0] = [];

fn is_squeezed(wanted: Grip) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Squeezed { grip, .. } if *grip == wanted)
}

fn is_eased(wanted: Grip) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Eased { grip, .. } if *grip == wanted)
}

fn is_move(wanted: Reason) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::LimitsMoved { verb: Verb::Shrink, reason, .. } if *reason == wanted)
}

fn run(agent: &Agent, tenant: &str, name: &str, class: &str, command: &[&str]) -> Run {
    let cpu: &[&str] =
        if matches!(class, "latency" | "standard" | "front") { &[] } else { &["--cpu", "0.1..0.3"] };
    let flags = [&["--tenant", tenant, "--class", class], cpu].concat();
    agent.run_with(name, "16M..300M", &flags, command)
}

fn load() -> String {
    program("bellows-load").display().to_string()
}

/// Ids of the records that fit.
fn ids(journal: &mut Follower, workload: &str, wanted: impl Fn(&What) -> bool) -> Vec<u64> {
    let _ = journal.of(workload);
    let fits = |r: &&Record| (workload.is_empty() || &*r.workload == workload) && wanted(&r.what);
    journal.seen.iter().filter(fits).map(|record| record.id).collect()
}

/// Three tenants on a budget that is sold three times over. A latency tenant grows, and everybody else gives way: slack, cold
/// cache, part of the quotas of batch, at last the least important one as a whole; and gets all of it back in reverse order.
#[test]
#[expect(clippy::too_many_lines, reason = "one climb, told in its order")]
fn the_ladder_is_climbed_rung_by_rung_and_descended() {
    // What is not used stays granted until somebody asks for it; and who grows cannot help itself by swapping.
    let rungs =
        "memory.slack_hold_ms = 600000\nsqueeze.rungs = [\"slack\", \"reclaim\", \"cpu\", \"freeze\"]\n";
    let text = format!(
        "{NODE}[class.light]\ninherits = \"batch\"\nweight = 20\n{rungs}\
         [class.heavy]\ninherits = \"batch\"\nweight = 80\n{rungs}\
         [class.front]\ninherits = \"latency\"\nmemory.swap_max = \"none\"\n"
    );
    let policies = Policies::new("ladder", &text);
    let config = std::env::temp_dir().join("bellows-ladder-config.toml");
    std::fs::write(&config, UNGUARDED).expect("configuration");
    let agent = policies.agent_with(Tree::new(), &["--config", config.to_str().expect("utf-8")]);
    let mut journal = agent.follow();
    let (load, file) = (load(), big_file().display().to_string());
    // There from the beginning: when the others have grown there is no room for its floor.
    let go = agent.runtime_dir.join("go");
    let waits = format!("until [ -e {} ]; do sleep 0.1; done", go.display());
    let front = format!("{waits}; exec {load} grow 225 --hold-ms 4000");
    let front = run(&agent, "web", "front", "front", &["sh", "-c", &front]);
    journal.wait("web/front", is_launched);
    // Each burns cpu, so that there is a quota to lend.
    let light = format!(
        "{load} burn --seconds 600 & {load} grow 110 --pause-ms 10; exec {load} grow 80 --pause-ms 10 --hold-ms 600000"
    );
    let has_read = agent.runtime_dir.join("read");
    let heavy = format!(
        "{load} grow 100 --pause-ms 10; {load} read {file} 6; touch {}; exec {load} burn --seconds 600",
        has_read.display()
    );
    let _light = run(&agent, "jobs", "light", "light", &["sh", "-c", &light]);
    let _standard = run(
        &agent,
        "shop",
        "standard",
        "standard",
        &[&load, "grow", "20", "--pause-ms", "20", "--hold-ms", "600000"],
    );
    let workload = |path: &str| agent.tree.root.join("workloads").join(path);
    eventually("the light one holds what it needs", || held(&workload("jobs/light")) > 80 * MIB);
    let _heavy = run(&agent, "jobs", "heavy", "heavy", &["sh", "-c", &heavy]);
    eventually("the heavy one has filled its grant with cache", || has_read.exists());
    let cache = crate::rig::field(&workload("jobs/heavy").join("memory.stat"), "file");
    assert!(cache > 50 * MIB, "{cache} bytes of cache\n{}", journal.told());
    eventually("the light one holds what it needs, and no more", || {
        (80 * MIB..100 * MIB).contains(&held(&workload("jobs/light")))
    });

    eventually("both have a quota to lend of", || {
        ["jobs/light", "jobs/heavy"]
            .iter()
            .all(|path| read(&workload(path).join("cpu.max")) == "30000 100000\n")
    });

    std::fs::write(&go, "").expect("go");
    let finished = front.finish();
    journal.wait("web/front", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());

    // Up, rung by rung: the first act of each on behalf of whoever grew. Slack is left out: whether there is any at first is a
    // matter of who used what last, and what was taken of the frozen makes some.
    let for_front = |grip: Grip| move |what: &What| matches!(what, What::Squeezed { grip: found, waiter, .. } if *found == grip && &**waiter == "web/front");
    let first = [
        ids(&mut journal, "", is_move(Reason::CacheSqueezed)),
        ids(&mut journal, "", for_front(Grip::Cpu)),
        ids(&mut journal, "", for_front(Grip::Freeze)),
        ids(&mut journal, "", |what| matches!(what, What::Reclaimed { reason: Reason::FrozenReclaimed, .. })),
    ]
    .map(|ids| ids.first().copied().unwrap_or(u64::MAX));
    assert!(first.is_sorted() && first[3] < u64::MAX, "{first:?}\n{}", journal.told());

    // Who is least important by its weight gives first and most, and who has not opted in stays as it is.
    let frozen = ids(&mut journal, "jobs/light", is_squeezed(Grip::Freeze));
    assert_eq!(frozen.first(), Some(&first[2]), "{}", journal.told());
    for spared in ["shop/standard", "web/front"] {
        assert_eq!(ids(&mut journal, spared, |what| matches!(what, What::Squeezed { .. })), NONE);
    }
    // Of what is used: a quota that nobody uses holds nobody back.
    let part = |journal: &mut Follower, workload: &str| {
        let moves = journal.of(workload);
        let lent = moves.iter().find_map(|what| match what {
            What::QuotaMoved { reason: Reason::CpuSqueezed, evidence, .. } => Some(evidence.part),
            _ => None,
        });
        lent.unwrap_or_default()
    };
    let (light, heavy) = (part(&mut journal, "jobs/light"), part(&mut journal, "jobs/heavy"));
    assert!(
        light > heavy,
        "{light} of the light one's quota, {heavy} of the heavy one's\n{}",
        journal.told()
    );
    assert_eq!(ids(&mut journal, "", is_squeezed(Grip::Kill)), NONE);

    // Down, in reverse order, by itself.
    journal.wait("jobs/light", is_eased(Grip::Freeze));
    journal.wait("jobs/light", is_eased(Grip::Cpu));
    let thawed = ids(&mut journal, "", is_eased(Grip::Freeze));
    let given_back = ids(&mut journal, "", |what| {
        is_eased(Grip::Cpu)(what) && !matches!(what, What::Eased { why: Ease::Signaled, .. })
    });
    assert!(thawed.last() < given_back.last(), "{}", journal.told());
    eventually("everybody runs", || {
        ["jobs/light", "jobs/heavy"].iter().all(|path| read(&workload(path).join("cgroup.freeze")) == "0\n")
    });
    for path in ["jobs/light", "jobs/heavy", "shop/standard"] {
        let cgroup = workload(path);
        assert!(read(&cgroup.join("cgroup.events")).contains("populated 1"), "{path} lives");
        assert_eq!(crate::rig::field(&cgroup.join("memory.events"), "oom_kill"), 0, "{path}");
        assert_eq!(number(&cgroup.join("memory.low")), 16 * MIB, "{path}: its floor is protected");
    }
    let below = |what: &What| matches!(what, What::LimitsMoved { to, .. } if to.high.0 < 16 * MIB);
    assert_eq!(ids(&mut journal, "", below), NONE, "floors hold");
    let metrics = agent.http("/metrics");
    for line in ["bellows_squeeze_acts_total{rung=\"kill\"} 0", "bellows_squeeze_leases{rung=\"freeze\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
    let told = agent.output("explain", &[&first[2].to_string()]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for words in ["frozen for web/front", "given before by slack", "quotas lowered before"] {
        assert!(told.contains(words), "{words}\n{told}");
    }
}

/// Where killing is opted in to, the least important one is killed, with an incident that shows what it was; and one is enough.
#[test]
fn a_kill_takes_the_least_important_one_and_no_more() {
    let rungs = "squeeze.rungs = [\"slack\", \"reclaim\", \"kill\"]\n";
    let text = format!(
        "{NODE}[class.least]\ninherits = \"batch\"\npriority = 50\n{rungs}[class.more]\ninherits = \"batch\"\n{rungs}"
    );
    let policies = Policies::new("kill", &text);
    // Who waits cannot help itself by swapping.
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let load = load();
    let holds = |mib: &'static str| [load.as_str(), "grow", mib, "--hold-ms", "600000"];
    let least = run(&agent, "jobs", "least", "least", &holds("80"));
    let _more = run(&agent, "jobs", "more", "more", &holds("110"));
    let workload = |name: &str| agent.tree.root.join("workloads/jobs").join(name);
    eventually("both have grown", || {
        held(&workload("least")) > 80 * MIB && held(&workload("more")) > 110 * MIB
    });
    let front = run(&agent, "web", "front", "latency", &[&load, "grow", "180", "--hold-ms", "8000"]).finish();
    assert_eq!(front.code, 0, "{front:?}\n{}", journal.told());
    journal.wait("web/front", is_ended);
    assert_eq!(least.finish().code, 137);
    let killed = ids(&mut journal, "", is_squeezed(Grip::Kill));
    let of_least = ids(&mut journal, "jobs/least", is_squeezed(Grip::Kill));
    assert_eq!((killed.len(), &killed), (1, &of_least), "{}", journal.told());
    let is_seen = |what: &What| {
        let What::Incident(incident) = what else { return false };
        let comm = incident.snapshot.as_ref().and_then(|seen| seen.processes.first()).map(|p| p.comm.clone());
        incident.kind == Kind::Sacrificed && comm.as_deref() == Some("bellows-load")
    };
    let seen = ids(&mut journal, "jobs/least", is_seen);
    let ended = ids(&mut journal, "jobs/least", is_ended);
    assert!(seen.len() == 1 && seen < ended, "{}", journal.told());
    assert!(read(&workload("more").join("cgroup.events")).contains("populated 1"), "the other one lives");
}

/// A world in which the least important workload has been frozen for somebody who still runs.
pub(crate) fn frozen() -> (Policies, Agent, Follower, [Run; 2]) {
    let text = format!("{NODE}squeeze.hold_most_ms = 600000\n[class.batch]\nsqueeze.rungs = [\"freeze\"]\n")
        .replace("squeeze.hold_ms = 2000", "squeeze.hold_ms = 300000");
    let policies = Policies::new("frozen", &text);
    let agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let load = load();
    let least = run(&agent, "default", "least", "batch", &[&load, "grow", "150", "--hold-ms", "600000"]);
    eventually("it has grown", || held(&agent.tree.workload("least")) > 150 * MIB);
    let front = run(&agent, "default", "front", "latency", &[&load, "grow", "220", "--hold-ms", "600000"]);
    journal.wait("default/least", is_squeezed(Grip::Freeze));
    eventually("who waited has what it needs", || held(&agent.tree.workload("front")) > 220 * MIB);
    let events = agent.tree.workload("least").join("cgroup.events");
    assert!(read(&events).contains("frozen 1"), "{}", read(&events));
    (policies, agent, journal, [least, front])
}

fn runs(agent: &Agent) -> bool {
    read(&agent.tree.workload("least").join("cgroup.events")).contains("frozen 0")
}

#[test]
fn who_is_frozen_runs_again_when_the_agent_dies() {
    let (_policies, mut agent, journal, _runs) = frozen();
    let listed = String::from_utf8_lossy(&agent.output("ps", &[]).stdout).into_owned();
    assert!(listed.lines().any(|line| line.contains("least") && line.contains("frozen")), "{listed}");
    let told = String::from_utf8_lossy(&agent.output("explain", &["default/least"]).stdout).into_owned();
    assert!(told.contains("it is frozen, for default/front (record "), "{told}");
    drop(journal);
    agent.kill();
    eventually("the watchdog has thawed it", || runs(&agent));
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/least", |what| matches!(what, What::TakenOver { .. }));
    let elsewhere =
        |what: &What| matches!(what, What::Eased { grip: Grip::Freeze, why: Ease::Elsewhere, .. });
    journal.wait("default/least", elsewhere);
    assert!(runs(&agent));
    let listed = String::from_utf8_lossy(&agent.output("ps", &[]).stdout).into_owned();
    assert!(!listed.contains("frozen"), "{listed}");
}

#[test]
fn a_release_thaws() {
    let (_policies, agent, mut journal, _runs) = frozen();
    let released = agent.output("release", &["--all"]);
    assert!(released.status.success(), "{released:?}");
    assert!(runs(&agent), "at once");
    let by_release =
        |what: &What| matches!(what, What::Eased { grip: Grip::Freeze, why: Ease::Released, .. });
    journal.wait("default/least", by_release);
}

/// The node itself is short of memory, by a policy that asks for more than a machine can have; when another policy says that
/// it is well, whoever was frozen for it is thawed.
#[test]
fn the_node_waits_too() {
    let text = |available: &str| {
        format!(
            "[node]\npressure.available_least = {available}\npressure.available_low = {available}\n\
             squeeze.hold_ms = 1000\n[class.batch]\nsqueeze.rungs = [\"slack\", \"reclaim\", \"freeze\"]\n"
        )
    };
    let policies = Policies::new("node", &text("1.0"));
    let agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let _batch = run(&agent, "default", "batch", "batch", &[&load(), "grow", "60", "--hold-ms", "600000"]);
    let _standard =
        run(&agent, "default", "standard", "standard", &[&load(), "grow", "60", "--hold-ms", "600000"]);
    journal.wait("default/standard", is_launched);
    let record = journal.wait("default/batch", is_squeezed(Grip::Freeze));
    assert!(matches!(&record.what, What::Squeezed { waiter, .. } if waiter.is_empty()), "{record:?}");
    policies.write(&text("0.0"));
    let over = |what: &What| matches!(what, What::Eased { grip: Grip::Freeze, why: Ease::PressureGone, .. });
    journal.wait("default/batch", over);
    let spared = ids(&mut journal, "default/standard", |what| matches!(what, What::Squeezed { .. }));
    assert_eq!(spared, NONE, "{}", journal.told());
    assert!(agent.http("/metrics").contains("\nbellows_node_memory_missing_bytes 0\n"));
}
