//! An agent that starts on a tree with workloads in it governs them again: limits, output and exit codes go on.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use bellows::journal::What;
use nix::sys::signal::Signal;

use crate::rig::{Agent, MIB, eventually, held, is_grow, is_launched, number, program, read};

pub(crate) fn is_taken_over(what: &What) -> bool {
    matches!(what, What::TakenOver { .. })
}

/// Numbers from 1 to 40, one each 100 ms, and a code that is not usual. Each pause is a program to be started: few of them, so
/// that a slow machine is done in time.
const COUNT: &[&str] =
    &["sh", "-c", "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 5"];

/// The numbers from 1 on, one a line.
pub(crate) fn lines_to(last: usize) -> String {
    (1..=last).map(|n| n.to_string() + "\n").collect()
}

/// `memory.high` and `memory.max` never leave the bounds, whoever wrote them.
fn assert_bounds(cgroup: &Path, floor: u64, ceiling: u64) {
    let (high, max) = (number(&cgroup.join("memory.high")), number(&cgroup.join("memory.max")));
    assert!(high == u64::MAX || (floor..=ceiling).contains(&high), "high {high}");
    assert!((floor + 4 * MIB..=ceiling + ceiling / 4).contains(&max), "max {max}");
}

#[test]
fn a_killed_agent_is_followed_by_another_under_load() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let grower = agent.load("grower", "32M..512M", &["grow", "240", "--pause-ms", "20", "--hold-ms", "500"]);
    let counter = agent.run("counter", "16M..64M", COUNT);
    journal.wait("default/counter", is_launched);
    journal.wait("default/grower", is_grow);
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    let record = journal.wait("default/grower", is_taken_over);
    let What::TakenOver { limits, .. } = record.what else { unreachable!() };
    assert!((32 * MIB..=512 * MIB).contains(&limits.high.0), "{limits}");
    assert_bounds(&agent.tree.workload("grower"), 32 * MIB, 512 * MIB);
    journal.wait("default/counter", is_taken_over);
    journal.wait("default/grower", is_grow);
    let listed = String::from_utf8_lossy(&agent.output("ps", &[]).stdout).into_owned();
    assert!(listed.contains("default/grower") && listed.contains("running"), "{listed}");
    assert!(agent.http("/metrics").contains("bellows_workloads_taken_over_total 2\n"));

    let grower = grower.finish();
    assert!(agent.http("/metrics").contains("bellows_foreign_writes_total 0\n"), "{}", journal.told());
    assert_eq!(grower.code, 0, "{grower:?}\n{}", journal.told());
    assert!(grower.out.contains("grew 240 MiB"), "{grower:?}");
    assert!(grower.err.contains("waiting for it to come back"), "{grower:?}");
    let counter = counter.finish();
    assert_eq!((counter.code, counter.out), (5, lines_to(40)), "{}", counter.err);
    journal.wait("default/counter", |w| matches!(w, What::Ended { code: 5, .. }));
    eventually("nothing is left of it", || !agent.tree.workload("counter").exists());
}

/// What a stop opened, the next start takes back to where it was.
#[test]
fn a_stop_and_a_start_go_back_to_the_limits_in_force() {
    let mut agent = Agent::start(&["--on-exit", "keep"]);
    let mut journal = agent.follow();
    let run = agent.load("holder", "32M..512M", &["grow", "100", "--hold-ms", "20000"]);
    let cgroup = agent.tree.workload("holder");
    eventually("it has grown", || held(&cgroup) >= 100 * MIB);
    journal.wait("default/holder", is_grow);
    let settled = || {
        let (before, after) = (number(&cgroup.join("memory.high")), {
            std::thread::sleep(std::time::Duration::from_millis(300));
            number(&cgroup.join("memory.high"))
        });
        before == after
    };
    eventually("its limit rests", settled);
    let high = number(&cgroup.join("memory.high"));
    agent.signal(Signal::SIGTERM);
    assert!(agent.child.wait().expect("agent").success());
    assert_eq!(number(&cgroup.join("memory.high")), u64::MAX);
    agent.restart();
    let mut journal = agent.follow();
    let record = journal.wait("default/holder", is_taken_over);
    let What::TakenOver { found_high, limits, .. } = record.what else { unreachable!() };
    assert_eq!((found_high, limits.high.0), (None, high), "{limits}");
    eventually("the tripwire stands again", || number(&cgroup.join("memory.high")) < u64::MAX);
    let back = number(&cgroup.join("memory.high"));
    assert!((high..=512 * MIB).contains(&back), "{back} after {high}");
    assert!(read(&cgroup.join("memory.events")).contains("oom_kill 0\n"));
    let killed = agent.output("kill", &["--signal", "TERM", "holder"]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(run.finish().code, 143);
}

#[test]
fn a_new_binary_takes_over_under_load() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let counter = agent.run("counter", "16M..64M", COUNT);
    journal.wait("default/counter", is_launched);
    let directory = agent.runtime_dir.join("new");
    fs::create_dir(&directory).expect("directory");
    for name in ["bellows", "bellows-init"] {
        fs::copy(program(name), directory.join(name)).expect("copy");
    }
    agent.kill();
    agent.program = directory.join("bellows");
    agent.restart();
    let running = fs::read_link(format!("/proc/{}/exe", agent.child.id())).expect("exe");
    assert_eq!(running, agent.program);
    agent.follow().wait("default/counter", is_taken_over);
    assert_eq!(agent.run("fresh", "16M..64M", &["sh", "-c", "exit 3"]).finish().code, 3);
    println!("memory.events of the counter: {}", read(&agent.tree.workload("counter").join("memory.events")));
    let counter = counter.finish();
    assert_eq!((counter.code, counter.out), (5, lines_to(40)), "{}", counter.err);
}

