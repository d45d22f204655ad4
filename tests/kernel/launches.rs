//! Launches that cannot be: each is refused by name, before the command is there, and nothing of it is left, not even a zombie.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};

use bellows::kernel::Cgroup;
use bellows::kernel::spawn::{IdRange, Launch, Program, Users, start};
use bellows::workload::isolation::{Isolation, Namespaces, Whose};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::asking::{Answer, ask, launch, spec, token};
use crate::boxed::{TENANT, boxed};
use crate::rig::{Agent, Tree, eventually, is_launched, number, program, read};

/// The zombies among the children of a process.
fn zombies(parent: u32) -> Vec<String> {
    let parent = parent.to_string();
    let of = |stat: String| {
        let (name, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        ((fields.next(), fields.next()) == (Some("Z"), Some(parent.as_str()))).then(|| name.to_owned())
    };
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes.filter_map(|process| of(fs::read_to_string(process.path().join("stat")).ok()?)).collect()
}

/// Why `true` cannot be started there. `announce` hears the pid of its init.
fn refused(cgroup: &Cgroup, users: Option<Users>, announce: impl FnOnce(i32) -> io::Result<()>) -> String {
    let program = Program::load(&program("bellows-init"), 1024, None).expect("init");
    let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").expect("/dev/null"));
    let namespaces = Namespaces { user: users.map_or(Whose::Host, |_| Whose::New), ..Namespaces::default() };
    let started = Launch {
        cgroup,
        hostname: "refused",
        cwd: "/",
        cgroup_mounts: &[],
        hidden_mounts: &[],
        users,
        isolation: Isolation { namespaces, ..Isolation::default() }.words(),
        argv: &["true".to_owned()],
        env: &[],
        stdio: [null(), null(), null()],
        record: File::create("/dev/null").expect("/dev/null"),
    };
    start(&program, started, |pid, _| announce(pid)).expect_err("it was started").to_string()
}

#[test]
fn a_cgroup_that_takes_no_process_is_told() {
    let tree = Tree::new();
    let root = Cgroup::open(&tree.root).expect("cgroup");
    // Who hands controllers on has no processes.
    let inner = root.create_child("inner").expect("cgroup");
    root.write("cgroup.subtree_control", "+memory").expect("controllers");
    inner.write("cgroup.subtree_control", "+memory").expect("controllers");
    let text = refused(&inner, None, |_| Ok(()));
    assert!(text.contains("/inner") && text.contains("busy"), "{text}");

    let removed = root.create_child("removed").expect("cgroup");
    root.remove_child("removed").expect("removed");
    let text = refused(&removed, None, |_| Ok(()));
    assert!(text.contains("/removed") && text.contains("No such"), "{text}");

    // Who is born there would stop before it executes, and the agent would wait for it.
    let frozen = root.create_child("frozen").expect("cgroup");
    root.write("cgroup.freeze", "1").expect("frozen");
    let text = refused(&frozen, None, |_| Ok(()));
    root.write("cgroup.freeze", "0").expect("thawed");
    assert!(text.contains("/frozen") && text.contains("thaw that first"), "{text}");
}

/// The kernel has no users beyond the last one.
#[test]
fn users_that_cannot_be_are_told() {
    let tree = Tree::new();
    let cgroup = Cgroup::open(&tree.root).and_then(|root| root.create_child("mapped")).expect("cgroup");
    let text =
        refused(&cgroup, Some(Users::Range(IdRange { first: 2_000_000_000, count: 3_000_000_000 })), |_| {
            Ok(())
        });
    assert!(text.contains("uid_map") && text.contains("Invalid argument"), "{text}");
    eventually("nobody is left of it", || !cgroup.is_populated().expect("it is there"));
    assert_eq!(zombies(std::process::id()), Vec::<String>::new());
}

/// An init that stands still is not waited for without end.
#[test]
fn who_does_not_answer_is_given_up() {
    let tree = Tree::new();
    let cgroup = Cgroup::open(&tree.root).and_then(|root| root.create_child("silent")).expect("cgroup");
    let stop = |pid| kill(Pid::from_raw(pid), Signal::SIGSTOP).map_err(io::Error::from);
    let text = refused(&cgroup, None, stop);
    assert!(text.contains("did not answer in 20 s"), "{text}");
    eventually("nobody is left of it", || !cgroup.is_populated().expect("it is there"));
    assert_eq!(zombies(std::process::id()), Vec::<String>::new());
}

#[test]
fn a_frozen_tenant_starts_nobody_and_keeps_nobody_waiting() {
    let agent = Agent::start(&[]);
    assert_eq!(agent.run("first", "16M..64M", &["true"]).finish().code, 0);
    let freeze = agent.tree.root.join("workloads/default/cgroup.freeze");
    fs::write(&freeze, "1").expect("frozen");
    let finished = agent.run("second", "16M..64M", &["true"]).finish();
    assert!(finished.code == 1 && finished.err.contains("thaw that first"), "{finished:?}");
    assert!(!agent.tree.workload("second").exists());
    let other = agent.run_with("third", "16M..64M", &["--tenant", "other"], &["true"]).finish();
    assert_eq!(other.code, 0, "{other:?}");
    fs::write(&freeze, "0").expect("thawed");
    assert_eq!(agent.run("second", "16M..64M", &["true"]).finish().code, 0);
}

/// The step at which it fails is not what is wrong.
#[test]
fn a_limit_that_is_too_low_is_blamed() {
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    for isolation in ["host", "tenant"] {
        let flags = ["--isolation", isolation, "--pids", "1"];
        let finished = agent.run_with("low", "16M..64M", &flags, &["true"]).finish();
        assert!(finished.code == 1 && finished.err.contains("pids.max is 1"), "{finished:?}");
        assert!(!agent.tree.workload("low").exists(), "nothing is left behind");
    }
    // Those of all workloads of a tenant together, which are the operator's to raise.
    let tenant = agent.tree.root.join("workloads/default");
    for (file, value, said) in
        [("memory.max", "256K", "its memory limit, or one above it, is too low"), ("pids.max", "1", "EAGAIN")]
    {
        fs::write(tenant.join(file), value).expect("a limit");
        let finished = agent.run("low", "16M..64M", &["true"]).finish();
        fs::write(tenant.join(file), "max").expect("no limit");
        assert!(finished.code == 1 && finished.err.contains(said), "{finished:?}");
        assert!(!finished.err.contains("pids.max is"), "{finished:?}");
        assert!(!agent.tree.workload("low").exists(), "nothing is left behind");
    }
    assert_eq!(zombies(agent.child.id()), Vec::<String>::new());
    assert_eq!(agent.run("high", "16M..64M", &["true"]).finish().code, 0);
}

/// What somebody else has made is not removed to make room.
#[test]
fn a_cgroup_of_somebody_else_is_left_alone() {
    let agent = Agent::start(&[]);
    assert_eq!(agent.run("own", "16M..64M", &["true"]).finish().code, 0);
    let theirs = agent.tree.workload("theirs");
    fs::create_dir_all(theirs.join("below")).expect("cgroup");
    let finished = agent.run("theirs", "16M..64M", &["true"]).finish();
    assert!(finished.code != 0 && finished.err.contains("was not made by bellows"), "{finished:?}");
    assert!(theirs.join("below").exists());
    fs::remove_dir(theirs.join("below")).expect("removed");
    fs::remove_dir(&theirs).expect("removed");
    assert_eq!(agent.run("theirs", "16M..64M", &["true"]).finish().code, 0);
}

/// A directory that init holds open would be a way out, were it the working directory (CVE-2024-21626).
#[test]
fn no_working_directory_leads_out() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _box = agent.run_with("box", "32M..64M", &TENANT, &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    for number in 3..24 {
        let leaked = format!("/proc/self/fd/{number}");
        for isolation in [Isolation::default(), Isolation::tenant()] {
            let mut spec = spec("leak", "16M..64M", isolation, &["true"]);
            spec.cwd.clone_from(&leaked);
            let answer = launch(&agent.runtime_dir, spec, false);
            let Answer::Refused(text) = &answer else { panic!("{leaked}: {answer:?}") };
            assert!(text.contains("working directory"), "{leaked}: {text}");
        }
        let (_connection, token) = token(&agent.runtime_dir).expect("a token");
        let body = serde_json::json!({ "argv": ["true"], "cwd": leaked, "stdio": token });
        let answer = ask(&agent.runtime_dir, "POST", "/api/v1/workloads/default/box/exec", &body.to_string());
        let Answer::Refused(text) = &answer else { panic!("{leaked}: {answer:?}") };
        assert!(text.contains("working directory"), "{leaked}: {text}");
    }
    assert_eq!(zombies(agent.child.id()), Vec::<String>::new());
}

/// Whoever has its own file as `/dev/null` would be shown it in place of what is masked, and have it written to (CVE-2025-31133).
#[test]
fn null_is_the_kernels_own() {
    let ground = std::env::temp_dir().join(format!("bellows-null-{}", std::process::id()));
    let (root, fake) = (ground.join("root"), ground.join("fake"));
    for directory in ["proc", "sys", "dev", "usr"] {
        fs::create_dir_all(root.join(directory)).expect("directory");
    }
    for link in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(Path::new("usr").join(link), root.join(link)).expect("link");
    }
    fs::write(&fake, "fake\n").expect("file");
    std::os::unix::fs::symlink(&fake, root.join("dev/null")).expect("link");
    let script =
        "stat -c '%t:%T' /dev/null /proc/kcore; cat /proc/kcore /proc/keys; echo written > /dev/null";
    let root = root.display().to_string();
    let agent = Agent::start(&[]);
    let flags = ["--rootfs", root.as_str(), "--bind", "/usr:/usr"];
    let finished = boxed(&agent, "faked", &flags, script);
    assert_eq!(finished.out, "1:3\n1:3\n", "{finished:?}");
    assert_eq!(read(&fake), "fake\n");
    let bind = format!("{}:/dev/null", fake.display());
    let finished = boxed(&agent, "bound", &["--bind", &bind], "true");
    assert!(finished.code != 0 && finished.err.contains("the box's own"), "{finished:?}");
    drop(agent);

    // An agent that cannot make devices shows the host's, if they are what they are called.
    let mut agent = Agent::start(&[]);
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /dev/null && exec setpriv --bounding-set -mknod {} \"$@\"' sh \"$@\"\n",
        fake.display(),
        program("bellows").display()
    );
    agent.program = agent.runtime_dir.join("faked");
    fs::write(&agent.program, script).expect("script");
    fs::set_permissions(&agent.program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    agent.kill();
    agent.restart();
    let before = read(&fake);
    let finished = boxed(&agent, "shown", &flags, "echo ran");
    assert_eq!((finished.code, finished.out.as_str()), (1, ""), "{finished:?}");
    assert!(finished.err.contains("/dev/null: No such device"), "{finished:?}");
    assert_eq!(read(&fake), before);
    drop(agent);
    fs::remove_dir_all(ground).expect("removed");
}

