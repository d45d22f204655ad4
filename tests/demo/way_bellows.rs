//! The second way: the agent moves the limits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bellows_policies::units::{Bounds, Bytes};

use crate::child::{Job, tail, wait_for};
use crate::fill::{VALUE_BYTES, fill};
use crate::group::{Group, OwnGroup};
use crate::http;
use crate::journal::{self, Follower, Moves};
use crate::live::Live;
use crate::place::Place;
use crate::reader::{ReadFile, Reader};
use crate::redis::{self, Client};
use crate::report::Way;
use crate::way_static::with_log;
use crate::{READER_CEILING, READER_FLOOR, REDIS_CEILING, REDIS_FLOOR, forward};

/// How long the agent may take to be ready, or to end with all workloads.
const AGENT_PATIENCE: Duration = Duration::from_secs(30);
const REDIS: &str = "shop/redis";

/// The agent, and how to talk to it.
struct Agent<'a> {
    place: &'a Place,
    runtime_dir: PathBuf,
    log: PathBuf,
    job: Job,
}

/// Runs redis and the reader as workloads of an agent.
pub(crate) fn run(place: &Place, file: &ReadFile) -> Result<Way> {
    println!(
        "\nbellows: redis with {REDIS_FLOOR}..{REDIS_CEILING}, beside it a reader with {READER_FLOOR}..{READER_CEILING}"
    );
    let own = OwnGroup::make(place.cgroup.join("bellows-demo"))?;
    let mut agent = Agent::start(place, own.group().path())?;
    println!("metrics, while this runs: http://127.0.0.1:{}/metrics", http::PORT);

    file.forget()?;
    let passes = place.scratch.join("passes.bellows");
    let mut command = agent.launch("archive", "reader", READER_FLOOR, READER_CEILING)?;
    // What `bellows run` says of its end is no news: the agent ends it.
    let errors = File::create(place.scratch.join("reader.log"))?;
    command.arg("sh").args(file.loop_arguments()).stdout(File::create(&passes)?).stderr(errors);
    let reader = Job::start("the reader", &mut command)?;

    let port = redis::find_port()?;
    let log = place.scratch.join("redis.bellows.log");
    let mut command = agent.launch("shop", "redis", REDIS_FLOOR, REDIS_CEILING)?;
    command.arg(&place.redis_server).args(redis::arguments(port));
    let mut server = Job::start("redis-server", with_log(&mut command, &log)?)?;
    redis::await_server(&mut server, port, &log)?;

    let group_of = |workload: &str| Group::at(own.group().path().join("workloads").join(workload));
    let (redis_group, reader_group) = (group_of(REDIS), group_of("archive/reader"));
    let follower = Follower::start(agent.command(), REDIS)?;
    let mut live = Live::new(port, own.group().clone(), redis_group, reader_group, Some(follower));
    live.look()?;
    let filled = fill(&place.redis_benchmark, port, &mut server, &mut live)?;
    let kept = match server.ended()? {
        Some(_) => 0,
        None => Client::connect(port)
            .and_then(|mut client| client.count_served(VALUE_BYTES))
            .context("cannot count what redis serves")?,
    };
    live.look_now()?;
    print_metrics()?;
    let records = journal::read_all(agent.command(), &place.out.join("demo-events.jsonl"))?;
    let last = live.last_in_use();
    let way = Way {
        kills: own.group().kills()?,
        lost: filled.keys.saturating_sub(kept),
        filled,
        moves: Moves::of(REDIS, &records),
        granted: last.granted,
        used: last.used,
        reader: Reader::sum_up(live.reader_granted(), live.last().reader_used, &passes)?,
    };
    agent.stop()?;
    drop((server, reader));
    own.remove()?;
    Ok(way)
}

impl<'a> Agent<'a> {
    fn start(place: &'a Place, root: &Path) -> Result<Self> {
        // Not in the scratch directory: the path of a socket may have 108 bytes at most.
        let runtime_dir = std::env::temp_dir().join(format!("bellows-demo-{}", std::process::id()));
        let log = place.scratch.join("agent.log");
        let mut command = Command::new(&place.bellows);
        command.arg("agent").arg("--root").arg(root).arg("--runtime-dir").arg(&runtime_dir);
        command.args(["--listen", &format!("127.0.0.1:{}", http::PORT), "--on-exit", "stop"]);
        let job = Job::start("the agent", with_log(&mut command, &log)?)?;
        let mut agent = Self { place, runtime_dir, log, job };
        wait_for(AGENT_PATIENCE, || agent.is_ready()).context("the agent is not ready")?;
        forward::start();
        Ok(agent)
    }

    fn is_ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.job.ended()? {
            bail!("the agent ended at once, {status}:\n  {}", tail(&self.log));
        }
        // The socket is the agent's own; the port could be somebody else's.
        Ok((self.runtime_dir.exists() && http::get("/readyz").is_ok()).then_some(()))
    }

    /// A verb of the command line, to be named by the caller.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.place.bellows);
        command.env("BELLOWS_RUNTIME_DIR", &self.runtime_dir).stdin(Stdio::null());
        command
    }

    /// `bellows run`, up to the command.
    fn launch(&self, tenant: &str, name: &str, floor: Bytes, ceiling: Bytes) -> Result<Command> {
        let bounds = Bounds::new(floor, ceiling).map_err(|error| anyhow::anyhow!("{error}"))?;
        let memory = format!("{}..{}", bounds.floor.0, bounds.ceiling.0);
        let mut command = self.command();
        command.args(["run", "--tenant", tenant, "--name", name, "--memory", &memory, "--"]);
        command.current_dir(&self.place.scratch);
        Ok(command)
    }

    fn stop(&mut self) -> Result<()> {
        let status = self.job.terminate(AGENT_PATIENCE)?;
        ensure!(status.success(), "the agent failed, {status}:\n  {}", tail(&self.log));
        Ok(())
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}

/// Some lines of what Prometheus would scrape now.
fn print_metrics() -> Result<()> {
    println!("\nfrom /metrics:");
    let wanted = |line: &&str| {
        ["memory_current_bytes{", "memory_high_bytes{", "memory_max_bytes{", "limit_moves_total{"]
            .iter()
            .any(|name| line.strip_prefix("bellows_workload_").is_some_and(|rest| rest.starts_with(name)))
    };
    for line in http::get("/metrics")?.lines().filter(wanted) {
        println!("  {line}");
    }
    Ok(())
}
