//! Policies from files: a class governs a workload, what it does not allow is refused, and a change reaches who runs.

use std::fs;
use std::path::PathBuf;

use bellows::journal::What;
use bellows::kernel::Cgroup;

use crate::rig::{Agent, MIB, Tree, eventually, is_ended, is_grow, is_launched, number, read};

/// A directory of policies of a test's own.
pub(crate) struct Policies(PathBuf);

impl Policies {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bellows-policies-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let policies = Self(directory);
        policies.write(text);
        policies
    }

    /// As editors do: a new file is renamed over the old one.
    pub(crate) fn write(&self, text: &str) {
        let new = self.0.join(".new");
        fs::write(&new, text).expect("policy");
        fs::rename(new, self.0.join("10-test.toml")).expect("rename");
    }

    /// An agent that governs `tree` by them.
    pub(crate) fn agent_on(&self, tree: Tree) -> Agent {
        self.agent_with(tree, &[])
    }

    /// The same with other flags besides.
    pub(crate) fn agent_with(&self, tree: Tree, flags: &[&str]) -> Agent {
        Agent::start_on(tree, &[&["--policies", self.0.to_str().expect("utf-8")], flags].concat())
    }

    pub(crate) fn agent(&self) -> Agent {
        self.agent_on(Tree::new())
    }
}

