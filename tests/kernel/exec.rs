//! A command beside a workload is in its namespaces and its cgroup, and ends with it and with who asked.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use bellows::journal::{Deed, What};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::boxed::{TENANT, all as attacks};
use crate::life::{is_deed, told};
use crate::rig::{Agent, eventually, held, is_launched, number, program, read};

const MIB: u64 = 1 << 20;

fn exec(agent: &Agent, command: &[&str]) -> Child {
    let mut beside = agent.command("exec");
    beside.args(["box", "--"]).args(command);
    beside.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bellows exec")
}

#[test]
fn a_command_beside_a_workload_is_inside_it() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let run = agent.run("box", "32M..256M", &[&load, "idle", "300"]);
    let launched = journal.wait("default/box", is_launched);
    let What::Launched { pid, .. } = launched.what else { unreachable!() };
    let spaces = ["pid", "mnt", "uts", "ipc", "cgroup"];
    let outside: Vec<String> = spaces
        .iter()
        .map(|space| fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("link").display().to_string())
        .collect();
    let links: Vec<String> = spaces.iter().map(|space| format!("/proc/self/ns/{space}")).collect();
    let script =
        format!("readlink {}; hostname; cat /proc/self/cgroup; ls -d /proc/[0-9]* | wc -l", links.join(" "));
    let said = told(&agent, "exec", &["box", "--", "sh", "-c", &script], 0);
    let shown: Vec<&str> = said.lines().collect();
    assert_eq!(shown[..5], outside, "{said}");
    assert_eq!(shown[5..7], ["box", "0::/"], "{said}");
    assert!(shown[7].trim().parse::<u32>().expect("a count") < 10, "its processes alone: {said}");
    let record = journal.wait("default/box", is_deed(&Deed::Executed { command: "sh".to_owned() }));
    assert!(record.by.is_some());
    told(&agent, "exec", &["box", "--", "sh", "-c", "exit 7"], 7);
    assert!(told(&agent, "exec", &["box", "--", "/nothing"], 1).contains("cannot execute /nothing"));
    told(&agent, "exec", &["nobody", "--", "true"], 4);

    // What it uses is the workload's.
    let cgroup = agent.tree.workload("box");
    let before = held(&cgroup);
    let mut grower = exec(&agent, &[&load, "grow", "60", "--hold-ms", "300000"]);
    eventually("it is charged to it", || held(&cgroup) >= before + 60 * MIB);
    assert!(number(&cgroup.join("memory.high")) > 60 * MIB, "and granted like any other use");
    // A signal goes on to it.
    kill(Pid::from_raw(grower.id().cast_signed()), Signal::SIGTERM).expect("signal");
    assert_eq!(grower.wait().expect("exec").code(), Some(143));
    let alone = || read(&cgroup.join("cgroup.procs")).lines().count() == 2;
    eventually("init and the command are left", alone);

    // It ends with who asked for it, and with the workload.
    let mut left = exec(&agent, &["sleep", "300"]);
    eventually("it runs", || !alone());
    left.kill().expect("kill");
    left.wait().expect("exec");
    eventually("it has ended", alone);
    told(&agent, "freeze", &["box"], 0);
    assert!(told(&agent, "exec", &["box", "--", "true"], 5).contains("default/box is frozen"));
    told(&agent, "thaw", &["box"], 0);
    let mut last = exec(&agent, &["sleep", "300"]);
    eventually("it runs", || !alone());
    told(&agent, "stop", &["box"], 0);
    assert_eq!(last.wait().expect("exec").code(), Some(137));
    assert_eq!(run.finish().code, 143);
    eventually("nothing is left of it", || !cgroup.exists());
}

/// A dead agent neither breaks a command off nor sets it free.
#[test]
fn a_command_outlives_the_agent_and_not_its_client() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _run = agent.run("box", "32M..128M", &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let procs = agent.tree.workload("box").join("cgroup.procs");
    let alone = || read(&procs).lines().count() == 2;
    let go = std::env::temp_dir().join(format!("go-{}", std::process::id()));
    let until = format!("until [ -e {} ]; do sleep 0.1; done; exit 7", go.display());
    let mut waits = exec(&agent, &["sh", "-c", &until]);
    let mut left = exec(&agent, &["sleep", "300"]);
    let mut told_to_end = exec(&agent, &["sleep", "300"]);
    eventually("all run", || read(&procs).lines().count() >= 8);
    agent.kill();
    fs::write(&go, "").expect("go");
    assert_eq!(waits.wait().expect("exec").code(), Some(7), "its end is told");
    fs::remove_file(&go).expect("go");
    left.kill().expect("kill");
    left.wait().expect("exec");
    assert!(!alone(), "one goes on");
    kill(Pid::from_raw(told_to_end.id().cast_signed()), Signal::SIGTERM).expect("signal");
    assert_eq!(told_to_end.wait().expect("exec").code(), Some(143));
    eventually("they have ended with their clients", alone);
    agent.restart();
    told(&agent, "exec", &["box", "--", "sh", "-c", "exit 7"], 7);
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
}

/// Whoever it is, and however soon: the kernel forgets with whom a process is to end when that becomes another user.
#[test]
fn a_command_ends_with_a_client_that_goes_at_any_moment() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _run = agent.run("box", "32M..128M", &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let procs = agent.tree.workload("box").join("cgroup.procs");
    let alone = || read(&procs).lines().count() == 2;
    for user in [&[][..], &["--user", "65534:65534"]] {
        for turn in 0..24 {
            let mut left = agent.command("exec");
            left.args(user).args(["box", "--", "sleep", "300"]);
            left.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut left = left.spawn().expect("bellows exec");
            // As a rule it has only just come into the cgroup then, and not executed.
            while alone() {
                assert!(left.try_wait().expect("exec").is_none(), "{user:?}: it ended by itself");
            }
            thread::sleep(Duration::from_millis(turn));
            left.kill().expect("kill");
            left.wait().expect("exec");
            eventually(&format!("{user:?}: it has ended, {turn} ms after it came"), alone);
        }
    }
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
}

/// Whoever is in the box could take over what enters it: so all that cannot be done from inside cannot be done by that either.
#[test]
fn a_command_that_enters_a_box_meets_its_walls() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.run_with("box", "32M..128M", &TENANT, &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let won = |agent: &Agent| told(agent, "exec", &["box", "--", "sh", "-c", &attacks()], 0);
    let users = |agent: &Agent| told(agent, "exec", &["box", "--", "cat", "/proc/self/uid_map"], 0);
    let mapped = users(&agent);
    assert!(mapped.split_whitespace().nth(1).is_some_and(|first| first != "0"), "{mapped}");
    assert_eq!(won(&agent), "done\n");
    // The next agent has not launched it, and finds its walls on its cgroup.
    agent.kill();
    agent.restart();
    assert_eq!((users(&agent), won(&agent)), (mapped, "done\n".to_owned()));
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
    assert_eq!(run.finish().code, 137);
}
