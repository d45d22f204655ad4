//! `bellows-stage`: an agent with workloads for a browser that is elsewhere, and somebody who takes orders of it.
//!
//! The agent listens on loopback only. In a guest its port is carried over from the guest's own address, to which QEMU forwards a
//! port of the host. Orders are lines on the port after it, each answered by a line:
//!
//! | order | does |
//! |---|---|
//! | `run TENANT NAME FLOOR CEILING ARGUMENT...` | starts `bellows-load` with these arguments; sizes in MiB |
//! | `kill` | ends the agent by SIGKILL |
//! | `start` | starts it again |

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellows_tests::forward;
use bellows_tests::socket::{ask, hand_over};
use nix::sys::resource::{Resource, setrlimit};
use serde_json::json;

const PORT: u16 = 9464;
const PATIENCE: Duration = Duration::from_mins(1);
const MIB: u64 = 1 << 20;
/// Enough for a few thousand workloads.
const OPEN_FILES: u64 = 65_536;

struct Stage {
    root: PathBuf,
    runtime_dir: PathBuf,
    agent: Child,
}

fn main() -> Result<()> {
    // Those who are named in records choose their names: this one has a line break in it, as JavaScript sees it.
    nix::sys::prctl::set_name(c"stage\u{2028}x")?;
    let parent = std::env::var_os("BELLOWS_CGROUP").context("start this by `make test-console`")?;
    let parent = PathBuf::from(parent);
    for name in ["memory", "cpu", "pids"] {
        fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"))?;
    }
    // The agent raises its own limit to this, and keeps some sixteen files of each workload open.
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)?;
    let root = parent.join("console");
    fs::create_dir(&root)?;
    let runtime_dir = std::env::temp_dir().join(format!("bellows-console-{}", std::process::id()));
    fs::create_dir_all(&runtime_dir)?;
    let agent = start(&root, &runtime_dir)?;
    let mut stage = Stage { root, runtime_dir, agent };
    let is_guest = forward::carry(PORT);
    let orders = TcpListener::bind((if is_guest { forward::GUEST } else { Ipv4Addr::LOCALHOST }, PORT + 1))?;
    println!("ready");
    // Whoever orders has one connection; when it ends, everything does.
    let (connection, _) = orders.accept()?;
    let mut answers = connection.try_clone()?;
    for order in BufReader::new(connection).lines() {
        let answer = stage.obey(&order?).map_or_else(|error| format!("no: {error:#}"), |()| "ok".to_owned());
        writeln!(answers, "{answer}")?;
    }
    Ok(())
}

impl Stage {
    fn obey(&mut self, order: &str) -> Result<()> {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["kill"] => {
                self.agent.kill()?;
                self.agent.wait()?;
            }
            ["start"] => self.agent = start(&self.root, &self.runtime_dir)?,
            ["run", tenant, name, floor, ceiling, ref arguments @ ..] => {
                self.launch(tenant, name, [floor.parse()?, ceiling.parse()?], arguments)?;
            }
            _ => bail!("what is {order:?}?"),
        }
        Ok(())
    }

    fn launch(&self, tenant: &str, name: &str, [floor, ceiling]: [u64; 2], arguments: &[&str]) -> Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (_connection, stdio) = hand_over(&self.runtime_dir, [null.as_fd(); 3])?;
        let load = beside("bellows-load")?.display().to_string();
        let argv: Vec<&str> = [load.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        let memory = json!({ "floor": floor * MIB, "ceiling": ceiling * MIB });
        let identity = json!({ "tenant": tenant, "name": name, "memory": memory });
        let body = json!({ "spec": { "identity": identity, "argv": argv, "cwd": "/" }, "stdio": stdio });
        let answer = ask(&self.runtime_dir, "POST", "/api/v1/workloads", &body.to_string())?;
        ensure!(answer.status == 201, "{name}: {}", String::from_utf8_lossy(&answer.body));
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

/// Starts an agent and waits until it answers.
fn start(root: &std::path::Path, runtime_dir: &std::path::Path) -> Result<Child> {
    let mut command = Command::new(beside("bellows")?);
    command.arg("agent").arg("--root").arg(root).arg("--runtime-dir").arg(runtime_dir);
    command.args(["--listen", &format!("127.0.0.1:{PORT}"), "--capacity", "3G"]).stdin(Stdio::null());
    let mut agent = command.spawn()?;
    let began = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_err() {
        if let Some(status) = agent.try_wait()? {
            bail!("the agent ended: {status}");
        }
        ensure!(began.elapsed() < PATIENCE, "the agent does not answer");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(agent)
}

fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: make build", path.display());
    Ok(path)
}
