//! What every kernel test stands on: a subtree, an agent in it, `bellows run`, and the journal.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use bellows::journal::{Record, What};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes that works, on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A delegated subtree of this test's own, removed with everything in it at the end.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
}

impl Tree {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::var_os("BELLOWS_CGROUP")
            .map(PathBuf::from)
            .expect("BELLOWS_CGROUP is not set: run this by `make test`, which starts a kernel for it");
        for name in ["memory", "cpu", "pids", "io", "cpuset", "hugetlb"] {
            // Enabled already by another test, or refused: then the agent says so.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = parent.join(format!("test-{}-{number}", std::process::id()));
        fs::create_dir(&root).expect("cannot make the test's cgroup");
        Self { root }
    }

    /// One in which memory at a limit is not swapped out, so that the limit ends things.
    pub(crate) fn without_swap() -> Self {
        let tree = Self::new();
        let _ = fs::write(tree.root.join("memory.swap.max"), "0");
        tree
    }

    pub(crate) fn workload(&self, name: &str) -> PathBuf {
        self.root.join("workloads/default").join(name)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        let end = Instant::now() + Duration::from_secs(10);
        while read(&self.root.join("cgroup.events")).contains("populated 1") && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        remove(&self.root);
    }
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    for _ in 0..100 {
        if fs::remove_dir(directory).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    eprintln!("cannot remove {}", directory.display());
}

/// A program of this build.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let path = own.parent().and_then(Path::parent).expect("target directory").join(name);
    assert!(path.exists(), "{} is missing: build it first (make test does)", path.display());
    path
}

/// A running agent.
pub(crate) struct Agent {
    pub(crate) tree: Tree,
    pub(crate) child: Child,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) address: String,
    /// What a restart starts: another binary may stand in for this build's.
    pub(crate) program: PathBuf,
    arguments: Vec<String>,
}

impl Agent {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_on(Tree::new(), arguments)
    }

    pub(crate) fn start_on(tree: Tree, arguments: &[&str]) -> Self {
        let name = tree.root.file_name().expect("a name").to_owned();
        let runtime_dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&runtime_dir).expect("runtime directory");
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let program = program("bellows");
        let (child, address) = answer(start(&program, &tree, &runtime_dir, &arguments));
        Self { tree, child, runtime_dir, address, program, arguments }
    }

    /// Starts an agent on the same tree, and does not wait until it answers.
    pub(crate) fn start_another(&self) -> Child {
        start(&self.program, &self.tree, &self.runtime_dir, &self.arguments)
    }

    /// Ends the agent by SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill the agent");
        self.child.wait().expect("the agent's end");
    }

    /// Starts another agent on the same tree, after this one has ended.
    pub(crate) fn restart(&mut self) {
        let _ = self.child.wait();
        (self.child, self.address) = answer(self.start_another());
    }

    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(program("bellows"));
        command.arg(verb).arg("--runtime-dir").arg(&self.runtime_dir);
        command
    }

    /// `bellows run` in the background.
    pub(crate) fn run(&self, name: &str, memory: &str, command: &[&str]) -> Run {
        self.run_with(name, memory, &[], command)
    }

    pub(crate) fn run_with(&self, name: &str, memory: &str, flags: &[&str], command: &[&str]) -> Run {
        let child = self
            .command("run")
            .args(["--name", name, "--memory", memory])
            .args(flags)
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bellows run");
        Run { child: Some(child) }
    }

    /// `bellows-load` as a workload.
    pub(crate) fn load(&self, name: &str, memory: &str, arguments: &[&str]) -> Run {
        self.load_with(name, memory, &[], arguments)
    }

    pub(crate) fn load_with(&self, name: &str, memory: &str, flags: &[&str], arguments: &[&str]) -> Run {
        let load = program("bellows-load").display().to_string();
        let command: Vec<&str> = std::iter::once(load.as_str()).chain(arguments.iter().copied()).collect();
        self.run_with(name, memory, flags, &command)
    }

    /// The journal from its beginning, as it comes.
    pub(crate) fn follow(&self) -> Follower {
        let mut child = self
            .command("events")
            .args(["-f", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bellows events");
        let out = child.stdout.take().expect("piped");
        let (sender, records) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line).expect("a record");
                if sender.send(record).is_err() {
                    break;
                }
            }
        });
        Follower { child, records, seen: Vec::new() }
    }

    /// Runs a verb to its end.
    pub(crate) fn output(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb).args(arguments).output().expect("bellows")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("signal the agent");
    }

    pub(crate) fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answer");
        bellows_tests::socket::unchunked(text)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The tree's own end kills whatever is in it, agent and watchdog too.
        let _ = fs::write(self.tree.root.join("cgroup.kill"), "1");
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

