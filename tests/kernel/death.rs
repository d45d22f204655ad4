//! A dead or hung agent does no worse than a static limit at the ceiling: its watchdog opens the limits.

use std::fs;
use std::path::Path;

use bellows::journal::What;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::rig::{Agent, MIB, eventually, eventually_or_tell, is_grow, is_launched, number, read};

/// Grows for some seconds, beyond what was granted when the agent went away, and stays long enough to be looked at.
const GROW: &[&str] = &["grow", "240", "--pause-ms", "20", "--hold-ms", "4000"];

#[test]
fn workloads_outgrow_a_killed_agent() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("grower", "32M..512M", GROW);
    journal.wait("default/grower", is_grow);
    agent.signal(Signal::SIGKILL);
    let high = agent.tree.workload("grower").join("memory.high");
    eventually("the tripwire is out of the way", || number(&high) == u64::MAX);
    let max = number(&agent.tree.workload("grower").join("memory.max"));
    assert!((512 * MIB..=640 * MIB).contains(&max), "opened to the ceiling and a band, not to {max}");
    // No agent comes back, and yet its client learns how it ended: from its exit record.
    let finished = run.finish();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.err.contains("lost the agent"), "{finished:?}");
    assert!(finished.out.contains("grew 240 MiB"), "its output outlives the agent: {finished:?}");
    let kills = read(&agent.tree.workload("grower").join("memory.events"));
    assert!(kills.contains("oom_kill 0\n"), "{kills}");

    agent.restart();
    assert_eq!(agent.run("again", "16M..64M", &["true"]).finish().code, 0);
}

/// The watchdog leaves the limits to an agent that waits for the tree; but this one never takes it.
#[test]
fn limits_are_opened_though_the_next_agent_does_not_come() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let _one = agent.run("one", "32M..256M", &[&load, "idle", "300"]);
    journal.wait("default/one", is_launched);
    let workloads = fs::File::open(agent.tree.root.join("workloads")).expect("workloads/");
    let _waiting = Flock::lock(workloads, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("lock");
    agent.signal(Signal::SIGKILL);
    let high = agent.tree.workload("one").join("memory.high");
    eventually("the tripwire is out of the way", || number(&high) == u64::MAX);
}

#[test]
fn workloads_outgrow_a_stopped_agent_and_are_taken_back() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("grower", "32M..512M", GROW);
    journal.wait("default/grower", is_grow);
    agent.signal(Signal::SIGSTOP);
    let high = agent.tree.workload("grower").join("memory.high");
    eventually("the tripwire is out of the way", || number(&high) == u64::MAX);
    agent.signal(Signal::SIGCONT);
    journal.wait("default/grower", |w| matches!(w, What::TakenBack { .. }));
    eventually("it is governed again", || number(&high) < 512 * MIB);
    let finished = run.finish();
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
}

#[test]
fn told_to_end_it_leaves_workloads_running_or_ends_them() {
    let mut agent = Agent::start(&["--on-exit", "keep"]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let kept = agent.run("kept", "32M..256M", &[&load, "idle", "300"]);
    journal.wait("default/kept", is_launched);
    agent.signal(Signal::SIGTERM);
    assert!(agent.child.wait().expect("agent").success());
    let cgroup = agent.tree.workload("kept");
    assert!(read(&cgroup.join("cgroup.events")).contains("populated 1"));
    assert_eq!(number(&cgroup.join("memory.high")), u64::MAX, "squeezes are released");
    fs::write(cgroup.join("cgroup.kill"), "1").expect("kill");
    drop(kept);

    let mut agent = Agent::start(&["--on-exit", "stop"]);
    let mut journal = agent.follow();
    let ended = agent.run("ended", "32M..256M", &[&load, "idle", "300"]);
    journal.wait("default/ended", is_launched);
    agent.signal(Signal::SIGTERM);
    assert!(agent.child.wait().expect("agent").success());
    assert!(!agent.tree.workload("ended").exists());
    assert_ne!(ended.finish().code, 0);
}

/// By hand: with an agent through it, without one on the tree itself.
#[test]
fn release_opens_everything() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let _one = agent.run("one", "32M..256M", &[&load, "idle", "300"]);
    journal.wait("default/one", is_launched);
    let high = agent.tree.workload("one").join("memory.high");
    assert_eq!(number(&high), 32 * MIB);
    let output = agent.output("release", &["--all", "--json"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"workloads\":1,\"failed\":0}\n");
    assert_eq!(number(&high), u64::MAX);

    agent.signal(Signal::SIGKILL);
    let _ = agent.child.wait();
    eventually("the watchdog is done", || {
        agent.tree.root.join("supervisor/cgroup.procs").exists()
            && read(&agent.tree.root.join("supervisor/cgroup.procs")).is_empty()
    });
    fs::write(&high, (32 * MIB).to_string()).expect("arm again");
    let root = agent.tree.root.display().to_string();
    let output = agent.output("release", &["--all", "--root", &root]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(number(&high), u64::MAX);
}

/// Without its watchdog a dead agent would leave limits as they are: a lost one is replaced.
#[test]
fn a_killed_watchdog_is_replaced() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let supervisor = agent.tree.root.join("supervisor/cgroup.procs");
    let watchdog = || {
        let pids = read(&supervisor);
        pids.lines().filter_map(|p| p.parse::<i32>().ok()).find(|&p| p != agent.child.id().cast_signed())
    };
    let first = watchdog().expect("a watchdog");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).expect("kill");
    journal.wait("", |w| matches!(w, What::Trouble { text } if text.contains("watchdog is gone")));
    eventually("another one is there", || watchdog().is_some_and(|pid| pid != first));
    assert!(agent.http("/metrics").contains("bellows_watchdog_restarts_total 1\n"));
}

/// Somebody kills all of it, agent and watchdog too, as one may who wants to be rid of everything. The next agent starts workloads.
#[test]
fn a_tree_that_was_killed_whole_is_used_again() {
    let mut agent = Agent::start(&[]);
    fs::write(agent.tree.root.join("cgroup.kill"), "1").expect("kill");
    agent.restart();
    let finished = agent.run("after", "16M..64M", &["true"]).finish();
    assert_eq!(finished.code, 0, "{finished:?}");
}

/// Under memory pressure the agent reads nothing of itself from disk, and what it keeps for that is the program: no stacks of threads.
#[test]
fn the_program_alone_is_locked_into_memory() {
    let agent = Agent::start(&[]);
    let of_agent = |file: &str| read(Path::new(&format!("/proc/{}/{file}", agent.child.id())));
    let maps = of_agent("maps");
    let sizes = maps.lines().filter(|line| line.ends_with("/bellows")).map(|line| {
        let (start, end) =
            line.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        u64::from_str_radix(end, 16).expect("hex") - u64::from_str_radix(start, 16).expect("hex")
    });
    let program = sizes.sum::<u64>() / 1024;
    let locked = || -> u64 {
        let status = of_agent("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("VmLck");
        line.trim().trim_end_matches(" kB").parse().expect("KiB")
    };
    let told = || format!("{} KiB of a program of {program}", locked());
    eventually_or_tell("the program is locked, and nothing else", || locked() == program, told);
}
