//! Ways to start the same program in a box that is as much the same as each can make it: the same root file system, read-only,
//! users, processes, mounts, host name, ipc, cgroup and clocks of its own, and a network of its own or the host's.
//!
//! What differs: only bellows and `unshare` make a time namespace (Debian's bubblewrap and runc cannot, crun's is left out
//! with runc's, as they share their configuration); bubblewrap and `unshare` make no cgroup, set no limits and filter no system
//! calls, `unshare` maps one user and keeps the host's devices away by an empty `/dev` only. So bellows does the most of all.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use bellows::kernel::discover;
use bellows::workload::isolation::{Isolation, Namespaces, Root, Whose};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::tree::Place;

/// The limits of memory of every box that has any.
pub(super) const LIMIT_MIB: u64 = 64;
/// Processes in a container; bellows has its own default.
const PIDS: u64 = 512;
/// Of the host: what is root inside.
const FIRST_USER: u32 = 400_000;
/// In the box.
pub(super) const PROGRAM: &str = "/bin/word";

/// Who makes the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A request to a running agent.
    Bellows,
    /// `bellows run`, from its start to its end.
    Command,
    Crun,
    Runc,
    Bubblewrap,
    Unshare,
}

impl Way {
    pub(super) const ALL: [Self; 6] =
        [Self::Bellows, Self::Command, Self::Crun, Self::Runc, Self::Bubblewrap, Self::Unshare];

    /// As in keys of `bench.json`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Bellows => "bellows",
            Self::Command => "bellows_run",
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Bubblewrap => "bubblewrap",
            Self::Unshare => "unshare",
        }
    }
}

/// How long one box took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// From the order to the program's first word, nanoseconds.
    pub(super) word: u64,
    /// From the order until it had ended and nothing of the box was left.
    pub(super) end: u64,
}

/// What all ways need: a root file system, and bundles.
#[derive(Debug)]
pub(super) struct Yard {
    directory: PathBuf,
    /// The root file system.
    pub(super) root: PathBuf,
}

