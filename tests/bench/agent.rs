//! A real `bellows agent` process: started with a configuration, asked over its sockets, ended by SIGTERM.
//!
//! The client is a few lines of HTTP over the Unix socket. A `bellows run` per workload would be a thousand processes more.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bellows::api::types::LaunchRequest;
use bellows::api::{API_SOCKET, STDIO_SOCKET};
use bellows::control::{Ended, Launched};
use bellows::journal::Record;
use bellows::kernel::Cgroup;
use bellows::workload::spec::{Class, Identity, Spec};
use bellows_policies::units::Bounds;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;

use crate::cpu;
use crate::tree::{self, Place};

const START_DEADLINE: Duration = Duration::from_secs(30);
/// An answer of the API; a launch under full load takes a while.
const ANSWER_DEADLINE: Duration = Duration::from_mins(1);
/// Ending a thousand workloads takes a while, too.
const STOP_DEADLINE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);
const TENANT: &str = "bench";

/// The agent, and the cgroup that it governs.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    place: &'a Place,
    /// Of the cgroup that it governs, below the place's own.
    name: &'static str,
    process: Child,
    runtime_dir: PathBuf,
    log: PathBuf,
    launched: usize,
    /// The last record that was read.
    read_up_to: u64,
}

/// How the agent is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Tells agents that run at the same time apart.
    pub(crate) name: &'static str,
    /// TOML.
    pub(crate) config: &'static str,
    /// More flags of `bellows agent`.
    pub(crate) flags: &'static [&'static str],
}

