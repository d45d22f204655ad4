//! The image of `deploy/Containerfile`, which is two static programs, by a real runtime: `crun`, told what INSTALL.md
//! tells docker, but for `--in-container`, which `container.rs` has. (Building it takes a builder and a registry, and is
//! `make test-image`'s; what it is made of is put together here.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bellows::workload::capability::Capability;
use serde_json::json;

use crate::rig::{Tree, eventually, number, program, read};

/// A container of the image, whose agent governs a tree of the host.
struct Container {
    tree: Tree,
    directory: PathBuf,
    number: u32,
}

impl Container {
    fn start() -> Self {
        let tree = Tree::without_swap();
        let directory = std::env::temp_dir().join(format!("bellows-container-{}", std::process::id()));
        let bin = directory.join("rootfs/usr/bin");
        fs::create_dir_all(&bin).expect("image");
        for name in ["bellows", "bellows-init"] {
            fs::copy(program(name), bin.join(name)).expect("copy the program");
        }
        fs::create_dir_all(directory.join("run")).expect("runtime directory");
        let mut container = Self { tree, directory, number: 0 };
        container.start_next();
        container
    }

    fn name(&self) -> String {
        format!("bellows-{}", self.number)
    }

    fn path(&self, below: &str) -> String {
        self.directory.join(below).display().to_string()
    }

    /// Another container of the same image, beside the same tree and sockets.
    fn start_next(&mut self) {
        self.number += 1;
        let root = self.tree.root.display().to_string();
        // As `--privileged` gives them.
        let capabilities: Vec<String> =
            Capability::all().iter().map(|c| format!("CAP_{c}").to_uppercase()).collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "cwd": "/",
                "args": ["/usr/bin/bellows", "agent", "--root", root, "--listen", "127.0.0.1:0"],
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
            },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"] },
                { "destination": "/sys/fs/cgroup", "type": "bind", "source": "/sys/fs/cgroup", "options": ["rbind"] },
                { "destination": "/run/bellows", "type": "bind", "source": self.path("run"), "options": ["bind"] },
                { "destination": "/host", "type": "bind", "source": "/", "options": ["rbind"] },
            ],
            "linux": { "cgroupsPath": format!("/{}", self.name()), "namespaces": [{ "type": "mount" }] },
        });
        fs::write(self.directory.join("config.json"), config.to_string()).expect("config.json");
        let started = self.crun(&["run", "--detach", "--bundle", &self.path(""), &self.name()]);
        assert!(started.status.success(), "{}", self.said());
        eventually("the agent answers", || self.bellows(&["ps"]).status.success());
    }

    fn crun(&self, arguments: &[&str]) -> Output {
        // What it starts keeps its outputs: pipes would never end.
        let log = || fs::File::options().append(true).create(true).open(self.path("log")).expect("log");
        let mut command = Command::new("crun");
        command.arg("--root").arg(self.path("state")).args(["--cgroup-manager", "cgroupfs"]);
        command.args(arguments).stdin(Stdio::null()).stdout(log()).stderr(log());
        command.output().expect("crun is not installed: `bellows-kernel setup` does that")
    }

    fn said(&self) -> String {
        read(Path::new(&self.path("log")))
    }

    /// The host's client; a workload is started where it stands, and only `/` is there in both.
    fn bellows(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("bellows"));
        command.args(arguments).env("BELLOWS_RUNTIME_DIR", self.path("run")).current_dir("/");
        command.stdin(Stdio::null()).output().expect("bellows")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = fs::write(self.tree.root.join("cgroup.kill"), "1");
        let _ = self.crun(&["delete", "--force", &self.name()]);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn the_image_governs_the_host_s_tree_and_is_replaced_under_a_workload() {
    let mut container = Container::start();
    let root = container.tree.root.display().to_string();
    let doctor = container.crun(&["exec", &container.name(), "/usr/bin/bellows", "doctor", "--root", &root]);
    assert!(doctor.status.success() && container.said().contains("\nready"), "{}", container.said());

    // The container's own file system has one program to offer; a root file system that is mounted into it has what it has.
    let own = ["/usr/bin/bellows", "run", "--name", "own", "--memory", "16M..64M", "--"];
    let output = container
        .crun(&[&["exec", &container.name()], &own[..], &["/usr/bin/bellows", "--version"]].concat());
    assert!(output.status.success() && container.said().contains("\nbellows 0."), "{}", container.said());
    let hungry = "x=0123456789; while :; do x=$x$x; done";
    let flags = ["--rootfs", "/host", "--memory", "16M..64M", "--", "sh", "-c"];
    let output = container.bellows(&[&["run", "--name", "hungry"][..], &flags, &[hungry]].concat());
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));

    // Another image: the container goes, the workload stays, and the next agent has it.
    let stays = "trap 'exit 7' TERM; while :; do sleep 0.2; done";
    let output = container.bellows(&[&["run", "--detach", "--name", "stays"][..], &flags, &[stays]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let cgroup = container.tree.workload("stays");
    let (pids, high) = (read(&cgroup.join("cgroup.procs")), number(&cgroup.join("memory.high")));
    assert!(!pids.is_empty() && high < u64::MAX);
    assert!(container.crun(&["kill", &container.name(), "TERM"]).status.success());
    eventually("its limits are opened", || number(&cgroup.join("memory.high")) == u64::MAX);
    assert!(container.crun(&["delete", "--force", &container.name()]).status.success());
    container.start_next();
    eventually("it is governed again", || number(&cgroup.join("memory.high")) == high);
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(&read(&cgroup.join("cgroup.procs"))), first(&pids), "the same process");
    assert!(container.bellows(&["stop", "stays"]).status.success());
}
