//! What the unit takes from the agent is the agent's alone: it can neither see nor write what it has no business with, and what it starts
//! sees the host as it is. What is taken from workloads, too, comes back by a drop-in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::rig::{
    Installed, TREE, UNTIL_TOLD, detach, eventually, main_pid, processes, read, run, text, told,
};

/// Files where the agent sees none, or another; and a mount that it was born before.
struct Marks;

const MARKS: [&str; 4] = ["/home/tenant/mark", "/root/mark", "/tmp/mark", "/mnt/late/mark"];

impl Marks {
    fn new() -> Self {
        fs::create_dir_all("/mnt/late").expect("directory");
        told(&["mount", "-t", "tmpfs", "late", "/mnt/late"]);
        for mark in MARKS {
            fs::write(mark, "the host's\n").expect(mark);
        }
        Self
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        for mark in MARKS {
            let _ = fs::remove_file(mark);
        }
        run(&["umount", "/mnt/late"]);
        let _ = fs::remove_dir("/mnt/late");
    }
}

fn workload(name: &str, flags: &[&str], script: &str) -> Output {
    let mut command = Command::new("bellows");
    command
        .args(["run", "--name", name, "--memory", "32M..128M"])
        .args(flags)
        .args(["--", "sh", "-c", script]);
    command.current_dir("/home/tenant").output().expect("bellows")
}

/// What it has printed; it must have ended well.
fn printed(name: &str, flags: &[&str], script: &str) -> String {
    let output = workload(name, flags, script);
    assert!(output.status.success(), "{name}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that is mounted, apart from what a workload has of its own: source, place and attributes of each.
fn mounts(mountinfo: &str) -> Vec<String> {
    let fields = |line: &str| {
        let (left, right) = line.split_once(" - ").expect("a line of mountinfo");
        let left: Vec<&str> = left.split(' ').skip(3).take(3).collect();
        format!("{} {right}", left.join(" "))
    };
    let own = |line: &String| line.contains(" /proc") || line.contains(" cgroup2 ");
    let mut all: Vec<String> = mountinfo.lines().map(fields).filter(|line| !own(line)).collect();
    all.sort();
    all
}

/// Runs a command in the agent's mount namespace.
fn as_agent(command: &[&str]) -> Output {
    let pid = main_pid().to_string();
    run(&[&["nsenter", "--target", &pid, "--mount", "--"], command].concat())
}

/// The agent can write to nothing that is the host's.
pub(crate) fn the_host_is_read_only() {
    for path in [
        "/usr",
        "/etc",
        "/var",
        "/run",
        "/sys/fs/cgroup",
        "/sys/kernel/mm",
        "/sys/devices/system",
        "/sys/module/kernel/parameters",
        "/proc/sys/kernel/panic",
    ] {
        assert!(as_agent(&["test", "-e", path]).status.success(), "{path}");
        assert!(!as_agent(&["test", "-w", path]).status.success(), "the agent can write to {path}");
    }
}

#[test]
fn the_agent_is_confined_and_what_it_starts_is_not() {
    let _installed = Installed::started();
    let _marks = Marks::new();
    the_host_is_read_only();
    for mark in &MARKS[..3] {
        assert!(!as_agent(&["test", "-e", mark]).status.success(), "the agent sees {mark}");
    }
    for mine in ["/run/bellows", "/var/lib/bellows", TREE] {
        assert!(as_agent(&["test", "-w", mine]).status.success(), "{mine}");
    }

    let all = MARKS.join(" ");
    let script = format!("pwd; cat {all}; cat /proc/self/mountinfo");
    let said = printed("plain", &[], &script);
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("/home/tenant"), "{said}");
    assert_eq!(
        lines.by_ref().take(MARKS.len()).filter(|line| *line == "the host's").count(),
        MARKS.len(),
        "{said}"
    );
    assert_eq!(mounts(&lines.collect::<Vec<_>>().join("\n")), mounts(&read("/proc/1/mountinfo")));

    // What it writes is where the host has it.
    let made = Path::new("/tmp/made");
    printed("writes", &[], "echo made > /tmp/made");
    assert_eq!(read(made), "made\n");
    let _ = fs::remove_file(made);

    let output = run(&[
        "bellows",
        "run",
        "--detach",
        "--terminal",
        "--name",
        "seat",
        "--memory",
        "16M..64M",
        "--",
        "tty",
    ]);
    assert!(output.status.success(), "{}", text(&output));
    eventually("it has a terminal", || text(&run(&["bellows", "logs", "seat"])).contains("/dev/pts/"));
    detach("web", &format!("echo said; {UNTIL_TOLD}"));
    eventually("what it says is written", || text(&run(&["bellows", "logs", "web"])).contains("said"));
    assert_eq!(
        told(&[&["bellows", "exec", "web", "--", "cat"][..], &MARKS].concat()).lines().count(),
        MARKS.len()
    );
    let own = fs::read_link("/proc/1/ns/mnt").expect("link");
    let outside = |pid: &&str| fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|link| link == own);
    let procs = processes("web");
    assert_eq!(procs.lines().filter(outside).count(), 1, "the log's writer is in the host's mounts: {procs}");
}

