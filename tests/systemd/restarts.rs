//! The agent comes and goes, by order, by force and by mistake: workloads do not notice.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::rig::{
    Installed, TREE, UNTIL_TOLD, detach, eventually, inode, install, limit, listed, main_pid, processes,
    property, read, told, workload,
};

/// A governed workload, and what must not change.
struct Witness {
    init: String,
    high: String,
    agent: i32,
}

impl Witness {
    fn new() -> Self {
        let init = detach("web", UNTIL_TOLD).to_string();
        assert!(lives(&init));
        Self { init, high: limit("web", "memory.high"), agent: main_pid() }
    }

    /// After the agent was replaced by another: the same workload is governed at the same limit.
    fn is_governed_by_another(&mut self, how: &str) {
        let answers = || {
            let pid = property("bellows", "MainPID");
            pid != "0" && pid != self.agent.to_string() && property("bellows", "SubState") == "running"
        };
        eventually(&format!("another agent after {how}"), answers);
        self.agent = main_pid();
        assert!(listed().contains("\"state\":\"running\""), "{how}: {}", listed());
        assert!(lives(&self.init), "{how}: {} lives no more", self.init);
        assert_eq!(limit("web", "memory.high"), self.high, "{how}: the limit that was in force");
    }
}

/// Whether the workload's init is the one with this pid.
fn lives(init: &str) -> bool {
    processes("web").lines().any(|pid| pid == init)
}

#[test]
fn a_workload_outlives_restarts_kills_hangs_and_upgrades() {
    let mut installed = Installed::started();
    let mut web = Witness::new();
    assert_ne!(web.high, "max");

    told(&["systemctl", "restart", "bellows"]);
    web.is_governed_by_another("a restart");

    kill(Pid::from_raw(web.agent), Signal::SIGKILL).expect("kill the agent");
    web.is_governed_by_another("a kill");
    assert_eq!(property("bellows", "NRestarts"), "1");

    // A package manager replaces the files, and restarts the service.
    let old = inode(format!("/proc/{}/exe", web.agent));
    for name in ["bellows", "bellows-init"] {
        install(name);
    }
    assert_eq!(inode(format!("/proc/{}/exe", web.agent)), old, "the old agent runs on");
    told(&["systemctl", "restart", "bellows"]);
    web.is_governed_by_another("an upgrade");
    assert_eq!(inode(format!("/proc/{}/exe", web.agent)), inode("/usr/bin/bellows"));

    // systemd's watchdog is fed by the control loop, and not when that stands still.
    installed.drop_in("[Service]\nWatchdogSec=8s\nTimeoutAbortSec=2s\n");
    told(&["systemctl", "restart", "bellows"]);
    web.is_governed_by_another("a change of the unit");
    std::thread::sleep(std::time::Duration::from_secs(10));
    assert_eq!(main_pid(), web.agent, "an agent whose loop turns is left alone");
    kill(Pid::from_raw(web.agent), Signal::SIGSTOP).expect("stop the agent");
    web.is_governed_by_another("a hang");
    let said = told(&["journalctl", "-b", "--no-pager", "-u", "bellows"]);
    assert!(said.contains("Watchdog timeout"), "{said}");

    told(&["bellows", "stop", "web"]);
    eventually("it ends as it wants to", || listed().contains("exited with code 7"));
}

/// What ends while no agent runs is told by the next one, and what is the agent's own reaches nobody.
#[test]
fn an_end_without_an_agent_is_told_by_the_next() {
    let _installed = Installed::started();
    let go = Path::new("/run/test-go");
    let init = detach("ends", "until [ -e /run/test-go ]; do sleep 0.1; done; exit 9");
    let manager = "NOTIFY_SOCKET=";
    for pid in processes("ends").lines().chain(watchdogs().iter().map(String::as_str)) {
        let environment = read(format!("/proc/{pid}/environ"));
        assert!(!environment.contains(manager), "{pid}: {environment}");
    }
    assert!(read(format!("/proc/{}/environ", main_pid())).contains(manager));
    assert!(processes("ends").contains(&init.to_string()));

    told(&["systemctl", "stop", "bellows"]);
    assert_eq!(property("bellows", "ActiveState"), "inactive");
    assert_eq!(property("bellows-tree", "ActiveState"), "active");
    assert_eq!(limit("ends", "memory.high"), "max", "nobody would raise it");
    fs::write(go, "").expect("go");
    eventually("it has ended", || read(workload("ends").join("cgroup.events")).contains("populated 0"));
    let _ = fs::remove_file(go);
    told(&["systemctl", "start", "bellows"]);
    eventually("its end is told", || listed().contains("returned 9") || listed().contains("code 9"));
    assert!(!workload("ends").exists());
    assert!(Path::new(TREE).join("workloads").is_dir());
}

/// Watchdogs of agents.
fn watchdogs() -> Vec<String> {
    let procs = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = procs.filter_map(|entry| entry.file_name().into_string().ok());
    let found: Vec<String> =
        pids.filter(|pid| read(format!("/proc/{pid}/cmdline")).contains("\0watchdog\0")).collect();
    assert!(!found.is_empty(), "no watchdog");
    found
}
