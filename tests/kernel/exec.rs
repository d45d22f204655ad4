//! A command beside a workload is in its namespaces and its cgroup, and ends with it and with who asked.

use std::fs;
use std::path::Path;
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
    // The fourth is the listing's own: nothing of what the one that entered has open.
    let said = told(&agent, "exec", &["box", "--", "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"], 0);
    assert_eq!(said, "0 1 2 3 ");
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
        for turn in 0..16 {
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

    // Nor does it take rights that the box has not: init has them to send it signals.
    let flags = [&TENANT[..], &["--cap-drop", "kill"]].concat();
    let _walled = agent.run_with("walled", "32M..128M", &flags, &["sleep", "300"]);
    journal.wait("default/walled", is_launched);
    let procs = agent.tree.workload("walled").join("cgroup.procs");
    let alone = || read(&procs).lines().count() == 2;
    for ends in [Signal::SIGKILL, Signal::SIGINT] {
        let mut left = agent.command("exec");
        left.args(["--user", "65534:65534", "walled", "--", "sleep", "300"]);
        left.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut left = left.spawn().expect("bellows exec");
        eventually("it is another user's", || {
            let of =
                |pid: &str| read(Path::new(&format!("/proc/{pid}/cmdline"))).starts_with("sleep\u{0}300");
            read(&procs).lines().filter(|pid| of(pid)).count() == 2
        });
        kill(Pid::from_raw(left.id().cast_signed()), ends).expect("signal");
        left.wait().expect("exec");
        eventually(&format!("it has ended by {ends}"), alone);
    }
    told(&agent, "stop", &["walled", "--grace", "0s"], 0);
}

/// An agent that is told to end leaves commands to their clients, as one does that is killed.
#[test]
fn a_command_outlives_an_agent_that_is_stopped() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _run = agent.run("box", "32M..128M", &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let go = std::env::temp_dir().join(format!("go-on-{}", std::process::id()));
    let until = format!("until [ -e {} ]; do sleep 0.1; done; exit 7", go.display());
    let procs = agent.tree.workload("box").join("cgroup.procs");
    let mut waits = exec(&agent, &["sh", "-c", &until]);
    eventually("it runs", || read(&procs).lines().count() >= 4);
    kill(Pid::from_raw(agent.child.id().cast_signed()), Signal::SIGTERM).expect("signal");
    agent.child.wait().expect("the agent's end");
    fs::write(&go, "").expect("go");
    assert_eq!(waits.wait().expect("exec").code(), Some(7), "it went on, and its end is told");
    fs::remove_file(&go).expect("go");
    agent.restart();
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
}

/// Real-time signals have no names, and are as good as others.
#[test]
fn any_signal_is_passed_on_and_told() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let waits = "trap 'exit 3' RTMIN+3; while :; do sleep 0.05; done";
    let run = agent.run_with("own", "16M..64M", &["--stop-signal", "37"], &["bash", "-c", waits]);
    journal.wait("default/own", is_launched);
    let said = told(&agent, "exec", &["own", "--", "bash", "-c", "kill -s RTMIN+1 $$"], 128 + 35);
    assert_eq!(said, "");
    told(&agent, "stop", &["own"], 0);
    assert_eq!(run.finish().code, 3, "by the signal that it was to be stopped by");
    let killed = agent.run("dies", "16M..64M", &["bash", "-c", "kill -s RTMIN+1 $$"]).finish();
    assert_eq!(killed.code, 128 + 35, "{killed:?}");
    // To root inside, PID 1 is a process like any other.
    let beside = agent.run(
        "pid1",
        "16M..64M",
        &["bash", "-c", "trap 'exit 4' RTMIN+2; kill -s RTMIN+2 1; sleep 20 & wait"],
    );
    assert_eq!(beside.finish().code, 4, "it is passed on to the command");
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
