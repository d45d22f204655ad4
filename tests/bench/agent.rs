//! A real `bellows agent` process: started with a configuration, asked over its sockets, ended by SIGTERM.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use bellows::api::types::{LaunchRequest, WorkloadView};
use bellows::control::{Ended, Launched};
use bellows::journal::Record;
use bellows::kernel::{Cgroup, clock};
use bellows::workload::isolation::Isolation;
use bellows::workload::life::Life;
use bellows::workload::spec::{Asked, Spec};
use bellows_policies::units::{Bounds, Bytes, Instant as Moment};
use bellows_policies::{CpuBounds, Resources};
use bellows_tests::socket::{self, Answer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cpu;
use crate::tree::{self, Place};

const START_DEADLINE: Duration = Duration::from_secs(30);
/// Ending a thousand workloads takes a while, too.
const STOP_DEADLINE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(5);
pub(crate) const TENANT: &str = "bench";

/// The agent, and the cgroup that it governs.
#[derive(Debug)]
pub(crate) struct Agent<'a> {
    place: &'a Place,
    /// Of the cgroup that it governs, below the place's own.
    name: &'static str,
    /// What it is started by, again if need be.
    command: Command,
    process: Child,
    pub(crate) runtime_dir: PathBuf,
    log: PathBuf,
    launched: usize,
    /// The last record that was read.
    read_up_to: u64,
}

/// Between what a workload's limits move, and by the laws of which class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    memory: Bounds,
    cpu: Option<CpuBounds>,
    class: Option<&'static str>,
}

impl Range {
    /// Of `memory.high`. The cpu is not limited.
    pub(crate) fn of_memory(floor: Bytes, ceiling: Bytes) -> anyhow::Result<Self> {
        let memory = Bounds::new(floor, ceiling).map_err(|e| anyhow!("{e}"))?;
        Ok(Self { memory, cpu: None, class: None })
    }

    /// And of the quota, as `--cpu` has it.
    pub(crate) fn and_cpu(self, bounds: &str) -> anyhow::Result<Self> {
        Ok(Self { cpu: Some(bounds.parse()?), ..self })
    }

    /// By the laws of this class instead of the default one's.
    pub(crate) fn of_class(self, class: &'static str) -> Self {
        Self { class: Some(class), ..self }
    }
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
        let mut command = Command::new(&bellows);
        command
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
            .stderr(File::create(&log)?);
        let process = command.spawn().with_context(|| {
            format!("cannot start {} (cargo build --release builds it)", bellows.display())
        })?;
        let mut agent = Self { place, name, command, process, runtime_dir, log, launched: 0, read_up_to: 0 };
        agent.await_ready()?;
        Ok(agent)
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while self.ask("GET", "/readyz", "").is_err() {
            if self.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the agent does not start:\n{}",
                    std::fs::read_to_string(&self.log).unwrap_or_default()
                );
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Kills it like `kill -9` does, starts another in its place at once and waits until that is ready. Returns when the other
    /// one was started, and when it answered.
    pub(crate) fn replace(&mut self) -> anyhow::Result<(Moment, Moment)> {
        self.process.kill()?;
        self.process.wait()?;
        let started = clock::now();
        self.process = self.command.spawn()?;
        // Its journal counts from the beginning.
        self.read_up_to = 0;
        self.await_ready()?;
        Ok((started, clock::now()))
    }

