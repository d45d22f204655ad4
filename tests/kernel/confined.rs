//! An agent that a service manager has confined, by mounts of its own and by capabilities that it is without: what it starts sees the
//! host's mounts all the same, and gets all that a box consists of.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::boxed::boxed;
use crate::life::told;
use crate::rig::{Agent, eventually, program, read};

/// A directory of the host that the agent cannot see, with a file in it.
struct Host(PathBuf);

impl Host {
    fn new() -> Self {
        let directory = PathBuf::from(format!("/run/bellows-confined-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        fs::write(directory.join("mark"), "the host's\n").expect("mark");
        Self(directory)
    }

    fn mark(&self) -> String {
        self.0.join("mark").display().to_string()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An agent without these, on a tree that one with all rights has begun to govern.
fn confined(host: &Host) -> Agent {
    let mounts = format!("/proc/{}/ns/mnt", std::process::id());
    let mut agent = Agent::start(&["--host-mounts", &mounts]);
    let (directory, bellows) = (host.0.display(), program("bellows"));
    let script = format!(
        "#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'mount -t tmpfs none {directory} && exec setpriv \
         --bounding-set -mknod,-net_admin,-sys_time {} \"$@\"' sh \"$@\"\n",
        bellows.display()
    );
    agent.program = agent.runtime_dir.join("confined");
    fs::write(&agent.program, script).expect("script");
    fs::set_permissions(&agent.program, fs::Permissions::from_mode(0o755)).expect("permissions");
    agent.kill();
    agent.restart();
    let seen = format!("/proc/{}/root{}", agent.child.id(), host.mark());
    assert!(!fs::exists(seen).expect("its view"), "the agent is not confined");
    agent
}

/// All that is mounted, apart from what a workload has of its own: source, place and attributes of each.
fn mounts(mountinfo: &str) -> Vec<String> {
    let mut all: Vec<String> = mountinfo
        .lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").expect("a line of mountinfo");
            let left: Vec<&str> = left.split(' ').skip(3).take(3).collect();
            format!("{} {right}", left.join(" "))
        })
        .filter(|line| !line.contains(" /proc") && !line.contains(" cgroup2 "))
        .collect();
    all.sort();
    all
}

#[test]
fn workloads_begin_in_the_hosts_mounts() {
    let host = Host::new();
    let agent = confined(&host);
    let script = format!("cat {} && cat /proc/self/mountinfo", host.mark());
    let finished = agent.run("plain", "16M..64M", &["sh", "-c", &script]).finish();
    let (first, rest) = finished.out.split_once('\n').expect("two parts");
    assert_eq!(first, "the host's", "{finished:?}");
    let own = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert_eq!(mounts(rest), mounts(&own));

    let bind = format!("{}:/tmp/data", host.0.display());
    let finished = boxed(&agent, "boxed", &["--bind", &bind], "cat /tmp/data/mark");
    assert_eq!(finished.out, "the host's\n", "{finished:?}");

    // What writes its log, and what is run beside it.
    told(
        &agent,
        "run",
        &["--detach", "--name", "web", "--memory", "16M..64M", "--", "sh", "-c", "echo said; sleep 300"],
        0,
    );
    eventually("it has said something", || told(&agent, "logs", &["web"], 0).contains("said"));
    assert_eq!(told(&agent, "exec", &["web", "--", "cat", &host.mark()], 0), "the host's\n");
    let procs = read(&agent.tree.workload("web").join("cgroup.procs"));
    let own = fs::read_link("/proc/self/ns/mnt").expect("link");
    let outside = |pid: &&str| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|link| link == own);
    assert_eq!(procs.lines().filter(outside).count(), 1, "the log's writer is in the host's mounts: {procs}");
}

#[test]
fn what_the_agent_is_not_allowed_to_do_is_done_all_the_same() {
    let host = Host::new();
    let agent = confined(&host);
    let uptime = || read("/proc/uptime".as_ref()).split('.').next().and_then(|s| s.parse::<u64>().ok());
    let before = uptime().expect("seconds");
    let script = "grep -q 127.0.0.1 /proc/net/fib_trie && echo up; echo lost > /dev/null; head -c 4 /dev/urandom | wc -c; \
                  grep CapEff /proc/self/status | cut -f2; cut -d. -f1 /proc/uptime";
    let both = ["--net", "new", "--time", "new"];
    let plain = [&both[..], &["--cap-drop", "net_raw"]].concat();
    let plain = agent.run_with("plain", "16M..64M", &plain, &["sh", "-c", script]).finish();
    let boxed = boxed(&agent, "boxed", &both, script);
    for (finished, rights) in [(plain, "000001fff5ffcfff"), (boxed, "00000000800425fb")] {
        let mut words = finished.out.split_whitespace();
        assert_eq!(
            (words.next(), words.next(), words.next()),
            (Some("up"), Some("4"), Some(rights)),
            "{finished:?}"
        );
        let uptime: u64 = words.next().and_then(|word| word.parse().ok()).expect("an uptime");
        assert!(uptime < before, "its clock begins with it: {uptime} of {before} s");
    }
}
