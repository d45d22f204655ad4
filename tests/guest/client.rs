//! Runs a job in a guest that is up: hands it over, passes its output on as it grows, its outcome back.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;

use super::boot::{CGROUP, SCRATCH};
use super::job::{Job, Order, Outcome, Share};
use super::run_dir::unique_name;
use super::signals::{Signals, exit_code};
use super::{qemu, tool};

/// Names the guest for `exec`.
pub(super) const GUEST_VARIABLE: &str = "BELLOWS_GUEST";
/// In the run directory: how the guest is executed.
pub(super) const KIND: &str = "kind";
/// In the run directory: its time is when the guest began with empty caches or last dropped them.
pub(super) const FRESH: &str = "fresh";

/// How often the output of a job is looked at; looking costs some microseconds.
const TICK_MS: u16 = 5;
/// How long a cancelled job has between the signal and SIGKILL.
const CANCEL_GRACE: Duration = Duration::from_secs(2);
/// How long past its deadline, or past SIGKILL, a guest may take to report a job.
const REPORT_GRACE: Duration = Duration::from_secs(10);

/// A guest that is up, by its run directory.
#[derive(Debug)]
pub(super) struct Guest<'a> {
    dir: &'a Path,
    share: Share,
}

impl<'a> Guest<'a> {
    pub(super) fn at(dir: &'a Path) -> Self {
        Self { dir, share: Share::new(dir.join(qemu::SHARE)) }
    }

    /// Runs a program in the guest to its end.
    pub(super) fn run(&self, argv: &[OsString], timeout: Duration, signals: &Signals) -> Result<Outcome> {
        let control = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(self.dir.join(qemu::CONTROL))
            .with_context(|| format!("the guest in {} is gone", self.dir.display()))?;
        let posted = Posted::new(&self.share, &self.describe(argv, timeout)?)?;
        let mut following =
            Following { control, posted, kill_at: None, give_up_at: Instant::now() + timeout + REPORT_GRACE };
        following.order(&Order::Start(following.posted.id.clone()))?;
        let result = following.follow(signals);
        if result.is_err() {
            // Whatever broke here: nobody waits for the job any more.
            following.signal(Signal::SIGKILL).ok();
        }
        result
    }

    fn describe(&self, argv: &[OsString], timeout: Duration) -> Result<Job> {
        let kind = fs::read_to_string(self.dir.join(KIND)).context("the run directory has no kind")?;
        let runner = super::session::runner_variable();
        let mut env = env::vars_os()
            .filter(|(key, _)| key != GUEST_VARIABLE && key.to_str() != Some(&runner))
            .collect::<Vec<_>>();
        env.extend(describe_place(Path::new(CGROUP), Path::new(SCRATCH), &self.share.out(), &kind));
        Ok(Job {
            cwd: env::current_dir().context("working directory")?,
            timeout,
            is_cache_stale: self.is_cache_stale(argv)?,
            argv: argv.to_vec(),
            env,
        })
    }

    /// The guest caches the host's files without asking whether they changed. A program newer than those caches
    /// means that something was built since: then, and only then, they are dropped (0.1 to 0.3 s to read again).
    fn is_cache_stale(&self, argv: &[OsString]) -> Result<bool> {
        let marker = self.dir.join(FRESH);
        let program = argv.first().context("no program named")?;
        let found = match program.to_str() {
            Some(name) if !name.contains('/') => tool::find(name),
            _ => Some(PathBuf::from(program)),
        };
        let Some(program) = found.and_then(|path| fs::metadata(path).ok()) else { return Ok(false) };
        let fresh = fs::metadata(&marker).context("the run directory has no marker")?;
        let is_stale = (program.ctime(), program.ctime_nsec()) >= (fresh.mtime(), fresh.mtime_nsec());
        if is_stale {
            fs::write(&marker, "")?;
        }
        Ok(is_stale)
    }
}

/// The variables that tell a program where it may work.
pub(super) fn describe_place(
    cgroup: &Path,
    scratch: &Path,
    out: &Path,
    kind: &str,
) -> [(OsString, OsString); 4] {
    [
        ("BELLOWS_CGROUP".into(), cgroup.into()),
        ("BELLOWS_SCRATCH".into(), scratch.into()),
        ("BELLOWS_OUT".into(), out.into()),
        ("BELLOWS_KERNEL_KIND".into(), kind.into()),
    ]
}

