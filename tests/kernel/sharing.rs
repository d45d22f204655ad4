//! Each namespace of a workload can be one that is there already. What is shared is shared, what is not is its own, and whoever joins
//! comes and goes without a trace.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use bellows::journal::What;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::boxed::{TENANT, boxed};
use crate::life::told;
use crate::rig::{Agent, Finished, Follower, Run, eventually, is_launched, read};
use crate::takeover::is_taken_over;

/// Flags, and how `/proc` calls what they are about.
const KINDS: [(&str, &str); 8] = [
    ("--userns", "user"),
    ("--pid", "pid"),
    ("--mount", "mnt"),
    ("--net", "net"),
    ("--ipc", "ipc"),
    ("--uts", "uts"),
    ("--cgroup", "cgroup"),
    ("--time", "time"),
];

/// Where whoever runs it is, a line for each of [`KINDS`].
const LINKS: &str = "for name in user pid mnt net ipc uts cgroup time; do readlink /proc/self/ns/$name; done";

/// What an init is called that was started from memory.
const INIT: &str = "memfd:bellows-i";

/// A workload with all eight of its own; where its init is, as the agent sees it.
fn hold(agent: &Agent, journal: &mut Follower) -> (Run, i32) {
    let flags = [&TENANT[..], &["--time", "new"]].concat();
    let run = agent.run_with("holder", "32M..128M", &flags, &["sleep", "300"]);
    (run, launched(journal, "default/holder"))
}

fn launched(journal: &mut Follower, name: &str) -> i32 {
    let What::Launched { pid, .. } = journal.wait(name, is_launched).what else { unreachable!() };
    pid
}

/// Where a command is that enters it.
fn inside(agent: &Agent, name: &str) -> String {
    told(agent, "exec", &[name, "--", "sh", "-c", LINKS], 0)
}

fn outside(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}")).expect("link").display().to_string()
}

fn of(pid: i32, file: &str) -> String {
    format!("join:/proc/{pid}/ns/{file}")
}

/// Flags that join all of them.
fn all_of(pid: i32) -> Vec<String> {
    KINDS.iter().flat_map(|(flag, file)| [(*flag).to_owned(), of(pid, file)]).collect()
}

fn run(agent: &Agent, name: &str, flags: &[String], script: &str) -> Run {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    agent.run_with(name, "32M..128M", &flags, &["sh", "-c", script])
}

#[test]
fn each_is_joined_alone() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (_run, pid) = hold(&agent, &mut journal);
    let held = inside(&agent, "holder");
    let held: Vec<&str> = held.lines().collect();
    for (link, (_, file)) in held.iter().zip(KINDS) {
        assert_ne!(*link, outside(file), "all are its own, and are entered: {held:?}");
    }
    for (flag, file) in KINDS {
        // A joined /proc shows those of the joined pid namespace alone.
        let with = |other: &str| other == file || (file == "mnt" && other == "pid");
        let kinds = KINDS.iter().filter(|(_, other)| with(other));
        let flags: Vec<String> =
            kinds.flat_map(|(flag, other)| [(*flag).to_owned(), of(pid, other)]).collect();
        let name = format!("joins-{file}");
        let joiner = run(&agent, &name, &flags, &format!("{LINKS}; exit 7")).finish();
        let links: Vec<&str> = joiner.out.lines().collect();
        assert_eq!((joiner.code, links.len()), (7, 8), "{flag}: {joiner:?}");
        for ((own, held), (_, other)) in links.iter().zip(&held).zip(KINDS) {
            assert_eq!(own == held, with(other), "{flag}, {other}: {joiner:?}");
        }
        eventually("nothing is left of it", || !agent.tree.workload(&name).exists());
    }
    assert_eq!(inside(&agent, "holder").lines().collect::<Vec<_>>(), held, "who holds them is left alone");
}

