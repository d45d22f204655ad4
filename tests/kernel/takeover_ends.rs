//! What ends while no agent runs is told truthfully by the next one, and by exit records meanwhile.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bellows::journal::What;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::life::told;
use crate::rig::{Agent, MIB, Tree, eventually, is_ended, is_launched, number, program, read};

#[test]
fn ends_in_the_gap_are_told_by_the_next_agent() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let flag = agent.runtime_dir.join("flag").display().to_string();
    let load = program("bellows-load").display().to_string();
    let script = |then: &str| format!("until [ -e {flag} ]; do sleep 0.05; done; {then}");
    let start = |name: &str, then: &str| agent.run(name, "16M..64M", &["sh", "-c", &script(then)]);
    let exits = start("exits", "exit 3");
    let killed = start("killed", "sleep 300");
    let eater = start("eater", &format!("exec {load} grow 400"));
    for name in ["default/exits", "default/killed", "default/eater"] {
        journal.wait(name, is_launched);
    }
    let ids: Vec<u64> = ["exits", "killed", "eater"]
        .iter()
        .map(|name| fs::metadata(agent.tree.workload(name)).expect("cgroup").ino())
        .collect();
    agent.kill();
    fs::write(&flag, "").expect("flag");
    fs::write(agent.tree.workload("killed").join("cgroup.kill"), "1").expect("kill");
    for name in ["exits", "killed", "eater"] {
        let events = agent.tree.workload(name).join("cgroup.events");
        eventually("it ends", || read(&events).contains("populated 0"));
    }
    // Nobody is needed for what its init wrote.
    let finished = exits.finish();
    assert_eq!(finished.code, 3, "{finished:?}");

    agent.restart();
    let mut journal = agent.follow();
    for (name, code) in [("default/exits", 3), ("default/killed", 137), ("default/eater", 137)] {
        journal.wait(name, |w| matches!(w, What::Ended { code: told, .. } if *told == code));
        eventually("nothing is left of it", || !agent.tree.root.join("workloads").join(name).exists());
    }
    let finished = killed.finish();
    assert_eq!(finished.code, 137, "{finished:?}");
    assert!(finished.err.contains("signal 9 (SIGKILL)"), "{finished:?}");
    let finished = eater.finish();
    assert_eq!(finished.code, 137, "{finished:?}");
    assert!(finished.err.contains("out of memory"), "{finished:?}");

    // And those who ask late are answered by a third one, which saw nothing of it.
    agent.kill();
    agent.restart();
    for (id, code) in ids.iter().zip([3, 137, 137]) {
        let answer = ask(&agent, &format!("/api/v1/exits/{id}"));
        assert!(answer.contains(&format!("\"code\":{code}")), "{id}: {answer}");
    }
}

/// An end that one agent told and another is asked for.
#[test]
fn ends_are_remembered_across_a_restart() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let flag = agent.runtime_dir.join("flag").display().to_string();
    let script = format!("until [ -e {flag} ]; do sleep 0.05; done; exit 9");
    let run = agent.run("early", "16M..64M", &["sh", "-c", &script]);
    journal.wait("default/early", is_launched);
    let id = fs::metadata(agent.tree.workload("early")).expect("cgroup").ino();
    fs::write(&flag, "").expect("flag");
    journal.wait("default/early", is_ended);
    assert_eq!(run.finish().code, 9);
    agent.kill();
    agent.restart();
    let answer = ask(&agent, &format!("/api/v1/exits/{id}"));
    assert!(answer.contains("\"code\":9"), "{answer}");
    let answer = ask(&agent, "/api/v1/exits/1");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// It ends while no agent runs, and its record is gone: nobody can know how.
#[test]
fn whose_end_nobody_knows_is_lost_and_started_again_where_failures_are() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    for (name, rule) in [("once", "never"), ("again", "on-failure")] {
        let flags = ["--name", name, "--memory", "16M..64M", "-d", "--restart", rule];
        told(&agent, "run", &[&flags[..], &["--", "sleep", "300"]].concat(), 0);
        journal.wait(&format!("default/{name}"), is_launched);
    }
    agent.kill();
    for name in ["once", "again"] {
        let cgroup = agent.tree.workload(name);
        let id = fs::metadata(&cgroup).expect("cgroup").ino();
        fs::write(cgroup.join("cgroup.kill"), "1").expect("kill");
        eventually("it ends", || read(&cgroup.join("cgroup.events")).contains("populated 0"));
        fs::remove_file(agent.runtime_dir.join("exits").join(id.to_string())).expect("record");
    }
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/once", is_ended);
    eventually("one is lost, and the other one runs", || {
        let listed = told(&agent, "ps", &["--json"], 0);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("json");
        let is =
            |name: &str, state: &str| rows.iter().any(|row| row["name"] == name && row["state"] == state);
        is("once", "lost") && is("again", "running")
    });
    let listed = told(&agent, "ps", &["--json"], 0);
    assert!(listed.contains("nobody knows how it ended: its exit record is gone"), "{listed}");
    told(&agent, "rm", &["once"], 0);
    told(&agent, "stop", &["again"], 0);
}

/// It takes longer to die than an agent to come: it is no foreigner.
#[test]
fn who_is_still_dying_is_told_by_the_next_agent() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let run = agent.run_with("large", "512M..1G", &["--cpu", "0.1..1"], &LARGE);
    dies_slowly(&mut agent, |cgroup, _| fs::write(cgroup.join("cgroup.kill"), "1").expect("kill"));
    assert_eq!(run.finish().code, 137);
}

/// What writes its log lives until all who could say something are gone.
#[test]
fn who_is_still_dying_may_have_a_log() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let flags = ["--detach", "--name", "large", "--memory", "512M..1G", "--cpu", "0.1..1", "--"];
    told(&agent, "run", &[&flags[..], &LARGE].concat(), 0);
    dies_slowly(&mut agent, |_, init| kill(Pid::from_raw(init), Signal::SIGKILL).expect("kill"));
    assert!(told(&agent, "ps", &[], 0).contains("failed"));
}

const LARGE: [&str; 3] = ["perl", "-e", "my $x = 'x' x (400 << 20); sleep 300"];

/// It is killed while there is no agent, and takes longer to die than the next one needs to come.
fn dies_slowly(agent: &mut Agent, kill: impl FnOnce(&Path, i32)) {
    let What::Launched { pid, .. } = agent.follow().wait("default/large", is_launched).what else {
        unreachable!()
    };
    let cgroup = agent.tree.workload("large");
    eventually("it has its memory", || number(&cgroup.join("memory.current")) > 390 * MIB);
    agent.kill();
    eventually("the watchdog has opened its limits", || read(&cgroup.join("memory.high")).starts_with("max"));
    // So little that it takes long to give its memory back; no burst may be above it.
    fs::write(cgroup.join("cpu.max.burst"), "0").expect("burst");
    fs::write(cgroup.join("cpu.max"), "1000 100000").expect("quota");
    kill(&cgroup, pid);
    // It waits for all in its namespace, but no longer in its cgroup.
    let init = pid.to_string();
    eventually("its init has gone", || !read(&cgroup.join("cgroup.procs")).lines().any(|pid| pid == init));
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/large", |w| matches!(w, What::Ended { code: 137, .. }));
    eventually("nothing is left of it", || !cgroup.exists());
}

fn ask(agent: &Agent, path: &str) -> String {
    let mut stream = UnixStream::connect(agent.runtime_dir.join("api.sock")).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answer");
    text
}
