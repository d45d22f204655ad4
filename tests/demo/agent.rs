//! The agent under which the third way runs, and how the demo talks to it: by its command line, as anyone would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bellows_tests::forward;
use bellows_tests::programs::child::{Job, tail, wait_for};
use bellows_tests::programs::with_log;

use crate::http;
use crate::place::Place;
use crate::scenario::Tenant;

/// How long the agent may take to be ready, or to end with all workloads.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exit code of `bellows run` when the agent refuses the launch.
pub(crate) const REFUSED: i32 = 5;

/// A running agent.
#[derive(Debug)]
pub(crate) struct Agent {
    program: PathBuf,
    runtime_dir: PathBuf,
    log: PathBuf,
    job: Job,
}

impl Agent {
    /// Starts it on `root`, from whose `memory.max` it knows the budget, and waits until it is ready.
    pub(crate) fn start(place: &Place, root: &Path) -> Result<Self> {
        // Not in the scratch directory: the path of a socket may have 108 bytes at most.
        let runtime_dir = std::env::temp_dir().join(format!("bellows-demo-{}", std::process::id()));
        let log = place.scratch.join("agent.log");
        let mut command = Command::new(&place.bellows);
        command.arg("agent").arg("--root").arg(root).arg("--runtime-dir").arg(&runtime_dir);
        command.args(["--listen", &format!("127.0.0.1:{}", http::PORT), "--on-exit", "stop"]);
        let job = Job::start("the agent", with_log(&mut command, &log)?)?;
        let mut agent = Self { program: place.bellows.clone(), runtime_dir, log, job };
        wait_for(PATIENCE, || agent.is_ready()).context("the agent is not ready")?;
        forward::carry(http::PORT);
        Ok(agent)
    }

    /// A verb of the command line, to be named by the caller.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("BELLOWS_RUNTIME_DIR", &self.runtime_dir).stdin(Stdio::null());
        command
    }

    /// `bellows run`, up to the command.
    pub(crate) fn launch(&self, tenant: &Tenant) -> Command {
        let memory = format!("{}..{}", tenant.floor.0, tenant.ceiling.0);
        let mut command = self.command();
        command.args(["run", "--tenant", tenant.owner, "--name", tenant.name]);
        command.args(["--class", tenant.class.as_str(), "--memory", &memory, "--cpu", tenant.cpu, "--"]);
        command
    }

    /// Ends it, and with it all workloads.
    pub(crate) fn stop(mut self) -> Result<()> {
        let status = self.job.terminate(PATIENCE)?;
        ensure!(status.success(), "the agent failed, {status}:\n  {}", tail(&self.log));
        Ok(())
    }

    fn is_ready(&mut self) -> Result<Option<()>> {
        if let Some(status) = self.job.ended()? {
            bail!("the agent ended at once, {status}:\n  {}", tail(&self.log));
        }
        // The socket is the agent's own; the port could be somebody else's.
        Ok((self.runtime_dir.exists() && http::get("/readyz").is_ok()).then_some(()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.runtime_dir);
    }
}
