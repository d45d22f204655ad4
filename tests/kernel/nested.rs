//! Nested workloads: cgroups, containers and a whole bellows inside, under limits that stay out of reach.

use std::fs;
use std::path::PathBuf;

use bellows::journal::What;

use crate::boxed::{OWN_TO_RULE, TENANT, all as attacks, by_kernel};
use crate::life::told;
use crate::rig::{Agent, MIB, Tree, eventually, field, is_ended, is_launched, number, program, read};
use crate::takeover::is_taken_over;

const NESTED: [&str; 3] = [TENANT[0], TENANT[1], "--nested"];

/// Makes cgroups of any name until it is refused.
const STORM: &str = r#"perl -e '
    my $d = "/sys/fs/cgroup"; my $l = 0; while (mkdir "$d/deep" and $l < 100) { $d .= "/deep"; $l++ }
    my $n = 0; $n++ while mkdir "/sys/fs/cgroup/\xff\xfe$n" and $n < 5000;
    print "$l deep, $n wide\n"'"#;

/// Grows to a limit that is set inside, and dies of it. Its program is read in before: charged there, it would be taken and read back without end.
fn inner_death() -> String {
    let load = program("bellows-load").display().to_string();
    format!(
        "{load} grow 1 && mkdir /sys/fs/cgroup/small && cd /sys/fs/cgroup/small && echo 24M > memory.high && echo 32M > memory.max \
         && echo 0 > memory.swap.max && ( echo 0 > cgroup.procs; exec {load} grow 60 ) ; echo inner $? "
    )
}

#[test]
fn what_is_made_inside_stays_inside() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    // It does not hear the signal that goes out before the kill.
    let run = agent.run_with("nest", "64M..256M", &NESTED, &["sh", "-c", "trap '' TERM; sleep 300"]);
    journal.wait("default/nest", is_launched);
    let inside = |agent: &Agent, script: &str| told(agent, "exec", &["nest", "--", "sh", "-c", script], 0);
    let own = r"cat /proc/self/cgroup; cd /sys/fs/cgroup; cat cgroup.procs | wc -l; cat cgroup.subtree_control
        for f in memory.max memory.high pids.max cpu.max cgroup.max.descendants init/memory.max; do ( echo max > $f ) 2>/dev/null && echo raised $f; done
        mkdir a && echo 16 > a/pids.max && echo $$ > a/cgroup.procs && cat /proc/self/cgroup; echo $$ > init/cgroup.procs; rmdir a; echo done";
    let said = inside(&agent, own);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1]), ("0::/init", "0"), "{said}");
    for controller in ["memory", "cpu", "pids"] {
        assert!(lines[2].contains(controller), "{said}");
    }
    assert_eq!(lines[3..], ["0::/a", "done"], "no limit of its own can be raised: {said}");

    // A limit that is set inside is none of ours: who dies of it is no workload, and nothing has grown for it.
    let cgroup = agent.tree.workload("nest");
    let before = fs::read_to_string(cgroup.join("memory.events.local")).expect("events");
    let high = number(&cgroup.join("memory.high"));
    assert!(inside(&agent, &inner_death()).contains("inner 137"), "{}", journal.told());
    assert!(field(&cgroup.join("memory.events"), "oom_kill") >= 1, "it was killed inside");
    assert!(field(&cgroup.join("memory.events"), "high") >= 1, "and throttled there");
    let after = fs::read_to_string(cgroup.join("memory.events.local")).expect("events");
    assert_eq!(after, before, "the workload's own counters tell nothing of it");
    assert_eq!(number(&cgroup.join("memory.high")), high, "{}", journal.told());
    // But what is used inside is the workload's, and is granted to it.
    let load = program("bellows-load").display().to_string();
    let grown = inside(
        &agent,
        &format!(
            "mkdir /sys/fs/cgroup/big && echo 0 > /sys/fs/cgroup/big/cgroup.procs && {load} grow 120 && echo grown"
        ),
    );
    assert!(grown.ends_with("grown\n"), "{grown}");
    assert!(number(&cgroup.join("memory.high")) > 120 * MIB, "{}", journal.told());

    // Storms end at their bounds, names need not be text, and the next agent finds it and clears all of it away.
    let storm = inside(&agent, STORM);
    let counts: Vec<u32> = storm.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!((3..8).contains(&counts[0]) && (500..1000).contains(&counts[1]), "{storm}");
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/nest", is_taken_over);
    assert_eq!(inside(&agent, "cat /proc/self/cgroup"), "0::/init\n");
    told(&agent, "stop", &["nest", "--grace", "0s"], 0);
    let finished = run.finish();
    assert!(finished.code == 137 && finished.err.contains("signal 9 (SIGKILL)"), "{finished:?}");
    assert!(!finished.err.contains("out of memory"), "what died inside was not the workload: {finished:?}");
    eventually("nothing is left of it", || !cgroup.exists());
    journal.wait("default/nest", is_ended);
    assert!(agent.http("/metrics").contains("bellows_oom_kills_total 0\n"), "{}", journal.told());
}

