//! Bad input gets a clear error, and nothing is left half-made.

use std::path::Path;
use std::process::Command;

use bellows::journal::What;

use crate::rig::{Agent, Finished, Tree, eventually, is_launched, program, read};

fn refused(finished: &Finished, code: i32, text: &str) {
    assert_eq!(finished.code, code, "{finished:?}");
    assert!(finished.err.contains(text), "{text:?} is not in {finished:?}");
}

#[test]
fn a_second_agent_on_the_same_subtree_is_refused() {
    let agent = Agent::start(&[]);
    let output = Command::new(program("bellows"))
        .args(["agent", "--listen", "127.0.0.1:0", "--runtime-dir", "/tmp/bellows-second", "--root"])
        .arg(&agent.tree.root)
        .output()
        .expect("bellows");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another agent governs"), "{text}");
    assert_eq!(agent.run("still", "16M..64M", &["true"]).finish().code, 0, "the first one is not disturbed");
}

#[test]
fn an_agent_without_its_controllers_names_them() {
    let tree = Tree::new();
    // A child of a cgroup that hands no controllers on.
    let bare = tree.root.join("bare");
    std::fs::create_dir(&bare).expect("bare");
    let output = Command::new(program("bellows"))
        .args(["agent", "--listen", "127.0.0.1:0", "--runtime-dir", "/tmp/bellows-bare", "--root"])
        .arg(&bare)
        .output()
        .expect("bellows");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["controller memory: missing", "echo +memory >", "controller cpu", "controller pids"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let doctor =
        Command::new(program("bellows")).args(["doctor", "--root"]).arg(&bare).output().expect("doctor");
    assert_eq!(doctor.status.code(), Some(3));
    let doctor =
        Command::new(program("bellows")).args(["doctor", "--root"]).arg(&tree.root).output().expect("doctor");
    assert_eq!(doctor.status.code(), Some(0), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[test]
fn bad_launches_leave_nothing() {
    let agent = Agent::start(&["--capacity", "1G", "--reserve", "100M"]);
    let ok = "16M..64M";
    refused(&agent.run("../escape", ok, &["true"]).finish(), 2, "is not a name");
    refused(&agent.run("a/b", ok, &["true"]).finish(), 2, "is not a name");
    refused(&agent.run(".hidden", ok, &["true"]).finish(), 2, "is not a name");
    refused(&agent.run_with("x", ok, &["--tenant", ".."], &["true"]).finish(), 2, "is not a name");
    refused(&agent.run("x", "64M..16M", &["true"]).finish(), 2, "64");
    refused(&agent.run("x", "64Q..1G", &["true"]).finish(), 2, "64Q");
    refused(&agent.run_with("x", ok, &["--class", "gold"], &["true"]).finish(), 5, "gold");
    refused(&agent.run("x", "2G..4G", &["true"]).finish(), 5, "can never fit");
    refused(
        &agent.run("missing", ok, &["/does/not/exist"]).finish(),
        1,
        "cannot execute /does/not/exist: No such file",
    );
    let unknown = agent.output("kill", &["nobody"]);
    assert_eq!(unknown.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no workload default/nobody"));

    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let first = agent.run("twin", ok, &[&load, "idle", "300"]);
    journal.wait("default/twin", is_launched);
    refused(&agent.run("twin", ok, &["true"]).finish(), 5, "exists already");
    refused(&agent.run("room", "915M..950M", &["true"]).finish(), 5, "does not fit now");
    let tenant = agent.tree.root.join("workloads/default");
    let left: Vec<String> = std::fs::read_dir(&tenant)
        .expect("tenant")
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["twin"], "nothing is half-made");
    drop(first);
}

/// Somebody removes a workload's cgroup behind our back.
#[test]
fn a_vanished_cgroup_is_told_and_forgotten() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let run = agent.run("ghost", "16M..64M", &[&load, "idle", "300"]);
    journal.wait("default/ghost", is_launched);
    let cgroup = agent.tree.workload("ghost");
    // Whoever is first: the agent clears up as soon as the processes end.
    std::fs::write(cgroup.join("cgroup.kill"), "1").expect("kill");
    let _ = std::fs::remove_dir(&cgroup);
    let finished = run.finish();
    assert_eq!(finished.code, 137, "{finished:?}");
    journal.wait("default/ghost", |w| matches!(w, What::Ended { .. }));
    eventually("it is listed no more", || {
        !String::from_utf8_lossy(&agent.output("ps", &[]).stdout).contains("ghost")
    });
    assert_eq!(agent.run("ghost", "16M..64M", &["true"]).finish().code, 0, "its name is free again");
    assert!(
        !read(&agent.tree.root.join("workloads/default/cgroup.procs")).contains(|c: char| c.is_ascii_digit())
    );
}

#[test]
fn a_journal_that_is_not_there_is_told() {
    let is_there = Path::new("/run/systemd/journal/stdout").exists();
    let agent = Agent::start(&[]);
    let run = |flags: &[&str]| {
        let output = agent
            .output("run", &[flags, &["--memory", "16M..64M", "-d", "--log-journal", "--", "true"]].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["--name", "speaker"]);
    assert_eq!(code == Some(0), is_there, "{code:?} {said}");
    assert_ne!(said.contains("no journal takes its output"), is_there, "{said}");
    let (code, said) = run(&["--name", "sitter", "-t"]);
    assert!(code != Some(0) && said.contains("it cannot go to the journal"), "{code:?} {said}");
    eventually("nothing is left", || !agent.tree.root.join("workloads/default").join("speaker").exists());
}
