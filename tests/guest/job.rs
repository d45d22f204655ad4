//! What host and guest say to each other: a job, its outcome, and the orders that go through the control port.
//!
//! ```text
//!   share/up                   written by init once the guest is ready
//!   share/jobs/ID/job          written by the host, then it orders `start ID`
//!   share/jobs/ID/out, err     made empty by the host, appended to by the job itself, read by the host as they grow
//!   share/jobs/ID/outcome      written by init under another name and renamed, thus always whole
//!   share/out                  $BELLOWS_OUT
//! ```

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Exit code of a program that outlived its deadline, as `timeout(1)` has it.
pub const CODE_TIMED_OUT: u8 = 124;
/// Exit code of a failure of the harness itself.
pub const CODE_HARNESS_FAILED: u8 = 125;
/// Exit code of a program that could not be started, as shells have it.
pub const CODE_NOT_STARTED: u8 = 127;

/// A program to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Working directory.
    pub cwd: PathBuf,
    /// How long it may run; the guest kills it then, even if its owner is gone.
    pub timeout: Duration,
    /// Whether files changed on the host since the guest read them: it must forget what it has cached.
    pub is_cache_stale: bool,
    /// Program, looked up in the environment's `PATH`, and arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

impl Job {
    /// As bytes: fields separated by NUL, which neither a path nor an argument can contain.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut push = |field: &OsStr| {
            bytes.extend_from_slice(field.as_bytes());
            bytes.push(0);
        };
        push(self.cwd.as_os_str());
        push(self.timeout.as_millis().to_string().as_ref());
        push(if self.is_cache_stale { "stale" } else { "fresh" }.as_ref());
        push(self.argv.len().to_string().as_ref());
        for argument in &self.argv {
            push(argument);
        }
        for (key, value) in &self.env {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            push(&pair);
        }
        bytes
    }

    /// Reverse of [`encode`](Self::encode).
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.strip_suffix(&[0]).context("the job ends within a field")?;
        let mut fields = bytes.split(|&byte| byte == 0);
        let mut next = |what: &str| fields.next().with_context(|| format!("the job has no {what}"));
        let cwd = PathBuf::from(OsStr::from_bytes(next("directory")?));
        let timeout = Duration::from_millis(parse_number(next("timeout")?)?);
        let is_cache_stale = next("cache state")? == b"stale";
        let count = parse_number(next("argument count")?)?;
        let argv = (0..count)
            .map(|_| Ok(OsString::from_vec(next("argument")?.to_vec())))
            .collect::<Result<Vec<_>>>()?;
        let env = fields
            .map(|pair| {
                // The search starts at 1: a name may begin with `=`, and a name is never empty.
                let at =
                    pair.iter().skip(1).position(|&byte| byte == b'=').context("variable without `=`")?;
                let (key, value) = (&pair[..=at], &pair[at + 2..]);
                Ok((OsString::from_vec(key.to_vec()), OsString::from_vec(value.to_vec())))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { cwd, timeout, is_cache_stale, argv, env })
    }
}

fn parse_number(field: &[u8]) -> Result<u64> {
    let text = str::from_utf8(field)?;
    text.parse().with_context(|| format!("`{text}` is no number"))
}

/// How a job ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with an exit code.
    Exited(u8),
    /// By a signal.
    Signalled(u8),
    /// Killed at its deadline.
    TimedOut,
    /// There is no such program, or it cannot be executed; the job's `err` says why.
    NotStarted,
}

impl Outcome {
    /// The exit code that a shell would give.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 | signal,
            Self::TimedOut => CODE_TIMED_OUT,
            Self::NotStarted => CODE_NOT_STARTED,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Signalled(signal) => write!(f, "signalled {signal}"),
            Self::TimedOut => write!(f, "timed-out"),
            Self::NotStarted => write!(f, "not-started"),
        }
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.trim_end().split_once(' ') {
            Some(("exited", code)) => Self::Exited(code.parse()?),
            Some(("signalled", signal)) => Self::Signalled(signal.parse()?),
            None if text == "timed-out" => Self::TimedOut,
            None if text == "not-started" => Self::NotStarted,
            Some(_) | None => bail!("`{text}` is no outcome of a job"),
        })
    }
}

/// What the host tells init: one line in the control port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Start the job of this name.
    Start(String),
    /// Send a signal (its number) to the process group of a job.
    Signal(String, i32),
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(id) => writeln!(f, "start {id}"),
            Self::Signal(id, signal) => writeln!(f, "signal {id} {signal}"),
        }
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        match *line.split_whitespace().collect::<Vec<_>>() {
            ["start", id] => Ok(Self::Start(id.to_owned())),
            ["signal", id, signal] => Ok(Self::Signal(id.to_owned(), signal.parse()?)),
            _ => bail!("`{line}` is no order"),
        }
    }
}

/// The directory that host and guest share; both have it at the same path.
#[derive(Debug, Clone)]
pub struct Share(PathBuf);

impl Share {
    /// The share at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Exists once the guest is ready.
    #[must_use]
    pub fn up(&self) -> PathBuf {
        self.0.join("up")
    }

    /// `$BELLOWS_OUT`.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// The directory of a job.
    #[must_use]
    pub fn job(&self, id: &str) -> PathBuf {
        self.0.join("jobs").join(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            cwd: "/a dir".into(),
            timeout: Duration::from_millis(1500),
            is_cache_stale: true,
            argv: vec!["prog".into(), String::new().into(), "two\nlines".into()],
            env: vec![("A".into(), "1=2".into()), ("EMPTY".into(), String::new().into())],
        }
    }

    #[test]
    fn job_survives_its_encoding() {
        assert_eq!(Job::decode(&job().encode()).unwrap(), job());
        let bare = Job { env: Vec::new(), argv: vec![OsString::from_vec(vec![0xff])], ..job() };
        assert_eq!(Job::decode(&bare.encode()).unwrap(), bare);
    }

    #[test]
    fn truncated_job_is_refused() {
        let whole = job().encode();
        assert!(Job::decode(&whole[..whole.len() - 1]).is_err());
        assert!(Job::decode(b"/\x005000\x00fresh\x003\x00one\x00").is_err());
        assert!(Job::decode(b"").is_err());
    }

    #[test]
    fn outcomes_and_orders_survive_as_text() {
        for outcome in [Outcome::Exited(3), Outcome::Signalled(9), Outcome::TimedOut, Outcome::NotStarted] {
            assert_eq!(outcome.to_string().parse::<Outcome>().unwrap(), outcome);
        }
        for order in [Order::Start("1-2".into()), Order::Signal("1-2".into(), 15)] {
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
        }
        assert!("start".parse::<Order>().is_err());
    }

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(Outcome::Exited(3).code(), 3);
        assert_eq!(Outcome::Signalled(9).code(), 137);
        assert_eq!(Outcome::TimedOut.code(), 124);
    }
}