#[test]
fn foreign_writes_are_told_and_put_back() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let _run = agent.run("victim", "32M..128M", &[&load, "idle", "300"]);
    journal.wait("default/victim", is_launched);
    let cgroup = agent.tree.workload("victim");
    let high = number(&cgroup.join("memory.high"));
    fs::write(cgroup.join("memory.high"), (48 * MIB).to_string()).expect("write");
    fs::write(cgroup.join("memory.max"), "max").expect("write");
    for name in ["memory.high", "memory.max"] {
        journal.wait("default/victim", |w| matches!(w, What::ForeignWrite { file, .. } if file == name));
    }
    eventually("the limits are put back", || {
        number(&cgroup.join("memory.high")) == high && number(&cgroup.join("memory.max")) <= 160 * MIB
    });
    assert!(agent.http("/metrics").contains("bellows_foreign_writes_total 2\n"));
}

/// Half-made cgroups are removed; what lives and is not certain to be ours is left alone, and its memory is counted.
#[test]
fn leftovers_are_removed_and_strangers_left_alone() {
    let mut agent = Agent::start(&["--capacity", "1G", "--reserve", "100M"]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let _run = agent.run("ours", "16M..64M", &[&load, "idle", "300"]);
    journal.wait("default/ours", is_launched);
    agent.kill();
    let workloads = agent.tree.root.join("workloads");
    let alien = workloads.join("default/alien");
    for path in [&workloads.join("default/half"), &workloads.join("empty"), &alien] {
        fs::create_dir(path).expect("directory");
    }
    fs::write(alien.join("memory.max"), (600 * MIB).to_string()).expect("limit");
    let procs = alien.join("cgroup.procs");
    let mut sleeper = Command::new("sleep");
    sleeper.arg("300").stdout(Stdio::null()).process_group(0);
    let mut sleeper = sleeper.spawn().expect("sleep");
    fs::write(&procs, sleeper.id().to_string()).expect("move");

    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/ours", is_taken_over);
    journal.wait("", |w| matches!(w, What::ForeignCgroup { name } if name == "default/alien"));
    journal.wait("", |w| matches!(w, What::LeftoverRemoved { name } if name == "default/half"));
    assert!(!workloads.join("default/half").exists() && !workloads.join("empty").exists());
    assert_eq!(read(&procs).trim(), sleeper.id().to_string(), "left alone");
    // 924 MiB to grant, 616 of them are taken.
    let refused = agent.run("room", "400M..500M", &["true"]).finish();
    assert_eq!(refused.code, 5, "{refused:?}");
    sleeper.kill().expect("kill");
    sleeper.wait().expect("sleep");
}

#[test]
fn a_hundred_workloads_are_taken_over_at_once() {
    const COUNT: usize = 100;
    let mut agent = Agent::start(&["--capacity", "8G"]);
    let load = program("bellows-load").display().to_string();
    let runs: Vec<_> =
        (0..COUNT).map(|n| agent.run(&format!("w{n}"), "4M..64M", &[&load, "idle", "600"])).collect();
    let metrics = |agent: &Agent, line: &str| agent.http("/metrics").contains(line);
    eventually("all run", || {
        agent.http("/api/v1/workloads").matches("\"state\":\"running\"").count() == COUNT
    });
    agent.kill();
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).expect("time");
    agent.restart();
    let mut journal = agent.follow();
    let last = (0..COUNT).map(|n| journal.wait(&format!("default/w{n}"), is_taken_over).unix_ns).max();
    let took = u128::from(last.expect("records")) - killed.as_nanos();
    println!("{COUNT} workloads taken over {} ms after the new agent was started", took / 1_000_000);
    let told = agent.http("/metrics");
    println!("{}", told.lines().find(|l| l.starts_with("bellows_takeover_seconds ")).expect("metric"));
    assert!(metrics(&agent, &format!("bellows_workloads_taken_over_total {COUNT}\n")));
    for n in 0..COUNT {
        let cgroup = agent.tree.workload(&format!("w{n}"));
        assert!(read(&cgroup.join("cgroup.events")).contains("populated 1"));
        eventually("it is governed", || number(&cgroup.join("memory.high")) <= 64 * MIB);
        assert_bounds(&cgroup, 4 * MIB, 64 * MIB);
    }
    drop(runs);
}