    /// Starts this program in another mode as a workload; returns its name and id.
    pub(crate) fn launch(
        &mut self,
        range: Range,
        arguments: &[&str],
        stdio: [BorrowedFd<'_>; 3],
    ) -> anyhow::Result<(String, u64)> {
        self.launched += 1;
        let name = format!("w{}", self.launched);
        let id = launch(&self.runtime_dir, self.place, &name, range, arguments, stdio)?;
        Ok((format!("{TENANT}/{name}"), id))
    }

    /// Starts a command in a box.
    pub(crate) fn launch_boxed(
        &self,
        name: &str,
        isolation: Isolation,
        cwd: &str,
        argv: &[&str],
        stdio: [BorrowedFd<'_>; 3],
    ) -> anyhow::Result<Launched> {
        send(&self.runtime_dir, boxed(name, isolation, cwd, argv)?, Some(stdio))
    }

    /// The same with nobody to wait for it, and a log.
    pub(crate) fn detach_boxed(
        &self,
        name: &str,
        isolation: Isolation,
        cwd: &str,
        argv: &[&str],
    ) -> anyhow::Result<Launched> {
        send(&self.runtime_dir, boxed(name, isolation, cwd, argv)?, None)
    }

    /// A command of its command line.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.place.program.with_file_name("bellows"));
        command.arg(verb).arg("--runtime-dir").arg(&self.runtime_dir);
        command
    }

    /// Starts workloads that sleep, with these numbers, from a few threads at once.
    pub(crate) fn launch_idle(&self, numbers: std::ops::Range<usize>, range: Range) -> anyhow::Result<()> {
        const THREADS: usize = 4;
        let (runtime_dir, place) = (&self.runtime_dir, self.place);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let start_some = |first: usize| -> anyhow::Result<()> {
            for number in numbers.clone().skip(first).step_by(THREADS) {
                launch(runtime_dir, place, &format!("idle{number}"), range, &["idle"], [null.as_fd(); 3])?;
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

    /// What happened since this was called last. The journal shows a record at most 200 ms late.
    pub(crate) fn records(&mut self) -> anyhow::Result<Vec<Record>> {
        let records = self.records_since(self.read_up_to)?;
        self.read_up_to = records.last().map_or(self.read_up_to, |r| r.id);
        Ok(records)
    }

    /// What happened after the record with this id.
    pub(crate) fn records_since(&self, id: u64) -> anyhow::Result<Vec<Record>> {
        Ok(serde_json::from_slice(&self.ask("GET", &format!("/api/v1/events?since={id}"), "")?)?)
    }

    /// Where its sockets are, for its command line.
    pub(crate) fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
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
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, far below 2^53")]
    pub(crate) fn turns(&self) -> anyhow::Result<u64> {
        let [turns] = self.metrics(["bellows_turn_seconds_count "])?;
        Ok(turns as u64)
    }

    /// The values of these lines of its metrics, each named with the space before the value.
    pub(crate) fn metrics<const N: usize>(&self, names: [&str; N]) -> anyhow::Result<[f64; N]> {
        let text = self.ask("GET", "/metrics", "")?;
        let text = String::from_utf8_lossy(&text);
        let mut values = [0.0; N];
        for (value, name) in values.iter_mut().zip(names) {
            let text = text.lines().find_map(|l| l.strip_prefix(name));
            *value =
                text.with_context(|| format!("there is no metric {name}"))?.parse().context("a metric")?;
        }
        Ok(values)
    }

    /// Its workloads.
    pub(crate) fn workloads(&self) -> anyhow::Result<Vec<WorkloadView>> {
        Ok(serde_json::from_slice(&self.ask("GET", "/api/v1/workloads", "")?)?)
    }

    /// How many cgroups of workloads there are.
    pub(crate) fn cgroups(&self) -> anyhow::Result<usize> {
        let workloads = self.place.cgroup.child(self.name)?.child("workloads")?;
        let tenants = workloads.children()?;
        tenants.iter().try_fold(0, |sum, tenant| Ok(sum + workloads.child(tenant)?.children()?.len()))
    }

    /// The cgroup of the workload with this name, its tenant's included.
    pub(crate) fn cgroup_of(&self, name: &str) -> anyhow::Result<Cgroup> {
        let mut cgroup = self.place.cgroup.child(self.name)?.child("workloads")?;
        for part in name.split('/') {
            cgroup = cgroup.child(part)?;
        }
        Ok(cgroup)
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
    range: Range,
    arguments: &[&str],
    stdio: [BorrowedFd<'_>; 3],
) -> anyhow::Result<u64> {
    let Range { memory, cpu, class } = range;
    let class = class.map(str::parse).transpose()?;
    let (tenant, name) = (TENANT.parse()?, name.parse()?);
    let identity = Asked { tenant, name, class, memory: Some(memory), cpu, resources: Resources::default() };
    let program = place.program.display().to_string();
    let argv = std::iter::once(program).chain(arguments.iter().map(|&a| a.to_owned())).collect();
    let (isolation, life) = (Isolation::default(), Life::default());
    let spec = Spec { identity, argv, env: Vec::new(), cwd: "/".to_owned(), isolation, life };
    Ok(send(runtime_dir, spec, Some(stdio))?.id)
}

/// A small workload in a box.
fn boxed(name: &str, isolation: Isolation, cwd: &str, argv: &[&str]) -> anyhow::Result<Spec<Asked>> {
    let memory = Bounds::new(Bytes::mib(16), Bytes::mib(64)).map_err(|e| anyhow!("{e}"))?;
    let (tenant, name) = (TENANT.parse()?, name.parse()?);
    let resources = Resources::default();
    let identity = Asked { tenant, name, class: None, memory: Some(memory), cpu: None, resources };
    let argv = argv.iter().map(|&a| a.to_owned()).collect();
    Ok(Spec { identity, argv, env: Vec::new(), cwd: cwd.to_owned(), isolation, life: Life::default() })
}

/// Asks for a launch; without standard input and output for one of a detached workload.
fn send(
    runtime_dir: &Path,
    spec: Spec<Asked>,
    stdio: Option<[BorrowedFd<'_>; 3]>,
) -> anyhow::Result<Launched> {
    // The token is good as long as its connection is open.
    let held = stdio.map(|stdio| socket::hand_over(runtime_dir, stdio)).transpose();
    let held = held.context("the agent gave no token for standard input and output")?;
    let (_connection, token) = held.unzip();
    let body = serde_json::to_string(&LaunchRequest { spec, stdio: token })?;
    Ok(serde_json::from_slice(&ask(runtime_dir, "POST", "/api/v1/workloads", &body)?)?)
}

/// Runs a workload to its end, with nobody to hear it; nothing when its floor does not fit now.
pub(crate) fn run_to_end(runtime_dir: &Path, spec: Spec<Asked>) -> anyhow::Result<Option<Ended>> {
    /// The status of a launch whose floor does not fit: Insufficient Storage.
    const NO_ROOM: u16 = 507;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (_connection, token) = socket::hand_over(runtime_dir, [null.as_fd(); 3])?;
    let body = serde_json::to_string(&LaunchRequest { spec, stdio: Some(token) })?;
    let answer = socket::ask(runtime_dir, "POST", "/api/v1/workloads", &body)?;
    if answer.status == NO_ROOM {
        return Ok(None);
    }
    let Launched { id, .. } = serde_json::from_slice(&read(answer, "a launch")?)?;
    Ok(Some(serde_json::from_slice(&ask(runtime_dir, "GET", &format!("/api/v1/exits/{id}"), "")?)?))
}

/// One request; its answer's body, or an error with it.
fn ask(runtime_dir: &Path, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
    let answer = socket::ask(runtime_dir, method, path, body)
        .with_context(|| format!("no answer to {method} {path} in {}", runtime_dir.display()))?;
    read(answer, &format!("{method} {path}"))
}

fn read(Answer { status, body, .. }: Answer, request: &str) -> anyhow::Result<Vec<u8>> {
    if status / 100 != 2 {
        bail!("{request}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