/// The tenant can freeze a cgroup that it has moved its init to, and what would be born there: who enters is born elsewhere, and the agent does not wait.
#[test]
fn what_it_freezes_holds_nobody_up() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    // It does not hear the signal that goes out before the kill.
    let script = "trap '' TERM; cd /sys/fs/cgroup && mkdir out && echo $$ > out/cgroup.procs; until [ -e /dev/shm/go ]; do sleep 0.05; done; \
                  mkdir jail; echo 1 > jail/cgroup.procs; echo 1 > jail/cgroup.freeze; sleep 300";
    let run = agent.run_with("nest", "64M..256M", &NESTED, &["sh", "-c", script]);
    journal.wait("default/nest", is_launched);
    let payload = agent.tree.workload("nest").join("payload");
    told(&agent, "exec", &["nest", "--", "touch", "/dev/shm/go"], 0);
    eventually("it has frozen its init", || read(&payload.join("jail/cgroup.events")).contains("frozen 1"));
    let said = told(&agent, "exec", &["nest", "--", "true"], 1);
    assert!(said.contains("the cgroup of its first process is frozen"), "{said}");
    assert_eq!(agent.run("beside", "16M..64M", &["true"]).finish().code, 0);
    fs::write(payload.join("jail/cgroup.freeze"), "0").expect("thawed");
    assert_eq!(told(&agent, "exec", &["nest", "--", "cat", "/proc/self/cgroup"], 0), "0::/jail\n");
    let keeper = read(&agent.tree.workload("nest").join("keeper/cgroup.procs"));
    assert_eq!(keeper, "", "nobody stays where it was born");
    told(&agent, "stop", &["nest", "--grace", "0s"], 0);
    assert_eq!(run.finish().code, 137);
}

/// Cgroups are looked at one after the other. Its init waits in the last one, hears (inotify) that somebody has come near, and moves to the first.
const DODGE: &str = r#"exec perl -e '
    sub put { open(my $f, ">", "$_[0]/cgroup.procs") or die "$_[0]: $!"; print $f "$_[1]\n"; close($f) or die "$_[0]: $!" }
    chdir "/sys/fs/cgroup"; mkdir "out"; put("out", $$); mkdir "m$_" for 1 .. 300;
    opendir(my $d, "."); my @all = grep { /^m\d/ } readdir $d;
    my $in = syscall(253); syscall(254, $in, "$all[20]/cgroup.procs", 0x20) >= 0 or die $!;
    open(my $events, "<&=", $in) or die $!;
    put($all[-1], 1);
    while (sysread($events, my $event, 4096)) {
        put($all[0], 1); select(undef, undef, undef, 0.5);
        syscall(72, $in, 4, 04000); 1 while sysread($events, $event, 4096); syscall(72, $in, 4, 0);
        put($all[-1], 1);
    }'"#;

#[test]
fn who_keeps_moving_is_found() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.run_with("nest", "64M..256M", &NESTED, &["sh", "-c", DODGE]);
    journal.wait("default/nest", is_launched);
    let payload = agent.tree.workload("nest").join("payload");
    let is_ready = || payload.join("m300").exists() && read(&payload.join("init/cgroup.procs")).is_empty();
    eventually("it is ready", is_ready);
    for _ in 0..4 {
        agent.kill();
        agent.restart();
        let mut journal = agent.follow();
        journal.wait("default/nest", is_taken_over);
        assert!(read(&agent.tree.workload("nest").join("cgroup.freeze")).starts_with('0'), "it goes on");
    }
    told(&agent, "stop", &["nest", "--grace", "0s"], 0);
    assert_eq!(run.finish().code, 137);
}

