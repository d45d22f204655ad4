//! What a workload can reach of the cgroup tree: its own view, nothing to write.

use crate::rig::{Agent, number};

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
    assert!(rest.starts_with("0 1 2 3 "), "no descriptor leaks in: {rest}");
    for namespace in ["pid", "mnt", "uts", "ipc", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{namespace}")).expect("ns").display().to_string();
        assert!(rest.contains(&format!("{namespace}:[")) && !rest.contains(&own), "{own}: {rest}");
    }
}

#[test]
fn a_fork_bomb_stops_at_its_limit() {
    let config = std::env::temp_dir().join("bellows-pids.toml");
    std::fs::write(&config, "[workload]\npids = 64\n").expect("config");
    let agent = Agent::start(&["--config", &config.display().to_string()]);
    let mut journal = agent.follow();
    let bomb = agent.run("bomb", "32M..64M", &["sh", "-c", "f() { f | f & }; f; sleep 300"]);
    journal.wait("default/bomb", crate::rig::is_launched);
    let events = agent.tree.workload("bomb").join("pids.events");
    crate::rig::eventually("it meets pids.max", || !crate::rig::read(&events).contains("max 0"));
    assert!(number(&agent.tree.workload("bomb").join("pids.current")) <= 64);
    let killed = agent.output("kill", &["--signal", "9", "bomb"]);
    assert!(killed.status.success(), "{killed:?}");
    assert_eq!(bomb.finish().code, 137);
}