impl<'a> Agent<'a> {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(place: &'a Place, setup: &Setup) -> anyhow::Result<Self> {
        let name = setup.name;
        let root = place.cgroup.ensure_child(name)?;
        let runtime_dir = place.scratch.join(name);
        let (log, config) =
            (place.scratch.join(format!("{name}.log")), place.scratch.join(format!("{name}.toml")));
        std::fs::write(&config, setup.config)?;
        let bellows = place.program.with_file_name("bellows");
        let process = Command::new(&bellows)
            .arg("agent")
            .args(["--on-exit", "stop", "--listen", "127.0.0.1:0"])
            .arg("--root")
            .arg(root.path())
            .arg("--runtime-dir")
            .arg(&runtime_dir)
            .arg("--config")
            .arg(&config)
            .args(setup.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| {
                format!("cannot start {} (cargo build --release builds it)", bellows.display())
            })?;
        let mut agent = Self { place, name, process, runtime_dir, log, launched: 0, read_up_to: 0 };
        let deadline = Instant::now() + START_DEADLINE;
        while agent.ask("GET", "/readyz", "").is_err() {
            if agent.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the agent does not start:\n{}",
                    std::fs::read_to_string(&agent.log).unwrap_or_default()
                );
            }
            std::thread::sleep(PAUSE);
        }
        Ok(agent)
    }

    /// Starts this program in another mode as a workload; returns its name and id.
    pub(crate) fn launch(
        &mut self,
        memory: Bounds,
        arguments: &[&str],
        stdio: [BorrowedFd<'_>; 3],
    ) -> anyhow::Result<(String, u64)> {
        self.launched += 1;
        let name = format!("w{}", self.launched);
        let id = launch(&self.runtime_dir, self.place, &name, memory, arguments, stdio)?;
        Ok((format!("{TENANT}/{name}"), id))
    }

    /// Starts `count` workloads that sleep, from a few threads at once.
    pub(crate) fn launch_idle(&mut self, count: usize, memory: Bounds) -> anyhow::Result<()> {
        const THREADS: usize = 4;
        let (runtime_dir, place) = (&self.runtime_dir, self.place);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let start_some = |first: usize| -> anyhow::Result<()> {
            use std::os::fd::AsFd;
            for number in (first..count).step_by(THREADS) {
                launch(runtime_dir, place, &format!("idle{number}"), memory, &["idle"], [null.as_fd(); 3])?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || start_some(first))).collect();
            threads
                .into_iter()
                .try_for_each(|t| t.join().map_err(|_| anyhow!("a launching thread panicked"))?)
        })
    }

    /// Waits until a workload has ended.
    pub(crate) fn wait(&self, id: u64) -> anyhow::Result<Ended> {
        Ok(serde_json::from_slice(&self.ask("GET", &format!("/api/v1/exits/{id}"), "")?)?)
    }

    /// What happened since this was called last. The journal shows a record at most 50 ms late.
    pub(crate) fn records(&mut self) -> anyhow::Result<Vec<Record>> {
        let path = format!("/api/v1/events?since={}", self.read_up_to);
        let records: Vec<Record> = serde_json::from_slice(&self.ask("GET", &path, "")?)?;
        self.read_up_to = records.last().map_or(self.read_up_to, |r| r.id);
        Ok(records)
    }

    /// Keeps its control loop on the cpu of the measured path.
    pub(crate) fn pin(&self) -> anyhow::Result<()> {
        cpu::pin_control_loop(self.pid()?)
    }

    /// Ends the agent and its workloads, and removes what it governed.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP_DEADLINE;
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the agent does not end");
            }
            std::thread::sleep(PAUSE);
        };
        if !status.success() {
            bail!("the agent: {status}:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
        tree::clear(&self.place.cgroup, self.name)
    }

    /// How often its control loop has turned.
    pub(crate) fn turns(&self) -> anyhow::Result<u64> {
        let text = self.ask("GET", "/metrics", "")?;
        let text = String::from_utf8_lossy(&text);
        let count = text.lines().find_map(|l| l.strip_prefix("bellows_turn_seconds_count "));
        count.context("the agent does not count its turns")?.parse().context("turns")
    }

    /// The cgroup of the agent and its watchdog.
    pub(crate) fn supervisor(&self) -> anyhow::Result<Cgroup> {
        Ok(self.place.cgroup.child(self.name)?.child("supervisor")?)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.process.id())?))
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        ask(&self.runtime_dir, method, path, body)
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // After `stop` this finds it gone; after an error the place's own end clears the cgroups.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(
    runtime_dir: &Path,
    place: &Place,
    name: &str,
    memory: Bounds,
    arguments: &[&str],
    stdio: [BorrowedFd<'_>; 3],
) -> anyhow::Result<u64> {
    let identity =
        Identity { tenant: TENANT.parse()?, name: name.parse()?, class: Class::Standard, memory, cpu: None };
    let program = place.program.display().to_string();
    let argv = std::iter::once(program).chain(arguments.iter().map(|&a| a.to_owned())).collect();
    let spec = Spec { identity, argv, env: Vec::new(), cwd: "/".to_owned() };

    let mut stream = connect(&runtime_dir.join(STDIO_SOCKET))?;
    let numbers = stdio.map(|fd| fd.as_raw_fd());
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::empty(), None)?;
    let mut token = [0; 33];
    stream.read_exact(&mut token).context("the agent gave no token for standard input and output")?;
    let token = String::from_utf8_lossy(&token).trim_end().to_owned();

    let body = serde_json::to_string(&LaunchRequest { spec, stdio: token })?;
    let launched: Launched = serde_json::from_slice(&ask(runtime_dir, "POST", "/api/v1/workloads", &body)?)?;
    Ok(launched.id)
}

/// One request on a connection of its own; its answer's body, or an error with it.
fn ask(runtime_dir: &Path, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(&runtime_dir.join(API_SOCKET))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: bellows\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("no answer to {method} {path}"))?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("the answer has no head")?;
    let body = answer.split_off(end + 4);
    let status = answer.split(|&b| b == b' ').nth(1).context("the answer has no status")?;
    if !status.starts_with(b"2") {
        bail!("{method} {path}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let stream = UnixStream::connect(socket).with_context(|| format!("cannot reach {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    Ok(stream)
}