/// It may do to its own namespaces what it likes, and no more.
#[test]
fn attacks_win_over_the_box_itself_alone() {
    let agent = Agent::start(&[]);
    let finished = agent.run_with("nest", "32M..128M", &NESTED, &["sh", "-c", &attacks()]).finish();
    assert!(finished.out.ends_with("done\n"), "{finished:?}");
    let won = finished.out.lines().filter_map(|line| line.strip_prefix("won "));
    let won: Vec<&str> = won.filter(|name| !by_kernel(name) && !OWN_TO_RULE.contains(name)).collect();
    assert!(won.is_empty(), "{won:?}: {finished:?}");
    // Without users of its own it would be root of the machine.
    let refused = agent.run_with("refused", "32M..128M", &["--nested"], &["true"]).finish();
    assert!(refused.code == 5 && refused.err.contains("nested needs users of its own"), "{refused:?}");
}

/// Its first process is moved away from where controllers are enabled, and whoever started that takes its time to end there.
#[test]
fn the_throttled_begin_too() {
    let agent = Agent::start(&[]);
    for round in 0..8 {
        let flags = [&NESTED[..], &["--cpu", "0.04..0.04"]].concat();
        let run = agent.run_with(&format!("slow{round}"), "32M..128M", &flags, &["true"]).finish();
        assert_eq!(run.code, 0, "{run:?}");
    }
}

/// The same static files, one level down: an agent of the tenant's own, with limits that breathe within what it is granted.
#[test]
fn bellows_runs_inside_bellows() {
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let bellows = program("bellows").display().to_string();
    let load = program("bellows-load").display().to_string();
    let script = format!(
        "{bellows} agent --root /sys/fs/cgroup --runtime-dir /run/b --listen 127.0.0.1:0 --capacity 192M --reserve 32M 2> /run/agent & \
         agent=$!
         until grep -q 'metrics at' /run/agent; do kill -0 $agent || {{ cat /run/agent; exit 9; }}; sleep 0.1; done
         b() {{ verb=$1; shift; {bellows} $verb --runtime-dir /run/b \"$@\"; }}
         b run --name inner --memory 16M..96M -- sh -c 'cat /proc/self/cgroup; {load} grow 64 > /dev/null; echo grown' ; echo code $?
         b run --name greedy --memory 16M..32M -- {load} grow 90; echo code $?
         b events | grep -c 'inner .*grow: high'
         kill -9 $agent; wait $agent; cat /proc/self/cgroup"
    );
    let finished = agent.run_with("outer", "64M..256M", &NESTED, &["sh", "-c", &script]).finish();
    println!("{finished:?}");
    let lines: Vec<&str> = finished.out.lines().collect();
    assert_eq!(lines[..4], ["0::/", "grown", "code 0", "code 137"], "{finished:?}");
    assert!(lines[4].parse::<u32>().is_ok_and(|grows| grows > 0), "{finished:?}");
    assert!(finished.err.contains("out of memory at its ceiling of 32 MiB"), "{finished:?}");
    // The outer one has seen a workload that used memory, and was killed for nothing.
    let ended = journal.wait("default/outer", is_ended);
    assert!(matches!(&ended.what, What::Ended { code: 0, .. }), "{ended:?}");
}

/// A container runtime finds what it needs.
#[test]
fn crun_runs_inside() {
    let agent = Agent::start(&[]);
    let namespaces = ["pid", "mount", "ipc", "uts", "cgroup"].map(|kind| serde_json::json!({ "type": kind }));
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/usr/bin"],
            "args": ["sh", "-c", "cat /proc/self/cgroup; ls /proc | grep -c '^[0-9]'; cat /sys/fs/cgroup/memory.max; hostname"],
            "capabilities": { "bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] },
        },
        "root": { "path": "rootfs" }, "hostname": "contained",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
            { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] },
        ],
        "linux": {
            "cgroupsPath": "/contained",
            "resources": { "memory": { "limit": 20_971_520 }, "pids": { "limit": 32 } },
            "namespaces": namespaces,
        },
    });
    let script = format!(
        "mkdir -p /tmp/b/rootfs/usr && cd /tmp/b && for l in bin lib lib64; do ln -s usr/$l rootfs/$l; done
         mkdir -p rootfs/proc rootfs/dev rootfs/sys/fs/cgroup; cat > config.json <<'END'\n{config}\nEND
         crun --root /run/crun --cgroup-manager cgroupfs run c1"
    );
    let finished = agent.run_with("host", "32M..192M", &NESTED, &["sh", "-c", &script]).finish();
    assert_eq!(finished.out, "0::/\n3\n20971520\ncontained\n", "{finished:?}");
    assert!(
        !PathBuf::from("/sys/fs/cgroup/contained").exists() && read(&agent.tree.workload("host")).is_empty()
    );
}
