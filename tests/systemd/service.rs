//! The service as a whole: what its cgroup is, what systemd may do to it, and that nothing is left of it.

use std::fs;
use std::path::Path;

use crate::rig::{
    Installed, TREE, UNTIL_TOLD, detach, eventually, limit, listed, processes, property, read, run, text,
    told,
};

#[test]
fn it_starts_ends_and_leaves_nothing() {
    let installed = Installed::new(&["bellows.service", "bellows-tree.service"]);
    told(&["systemctl", "enable", "--now", "bellows"]);
    assert_eq!(property("bellows", "StatusText"), "0 workloads are governed");
    // Ready means ready: it answers.
    assert_eq!(listed(), "[]");
    let own = read(format!("/proc/{}/cgroup", property("bellows", "MainPID")));
    assert_eq!(own, "0::/bellows.service\n", "the agent stays where systemd knows it");
    detach("one", UNTIL_TOLD);
    detach("two", UNTIL_TOLD);
    eventually("the status says so", || property("bellows", "StatusText") == "2 workloads are governed");

    // One that is killed by the kernel ends alone.
    let hungry = ["sh", "-c", "x=0123456789; while :; do x=$x$x; done"];
    let eat = ["bellows", "run", "--name", "hungry", "--memory", "16M..32M", "--"];
    let output = run(&[&eat[..], &hungry[..]].concat());
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
    assert_eq!(property("bellows-tree", "ActiveState"), "active");

    // The agent's end leaves them, the tree's ends them as they want to.
    told(&["systemctl", "stop", "bellows"]);
    assert!(!processes("one").is_empty() && !processes("two").is_empty());
    told(&["systemctl", "start", "bellows"]);
    told(&["systemctl", "stop", "bellows-tree"]);
    assert_eq!(property("bellows", "ActiveState"), "inactive");
    assert!(!Path::new(TREE).exists(), "{TREE} is left");
    for unit in ["bellows", "bellows-tree"] {
        assert_eq!(property(unit, "Result"), "success", "{unit}");
    }

    told(&["systemctl", "start", "bellows"]);
    eventually("the ends are told", || listed().matches("code 7").count() == 2);
    told(&["systemctl", "disable", "--now", "bellows"]);
    told(&["systemctl", "stop", "bellows-tree"]);
    told(&["systemctl", "clean", "--what=all", "bellows"]);
    drop(installed);
    for gone in [TREE, "/run/bellows", "/var/lib/bellows"] {
        assert!(!Path::new(gone).exists(), "{gone} is left");
    }
    assert!(!Path::new("/sys/fs/cgroup/bellows.service").exists());
    let left: Vec<String> = fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| read(entry.path().join("comm")))
        .filter(|comm| comm.starts_with("bellows"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What an administrator does to the manager changes nothing below the delegated cgroup; new policies are taken by a reload.
#[test]
fn reloads_change_what_they_say() {
    let _installed = Installed::started();
    detach("web", UNTIL_TOLD);
    let root = |file: &str| read(Path::new(TREE).join(file));
    let before = ["memory.low", "memory.min", "cgroup.subtree_control"].map(root);
    let high = limit("web", "memory.high");
    assert_ne!(before[0], "0\n", "the root grants what the floors are promised");
    told(&["systemctl", "daemon-reload"]);
    told(&["systemctl", "daemon-reexec"]);
    eventually("systemd is back", || property("bellows", "SubState") == "running");
    // systemd sets back what its unit does not say, and the agent what its floors need.
    let is_as_before = || ["memory.low", "memory.min", "cgroup.subtree_control"].map(root) == before;
    eventually("the root grants what it did", is_as_before);
    assert_eq!(limit("web", "memory.high"), high);

    let policies = Path::new("/etc/bellows/policies.d");
    fs::create_dir_all(policies).expect("policies");
    fs::write(policies.join("a.toml"), "[tenant.acme]\nweight = 300\n").expect("policy");
    told(&["systemctl", "reload", "bellows"]);
    assert_eq!(property("bellows", "SubState"), "running");
    assert!(told(&["bellows", "tenants"]).contains("acme"));
    fs::write(policies.join("a.toml"), "[tenant.acme]\nweigth = 300\n").expect("policy");
    told(&["systemctl", "reload", "bellows"]);
    let status = property("bellows", "StatusText");
    let _ = fs::remove_dir_all("/etc/bellows");
    assert!(status.contains("policies were refused"), "{status}");
}

/// Where the next try would end the same way there is none, and what is wrong is said once.
#[test]
fn what_has_to_be_mended_is_not_tried_again() {
    const CONFIG: &str = "/etc/bellows/config.toml";
    let mut installed = Installed::new(&["bellows.service", "bellows-tree.service"]);
    let refused = |code: &str, said: &str| {
        let started = run(&["systemctl", "start", "bellows"]);
        assert!(!started.status.success(), "{}", text(&started));
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert_eq!(property("bellows", "ActiveState"), "failed", "{said}");
        assert_eq!(property("bellows", "NRestarts"), "0", "{said}");
        assert_eq!(property("bellows", "ExecMainStatus"), code, "{said}");
        // Not by the unit: of a process that has gone at once its journal does not always know that.
        let journal = told(&["journalctl", "-b", "--no-pager"]);
        assert!(journal.contains(said), "{journal}");
    };
    fs::create_dir_all("/etc/bellows/policies.d").expect("configuration");
    fs::write(CONFIG, "[node]\ncapasity = \"1G\"\n").expect("configuration");
    refused("3", "capasity");
    fs::remove_file(CONFIG).expect("configuration");
    let policy = Path::new("/etc/bellows/policies.d/a.toml");
    fs::write(policy, "[tenant.acme]\nweigth = 300\n").expect("policy");
    refused("3", "weigth");
    fs::remove_file(policy).expect("policy");
    // As on a kernel that lacks something: what is to be governed is no cgroup.
    let command = |root: &str| format!("[Service]\nExecStart=\nExecStart=/usr/bin/bellows agent {root}\n");
    installed.drop_in(&command("--root /tmp"));
    refused("3", "not ready");
    installed.drop_in(&command("--rooot /tmp"));
    refused("2", "--rooot");

    installed.drop_in(&command(&format!("--root {TREE}")));
    told(&["systemctl", "start", "bellows"]);
    assert_eq!(listed(), "[]", "mended, it begins");
    let _ = fs::remove_dir_all("/etc/bellows");
}

#[test]
fn what_a_workload_says_goes_to_the_journal() {
    let _installed = Installed::new(&["bellows.service", "bellows-tree.service"]);
    told(&["systemctl", "start", "bellows"]);
    let script = "echo '<0>it hurts' >&2; while :; do echo tick; sleep 0.2; done";
    let start = ["bellows", "run", "--detach", "--name", "speaker", "--memory", "16M..64M", "--log-journal"];
    told(&[&start[..], &["--isolation", "tenant", "--", "sh", "-c", script]].concat());
    let said = |flags: &[&str]| {
        told(&[&["journalctl", "-q", "-o", "cat", "-t", "default/speaker"][..], flags].concat())
    };
    eventually("the journal has it", || said(&[]).contains("tick"));
    // No line says how bad it is: the worst would go to all terminals.
    assert!(said(&["-p", "info"]).contains("<0>it hurts") && said(&["-p", "notice"]).is_empty());
    let ticks = || said(&[]).matches("tick").count();
    let goes_on = || {
        let before = ticks();
        eventually("it goes on without that agent", || ticks() > before + 5);
    };
    run(&["systemctl", "kill", "--signal", "KILL", "bellows"]);
    goes_on();
    eventually("another agent is started", || listed().contains("speaker"));
    told(&["systemctl", "stop", "bellows"]);
    goes_on();
    assert!(!run(&["systemctl", "is-active", "bellows"]).status.success());
    told(&["systemctl", "start", "bellows"]);
    eventually("the next governs it", || listed().contains("speaker"));
    let logs = run(&["bellows", "logs", "speaker"]);
    assert!(
        !logs.status.success() && text(&logs).contains("journalctl -t default/speaker"),
        "{}",
        text(&logs)
    );
    told(&["bellows", "stop", "speaker"]);
    told(&["systemctl", "stop", "bellows", "bellows-tree"]);
}