/// It comes and goes: with its exit code, by force, under another agent, and with who holds what it has joined.
#[test]
fn all_are_joined_at_once_and_who_holds_them_is_left_alone() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (held_run, pid) = hold(&agent, &mut journal);
    let held = inside(&agent, "holder");
    // An orphan is its init's, and not the holder's.
    let orphan = "o=$(sh -c 'sleep 300 > /dev/null 2>&1 & echo $!'); until grep -q \"^PPid:.$PPID$\" /proc/$o/status; do sleep 0.1; done";
    let told_all =
        run(&agent, "told", &all_of(pid), &format!("{LINKS}; id -u; cat /proc/1/comm; {orphan}; exit 7"));
    let told_all = told_all.finish();
    assert_eq!((told_all.code, told_all.out), (7, format!("{held}0\n{INIT}\n")), "{}", told_all.err);
    eventually("the orphan has ended with it", || !agent.tree.workload("told").exists());

    let forced = run(&agent, "forced", &all_of(pid), "sleep 300");
    launched(&mut journal, "default/forced");
    assert_eq!(inside(&agent, "forced"), held);
    told(&agent, "stop", &["forced", "--grace", "0s"], 0);
    assert_eq!((forced.finish().code, inside(&agent, "holder")), (137, held.clone()));

    // The next agent knows its init, which is nobody's first process, and what an init that ended meanwhile has left.
    let kept = run(&agent, "kept", &all_of(pid), "sleep 300");
    launched(&mut journal, "default/kept");
    let left = run(&agent, "left", &all_of(pid), "exec sleep 300");
    let init = launched(&mut journal, "default/left");
    agent.kill();
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("kill");
    let procs = agent.tree.workload("left").join("cgroup.procs");
    eventually("its command is left", || read(&procs).lines().count() == 1);
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/kept", is_taken_over);
    assert_eq!(left.finish().code, 137);
    eventually("nothing is left of it", || !agent.tree.workload("left").exists());
    assert_eq!(inside(&agent, "kept"), held);

    // Whose pid namespace it is takes all that are in it along.
    told(&agent, "stop", &["holder", "--grace", "0s"], 0);
    assert_eq!((kept.finish().code, held_run.finish().code), (137, 137));
    eventually("nothing is left of it", || !agent.tree.workload("kept").exists());
}

/// With users of its own it is shown what it has joined, and can change nothing of it.
#[test]
fn a_box_is_shown_what_is_not_its_own() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (_run, pid) = hold(&agent, &mut journal);
    let cgroup = agent.tree.workload("holder");
    let said = |name: &str, flags: &[&str], script: &str| {
        let Finished { code, out, err } = boxed(&agent, name, flags, script);
        assert_eq!(code, 0, "{name}: {out}{err}");
        out
    };
    let pids = said("pids", &["--pid", &of(pid, "pid")], "cat /proc/1/comm; echo $(( $$ > 1 ))");
    assert_eq!(pids, format!("{INIT}\n1\n"));
    let view = "stat -c %i /sys/fs/cgroup; cat /proc/self/cgroup; ( echo 1 > /sys/fs/cgroup/cgroup.freeze ) 2> /dev/null || echo no";
    let own = fs::metadata(&cgroup).expect("its cgroup").ino();
    let views = said("views", &["--cgroup", &of(pid, "cgroup")], view);
    assert_eq!(views, format!("{own}\n0::/../views\nno\n"));

    let agent_pid = agent.child.id();
    let script = format!(
        "for name in pid ipc uts; do readlink /proc/self/ns/$name; done; cat /proc/{agent_pid}/comm; \
         ls -d /dev/mqueue; kill -0 {agent_pid} 2> /dev/null || echo no"
    );
    let hosts = said("hosts", &["--pid", "host", "--ipc", "host", "--uts", "host"], &script);
    let links: String = ["pid", "ipc", "uts"].map(|file| outside(file) + "\n").concat();
    assert_eq!(hosts, format!("{links}bellows\n/dev/mqueue\nno\n"));
}

/// The kernel waits for each of them before it lets the first one go.
#[test]
fn the_end_of_a_pid_namespace_is_that_of_all_who_have_joined_it() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (held, pid) = hold(&agent, &mut journal);
    let flags = ["--pid".to_owned(), of(pid, "pid")];
    let joiners = ["one", "two"].map(|name| run(&agent, name, &flags, "sleep 300"));
    for name in ["one", "two"] {
        launched(&mut journal, &format!("default/{name}"));
    }
    told(&agent, "stop", &["holder", "--grace", "0s"], 0);
    assert_eq!(held.finish().code, 137);
    assert_eq!(joiners.map(|joiner| joiner.finish().code), [137, 137]);
    for name in ["holder", "one", "two"] {
        eventually("nothing is left of it", || !agent.tree.workload(name).exists());
    }
}

