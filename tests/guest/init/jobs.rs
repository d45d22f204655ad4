//! The jobs of a guest: started, signalled, killed at their deadline, and reaped with the orphans they leave.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bellows_tests::guest::job::{Job, Order, Outcome, Share};
use bellows_tests::guest::signals::{self, exit_code};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// All jobs that run.
#[derive(Debug)]
pub(super) struct Jobs {
    share: Share,
    running: HashMap<Pid, Running>,
}

#[derive(Debug)]
struct Running {
    id: String,
    deadline: Instant,
    is_late: bool,
}

impl Jobs {
    pub(super) fn new(share: Share) -> Self {
        Self { share, running: HashMap::new() }
    }

    /// Carries out one line of the control port.
    pub(super) fn obey(&mut self, line: &str) {
        match line.parse() {
            Ok(Order::Start(id)) => {
                if let Err(error) = self.start(&id) {
                    self.refuse(&id, &error);
                }
            }
            Ok(Order::Signal(id, number)) => self.signal(&id, number),
            Err(error) => println!("init: {error:#}"),
        }
    }

    /// How long until the next deadline.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let next = self.running.values().filter(|job| !job.is_late).map(|job| job.deadline).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Reports the jobs that ended. Every other child is an orphan of one, of which nobody wants to know.
    pub(super) fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, outcome) = match status {
                WaitStatus::Exited(pid, code) => (pid, Outcome::Exited(exit_code(code))),
                WaitStatus::Signaled(pid, signal, _) => (pid, Outcome::Signalled(exit_code(signal as i32))),
                WaitStatus::StillAlive => return,
                // Stops and traces are not asked for.
                _ => continue,
            };
            if let Some(job) = self.running.remove(&pid) {
                self.report(&job.id, if job.is_late { Outcome::TimedOut } else { outcome });
            }
        }
    }

    /// Kills the jobs whose deadline has passed.
    pub(super) fn kill_late(&mut self) {
        let now = Instant::now();
        for (&pid, job) in self.running.iter_mut().filter(|(_, job)| !job.is_late && job.deadline <= now) {
            job.is_late = true;
            kill_group(pid, Signal::SIGKILL);
        }
    }

    fn start(&mut self, id: &str) -> Result<()> {
        let dir = self.share.job(id);
        let job = Job::decode(&fs::read(dir.join("job")).context("read the job")?)?;
        if job.is_cache_stale {
            fs::write("/proc/sys/vm/drop_caches", "3").context("drop caches")?;
        }
        let (program, arguments) = job.argv.split_first().context("the job names no program")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(job.env)
            .current_dir(&job.cwd)
            .stdin(Stdio::null())
            .stdout(open_append(&dir.join("out"))?)
            .stderr(open_append(&dir.join("err"))?)
            .process_group(0);
        // Jobs begin with no signal blocked. A SIGCHLD that arrives meanwhile is lost, but each turn of the loop
        // reaps after it has obeyed.
        let child = signals::spawn_unblocked(&mut command)
            .with_context(|| format!("start {} in {}", program.display(), job.cwd.display()))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let running = Running { id: id.to_owned(), deadline: Instant::now() + job.timeout, is_late: false };
        self.running.insert(pid, running);
        Ok(())
    }

    fn signal(&self, id: &str, number: i32) {
        let found = self.running.iter().find(|(_, job)| job.id == id);
        if let (Some((&pid, _)), Ok(signal)) = (found, Signal::try_from(number)) {
            kill_group(pid, signal);
        }
    }

    fn refuse(&self, id: &str, error: &anyhow::Error) {
        if let Ok(mut err) = open_append(&self.share.job(id).join("err")) {
            writeln!(err, "{error:#}").ok();
        }
        self.report(id, Outcome::NotStarted);
    }

    fn report(&self, id: &str, outcome: Outcome) {
        let path = self.share.job(id).join("outcome");
        if let Err(error) = super::write_whole(&path, &outcome.to_string()) {
            // The owner may have gone and taken the job's directory with it.
            println!("init: job {id} {outcome}: {error:#}");
        }
    }
}

fn kill_group(pid: Pid, signal: Signal) {
    match killpg(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => println!("init: {signal} to the group of {pid}: {error}"),
    }
}

fn open_append(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).open(path).with_context(|| format!("open {}", path.display()))
}
