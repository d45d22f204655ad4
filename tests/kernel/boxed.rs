//! Attacks on the tenant's box, each tried for real from inside, and, so that it is known to be an attack, from outside as well.
//!
//! An attack is a script that succeeds when the attacker has won. All are run by one workload each in the box; then by root of this
//! machine, without a box, where they must win.

use std::process::Command;

use bellows::journal::What;

use crate::rig::{Agent, Finished, is_launched};

pub(crate) const TENANT: [&str; 2] = ["--isolation", "tenant"];

/// Name and script. They leave the machine as it was; hence the options of cgroup2, which a mount by the machine's root sets.
const ATTACKS: &[(&str, &str)] = &[
    (
        "mount-cgroup2",
        "mkdir -p /dev/shm/cg && mount -t cgroup2 -o nsdelegate,memory_recursiveprot none /dev/shm/cg && umount /dev/shm/cg",
    ),
    ("mount-tmpfs", "mkdir -p /dev/shm/t && mount -t tmpfs none /dev/shm/t && umount /dev/shm/t"),
    ("write-to-own-cgroup", "f=/sys/fs/cgroup/cgroup.max.depth; p=$(cat $f) && echo $p > $f"),
    (
        "write-to-own-cgroup-by-own-mount",
        "mkdir -p /dev/shm/w && mount -t cgroup2 -o nsdelegate,memory_recursiveprot none /dev/shm/w && p=$(cat /dev/shm/w/cgroup.max.depth) && echo $p > /dev/shm/w/cgroup.max.depth; r=$?; umount /dev/shm/w; exit $r",
    ),
    (
        "be-in-a-group-that-is-not-ours",
        "perl -e '$g = pack(\"L\", 70000); exit(syscall(116, 1, $g) == 0 ? 0 : 1)'",
    ),
    ("see-others", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q 'bellows[ ]agent'"),
    (
        "signal-others",
        "pid=$(grep -l '^bellows$' /proc/[0-9]*/comm 2>/dev/null | head -1 | cut -d/ -f3); [ -n \"$pid\" ] && kill -0 $pid",
    ),
    ("open-fds-of-init", "ls /proc/1/fd/ > /dev/null && ls -l /proc/1/fd/0 > /dev/null"),
    ("read-environment-of-init", "head -c 0 /proc/1/environ"),
    ("trace-init", "perl -e 'exit(syscall(101, 0x4206, 1, 0, 0) == 0 ? syscall(101, 17, 1, 0, 0) * 0 : 1)'"),
    (
        "take-a-descriptor-of-init",
        "perl -e '$p = syscall(434, 1, 0); exit(syscall(438, $p, 0, 0) >= 0 ? 0 : 1)'",
    ),
    ("make-a-block-device", "mknod /dev/shm/disk b 254 0 && rm /dev/shm/disk"),
    ("use-the-disk-by-dev", "[ -e /dev/ttyS0 ] || [ -e /dev/vda ] || [ -e /dev/kmsg ]"),
    (
        "write-core-pattern",
        "p=$(cat /proc/sys/kernel/core_pattern) && echo \"$p\" > /proc/sys/kernel/core_pattern",
    ),
    ("write-sysctl", "p=$(cat /proc/sys/kernel/panic) && echo \"$p\" > /proc/sys/kernel/panic"),
    ("write-modprobe-path", "p=$(cat /proc/sys/kernel/modprobe) && echo \"$p\" > /proc/sys/kernel/modprobe"),
    ("trigger-sysrq", "echo h > /proc/sysrq-trigger"),
    ("read-kernel-memory", "head -c 1 /proc/kcore | grep -q ."),
    (
        "write-sysfs",
        "f=/sys/kernel/mm/transparent_hugepage/defrag; p=$(grep -o '\\[.*\\]' $f | tr -d '[]') && echo $p > $f",
    ),
    ("new-user-namespace", "unshare --user --map-root-user true"),
    ("new-mount-namespace", "unshare --mount true"),
    ("join-a-namespace", "nsenter --ipc=/proc/self/ns/ipc true"),
    ("keyring", "perl -e 'exit(syscall(250, 0, -3, 1) >= 0 ? 0 : 1)'"),
    ("user-fault-handling", "perl -e 'exit(syscall(323, 0) >= 0 ? 0 : 1)'"),
    (
        "performance-counters",
        "perl -e '$a = pack(\"LL\", 1, 112) . (\"\\0\" x 104); exit(syscall(298, $a, 0, -1, -1, 0) >= 0 ? 0 : 1)'",
    ),
    (
        "bpf",
        "perl -e '$a = pack(\"LLLL\", 2, 4, 4, 1) . (\"\\0\" x 112); exit(syscall(321, 0, $a, 128) >= 0 ? 0 : 1)'",
    ),
    ("set-the-clock", "date -s @$(date +%s) > /dev/null"),
    ("set-the-host-name", "hostname \"$(hostname)\""),
    ("lower-niceness", "nice -n -5 sh -c '[ $(nice) = -5 ]'"),
    ("be-spared-by-the-oom-killer", "echo -900 > /proc/self/oom_score_adj"),
    ("write-to-the-root", "touch /usr/.bellows-was-here && rm /usr/.bellows-was-here"),
    ("read-shadow", "head -c 1 /etc/shadow > /dev/null"),
    ("type-into-the-terminal", TYPE),
];

/// What the kernel lets whoever keeps his capabilities do to his own namespaces.
pub(crate) const OWN_TO_RULE: [&str; 7] = [
    "mount-cgroup2",
    "mount-tmpfs",
    "new-user-namespace",
    "new-mount-namespace",
    "join-a-namespace",
    "keyring",
    "set-the-host-name",
];

/// A kernel may let nobody but the machine's root do these.
pub(crate) fn by_kernel(name: &str) -> bool {
    ["user-fault-handling", "type-into-the-terminal"].contains(&name)
}

/// A terminal of one's own, and a character put into its input.
const TYPE: &str = r#"perl -e '
    fork() and do { wait; exit($? ? 1 : 0) };
    $SIG{HUP} = "IGNORE";
    syscall(112);
    open(M, "+<", "/dev/ptmx") or exit 9;
    $zero = pack("i", 0); ioctl(M, 0x40045431, $zero) or exit 8;
    $n = pack("i", 0); ioctl(M, 0x80045430, $n) or exit 7;
    open(S, "+<", "/dev/pts/" . unpack("i", $n)) or exit 6;
    ioctl(S, 0x540e, 0);
    $c = "x"; exit(ioctl(S, 0x5412, $c) ? 0 : 1)'"#;

/// All attacks in one script that tells who has won.
pub(crate) fn all() -> String {
    let one =
        |(name, script): &(&str, &str)| format!("if ( {script} ) 2>/dev/null; then echo won {name}; fi\n");
    ATTACKS.iter().map(one).collect::<String>() + "echo done"
}

pub(crate) fn boxed(agent: &Agent, name: &str, flags: &[&str], script: &str) -> Finished {
    let flags: Vec<&str> = TENANT.iter().chain(flags).copied().collect();
    agent.run_with(name, "32M..128M", &flags, &["sh", "-c", script]).finish()
}

#[test]
fn no_attack_wins_in_the_box_and_each_does_outside() {
    let agent = Agent::start(&[]);
    let inside = boxed(&agent, "attacker", &[], &all());
    assert_eq!(inside.out, "done\n", "these have won inside: {inside:?}");
    // With more capabilities and without a filter: the user namespace and the locked mounts alone. The kernel lets it do to its own
    // namespaces what it likes, so it is the filter and the dropped capabilities that have stopped these above.
    let all_rights: Vec<String> = [
        "sys_admin",
        "sys_ptrace",
        "mknod",
        "sys_rawio",
        "sys_time",
        "sys_nice",
        "sys_resource",
        "dac_read_search",
        "bpf",
        "perfmon",
    ]
    .iter()
    .flat_map(|c| ["--cap-add".to_owned(), (*c).to_owned()])
    .collect();
    let mut flags: Vec<&str> = all_rights.iter().map(String::as_str).collect();
    flags.extend(["--seccomp", "false", "--no-new-privs", "false"]);
    let privileged = boxed(&agent, "privileged", &flags, &all());
    let won: Vec<&str> = privileged.out.lines().filter_map(|l| l.strip_prefix("won ")).collect();
    let won: Vec<&str> = won.into_iter().filter(|name| !by_kernel(name)).collect();
    assert!(privileged.out.ends_with("done\n"), "{privileged:?}");
    assert_eq!(won, OWN_TO_RULE, "{privileged:?}");

    let outside = Command::new("sh").args(["-c", &all()]).output().expect("sh");
    let outside = String::from_utf8_lossy(&outside.stdout);
    let lost: Vec<&str> =
        ATTACKS.iter().map(|(n, _)| *n).filter(|n| !outside.contains(&format!("won {n}\n"))).collect();
    assert!(lost.is_empty(), "these are no attacks, since root itself does not win: {lost:?}");
}

/// From inside: who it is, what it has, and what there is.
#[test]
fn the_box_is_what_it_says() {
    let agent = Agent::start(&[]);
    let uptime = std::fs::read_to_string("/proc/uptime").expect("uptime");
    let before: u64 = uptime.split('.').next().and_then(|s| s.parse().ok()).expect("seconds");
    let script = r"
        id -u; hostname; cat /proc/sys/kernel/domainname; ls /proc/self/fd | tr '\n' ' '; echo
        grep -E '^(Groups|CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ' \t'
        cat /proc/self/cgroup; cat /sys/class/net/*/flags; ls /sys/class/net | tr '\n' ' '; echo
        ls /dev | tr '\n' ' '; ulimit -n; ulimit -Hn; ulimit -c
        echo hello > /dev/shm/x && cat /dev/shm/x; echo piped > /dev/stdout; echo lost > /dev/null; head -c 4 /dev/urandom | wc -c
        ls -A /tmp /run /var/tmp | tr '\n' ' '; echo; echo max > /sys/fs/cgroup/memory.high || echo refused
        ls /sys/fs/cgroup/memory.max; cut -d. -f1 /proc/uptime
    ";
    let names = ["--hostname", "boxed.test", "--domainname", "corp.test"];
    let flags = ["--time", "new", "--ulimit", "nofile=100:200", "--ulimit", "core=0"];
    let finished = boxed(&agent, "described", &[&names[..], &flags].concat(), script);
    let expected = "0\nboxed.test\ncorp.test\n0 1 2 3 \n\
        Groups:\nCapInh:0000000000000000\nCapEff:00000000800425fb\nCapBnd:00000000800425fb\n\
        CapAmb:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n\
        0::/\n0x9\nlo \n\
        fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \
        100\n200\n0\nhello\npiped\n4\n/run: /tmp: /var/tmp: \nrefused\n/sys/fs/cgroup/memory.max\n";
    let mut words: Vec<&str> = finished.out.split_whitespace().collect();
    let uptime: u64 = words.pop().and_then(|word| word.parse().ok()).expect("an uptime");
    assert_eq!(words, expected.split_whitespace().collect::<Vec<_>>(), "{finished:?}");
    assert!(uptime < before, "its clock begins with it, and not with the machine: {uptime} of {before} s");
}

/// A program that is executed by its descriptor can be overwritten by whoever it starts (CVE-2019-5736): ours is sealed, and cannot be
/// reached either. The workload without a box is root and does reach it.
#[test]
fn init_cannot_be_overwritten() {
    let agent = Agent::start(&[]);
    let script = "readlink /proc/1/exe | cut -c 1-20; ( : >> /proc/1/exe ) 2>/dev/null && echo won; \
                  ( exec 7>> /proc/1/exe ) 2>/dev/null && echo won; echo done";
    let inside = boxed(&agent, "inside", &[], script);
    assert_eq!(inside.out, "done\n", "{inside:?}");
    let plain = agent.run("plain", "16M..64M", &["sh", "-c", script]).finish();
    assert_eq!(plain.out, "/memfd:bellows-init \ndone\n", "it is there, and cannot be written: {plain:?}");
}

/// Shows what the box costs: from admission to execution. Not asserted.
#[test]
fn launch_with_and_without_the_box() {
    const RUNS: usize = 12;
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    for (label, flags) in [("host", &[][..]), ("tenant", &TENANT[..])] {
        let mut took: Vec<u32> = (0..RUNS)
            .map(|n| {
                let name = format!("{label}-{n}");
                assert_eq!(agent.run_with(&name, "16M..64M", flags, &["true"]).finish().code, 0);
                match journal.wait(&format!("default/{name}"), is_launched).what {
                    What::Launched { took_us, .. } => u32::try_from(took_us).expect("a time"),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        took.sort_unstable();
        let (p50, last) = (f64::from(took[RUNS / 2]) / 1e3, f64::from(took[RUNS - 1]) / 1e3);
        println!("launch to exec, isolation {label}: p50 {p50:.1} ms, longest {last:.1} ms of {RUNS}");
    }
}

/// What `/proc` and `/sys` tell about the machine is empty, and what changes it is read-only, all of it that this kernel has.
#[test]
fn what_tells_of_the_machine_is_masked() {
    let agent = Agent::start(&[]);
    let script = "
        for path in /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/key-users /proc/latency_stats /proc/sched_debug \
            /proc/scsi /proc/timer_list /sys/devices/virtual/powercap /sys/firmware /sys/kernel/debug /sys/kernel/security; do
            if [ -d $path ]; then ls -A $path; elif [ -e $path ]; then head -c 8 $path; fi
        done
        for path in /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger; do
            [ ! -e $path ] || grep -q \" $path ro[, ]\" /proc/self/mountinfo || echo $path
        done
    ";
    let flags = &TENANT;
    let finished = agent.run_with("masked", "16M..64M", flags, &["sh", "-c", script]).finish();
    assert_eq!((finished.code, finished.out.as_str(), finished.err.as_str()), (0, "", ""), "{finished:?}");
    // Here they are not, so that this is not empty for want of them.
    for path in ["/proc/interrupts", "/proc/timer_list", "/proc/keys"] {
        assert!(!std::fs::read(path).expect(path).is_empty(), "{path}");
    }
}
