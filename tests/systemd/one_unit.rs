//! Agent and workloads in one unit: what `DelegateSubgroup=` is needed for.
//!
//! Before 254 systemd starts the next agent in the unit's own cgroup, which the kernel does not allow while a child has limits:
//! that is why there are two units.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::confined::the_host_is_read_only;
use crate::rig::{
    Installed, SUBGROUPS_SINCE, UNTIL_TOLD, detach, eventually, inode, install, listed, main_pid, property,
    read, run, text, told, version,
};

const ROOT: &str = "/sys/fs/cgroup/bellows.service";

fn web(file: &str) -> String {
    read(Path::new(ROOT).join("workloads/default/web").join(file))
}

fn cgroup_of(pid: i32) -> String {
    read(format!("/proc/{pid}/cgroup")).trim().to_owned()
}

#[test]
fn it_lives_where_systemd_knows_subgroups() {
    let mut installed = Installed::new(&["one-unit/bellows.service"]);
    if version() >= SUBGROUPS_SINCE {
        it_is_governed_through_restarts_and_gone_in_the_end();
    } else {
        installed.drop_in("[Service]\nType=notify\nRestart=no\n");
        the_next_agent_is_not_started();
    }
}

fn it_is_governed_through_restarts_and_gone_in_the_end() {
    told(&["systemctl", "enable", "--now", "bellows"]);
    let init = detach("web", UNTIL_TOLD);
    let high = web("memory.high");
    assert_ne!(high, "max\n", "it is governed");
    let is_governed = |how: &str| {
        assert_eq!(cgroup_of(main_pid()), "0::/bellows.service/supervisor", "{how}");
        assert_eq!(cgroup_of(init), "0::/bellows.service/workloads/default/web", "{how}");
        assert_eq!(read(Path::new(ROOT).join("cgroup.procs")), "", "{how}: nobody is in the root");
        assert!(listed().contains("\"state\":\"running\""), "{how}: {}", listed());
        assert_eq!(web("memory.high"), high, "{how}: the limit that was in force");
    };
    is_governed("a start");
    the_host_is_read_only();

    let restart = |_| drop(told(&["systemctl", "restart", "bellows"]));
    let upgrade = |agent| {
        ["bellows", "bellows-init"].into_iter().for_each(install);
        restart(agent);
        assert_eq!(inode(format!("/proc/{}/exe", main_pid())), inode("/usr/bin/bellows"));
    };
    let crash = |agent| kill(Pid::from_raw(agent), Signal::SIGKILL).expect("kill the agent");
    for (how, next) in [("a restart", &restart as &dyn Fn(i32)), ("a kill", &crash), ("an upgrade", &upgrade)]
    {
        let agent = main_pid();
        next(agent);
        eventually(how, || property("bellows", "SubState") == "running" && main_pid() != agent);
        is_governed(how);
    }
    told(&["systemctl", "reload", "bellows"]);
    is_governed("a reload");

    // Stopped, nobody would raise its limit; the next agent finds it.
    told(&["systemctl", "stop", "bellows"]);
    assert_eq!(property("bellows", "ActiveState"), "inactive");
    assert_eq!((cgroup_of(init).is_empty(), web("memory.high")), (false, "max\n".to_owned()));
    told(&["systemctl", "start", "bellows"]);
    is_governed("a stop");

    told(&["bellows", "stop", "web"]);
    eventually("it ends as it wants to", || listed().contains("exited with code 7"));
    told(&["systemctl", "disable", "--now", "bellows"]);
    told(&["systemctl", "clean", "--what=all", "bellows"]);
    for gone in [ROOT, "/run/bellows", "/var/lib/bellows"] {
        assert!(!Path::new(gone).exists(), "{gone} is left");
    }
}

fn the_next_agent_is_not_started() {
    told(&["systemctl", "start", "bellows"]);
    let init = detach("web", UNTIL_TOLD);
    let restart = run(&["systemctl", "restart", "bellows"]);
    assert!(!restart.status.success(), "{}", text(&restart));
    assert_eq!(property("bellows", "ExecMainStatus"), "219");
    assert_eq!(cgroup_of(init), "0::/bellows.service/workloads/default/web", "what runs is left alone");
    std::fs::write(Path::new(ROOT).join("cgroup.kill"), "1").expect("kill what runs");
}