/// Boxes and single parts of one, whatever the agent itself lacks for making them.
#[test]
fn boxes_are_whole() {
    let _installed = Installed::started();
    let _marks = Marks::new();
    let before = uptime();
    let script = "case $(cat /proc/net/fib_trie) in *127.0.0.1*) echo up;; esac; echo lost > /dev/null; head -c 4 /dev/urandom | wc -c; \
                  cut -d. -f1 /proc/uptime";
    let tenant = ["--isolation", "tenant", "--time", "new"];
    let bind = ["--bind", "/home/tenant:/srv"];
    for (name, flags, more) in [
        ("plain", &["--net", "new", "--time", "new", "--cap-drop", "net_raw"][..], ""),
        (
            "rooted",
            &[&["--net", "new", "--time", "new"][..], &usr()].concat(),
            "; cat /sys/class/net/lo/flags",
        ),
        ("host-root", &[&tenant[..], &bind].concat(), "; cat /srv/mark /mnt/late/mark; ls -A /tmp"),
        (
            "nested",
            &[&tenant[..], &["--nested"]].concat(),
            "; mkdir /sys/fs/cgroup/mine && mount -t tmpfs none /tmp",
        ),
        ("rootfs", &[&tenant[..], &bind, &usr()].concat(), "; cat /srv/mark; echo kept > /written"),
    ] {
        let said = printed(name, flags, &format!("{script}{more}"));
        let mut words = said.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some("up"), Some("4")), "{name}: {said}");
        let began: u64 = words.next().and_then(|word| word.parse().ok()).expect("an uptime");
        assert!(began < before, "{name}: its clock begins with it: {began} of {before} s");
        let marks =
            more.split_whitespace().filter(|word| word.trim_end_matches(';').ends_with("/mark")).count();
        assert_eq!(said.matches("the host's").count(), marks, "{name}: {said}");
    }

    // A namespace that was made after the agent began is joined by its path.
    let net = "/run/test-net";
    fs::write(net, "").expect("a file to mount on");
    told(&["unshare", &format!("--net={net}"), "true"]);
    let said = printed("joins", &["--net", &format!("join:{net}")], "readlink /proc/self/ns/net");
    let joined = told(&["nsenter", &format!("--net={net}"), "readlink", "/proc/self/ns/net"]);
    told(&["umount", net]);
    let _ = fs::remove_file(net);
    assert_eq!(said.trim(), joined);
}

fn uptime() -> u64 {
    read("/proc/uptime").split('.').next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
}

/// A root file system of the guest's programs.
fn usr() -> [&'static str; 6] {
    let root = PathBuf::from("/srv/root");
    fs::create_dir_all(root.join("usr")).expect("directory");
    for name in ["bin", "lib", "lib64"] {
        let _ = std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name));
    }
    ["--rootfs", "/srv/root", "--overlay", "8M", "--bind", "/usr:/usr"]
}

/// What is gone for good comes back where somebody wants it.
#[test]
fn what_workloads_lose_comes_back_by_a_drop_in() {
    let mut installed = Installed::started();
    // CAP_NET_ADMIN and CAP_MKNOD, by their numbers.
    let script = "mknod /dev/shm/null c 1 3 2>&1; rm -f /dev/shm/null; cat /proc/self/status";
    let rights = |said: &str| {
        let set = said.lines().find_map(|line| line.strip_prefix("CapBnd:")).map(str::trim);
        let set = set.and_then(|set| u64::from_str_radix(set, 16).ok()).unwrap_or_else(|| panic!("{said}"));
        [12, 27].map(|capability| set & (1 << capability) != 0)
    };
    let said = printed("without", &[], script);
    assert!(said.contains("Operation not permitted") && rights(&said) == [false, false], "{said}");
    installed.drop_in("[Service]\nPrivateDevices=no\nCapabilityBoundingSet=CAP_NET_ADMIN\n");
    told(&["systemctl", "restart", "bellows"]);
    let said = printed("with", &[], script);
    assert!(!said.contains("not permitted") && rights(&said) == [true, true], "{said}");
}