fn start(program: &Path, tree: &Tree, runtime_dir: &Path, arguments: &[String]) -> Child {
    Command::new(program)
        .arg("agent")
        .arg("--root")
        .arg(&tree.root)
        .arg("--runtime-dir")
        .arg(runtime_dir)
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bellows agent")
}

/// Waits until an agent answers; where its metrics are.
fn answer(mut child: Child) -> (Child, String) {
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    let address = loop {
        let Some(Ok(line)) = lines.next() else { panic!("the agent did not start:\n{}", said.join("\n")) };
        if let Some(rest) = line.strip_prefix("bellows: metrics at http://") {
            break rest.trim_end_matches("/metrics").to_owned();
        }
        said.push(line);
    };
    // The rest is shown with the test's own output.
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("  agent: {line}")));
    (child, address)
}

/// A `bellows run` that goes on.
pub(crate) struct Run {
    child: Option<Child>,
}

/// How a `bellows run` ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("running").id().cast_signed())
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        let child = self.child.take().expect("running");
        let pid = Pid::from_raw(child.id().cast_signed());
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(PATIENCE) else {
            let _ = kill(pid, Signal::SIGKILL);
            // Its workload may hold its output open still.
            let said = receiver.recv_timeout(Duration::from_secs(1));
            panic!("bellows run did not end in {PATIENCE:?}; it said {said:?}");
        };
        let output = output.expect("output");
        Finished {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The journal of an agent.
pub(crate) struct Follower {
    child: Child,
    records: Receiver<Record>,
    pub(crate) seen: Vec<Record>,
}

impl Follower {
    /// Waits for a record of `workload` (`tenant/name`, empty for the node) that `wanted` accepts.
    pub(crate) fn wait(&mut self, workload: &str, wanted: impl Fn(&What) -> bool) -> Record {
        let fits = |r: &Record| &*r.workload == workload && wanted(&r.what);
        if let Some(record) = self.seen.iter().find(|r| fits(r)) {
            return record.clone();
        }
        let end = Instant::now() + PATIENCE;
        loop {
            match self.records.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(record) => {
                    self.seen.push(record.clone());
                    if fits(&record) {
                        return record;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no such record of {workload:?}; seen:\n{}", self.told())
                }
            }
        }
    }

    /// Takes in what has come, and gives all records of a workload.
    pub(crate) fn of(&mut self, workload: &str) -> Vec<What> {
        self.seen.extend(self.records.try_iter());
        self.seen.iter().filter(|r| &*r.workload == workload).map(|r| r.what.clone()).collect()
    }

    pub(crate) fn told(&self) -> String {
        self.seen.iter().map(|r| serde_json::to_string(r).expect("json") + "\n").collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn is_launched(what: &What) -> bool {
    matches!(what, What::Launched { .. })
}

pub(crate) fn is_ended(what: &What) -> bool {
    matches!(what, What::Ended { .. })
}

pub(crate) fn is_grow(what: &What) -> bool {
    matches!(what, What::LimitsMoved { verb: bellows_policies::Verb::Grow, .. })
}

/// A file, empty when it cannot be read.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A number in a file; [`u64::MAX`] for `max`.
pub(crate) fn number(path: &Path) -> u64 {
    let text = read(path);
    if text.starts_with("max") { u64::MAX } else { text.trim().parse().unwrap_or(0) }
}

/// A number of a flat-keyed file, 0 when it is not there.
pub(crate) fn field(path: &Path, key: &str) -> u64 {
    let text = read(path);
    let value = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok());
    value.unwrap_or(0)
}

/// What a cgroup holds, in bytes, be it in memory or swapped out: a limit that was met on the way has moved some of it.
pub(crate) fn held(cgroup: &Path) -> u64 {
    number(&cgroup.join("memory.current")) + number(&cgroup.join("memory.swap.current"))
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    eventually_or_tell(what, holds, String::new);
}

/// The same; should it never hold, `told` says what may be the cause.
pub(crate) fn eventually_or_tell(what: &str, holds: impl Fn() -> bool, told: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in {PATIENCE:?}: {what}\n{}", told());
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) const MIB: u64 = 1 << 20;