/// What enters a workload is born there, and executes when that lets it: here a thousandth of a cpu, shared by many.
#[test]
fn who_crawls_into_a_workload_keeps_no_other_waiting() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let spin = "for i in 1 2 3 4 5 6 7 8 9; do (while :; do :; done) & done; wait";
    let _box = agent.run_with("box", "32M..64M", &TENANT, &["sh", "-c", spin]);
    journal.wait("default/box", is_launched);
    let cgroup = agent.tree.workload("box");
    let lives = || number(&cgroup.join("pids.current"));
    eventually("all spin", || lives() == 11);
    fs::write(cgroup.join("cpu.max"), "1000 1000000").expect("a quota");
    let enter = || {
        let mut exec = agent.command("exec");
        exec.args(["box", "--", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        exec.spawn().expect("bellows exec")
    };
    let entering: Vec<Child> = (0..8).map(|_| enter()).collect();
    eventually("they are about to enter", || lives() >= 19);
    let refused = enter().wait_with_output().expect("refused");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() != Some(0) && said.contains("too much to do"), "{refused:?}");
    assert_eq!(agent.run("other", "16M..64M", &["true"]).finish().code, 0, "launches go on");
    fs::write(cgroup.join("cpu.max"), "max 100000").expect("no quota");
    for mut exec in entering {
        // On a slow machine it may have been given up.
        exec.wait().expect("its end");
    }
}

