//! Policies from files: a class governs a workload, and what it does not allow is refused.

use std::fs;
use std::path::PathBuf;

use bellows::journal::What;

use crate::rig::{Agent, MIB, is_grow, is_launched, number, read};

/// A directory of policies of this test's own.
struct Policies(PathBuf);

impl Policies {
    fn new(name: &str, text: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bellows-policies-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let policies = Self(directory);
        policies.write(text);
        policies
    }

    /// As editors do: a new file is renamed over the old one.
    fn write(&self, text: &str) {
        let new = self.0.join(".new");
        fs::write(&new, text).expect("policy");
        fs::rename(new, self.0.join("10-test.toml")).expect("rename");
    }

    fn agent(&self) -> Agent {
        Agent::start(&["--policies", self.0.to_str().expect("utf-8")])
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

/// Bounds, weight, protection and the law's own step are the class's.
#[test]
fn a_class_of_a_file_governs() {
    let policies = Policies::new("governs", CLASS);
    let agent = policies.agent();
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let child = agent
        .command("run")
        .args(["--name", "by-rule", "--", &load, "grow", "60", "--hold-ms", "60000"])
        .spawn();
    let mut child = child.expect("bellows run");
    journal.wait("default/by-rule", is_launched);
    let cgroup = agent.tree.workload("by-rule");
    assert_eq!(read(&cgroup.join("cpu.weight")).trim(), "321");
    assert_eq!(read(&cgroup.join("pids.max")).trim(), "77");
    assert_eq!(number(&cgroup.join("memory.min")), 32 * MIB);
    let record = journal.wait("default/by-rule", is_grow);
    let What::LimitsMoved { from, to, .. } = record.what else { panic!("{record:?}") };
    assert!(to.high.0 - from.high.0 >= 40 * MIB, "a step of the class is 40 MiB at least: {from:?} {to:?}");
    assert!(agent.http("/metrics").contains("workload=\"by-rule\",class=\"steps\"} 1"));
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
