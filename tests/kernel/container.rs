//! The agent as the DaemonSet of `deploy/kubernetes` has it: in a container with what its manifest grants and nothing else, by a real
//! runtime, beside whose cgroup its workloads live. They outlive the container, whatever becomes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bellows::kernel::discover::cgroup_mounts;
use bellows_tests::manifests;

use crate::rig::{MIB, Tree, eventually, eventually_or_tell, number, program, read};

/// The container `name`, its node's directories, and the subtree that its agent governs.
struct Pod {
    tree: Tree,
    directory: PathBuf,
    cgroup: PathBuf,
    name: String,
}

impl Pod {
    /// The agent finds no root here: on a node nobody has made one either.
    fn new() -> Self {
        let tree = Tree::without_swap();
        let name = format!("pod-{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        let cgroup = tree.root.join("kubepods").join(&name);
        fs::create_dir_all(tree.root.join("kubepods")).expect("cgroup");
        // What an image has beside programs; a box on this root mounts on them.
        for part in ["bundle/rootfs/tmp", "bundle/rootfs/var/tmp", "bundle/rootfs/run", "run", "state"] {
            fs::create_dir_all(directory.join(part)).expect("directory");
        }
        for name in ["memory", "cpu", "pids"] {
            fs::write(tree.root.join("cgroup.subtree_control"), format!("+{name}")).expect("controller");
        }
        let pod = Self { tree, directory, cgroup, name };
        pod.configure();
        pod
    }

    fn root(&self) -> PathBuf {
        self.tree.root.join("bellows")
    }

    fn configure(&self) {
        let config = self.directory.join("config");
        fs::create_dir_all(&config).expect("directory");
        let root = self.root().display().to_string();
        let text = format!("root = {root:?}\n[node]\ncapacity = \"1G\"\n[http]\nlisten = \"127.0.0.1:0\"\n");
        fs::write(config.join("config.toml"), text).expect("config.toml");
        let set = manifests::daemon_set().expect("the DaemonSet");
        let mounts = cgroup_mounts().expect("mounts");
        let below =
            self.cgroup.strip_prefix(&mounts.first().expect("cgroup2").point).expect("below its mount");
        let bin = program("bellows");
        let place = |volume: &str| match volume {
            "config" | "run" | "state" => self.directory.join(volume),
            "cgroups" => "/sys/fs/cgroup".into(),
            "proc" => "/proc".into(),
            "sys" => "/sys".into(),
            other => panic!("the manifest has a volume that is not thought of here: {other}"),
        };
        let pod = &set["spec"]["template"]["spec"];
        let text =
            manifests::bundle(pod, bin.parent().expect("a directory"), &Path::new("/").join(below), place);
        fs::write(self.directory.join("bundle/config.json"), text.to_string()).expect("config.json");
    }

    fn crun(&self, arguments: &[&str]) -> Output {
        Command::new("crun")
            .arg("--root")
            .arg(self.directory.join("crun"))
            .args(["--cgroup-manager", "cgroupfs"])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("crun is not installed: `bellows-kernel setup` does that")
    }

    fn told(&self) -> String {
        read(&self.directory.join("log"))
    }

    /// Starts the container, and waits until its agent governs.
    fn start(&self) {
        let log = fs::File::create(self.directory.join("log")).expect("log");
        // What stays behind holds the log open, so nothing is waited for but crun itself.
        let status = Command::new("crun")
            .arg("--root")
            .arg(self.directory.join("crun"))
            .args(["--cgroup-manager", "cgroupfs", "run", "--detach", "--bundle"])
            .arg(self.directory.join("bundle"))
            .arg(&self.name)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .status()
            .expect("crun");
        assert!(status.success(), "{status:?}: {}", self.told());
        eventually_or_tell("the agent answers", || self.told().contains("metrics at"), || self.told());
    }

    /// The container ends as one that is out of memory: all that is in its cgroup at once.
    fn kill(&self) {
        fs::write(self.cgroup.join("cgroup.kill"), "1").expect("kill");
        self.clear();
    }

    /// The container is told to end, as when its pod is deleted.
    fn terminate(&self) {
        let output = self.crun(&["kill", &self.name, "TERM"]);
        assert!(output.status.success(), "{output:?}");
        self.clear();
    }

    fn clear(&self) {
        eventually("it is empty", || !read(&self.cgroup.join("cgroup.procs")).contains(char::is_numeric));
        self.crun(&["delete", "--force", &self.name]);
        eventually("its cgroup is gone", || !self.cgroup.exists());
    }

    /// `kubectl exec POD -- bellows ...`
    fn bellows(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["exec", self.name.as_str(), "bellows"];
        all.extend(arguments);
        self.crun(&all)
    }

    fn pids(&self, name: &str) -> Vec<String> {
        let file = self.root().join("workloads/acme").join(name).join("cgroup.procs");
        read(&file).lines().map(str::to_owned).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = fs::write(self.tree.root.join("cgroup.kill"), "1");
        self.crun(&["delete", "--force", &self.name]);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn the_daemon_set_grants_what_it_takes_and_workloads_outlive_its_pods() {
    let pod = Pod::new();
    pod.start();
    assert!(
        pod.told().lines().all(|line| !line.contains("protected") && !line.contains("paged out")),
        "{}",
        pod.told()
    );

    // The agent is where its runtime has put it, what has to outlive it is not.
    let inside = read(&pod.cgroup.join("cgroup.procs"));
    assert_eq!(inside.lines().count(), 1, "the agent alone: {inside}");
    let watchdog = pod.root().join("supervisor/cgroup.procs");
    eventually("its watchdog lives beside", || read(&watchdog).lines().count() == 1);

    for (name, flags) in [("plain", &[][..]), ("boxed", &["--isolation", "tenant"])] {
        let mut arguments =
            vec!["run", "--detach", "--tenant", "acme", "--name", name, "--memory", "16M..256M"];
        arguments.extend(flags);
        arguments.extend([
            "--",
            "/usr/bin/bellows-load",
            "grow",
            "64",
            "--pause-ms",
            "5",
            "--hold-ms",
            "600000",
        ]);
        let output = pod.bellows(&arguments);
        assert!(output.status.success(), "{name}: {output:?}\n{}", pod.told());
        let cgroup = pod.root().join("workloads/acme").join(name);
        let events = || String::from_utf8_lossy(&pod.bellows(&["events"]).stdout).into_owned();
        eventually_or_tell(
            "it grows to what it needs",
            || number(&cgroup.join("memory.current")) >= 64 * MIB,
            || format!("{name}: {}{}", events(), pod.told()),
        );
        assert!(number(&cgroup.join("memory.high")) <= 256 * MIB, "{name} is governed");
    }
    let output = pod.bellows(&["exec", "boxed", "--tenant", "acme", "--", "/usr/bin/bellows-load", "--help"]);
    assert!(output.status.success(), "{output:?}");

    // All of the container dies at once, by a signal that nobody hears: the watchdog opens what it can no longer move.
    let before = ["plain", "boxed"].map(|name| pod.pids(name));
    pod.kill();
    for name in ["plain", "boxed"] {
        let high = pod.root().join("workloads/acme").join(name).join("memory.high");
        eventually("its limit is opened", || number(&high) == u64::MAX);
    }
    pod.start();
    assert!(pod.told().contains("took over 2 workloads"), "{}", pod.told());
    pod.terminate();
    pod.start();
    assert!(pod.told().contains("took over 2 workloads"), "{}", pod.told());
    assert_eq!(["plain", "boxed"].map(|name| pod.pids(name)), before, "nobody has noticed");
}