/// The kernel kills all of a workload that is out of memory, and whoever shares memory with one of it: never the agent, though somebody is
/// about to enter at any moment.
#[test]
fn who_enters_what_is_out_of_memory_takes_nobody_along() {
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    for round in 0..4 {
        let name = format!("box{round}");
        let fill = format!("until [ -e /dev/shm/go ]; do sleep 0.05; done; {load} grow 300");
        let run = agent.run_with(&name, "16M..24M", &TENANT, &["sh", "-c", &fill]);
        journal.wait(&format!("default/{name}"), is_launched);
        assert_eq!(agent.output("exec", &[&name, "--", "touch", "/dev/shm/go"]).status.code(), Some(0));
        let entering: Vec<Child> = (0..8)
            .map(|_| {
                let mut exec = agent.command("exec");
                exec.args([&name, "--", "true"])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                exec.spawn().expect("bellows exec")
            })
            .collect();
        let finished = run.finish();
        assert!(finished.code == 137 && finished.err.contains("out of memory"), "{finished:?}");
        for mut exec in entering {
            exec.wait().expect("its end");
        }
        let state = read(Path::new(&format!("/proc/{}/stat", agent.child.id())));
        assert!(!state.is_empty() && !state.contains(") Z "), "the agent was killed: {state}");
    }
}