impl Drop for Policies {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CLASS: &str = r#"
    [class.steps]
    inherits = "latency"
    weight = 321
    pids = 77
    memory = { floor = "32MiB", ceiling = "512MiB", step_min = "40MiB" }
    [[rule]]
    workload = "by-rule*"
    class = "steps"
"#;

fn start(agent: &Agent, arguments: &[&str]) -> std::process::Child {
    let load = crate::rig::program("bellows-load");
    let mut command = agent.command("run");
    command.args(["--name", "by-rule", "--"]).arg(load).args(arguments);
    command.stderr(std::process::Stdio::piped()).spawn().expect("bellows run")
}

/// Bounds, weight, protection and the law's own step are the class's.
#[test]
fn a_class_of_a_file_governs() {
    let policies = Policies::new("governs", CLASS);
    let agent = policies.agent();
    let mut journal = agent.follow();
    let mut child = start(&agent, &["grow", "60", "--hold-ms", "60000"]);
    journal.wait("default/by-rule", is_launched);
    let cgroup = agent.tree.workload("by-rule");
    assert_eq!(read(&cgroup.join("cpu.weight")).trim(), "321");
    assert_eq!(read(&cgroup.join("pids.max")).trim(), "77");
    assert_eq!(number(&cgroup.join("memory.min")), 32 * MIB);
    let record = journal.wait("default/by-rule", is_grow);
    let What::LimitsMoved { from, to, .. } = record.what else { panic!("{record:?}") };
    assert!(to.high.0 - from.high.0 >= 40 * MIB, "a step of the class is 40 MiB at least: {from:?} {to:?}");
    assert!(agent.http("/metrics").contains("workload=\"by-rule\",class=\"steps\",mode=\"enforce\""));
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn what_a_class_does_not_allow_is_refused() {
    let policies = Policies::new("refuses", CLASS);
    let agent = policies.agent();
    let run = |flags: &[&str]| agent.output("run", &[&["--name", "x"], flags, &["--", "true"]].concat());
    for (flags, said) in [
        (&["--class", "stpes"][..], "there is no class `stpes`: there are batch, latency, standard, steps"),
        (&["--class", "steps", "--memory", "32M..1G"], "the class steps has a ceiling of 512 MiB"),
        (&[], "--memory FLOOR..CEILING is needed: the class standard does not set both"),
    ] {
        let output = run(flags);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{flags:?} {text}");
        assert!(text.contains(said), "{flags:?} {text}");
    }
    assert_eq!(run(&["--class", "steps", "--memory", "32M..64M"]).status.code(), Some(0));
}

/// What changes while no agent runs reaches who runs with the next one: the files that no law moves, and the failsafe.
#[test]
fn a_change_while_nobody_governs_is_made_up_for() {
    let policies = Policies::new("meanwhile", CLASS);
    let mut agent = policies.agent();
    let mut journal = agent.follow();
    let child = start(&agent, &["grow", "40", "--hold-ms", "60000"]);
    journal.wait("default/by-rule", is_launched);
    let cgroup = agent.tree.workload("by-rule");
    let stands = |file: &str, value: &str| read(&cgroup.join(file)).trim() == value;
    assert!(stands("cpu.weight", "321") && stands("pids.max", "77"));
    agent.kill();
    policies.write(&CLASS.replace("512MiB", "160MiB").replace("321", "123").replace("= 77", "= 78"));
    agent.restart();
    eventually("the weight is the new one", || stands("cpu.weight", "123"));
    eventually("so is the number of processes", || stands("pids.max", "78"));
    // The next death opens it to the new ceiling, not to the old one.
    let failsafe = || {
        let noted = Cgroup::open(&cgroup).and_then(|cgroup| cgroup.attribute("failsafe"));
        String::from_utf8(noted.expect("readable").expect("noted"))
            .expect("text")
            .parse::<u64>()
            .expect("bytes")
    };
    eventually("the failsafe follows the ceiling", || (160 * MIB..=200 * MIB).contains(&failsafe()));
    eventually("it is governed", || number(&cgroup.join("memory.high")) <= 160 * MIB);
    let mut child = child;
    child.kill().expect("kill");
    child.wait().expect("its end");
}

/// A change reaches a workload that grows meanwhile: it ends at the new ceiling. A broken file changes nothing.
#[test]
fn a_change_reaches_who_runs_and_a_mistake_does_not() {
    let policies = Policies::new("reload", CLASS);
    let agent = Agent::start_on(Tree::without_swap(), &["--policies", policies.0.to_str().expect("utf-8")]);
    let mut journal = agent.follow();
    let child = start(&agent, &["grow", "400", "--pause-ms", "60"]);
    journal.wait("default/by-rule", is_grow);
    policies.write("[class.steps]\nweight = \"heavy\"\n");
    let refused = journal.wait("", |w| matches!(w, What::PoliciesRefused { .. }));
    let What::PoliciesRefused { error, problems } = refused.what else { unreachable!() };
    assert!(error.contains("10-test.toml:2:10: weight: expected") && problems == 1, "{error}");
    let cgroup = agent.tree.workload("by-rule");
    assert_eq!(read(&cgroup.join("cpu.weight")).trim(), "321");
    assert!(agent.http("/readyz").contains("ready, by old policies"));
    policies.write(&CLASS.replace("512MiB", "160MiB").replace("321", "123"));
    let loaded = journal.wait("", |w| matches!(w, What::PoliciesLoaded { changed: 1, .. }));
    eventually("the weight is the new one", || read(&cgroup.join("cpu.weight")).trim() == "123");
    assert!(agent.http("/metrics").contains("bellows_policy_last_reload_successful 1"));
    let output = child.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("out of memory at its ceiling of 160 MiB"), "{text}\n{}", journal.told());
    // What is decided from then on names the rule set that it is decided by.
    journal.wait("default/by-rule", is_ended);
    let What::PoliciesLoaded { ruleset, .. } = &loaded.what else { unreachable!() };
    let decided: Vec<_> = journal
        .seen
        .iter()
        .filter(|r| matches!(r.what, What::LimitsMoved { .. } | What::Held { .. }))
        .map(|r| (r.id > loaded.id, r.version.clone().unwrap_or_default()))
        .collect();
    let of_new = |name: &str| name.starts_with(&format!("steps@{ruleset}."));
    assert!(decided.iter().any(|(is_later, _)| *is_later) && decided.iter().any(|(is_later, _)| !is_later));
    assert!(decided.iter().all(|(is_later, name)| of_new(name) == *is_later), "{decided:?}");
}
