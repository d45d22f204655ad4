//! How a command ends is told as it was.

use std::os::unix::fs::MetadataExt;

use nix::sys::signal::{Signal, kill};

use crate::life::told;
use crate::rig::{Agent, eventually, is_launched};

#[test]
fn exit_codes_signals_and_crashes_are_told_truthfully() {
    let agent = Agent::start(&[]);
    let table = [
        ("zero", "true", 0, ""),
        ("three", "exit 3", 3, ""),
        ("terminated", "kill -TERM $$", 143, "signal 15 (SIGTERM)"),
        ("crashed", "kill -SEGV $$", 139, "signal 11 (SIGSEGV)"),
        // An orphan outlives its parent: the command's end is the workload's end.
        ("orphan", "sleep 100 & exit 7", 7, ""),
        ("killed", "kill -KILL $$", 137, "signal 9 (SIGKILL)"),
    ];
    for (name, script, code, text) in table {
        let finished = agent.run(name, "16M..64M", &["sh", "-c", script]).finish();
        assert_eq!(finished.code, code, "{name}: {finished:?}");
        assert!(finished.err.contains(text), "{name}: {finished:?}");
        assert!(!agent.tree.workload(name).exists(), "{name} leaves no cgroup");
    }
}

#[test]
fn output_input_and_environment_are_the_clients() {
    let agent = Agent::start(&[]);
    let out = agent
        .command("run")
        .args([
            "--name",
            "io",
            "--memory",
            "16M..64M",
            "--",
            "sh",
            "-c",
            "cat; echo $GREETING; pwd; echo oops >&2",
        ])
        .env("GREETING", "hello")
        .current_dir("/usr")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().expect("piped").write_all(b"typed\n")?;
            child.wait_with_output()
        })
        .expect("bellows run");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "typed\nhello\n/usr\n");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "oops\n");

    // In a box of somebody else nothing is but what it is given.
    let agent = &agent;
    let own = agent
        .command("run")
        .args([
            "--name",
            "own",
            "--memory",
            "16M..64M",
            "--isolation",
            "tenant",
            "--env",
            "MODE=given",
            "--cwd",
            "/usr/bin",
        ])
        .args(["--", "sh", "-c", "pwd; env | cut -d= -f1 | sort | tr '\n' ' '; echo $MODE"])
        .env("GREETING", "hello")
        .env("LANG", "C")
        .env_remove("LC_ALL")
        .env_remove("TERM")
        .output()
        .expect("bellows run");
    assert_eq!(String::from_utf8_lossy(&own.stdout), "/usr/bin\nLANG MODE PATH PWD given\n", "{own:?}");
}

#[test]
fn signals_are_forwarded() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let ready = agent.runtime_dir.join("ready");
    let script =
        format!("trap 'echo got term; exit 9' TERM; touch {}; while :; do sleep 0.1; done", ready.display());
    let run = agent.run("trap", "16M..64M", &["sh", "-c", &script]);
    eventually("the trap is set", || ready.exists());
    kill(run.id(), Signal::SIGTERM).expect("signal the client");
    let finished = run.finish();
    assert_eq!((finished.code, finished.out.as_str()), (9, "got term\n"), "{finished:?}");

    let run = agent.run("stubborn", "16M..64M", &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    journal.wait("default/stubborn", is_launched);
    let killed = agent.output("kill", &["--signal", "KILL", "stubborn"]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(run.finish().code, 137);
}

/// An empty record would be read as a kill, where the file system is full by the end.
#[test]
fn room_for_how_it_ends_is_taken_at_the_launch() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _run = agent.run("box", "16M..64M", &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    let records = std::fs::read_dir(agent.runtime_dir.join("exits")).expect("directory").flatten();
    let room: Vec<(u64, u64)> =
        records.map(|record| record.metadata().expect("record")).map(|m| (m.len(), m.blocks())).collect();
    assert!(matches!(room[..], [(0, 1..)]), "{room:?}");
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
}