/// Who is in the box meets what enters it, before that has given up its rights and executed: it can be neither traced nor looked into, whatever
/// is kept inside. The search through a long PATH holds it there for a while.
#[test]
fn what_enters_is_out_of_reach_until_it_executes() {
    const SPY: &str = r#"perl -e '
        $| = 1; my %won; my $met = 0;
        sub is_init { open(my $f, "<", "/proc/$_[0]/comm") or return 0; my $c = <$f>; defined $c and $c =~ /^(\d+|memfd.*|bellows-init)$/ }
        until (-e "/dev/shm/enough") { opendir(my $d, "/proc"); for my $p (grep { /^\d+$/ and $_ > 1 and $_ != $$ } readdir $d) {
            next unless is_init($p);
            $met++ or mkdir "/dev/shm/met";
            my $try = sub { my ($name, $worked) = @_; if ($worked) { select(undef, undef, undef, 0.003); $won{$name}++ if is_init($p) } };
            $try->("read its memory", do { open(my $m, "<", "/proc/$p/mem") });
            $try->("list its descriptors", do { opendir(my $l, "/proc/$p/fd") });
            $try->("find its program", defined readlink("/proc/$p/exe"));
            $try->("find its root", defined readlink("/proc/$p/root"));
            my $fd = syscall(434, $p + 0, 0);
            $try->("take a descriptor", $fd >= 0 && syscall(438, $fd, 0, 0) >= 0);
            # By another one, with whose end all go on whom it traces: it may have been its own command by then.
            my $tracer = fork();
            if (defined $tracer && !$tracer) { exit 1 if syscall(101, 0x4206, $p + 0, 0, 0); select(undef, undef, undef, 0.003); exit(is_init($p) ? 0 : 1) }
            waitpid($tracer, 0) if $tracer;
            $won{"trace it"}++ if $tracer and $? == 0;
        } }
        print "met ", ($met > 0 ? "some" : "nobody"), "; won ", join(", ", sort keys %won), "\n"'"#;
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let all = [
        "--cap-add",
        "sys_ptrace",
        "--cap-add",
        "sys_admin",
        "--seccomp",
        "false",
        "--no-new-privs",
        "false",
    ];
    let spy = agent.run_with("box", "32M..128M", &[&TENANT[..], &all].concat(), &["sh", "-c", SPY]);
    journal.wait("default/box", is_launched);
    let path = format!("PATH={}/usr/bin:/bin", "/nowhere/at/all:".repeat(4000));
    let has_met = || agent.output("exec", &["box", "--", "test", "-e", "/dev/shm/met"]).status.success();
    eventually("somebody is met", || {
        for _ in 0..4 {
            agent.output("exec", &["box", "--env", &path, "--", "true"]);
        }
        has_met()
    });
    agent.output("exec", &["box", "--", "touch", "/dev/shm/enough"]);
    let finished = spy.finish();
    assert_eq!(finished.out, "met some; won \n", "{finished:?}");
}
