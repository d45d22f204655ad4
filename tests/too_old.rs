//! On a kernel that lacks what bellows cannot do without, the agent refuses, names it, and touches nothing; `doctor` shows the
//! same. `make test-kernels` runs this on Debian's 5.10; on any other kernel it proves nothing, and fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// Required ones that came with Linux 5.14, and optional ones that came with 5.14 and later.
const MISSING: [&str; 1] = ["cgroup.kill"];
const LOST: [&str; 3] = ["cpu.max.burst", "memory.reclaim", "non-blocking limits"];

/// A subtree with the controllers, and a foreign workload in it that has limits and a process.
struct Place {
    root: PathBuf,
    bystander: Child,
}

impl Place {
    fn new() -> Self {
        let parent =
            std::env::var_os("BELLOWS_CGROUP").map(PathBuf::from).expect("BELLOWS_CGROUP is not set");
        let root = parent.join(format!("old-{}", std::process::id()));
        let foreign = root.join("workloads/acme/web");
        fs::create_dir_all(&foreign).expect("cgroups");
        for inner in [&parent, &root, &root.join("workloads"), &root.join("workloads/acme")] {
            for name in CONTROLLERS {
                fs::write(inner.join("cgroup.subtree_control"), format!("+{name}")).expect("a controller");
            }
        }
        fs::write(foreign.join("memory.max"), "100M").expect("memory.max");
        fs::write(foreign.join("memory.high"), "64M").expect("memory.high");
        let mut sleep = Command::new("sleep");
        let bystander = sleep.arg("300").stdin(Stdio::null()).spawn().expect("a bystander");
        fs::write(foreign.join("cgroup.procs"), bystander.id().to_string()).expect("cgroup.procs");
        Self { root, bystander }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.bystander.kill();
        let _ = self.bystander.wait();
        for below in ["workloads/acme/web", "workloads/acme", "workloads", ""] {
            let _ = fs::remove_dir(self.root.join(below));
        }
    }
}

fn bellows(arguments: &[&str]) -> (Option<i32>, String, String) {
    let own = std::env::current_exe().expect("own path");
    let path = own.parent().and_then(Path::parent).expect("target directory").join("bellows");
    let output = Command::new(path).args(arguments).output().expect("bellows");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Every cgroup below `root` with what is set in it and who is in it.
fn state(root: &Path) -> BTreeMap<PathBuf, String> {
    const SET: [&str; 8] = [
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.freeze",
        "memory.high",
        "memory.max",
        "memory.min",
        "cpu.max",
        "cpu.weight",
    ];
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(cgroup) = left.pop() {
        // Kernel threads come and go at the top.
        let is_counted = |file: &str| cgroup != root || file != "cgroup.procs";
        for file in SET.iter().filter(|file| is_counted(file)).map(|file| cgroup.join(file)) {
            found.insert(file.clone(), fs::read_to_string(&file).unwrap_or_else(|e| e.to_string()));
        }
        let entries = fs::read_dir(&cgroup).expect("a cgroup").flatten();
        left.extend(entries.map(|e| e.path()).filter(|path| path.is_dir()));
    }
    found
}

/// All of `doctor`'s checks of `root`: name, status, fix.
fn diagnosis(root: &str) -> Vec<(String, String, String)> {
    let (code, out, _) = bellows(&["doctor", "--json", "--root", root]);
    assert_eq!(code, Some(3), "{out}");
    let json: serde_json::Value = serde_json::from_str(&out).expect("json");
    assert_eq!(json["ready"], false);
    let field = |check: &serde_json::Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let checks = json["checks"].as_array().expect("checks");
    checks.iter().map(|c| (field(c, "name"), field(c, "status"), field(c, "fix"))).collect()
}

#[test]
fn the_agent_refuses_by_naming_what_is_missing_and_touches_nothing() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let place = Place::new();
    assert!(!place.root.join("cgroup.kill").exists(), "{release} has all that is needed: nothing to prove");
    let root = place.root.display().to_string();
    let runtime_dir = std::env::temp_dir().join(format!("bellows-old-{}", std::process::id()));
    let runtime = runtime_dir.display().to_string();

    // The subtree, and the hierarchy's own root, where no file tells.
    let top = std::env::var("BELLOWS_CGROUP").expect("a cgroup");
    for root in [root.as_str(), top.as_str()] {
        let before = state(Path::new(&top));
        let ours = before.keys().filter(|path| path.starts_with(&place.root));
        assert_eq!(ours.count(), 4 * 8, "four cgroups, root to bystander");
        let (code, out, text) =
            bellows(&["agent", "--listen", "127.0.0.1:0", "--runtime-dir", &runtime, "--root", root]);
        println!("{text}");
        assert_eq!(code, Some(3), "who starts services must not try again and again: {text}");
        assert_eq!(out, "");
        assert!(text.contains(release.trim()) && text.contains("`bellows doctor`"), "{text}");

        let checks = diagnosis(root);
        for name in MISSING {
            let of = |(n, status, _): &&(String, String, String)| n == name && status == "fail";
            let (_, _, fix) = checks.iter().find(of).unwrap_or_else(|| panic!("{name}: {checks:?}"));
            assert!(fix.contains("Linux 5.14 or later"), "{fix}");
            assert!(text.contains(&format!("{name}: ")) && text.contains(&format!("fix: {fix}")), "{text}");
        }
        let failed = checks.iter().filter(|(_, status, _)| status == "fail").count();
        assert_eq!(failed, MISSING.len(), "nothing else is wrong here: {checks:?}");
        assert_eq!(text.matches("fix: ").count(), failed, "the agent names what doctor does:\n{text}");
        for name in LOST {
            let of = |(n, status, fix): &&(String, String, String)| {
                n == name && status == "warn" && fix.starts_with("use Linux")
            };
            assert!(checks.iter().any(|c| of(&c)), "{name}: {checks:?}");
        }
        assert_eq!(state(Path::new(&top)), before, "nothing is touched");
    }
    for path in [&runtime_dir, Path::new("/run/bellows")] {
        assert!(!path.exists(), "{} was made", path.display());
    }
    let (code, out, _) = bellows(&["doctor", "--root", &root]);
    assert_eq!(code, Some(3));
    println!("{out}");
    assert!(out.lines().any(|l| l.starts_with("FAIL  cgroup.kill ")), "{out}");
    assert_eq!(out.lines().last(), Some("not ready: 1 check failed"));
}