/// A job's directory in the share; removed when dropped.
#[derive(Debug)]
struct Posted {
    id: String,
    dir: PathBuf,
}

impl Posted {
    fn new(share: &Share, job: &Job) -> Result<Self> {
        let id = unique_name();
        let dir = share.job(&id);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        fs::write(dir.join("job"), job.encode())?;
        for stream in ["out", "err"] {
            File::create(dir.join(stream))?;
        }
        Ok(Self { id, dir })
    }

    fn outcome(&self) -> Result<Option<Outcome>> {
        match fs::read_to_string(self.dir.join("outcome")) {
            Ok(text) => text.parse().map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("read the outcome of the job"),
        }
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// A job on its way.
#[derive(Debug)]
struct Following {
    control: File,
    posted: Posted,
    /// When a cancelled job is killed.
    kill_at: Option<Instant>,
    give_up_at: Instant,
}

impl Following {
    fn follow(&mut self, signals: &Signals) -> Result<Outcome> {
        let mut out = Tail::open(&self.posted.dir.join("out"))?;
        let mut err = Tail::open(&self.posted.dir.join("err"))?;
        loop {
            // Looked for before the output is copied, so that nothing written before it is missed.
            let outcome = self.posted.outcome()?;
            if !(out.copy_to(&mut io::stdout())? && err.copy_to(&mut io::stderr())?) {
                self.signal(Signal::SIGKILL)?;
                return Ok(Outcome::Signalled(exit_code(Signal::SIGPIPE as i32)));
            }
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            // A FIFO's writer hears that the last reader, QEMU, is gone without asking for it.
            let mut fds = [
                PollFd::new(self.control.as_fd(), PollFlags::empty()),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, TICK_MS).context("poll")?;
            ensure!(fds[0].any() != Some(true), "the guest ended before its job did");
            while let Some(signal) = signals.take()? {
                self.cancel(signal)?;
            }
            self.watch_the_clock()?;
        }
    }

    /// The first request to end is passed on, the second one is taken seriously.
    fn cancel(&mut self, signal: Signal) -> Result<()> {
        let now = Instant::now();
        if self.kill_at.is_none() {
            self.kill_at = Some(now + CANCEL_GRACE);
            self.signal(signal)
        } else {
            self.kill_at = Some(now);
            Ok(())
        }
    }

    fn watch_the_clock(&mut self) -> Result<()> {
        let now = Instant::now();
        if let Some(kill_at) = self.kill_at
            && kill_at <= now
        {
            self.signal(Signal::SIGKILL)?;
            self.kill_at = Some(now + CANCEL_GRACE);
            self.give_up_at = self.give_up_at.min(now + REPORT_GRACE);
        }
        if self.give_up_at <= now {
            bail!("the guest hangs: the job should have ended {REPORT_GRACE:?} ago");
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        self.order(&Order::Signal(self.posted.id.clone(), signal as i32))
    }

    /// A line is shorter than a FIFO's atomic write, so that lines of several writers do not mix.
    fn order(&mut self, order: &Order) -> Result<()> {
        self.control.write_all(order.to_string().as_bytes()).context("the guest takes no orders")
    }
}

/// A growing file.
#[derive(Debug)]
struct Tail {
    file: File,
    position: u64,
}

impl Tail {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, position: 0 })
    }

    /// Passes on what is new. False if nobody reads it any more.
    fn copy_to(&mut self, target: &mut impl Write) -> Result<bool> {
        let mut buffer = [0; 1 << 14];
        loop {
            let length = match self.file.read(&mut buffer).context("read the output of the job")? {
                0 => break,
                length => length,
            };
            self.position += length as u64;
            match target.write_all(&buffer[..length]).and_then(|()| target.flush()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
                Err(error) => return Err(error).context("pass the output of the job on"),
            }
        }
        // `echo > /dev/stdout` empties a file, unlike the pipe it may have been meant for: go on from its start.
        if self.file.metadata()?.len() < self.position {
            self.file.rewind()?;
            self.position = 0;
        }
        Ok(true)
    }
}
