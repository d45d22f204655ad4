//! Adoption: a cgroup that somebody else makes in a tenant's is governed where policy says so, given back as it was, and never ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use bellows::journal::What;
use bellows_policies::Verb;

use crate::observe::would;
use crate::policies::Policies;
use crate::rig::{Agent, MIB, Tree, eventually, field, is_grow, number, program, read};

pub(crate) fn policy(adopt: &str, ceiling: &str) -> String {
    format!(
        "[tenant.acme]\nadopt = \"{adopt}\"\nclass = \"guest\"\n\
         [class.guest]\nweight = 321\nmemory = {{ floor = \"32M\", ceiling = \"{ceiling}\" }}\n"
    )
}

pub(crate) fn is_adopted(what: &What) -> bool {
    matches!(what, What::Adopted { .. })
}

/// The tenant's cgroup, once it can be used.
pub(crate) fn tenant(agent: &Agent) -> PathBuf {
    let tenant = agent.tree.root.join("workloads/acme");
    let control = tenant.join("cgroup.subtree_control");
    eventually("the tenant is ready", || read(&control).contains("memory"));
    tenant
}

/// A process that somebody else starts in a cgroup of theirs.
fn start_in(cgroup: &Path, arguments: &[&str]) -> Child {
    let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
    Command::new("sh")
        .args(["-c", script])
        .arg(cgroup)
        .arg(program("bellows-load"))
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

fn end(mut child: Child, cgroup: &Path) {
    child.kill().expect("kill");
    child.wait().expect("its end");
    eventually("its cgroup is removed", || fs::remove_dir(cgroup).is_ok());
}

/// Of all files only `memory.high` is ours.
pub(crate) fn assert_not_ours(cgroup: &Path) {
    for (file, value) in [
        ("memory.max", "max"),
        ("memory.low", "0"),
        ("memory.swap.max", "max"),
        ("cpu.max", "max 100000"),
        ("cpu.weight", "100"),
        ("pids.max", "max"),
        ("memory.oom.group", "0"),
    ] {
        assert_eq!(read(&cgroup.join(file)).trim(), value, "{file}");
    }
}

#[test]
fn what_others_make_is_governed_grows_and_is_let_go() {
    let policies = Policies::new("adoption", &policy("enforce", "512M"));
    let mut agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let cgroup = tenant(&agent).join("box");
    let high = || number(&cgroup.join("memory.high"));
    let started = Instant::now();
    fs::create_dir(&cgroup).expect("a cgroup");
    eventually("it is governed", || high() < u64::MAX);
    println!("governed {} ms after it was made", started.elapsed().as_millis());
    journal.wait("acme/box", is_adopted);
    let mut child = start_in(&cgroup, &["grow", "200", "--pause-ms", "5", "--hold-ms", "120000"]);
    journal.wait("acme/box", is_grow);
    eventually("it has grown", || number(&cgroup.join("memory.current")) >= 200 * MIB);
    assert!(high() > 200 * MIB && high() <= 512 * MIB, "{}", high());
    assert_not_ours(&cgroup);

    let killed = agent.output("kill", &["--tenant", "acme", "-s", "KILL", "box"]);
    let text = String::from_utf8_lossy(&killed.stderr).into_owned();
    assert_eq!(killed.status.code(), Some(5), "{text}");
    assert!(text.contains("was not started by bellows"), "{text}");

    // A dead agent's watchdog gives it back, and the next one adopts it again.
    agent.kill();
    eventually("its watchdog gave it back", || high() == u64::MAX);
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("acme/box", is_adopted);
    eventually("it is governed again", || high() < u64::MAX);
    assert!(high() > 200 * MIB, "never below what it needs: {}", high());

    // A release gives it back too.
    assert!(agent.output("release", &["--all"]).status.success());
    assert_eq!(high(), u64::MAX);
    assert_eq!(field(&cgroup.join("memory.events"), "oom_kill"), 0);
    assert!(child.try_wait().expect("wait").is_none(), "it lives\n{}", journal.told());
    end(child, &cgroup);
    journal.wait("acme/box", |what| matches!(what, What::LetGo { gone: true }));
    eventually("nobody lists it", || {
        !String::from_utf8_lossy(&agent.output("ps", &[]).stdout).contains("acme/box")
    });
}

#[test]
fn what_was_before_is_given_back() {
    let policies = Policies::new("before", &policy("observe", "512M"));
    let agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let cgroup = tenant(&agent).join("box");
    fs::create_dir(&cgroup).expect("a cgroup");
    journal.wait("acme/box", is_adopted);
    let file = cgroup.join("memory.high");
    let before = (400 * MIB).to_string();
    fs::write(&file, &before).expect("its maker's limit");
    let child = start_in(&cgroup, &["grow", "100", "--pause-ms", "20", "--hold-ms", "120000"]);
    journal.wait("acme/box", would(Verb::Grow));
    assert_eq!(read(&file).trim(), before, "it is only observed");

    policies.write(&policy("enforce", "512M"));
    journal.wait("acme/box", |what| matches!(what, What::ModeChanged { observed: false, .. }));
    eventually("it is governed", || number(&file) < 400 * MIB);
    policies.write(&policy("no", "512M"));
    journal.wait("acme/box", |what| matches!(what, What::LetGo { gone: false }));
    assert_eq!(read(&file).trim(), before);
    assert_not_ours(&cgroup);
    end(child, &cgroup);
    // From here on it is left alone.
    fs::create_dir(&cgroup).expect("a cgroup");
    journal.wait("", |what| matches!(what, What::ForeignCgroup { name } if name == "acme/box"));
}

/// Where the stall rule would have the kernel end one of ours, it goes on without a limit.
#[test]
fn what_needs_more_than_its_ceiling_is_not_ended() {
    let policies = Policies::new("adopted-ceiling", &policy("enforce", "64M"));
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let cgroup = tenant(&agent).join("box");
    fs::create_dir(&cgroup).expect("a cgroup");
    eventually("it is governed", || number(&cgroup.join("memory.high")) < u64::MAX);
    let mut child = start_in(&cgroup, &["grow", "200", "--hold-ms", "100"]);
    journal.wait("acme/box", |what| matches!(what, What::LimitsMoved { verb: Verb::Fail, .. }));
    let status = child.wait().expect("its end");
    assert!(status.success(), "{status:?}\n{}", journal.told());
    assert_eq!(field(&cgroup.join("memory.events"), "oom_kill"), 0);
    eventually("its tripwire comes back", || number(&cgroup.join("memory.high")) <= 64 * MIB);
    fs::remove_dir(&cgroup).expect("removed");
    journal.wait("acme/box", |what| matches!(what, What::LetGo { gone: true }));
}
