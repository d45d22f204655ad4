//! What a workload can reach of the cgroup tree: its own view, nothing to write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::boxed::TENANT;
use crate::life::told;
use crate::rig::{Agent, is_launched, number, program, read};

/// As root, which it still is, a workload tries to raise its own limits and to find those of others.
#[test]
fn a_workload_cannot_write_limits() {
    let agent = Agent::start(&[]);
    let script = r"
        cat /proc/self/cgroup
        echo 999999999 > /sys/fs/cgroup/memory.max && echo WROTE
        echo max > /sys/fs/cgroup/memory.high && echo WROTE
        mount -o remount,rw /sys/fs/cgroup && echo remounted
        echo 999999999 > /sys/fs/cgroup/memory.max && echo WROTE
        echo max > /sys/fs/cgroup/memory.high && echo WROTE
        mkdir /tmp/own.$$ && mount -t cgroup2 none /tmp/own.$$ && echo mounted
        echo max > /tmp/own.$$/memory.high && echo WROTE
        find /tmp/own.$$ -name supervisor
        umount /tmp/own.$$; rmdir /tmp/own.$$
        umount /sys/fs/cgroup && ls /sys/fs/cgroup/ | head -3
        true
    ";
    let finished = agent.run("tenant", "16M..64M", &["sh", "-c", script]).finish();
    assert_eq!(finished.code, 0, "{finished:?}");
    assert!(finished.out.starts_with("0::/\n"), "its own cgroup is its root: {finished:?}");
    assert!(!finished.out.contains("WROTE"), "{finished:?}");
    assert!(!finished.out.contains("supervisor"), "others are not to be seen: {finished:?}");
    assert!(!finished.out.contains("cgroup."), "nothing is uncovered below: {finished:?}");
}

#[test]
fn a_workload_has_namespaces_and_descriptors_of_its_own() {
    let agent = Agent::start(&[]);
    let script = "hostname; echo $PPID; ulimit -n;  ls /proc/self/fd | tr '\\n' ' '; for n in pid mnt uts ipc cgroup; do readlink /proc/self/ns/$n; done";
    let finished = agent.run("boxed", "16M..64M", &["sh", "-c", script]).finish();
    let mut lines = finished.out.lines();
    assert_eq!(lines.next(), Some("boxed"), "{finished:?}");
    assert_eq!(lines.next(), Some("1"), "bellows-init is PID 1: {finished:?}");
    let soft = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("limit").0;
    assert_eq!(
        lines.next(),
        Some(soft.to_string().as_str()),
        "the agent's own raised limit is not passed on: {finished:?}"
    );
    let rest: String = lines.collect::<Vec<_>>().join("\n");
    // 3 is the directory that ls itself reads.
    assert!(rest.starts_with("0 1 2 3 pid:["), "no descriptor leaks in: {rest}");
    for namespace in ["pid", "mnt", "uts", "ipc", "cgroup"] {
        let own = fs::read_link(format!("/proc/self/ns/{namespace}")).expect("ns").display().to_string();
        assert!(rest.contains(&format!("{namespace}:[")) && !rest.contains(&own), "{own}: {rest}");
    }
}

/// Whatever the agent was started with: its groups, umask, signals, capabilities and its place before the OOM killer.
#[test]
fn what_the_agent_inherited_is_not_handed_on() {
    let mut agent = Agent::start(&[]);
    let script = format!(
        "#!/bin/sh\numask 077; trap '' USR1; echo -500 > /proc/self/oom_score_adj; exec setpriv --groups 7,8 --inh-caps +net_raw,+chown \\\n\
         --ambient-caps +net_raw perl -MPOSIX -e 'sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR2)); exec @ARGV' {} \"$@\"\n",
        program("bellows").display()
    );
    agent.program = agent.runtime_dir.join("odd");
    fs::write(&agent.program, script).expect("script");
    fs::set_permissions(&agent.program, fs::Permissions::from_mode(0o755)).expect("mode");
    agent.kill();
    agent.restart();
    let own = read(Path::new(&format!("/proc/{}/status", agent.child.id())));
    assert!(own.contains("Groups:\t7 8") && own.contains("CapAmb:\t0000000000002000"), "{own}");
    let script = "umask; cat /proc/self/oom_score_adj; grep -E '^(Groups|SigBlk|SigIgn|CapInh|CapAmb):' /proc/self/status | tr -d ' \\t'";
    let expected = "0022\n0\nGroups:\nSigBlk:0000000000000000\nSigIgn:0000000000000000\nCapInh:0000000000000000\n\
                    CapAmb:0000000000000000\n";
    let mut journal = agent.follow();
    for flags in [&[][..], &TENANT, &["--user", "65534"]] {
        let finished = agent.run_with("clean", "16M..64M", flags, &["sh", "-c", script]).finish();
        assert_eq!(finished.out, expected, "{flags:?}: {finished:?}");
        let _stays = agent.run_with("stays", "16M..64M", flags, &["sleep", "300"]);
        journal.wait("default/stays", is_launched);
        assert_eq!(told(&agent, "exec", &["stays", "--", "sh", "-c", script], 0), expected, "{flags:?}");
        told(&agent, "stop", &["stays", "--grace", "0s"], 0);
        journal.seen.clear();
    }
}

#[test]
fn a_fork_bomb_stops_at_its_limit() {
    let config = std::env::temp_dir().join("bellows-pids.toml");
    fs::write(&config, "[workload]\npids = 64\n").expect("config");
    let agent = Agent::start(&["--config", &config.display().to_string()]);
    let mut journal = agent.follow();
    let bomb = agent.run("bomb", "32M..64M", &["sh", "-c", "f() { f | f & }; f; sleep 300"]);
    journal.wait("default/bomb", is_launched);
    let events = agent.tree.workload("bomb").join("pids.events");
    crate::rig::eventually("it meets pids.max", || !read(&events).contains("max 0"));
    assert!(number(&agent.tree.workload("bomb").join("pids.current")) <= 64);
    let killed = agent.output("kill", &["--signal", "9", "bomb"]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(bomb.finish().code, 137);
}
