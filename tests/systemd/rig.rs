//! What these tests stand on: a booted systemd, bellows installed as a package would, commands.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything takes that works, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than a boot takes, each program translated.
const BOOT: Duration = Duration::from_mins(3);
const UNITS: &str = "/etc/systemd/system";
const BIN: &str = "/usr/bin";
/// The workloads' cgroup of the two units.
pub(crate) const TREE: &str = "/sys/fs/cgroup/bellows-tree.service";

/// Waits for the end of the boot.
pub(crate) fn await_boot() {
    static BOOTED: Once = Once::new();
    BOOTED.call_once(|| {
        let comm = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        assert_eq!(
            comm, "systemd\n",
            "PID 1 is no systemd: run this by `make test-systemd`, which boots one"
        );
        let end = Instant::now() + BOOT;
        while !Path::new("/run/systemd/private").exists() {
            assert!(Instant::now() < end, "systemd does not come up");
            sleep(Duration::from_millis(100));
        }
        let state = text(&run(&["systemctl", "is-system-running", "--wait"]));
        assert!(state == "running" || state == "degraded", "{state}");
        eprintln!("booted ({state}) after {} s of the guest", uptime());
    });
}

fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The first version of systemd that knows `DelegateSubgroup=`.
pub(crate) const SUBGROUPS_SINCE: u32 = 254;

/// systemd's version.
pub(crate) fn version() -> u32 {
    let text = told(&["systemctl", "--version"]);
    text.split_whitespace().nth(1).and_then(|v| v.parse().ok()).expect("systemctl --version")
}

/// Runs a command to its end.
pub(crate) fn run(command: &[&str]) -> Output {
    Command::new(command[0]).args(&command[1..]).env("SYSTEMD_PAGER", "").output().expect(command[0])
}

/// What a command has said on both of its outputs, trimmed.
pub(crate) fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

/// What a command says that has to succeed.
pub(crate) fn told(command: &[&str]) -> String {
    let output = run(command);
    let said = text(&output);
    assert!(output.status.success(), "{}: {}\n{said}\n{}", command.join(" "), output.status, journal());
    said
}

/// A property of a unit.
pub(crate) fn property(unit: &str, name: &str) -> String {
    told(&["systemctl", "show", "--value", "-p", name, unit])
}

pub(crate) fn main_pid() -> i32 {
    property("bellows", "MainPID").parse().expect("a pid")
}

/// Waits until something holds; should it never, the journal of systemd is shown.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}\n{}", journal());
        sleep(Duration::from_millis(50));
    }
}

/// What systemd and its services have said last.
fn journal() -> String {
    text(&run(&["journalctl", "-b", "-n", "60", "--no-pager"]))
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A program of this build.
pub(crate) fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let path = own.parent().and_then(Path::parent).expect("target directory").join(name);
    assert!(path.exists(), "{} is missing: build it first (make test does)", path.display());
    path
}

/// A file of `deploy/systemd`.
pub(crate) fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(name)
}

/// bellows as a package would install it; purged at the end.
pub(crate) struct Installed {
    units: Vec<PathBuf>,
}

impl Installed {
    /// The programs, and these units.
    pub(crate) fn new(units: &[&str]) -> Self {
        await_boot();
        for name in ["bellows", "bellows-init"] {
            install(name);
        }
        let units: Vec<PathBuf> = units
            .iter()
            .map(|unit| {
                let name = Path::new(unit).file_name().expect("a name");
                let target = Path::new(UNITS).join(name);
                fs::copy(deployed(unit), &target).expect("copy the unit");
                target
            })
            .collect();
        told(&["systemctl", "daemon-reload"]);
        Self { units }
    }

    /// The two units, started.
    pub(crate) fn started() -> Self {
        let installed = Self::new(&["bellows.service", "bellows-tree.service"]);
        told(&["systemctl", "start", "bellows"]);
        installed
    }

    /// A drop-in for `bellows.service`.
    pub(crate) fn drop_in(&mut self, content: &str) {
        let dir = Path::new(UNITS).join("bellows.service.d");
        fs::create_dir_all(&dir).expect("drop-in directory");
        fs::write(dir.join("test.conf"), content).expect("drop-in");
        self.units.push(dir);
        told(&["systemctl", "daemon-reload"]);
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        run(&["systemctl", "kill", "--kill-who=all", "-s", "KILL", "bellows", "bellows-tree"]);
        run(&["systemctl", "stop", "bellows", "bellows-tree"]);
        run(&["systemctl", "clean", "--what=all", "bellows"]);
        for unit in &self.units {
            let _ = if unit.is_dir() { fs::remove_dir_all(unit) } else { fs::remove_file(unit) };
        }
        for name in ["bellows", "bellows-init"] {
            let _ = fs::remove_file(Path::new(BIN).join(name));
        }
        run(&["systemctl", "daemon-reload"]);
        run(&["systemctl", "reset-failed", "bellows", "bellows-tree"]);
    }
}

/// Puts a program of this build in its place, as a package manager does: a new file under the old name.
pub(crate) fn install(name: &str) {
    let target = Path::new(BIN).join(name);
    let new = target.with_extension("new");
    fs::copy(built(name), &new).expect("copy the program");
    fs::rename(&new, &target).expect("rename the program");
}

pub(crate) fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).expect("metadata").ino()
}

/// A detached workload that runs until it is told to end, and then returns 7.
pub(crate) fn detach(name: &str, script: &str) -> i32 {
    let said = told(&[
        "bellows",
        "run",
        "--detach",
        "--name",
        name,
        "--memory",
        "16M..128M",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let pid = said
        .rsplit("pid ")
        .next()
        .and_then(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok());
    pid.unwrap_or_else(|| panic!("{said}"))
}

pub(crate) const UNTIL_TOLD: &str = "trap 'exit 7' TERM; while :; do sleep 0.2; done";

pub(crate) fn workload(name: &str) -> PathBuf {
    Path::new(TREE).join("workloads/default").join(name)
}

/// The processes of a workload.
pub(crate) fn processes(name: &str) -> String {
    read(workload(name).join("cgroup.procs"))
}

pub(crate) fn limit(name: &str, file: &str) -> String {
    read(workload(name).join(file)).trim().to_owned()
}

/// `ps`, as the agent answers it.
pub(crate) fn listed() -> String {
    told(&["bellows", "ps", "--json"])
}
