//! Adoption of what a real container runtime makes: `crun`, told to put its containers' cgroups into a tenant's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bellows::journal::What;
use bellows::kernel::discover::cgroup_mounts;
use serde_json::json;

use crate::adoption::{assert_not_ours, is_adopted, policy, tenant};
use crate::policies::Policies;
use crate::rig::{MIB, PATIENCE, Tree, eventually, field, is_grow, number, program};

const CONTAINERS: usize = 20;
/// From the cgroup's making to its limit.
const GOVERNED: Duration = Duration::from_millis(100);

/// Bundles and state of a runtime of a test's own.
struct Crun(PathBuf);

impl Crun {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("bellows-crun-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        Self(directory)
    }

    /// A bundle whose only program is a grower, and whose cgroup is to be at `cgroup`.
    fn bundle(&self, name: &str, cgroup: &Path) {
        let mounts = cgroup_mounts().expect("mounts");
        let below = cgroup.strip_prefix(&mounts.first().expect("cgroup2").point).expect("below its mount");
        let grow = ["/load", "grow", "64", "--pause-ms", "5", "--hold-ms", "600000"];
        let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind }));
        let load = json!({
            "destination": "/load", "type": "bind", "source": program("bellows-load"), "options": ["bind", "ro"],
        });
        let config = json!({
            "ociVersion": "1.0.2",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": grow, "env": ["PATH=/"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                load,
            ],
            "linux": { "cgroupsPath": Path::new("/").join(below), "namespaces": namespaces },
        });
        let bundle = self.0.join(name);
        fs::create_dir_all(bundle.join("rootfs")).expect("bundle");
        fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    }

    fn call(&self, arguments: &[&str]) {
        let log = self.0.join("log");
        let status = Command::new("crun")
            .arg("--root")
            .arg(self.0.join("state"))
            .args(["--cgroup-manager", "cgroupfs"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("log"))
            .status()
            .expect("crun is not installed: `bellows-kernel setup` does that");
        assert!(
            status.success(),
            "crun {arguments:?}: {status:?}\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }

    fn start(&self, name: &str) {
        self.call(&["run", "--detach", "--bundle", self.0.join(name).to_str().expect("utf-8"), name]);
    }
}

impl Drop for Crun {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// From when `cgroup` is there to when it has a limit. Looks half a millisecond apart: what is told is too much by no more.
fn governed_after(cgroup: &Path) -> Duration {
    let (end, pause) = (Instant::now() + PATIENCE, Duration::from_micros(500));
    let await_that = |holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(Instant::now() < end, "{} is not governed", cgroup.display());
            thread::sleep(pause);
        }
        Instant::now()
    };
    let made = await_that(&|| cgroup.exists());
    let file = cgroup.join("memory.high");
    await_that(&|| fs::read_to_string(&file).is_ok_and(|text| !text.starts_with("max"))) - made
}

#[test]
fn containers_are_governed_grow_and_are_let_go() {
    let policies = Policies::new("crun", &policy("enforce", "128M"));
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let (tenant, crun) = (tenant(&agent), Crun::new());
    let names: Vec<String> = (0..CONTAINERS).map(|number| format!("box{number}")).collect();
    let mut times = Vec::new();
    for name in &names {
        let cgroup = tenant.join(name);
        crun.bundle(name, &cgroup);
        let watch = thread::spawn(move || governed_after(&cgroup));
        crun.start(name);
        times.push(watch.join().expect("it is governed"));
    }
    times.sort();
    println!("governed after {times:?}");
    // One may fall into a moment in which the machine stands still.
    assert!(times[CONTAINERS - 2] <= GOVERNED, "{times:?}\n{}", journal.told());
    for name in &names {
        let (workload, cgroup) = (format!("acme/{name}"), tenant.join(name));
        journal.wait(&workload, is_adopted);
        journal.wait(&workload, |what| matches!(what, What::ModeChanged { observed: false, .. }));
        journal.wait(&workload, is_grow);
        eventually("it has what it needs", || number(&cgroup.join("memory.current")) >= 64 * MIB);
        assert!(number(&cgroup.join("memory.high")) <= 128 * MIB);
        assert_not_ours(&cgroup);
    }
    for name in &names {
        assert_eq!(field(&tenant.join(name).join("memory.events"), "oom_kill"), 0);
        assert_eq!(field(&tenant.join(name).join("cgroup.events"), "populated"), 1, "{name} lives");
        crun.call(&["delete", "--force", name]);
        journal.wait(&format!("acme/{name}"), |what| matches!(what, What::LetGo { gone: true }));
    }
}