impl Yard {
    pub(super) fn new(place: &Place) -> anyhow::Result<Self> {
        let directory = place.scratch.join("launch");
        let root = directory.join("root");
        for name in ["bin", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        let word = place.program.with_file_name("bellows-word");
        fs::copy(&word, root.join("bin/word"))
            .with_context(|| format!("cannot copy {} (cargo build --release builds it)", word.display()))?;
        let yard = Self { directory, root };
        for (name, net) in [("net", true), ("host-net", false)] {
            let bundle = yard.directory.join(name);
            fs::create_dir_all(&bundle)?;
            fs::write(bundle.join("config.json"), yard.container(place, net)?.to_string())?;
        }
        Ok(yard)
    }

    /// All namespaces that there are; the network is for choice.
    pub(super) fn isolation(&self, net: bool) -> Isolation {
        let net = if net { Whose::New } else { Whose::Host };
        Isolation {
            root: Root::Directory { path: self.root.display().to_string(), upper: None },
            namespaces: Namespaces { user: Whose::New, net, time: Whose::New, ..Namespaces::default() },
            ..Isolation::tenant()
        }
    }

    /// One box, from nothing to nothing.
    pub(super) fn once(&self, way: Way, net: bool, agent: &Agent<'_>, name: &str) -> anyhow::Result<Took> {
        let root = self.root.display().to_string();
        let bundle = self.directory.join(if net { "net" } else { "host-net" }).display().to_string();
        let state = self.directory.join("state").display().to_string();
        let network = |flag: &'static str| net.then_some(flag);
        let mut command = match way {
            Way::Bellows => return self.asked(agent, name, net),
            Way::Command => {
                let mut command = agent.command("run");
                let memory = format!("16M..{LIMIT_MIB}M");
                command.args(["--isolation", "tenant", "--time", "new", "--tenant", "bench", "--name", name]);
                command.args(["--memory", &memory, "--rootfs", &root]);
                command.args(["--net", if net { "new" } else { "host" }, "--", PROGRAM]);
                command
            }
            Way::Crun => {
                let mut command = Command::new("crun");
                command.args(["--root", &state, "--cgroup-manager", "cgroupfs", "run", "--bundle", &bundle]);
                command.arg(name);
                command
            }
            Way::Runc => {
                let mut command = Command::new("runc");
                command.args(["--root", &state, "run", "--bundle", &bundle, name]);
                command
            }
            Way::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command.args([
                    "--unshare-user",
                    "--uid",
                    "0",
                    "--gid",
                    "0",
                    "--unshare-pid",
                    "--unshare-ipc",
                ]);
                command.args(["--unshare-uts", "--unshare-cgroup", "--hostname", "box", "--cap-drop", "ALL"]);
                command.args(network("--unshare-net"));
                command.args(["--ro-bind", &root, "/", "--proc", "/proc", "--dev", "/dev", PROGRAM]);
                command
            }
            Way::Unshare => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount", "--uts", "--ipc"]);
                command.args(["--cgroup", "--time", "--mount-proc", "--root", &root]);
                command.args(network("--net"));
                command.arg(PROGRAM);
                command
            }
        };
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| {
            format!("cannot start {} (`bellows-kernel setup --bench` installs it)", way.key())
        })?;
        let mut word = [0];
        let said = child.stdout.take().context("piped")?.read(&mut word)?;
        let word = since(begun);
        let status = child.wait()?;
        ensure!(status.success() && said == 1, "{}: {status}, {said} bytes", way.key());
        Ok(Took { word, end: since(begun) })
    }

    /// By the agent.
    fn asked(&self, agent: &Agent<'_>, name: &str, net: bool) -> anyhow::Result<Took> {
        let isolation = self.isolation(net);
        let null = fs::File::options().read(true).write(true).open("/dev/null")?;
        let begun = Instant::now();
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let stdio = [null.as_fd(), write.as_fd(), null.as_fd()];
        let launched = agent.launch_boxed(name, isolation, "/", &[PROGRAM], stdio)?;
        drop(write);
        let mut word = [0];
        let said = fs::File::from(read).read(&mut word)?;
        let word = since(begun);
        let ended = agent.wait(launched.id)?;
        ensure!(said == 1 && ended.code == 0, "{name}: {said} bytes, {}", ended.text);
        Ok(Took { word, end: since(begun) })
    }

    /// What crun and runc are told.
    fn container(&self, place: &Place, net: bool) -> anyhow::Result<Value> {
        let mounts = discover::cgroup_mounts()?;
        let mount = mounts.first().context("no cgroup2 file system is mounted")?;
        let below = place.floor.path().strip_prefix(&mount.point)?;
        let mut namespaces = vec!["pid", "mount", "ipc", "uts", "user", "cgroup"];
        namespaces.extend(net.then_some("network"));
        let namespaces: Vec<Value> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
        let caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"];
        // Who does not own the network cannot mount its sysfs.
        let sys = if net {
            json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"] })
        } else {
            json!({ "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })
        };
        let users = json!([{ "containerID": 0, "hostID": FIRST_USER, "size": 65536 }]);
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "args": [PROGRAM], "env": ["PATH=/bin"], "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            },
            "root": { "path": self.root, "readonly": true },
            "hostname": "box",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                  "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
                { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                  "options": ["nosuid", "noexec", "nodev"] },
                sys,
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                  "options": ["nosuid", "noexec", "nodev", "ro"] },
            ],
            "linux": {
                "cgroupsPath": Path::new("/").join(below).join("box"),
                "resources": { "memory": { "limit": LIMIT_MIB << 20 }, "pids": { "limit": PIDS } },
                "uidMappings": users, "gidMappings": users,
                "namespaces": namespaces,
                "maskedPaths": ["/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                    "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi",
                    "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        }))
    }
}

fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