/// In the host's pid namespace nobody's end takes anybody along but the agent's word.
#[test]
fn what_a_command_leaves_among_the_hosts_processes_ends_with_it() {
    let agent = Agent::start(&[]);
    let flags = ["--pid".to_owned(), "host".to_owned()];
    let left = run(&agent, "left", &flags, "readlink /proc/self/ns/pid; sleep 300 > /dev/null 2>&1 & exit 3")
        .finish();
    assert_eq!((left.code, left.out), (3, outside("pid") + "\n"), "{}", left.err);
    eventually("nothing is left of it", || !agent.tree.workload("left").exists());
}

/// Root of joined users is that on the host, too.
#[test]
fn files_are_those_of_joined_users() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (_run, pid) = hold(&agent, &mut journal);
    let map = told(&agent, "exec", &["holder", "--", "cat", "/proc/self/uid_map"], 0);
    let root: u32 = map.split_whitespace().nth(1).and_then(|id| id.parse().ok()).expect("a map");
    let directory = agent.runtime_dir.join("shared");
    fs::create_dir(&directory).expect("directory");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).expect("mode");
    let bind = format!("{}:/tmp/shared:rw", directory.display());
    let flags = ["--userns", &of(pid, "user"), "--bind", &bind].map(str::to_owned);
    let script = "cat /proc/self/uid_map; touch /tmp/shared/file; stat -c %u /dev; touch /usr/new 2> /dev/null && echo won; true";
    let joiner = run(&agent, "joiner", &flags, script).finish();
    assert_eq!((joiner.code, joiner.out), (0, format!("{map}0\n")), "{}", joiner.err);
    assert_eq!(fs::metadata(directory.join("file")).expect("the file").uid(), root);
}

/// A pid namespace by a file, let go at the end; its first process has ended.
struct Dead(PathBuf);

impl Dead {
    fn new() -> Self {
        let file = PathBuf::from(format!("/run/bellows-sharing-{}", std::process::id()));
        fs::write(&file, "").expect("a file to mount on");
        let status =
            Command::new("unshare").args(["--fork", &format!("--pid={}", file.display()), "true"]).status();
        assert!(status.expect("unshare").success());
        Self(file)
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn what_cannot_be_shared_is_refused_by_name() {
    let (agent, dead) = (Agent::start(&[]), Dead::new());
    let mut nobodys = Command::new("unshare").args(["--user", "sleep", "300"]).spawn().expect("unshare");
    let users = format!("/proc/{}/ns/user", nobodys.id());
    let has_unshared =
        || fs::read_link(&users).is_ok_and(|link| link.display().to_string() != outside("user"));
    eventually("it has users of its own", has_unshared);
    let agents = |file: &str| of(agent.child.id().cast_signed(), file);
    for (flags, said) in [
        (["--mount", "host"], "the host's mount namespace is not given away"),
        (["--cgroup", "host"], "the host's cgroup namespace is not given away"),
        (["--mount", &agents("mnt")], "it is the agent's own mount namespace"),
        (["--cgroup", &agents("cgroup")], "it is the agent's own cgroup namespace"),
        (["--userns", &agents("user")], "it is the agent's own user namespace"),
        (["--pid", &agents("net")], "it is no pid namespace"),
        (["--time", &agents("none")], "No such file"),
        (["--net", "join:/proc/self/ns/net"], "Too many"),
        (["--pid", &format!("join:{}", dead.0.display())], "its first process has ended"),
        (["--userns", &format!("join:{users}")], "it has no user 0"),
    ] {
        let refused = agent.run_with("refused", "32M..128M", &flags, &["true"]).finish();
        assert!(refused.code != 0 && refused.err.contains(said), "{flags:?}: {refused:?}");
        assert!(!agent.tree.workload("refused").exists(), "nothing is left behind");
    }
    nobodys.kill().expect("kill");
    nobodys.wait().expect("its end");
}
