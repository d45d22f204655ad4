//! Children that do not outlive their parent.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Time between two looks at something that is waited for.
pub const TICK: Duration = Duration::from_millis(20);

/// A child process; killed and reaped when dropped.
#[derive(Debug)]
pub struct Job {
    name: &'static str,
    child: Child,
}

impl Job {
    /// Starts it.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name} ({command:?})"))?;
        Ok(Self { name, child })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// The pipe at its standard output, which can be taken once.
    pub fn take_output(&mut self) -> Result<impl Read + Send + use<>> {
        self.child.stdout.take().with_context(|| format!("{} has no pipe at its output", self.name))
    }

    /// Asks it to end, and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        if self.ended()?.is_none() {
            kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM)
                .with_context(|| format!("cannot signal {}", self.name))?;
        }
        self.wait(patience)
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let name = self.name;
        wait_for(patience, || self.ended()).with_context(|| format!("{name} did not end"))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // It has ended already, or dies now: neither can fail in a way that matters.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer, an error, or no patience left.
pub fn wait_for<T>(patience: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited for {} s", patience.as_secs());
        }
        thread::sleep(TICK);
    }
}

/// The last lines of a log, for an error.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n  ")
}
