//! An ordinary user under the cgroup that its own systemd hands over: what works, and that the rest is refused by name.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Output;

use bellows_tests::guest::system::USER_ID;

use crate::rig::{Installed, deployed, eventually, read, run, text, told};

/// The service in the user's own systemd. `systemd-run` leaves nothing of it.
struct Rootless {
    _installed: Installed,
}

impl Rootless {
    fn new() -> Self {
        let installed = Installed::new(&[]);
        told(&["systemctl", "start", &format!("user@{USER_ID}")]);
        Self { _installed: installed }
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        run(&["systemctl", "stop", &format!("user@{USER_ID}")]);
    }
}

/// Runs a command as the user.
fn as_user(command: &[&str]) -> Output {
    let id = USER_ID.to_string();
    let runtime = format!("XDG_RUNTIME_DIR=/run/user/{id}");
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "env", &runtime];
    run(&[&user[..], command].concat())
}

fn told_user(command: &[&str]) -> String {
    let output = as_user(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

/// Starts the agent, and tells its root.
fn agent() -> PathBuf {
    let start = ["systemd-run", "--user", "--unit=bellows", "--service-type=notify", "-p", "Delegate=yes"];
    let agent = ["/usr/bin/bellows", "agent", "--listen", "127.0.0.1:9465"];
    told_user(&[&start[..], &agent].concat());
    let own = told_user(&["systemctl", "--user", "show", "--value", "-p", "ControlGroup", "bellows"]);
    Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'))
}

#[test]
fn an_ordinary_user_governs_what_is_delegated() {
    let _rootless = Rootless::new();
    // What the package says to the system's agent is not said to this one: it could do nothing of it.
    fs::create_dir_all("/etc/bellows").expect("directory");
    fs::copy(deployed("../debian/config.toml"), "/etc/bellows/config.toml").expect("configuration");
    let root = agent();
    let _ = fs::remove_dir_all("/etc/bellows");
    let script = "id -u; cat /proc/self/cgroup; echo 1 > /sys/fs/cgroup/memory.high";
    let run = ["bellows", "run", "--memory", "16M..64M"];
    let output = as_user(&[&run[..], &["--name", "looks", "--", "sh", "-c", script]].concat());
    let said = text(&output);
    assert!(said.starts_with("0\n0::/\n"), "its own root and cgroup namespace: {said}");
    assert!(said.contains("Read-only file system") && !output.status.success(), "{said}");

    // Its limits are in force, and its end is told.
    let eats = "x=0123456789; while :; do x=$x$x; done";
    let output = as_user(&[&run[..], &["--name", "eats", "--", "sh", "-c", eats]].concat());
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
    assert!(text(&output).contains("out of memory at its ceiling of 64 MiB"), "{}", text(&output));

    // It outlives its agent, and is taken over by the next.
    let stays = "trap 'exit 7' TERM; while :; do sleep 0.2; done";
    told_user(&[&run[..], &["--detach", "--name", "stays", "--", "sh", "-c", stays]].concat());
    let pids = || read(root.join("workloads/default/stays/cgroup.procs"));
    let before = pids();
    assert!(!before.is_empty());
    assert!(told_user(&["bellows", "ps"]).contains("default/stays"));

    // What takes root is refused by name, and nothing is left of it.
    for (flags, name) in [
        (vec!["--isolation", "tenant"], "a range of user ids of its own takes root"),
        (vec!["--tmpfs", "/tmp:1M"], "a root file system or mounts of its own takes root"),
        (vec!["--time", "new"], "a time namespace takes root"),
    ] {
        let output = as_user(&[&run[..], &flags, &["--name", "no", "--", "true"]].concat());
        assert!(!output.status.success() && text(&output).contains(name), "{flags:?}: {}", text(&output));
        assert!(!root.join("workloads/default/no").exists());
    }
    let output = as_user(&["bellows", "exec", "stays", "--", "true"]);
    assert!(text(&output).contains("takes root: this agent is rootless"), "{}", text(&output));

    told_user(&["bellows", "stop", "stays"]);
    eventually("it ends as it wants to", || {
        told_user(&["bellows", "ps", "--json"]).contains("exited with code 7")
    });
}

/// A cgroup that somebody has handed over by hand, without systemd: only what was handed over, and doctor says what is missing.
#[test]
fn doctor_says_what_is_missing() {
    let _rootless = Rootless::new();
    let root = Path::new("/sys/fs/cgroup/by-hand");
    fs::create_dir(root).expect("cgroup");
    let doctor = || as_user(&["bellows", "doctor", "--root", "/sys/fs/cgroup/by-hand"]);
    let output = doctor();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output).contains("is not writable"), "{}", text(&output));
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        chown(root.join(file), Some(USER_ID), Some(USER_ID)).expect("chown");
    }
    let output = doctor();
    let said = text(&output);
    let _ = fs::remove_dir(root);
    for part in ["rootless: workloads are this user outside", "user namespaces", "allowed", "is writable"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // What of them a user gets is for the user's manager to say.
    let user =
        PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{USER_ID}.slice/user@{USER_ID}.service"));
    let given = read(user.join("cgroup.controllers"));
    let output = as_user(&["bellows", "doctor", "--root", &user.display().to_string()]);
    let said = text(&output);
    assert!(given.contains("memory") && given.contains("pids"), "{given}");
    let is_missing = !given.split_whitespace().any(|name| name == "io");
    assert_eq!(said.contains("user@.service.d/delegate.conf"), is_missing, "{said}");
}
