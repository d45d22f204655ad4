//! The watchdog: a small process in `supervisor/` that outlives the agent.
//!
//! If the agent dies or hangs, its workloads must keep growing. The watchdog hears a heartbeat through a pipe. The end of
//! the pipe is a dead agent, silence for [`PATIENCE`] a hung one: then it thaws whoever was frozen for others, opens `memory.max` to the
//! failsafe that is written on the workload's cgroup, and takes the tripwire out of the way. It needs nothing but the tree,
//! and leaves there what the limits were, for the next agent ([`lease`]).
//!
//! A dead agent's watchdog ends after that. A hung agent's goes on listening: the agent may come back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bellows_policies::units::{Bytes, Instant, Limit};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::{parse, tell, thread};
use crate::workload::supervisor::{FAILSAFE, FAILSAFE_CPU};
use crate::workload::tree::WORKLOADS;
use crate::workload::{adoption, frozen, lease, tree, yielded};

/// Time between heartbeats.
pub const BEAT: Duration = Duration::from_millis(400);
/// Silence that means a hung agent.
pub const PATIENCE: Duration = Duration::from_millis(1800);
/// The message of an agent that leaves in good order.
const FAREWELL: u8 = b'q';
const ALIVE: u8 = b'.';

/// The agent's end of the pipe.
#[derive(Debug)]
pub struct Heartbeat {
    pipe: File,
    last: Instant,
    watchdog: Child,
    apart: bool,
}

impl Heartbeat {
    /// Starts the watchdog of the agent that governs `root`, as a process of its own group: a terminal's ctrl-C is not for it. `apart`, it
    /// lives in `supervisor/` though the agent does not: whatever is in a container's cgroup ends with that container.
    pub fn start(root: &Path, apart: bool) -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let watchdog = Command::new("/proc/self/exe")
            .args(["watchdog", "--root"])
            .arg(root)
            .args(apart.then_some("--apart"))
            // It needs none of it, and what is meant for the agent alone (NOTIFY_SOCKET) is nobody else's.
            .env_clear()
            .stdin(Stdio::from(read))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { pipe: write.into(), last: Instant(0), watchdog, apart })
    }

    /// Beats, if it is time; false when nobody hears it any more. A pipe full of unread beats is as good as a beat.
    pub fn beat(&mut self, now: Instant) -> bool {
        if now.since(self.last) < BEAT {
            return true;
        }
        self.last = now;
        match self.pipe.write_all(&[ALIVE]) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// For how long the watchdog has heard nothing.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Duration {
        if self.last == Instant(0) { Duration::ZERO } else { now.since(self.last) }
    }

    /// Reaps a watchdog that is gone, and starts another in its place.
    pub fn replace(mut self, root: &Path) -> io::Result<Self> {
        let _ = self.watchdog.try_wait();
        Self::start(root, self.apart)
    }

    /// Tells the watchdog that the agent leaves in good order, and waits for it.
    pub fn farewell(mut self) {
        let _ = self.pipe.write_all(&[FAREWELL]);
        drop(self.pipe);
        let _ = self.watchdog.wait();
    }
}

/// The watchdog process: listens to the heartbeat on standard input.
pub fn run(root: &Path, apart: bool) -> io::Result<()> {
    if apart {
        tree::hold(root).map_err(io::Error::other)?;
    }
    let root = Cgroup::open(root).map_err(io::Error::other)?;
    let pipe: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = File::from(pipe);
    let patience = u16::try_from(PATIENCE.as_millis()).unwrap_or(u16::MAX);
    let mut opened = false;
    loop {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(patience)) {
            // Again and again while it lasts: some may have failed, and a worker of the agent may still be launching.
            Ok(0) => {
                let result = open_limits(&root);
                if !opened {
                    report(&format!("no heartbeat for {} ms", PATIENCE.as_millis()), result);
                }
                opened = true;
            }
            Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => {
                let mut beats = [0_u8; 64];
                let count = pipe.read(&mut beats)?;
                if beats[..count].contains(&FAREWELL) {
                    return Ok(());
                }
                if count == 0 {
                    return after_death(&root);
                }
                opened = false;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// The agent is dead, or about to be: its pipe may be closed before its lock is. Unless a new one holds the tree, and has a
/// watchdog of its own, the workloads are on their own now. One that waits for the lock is left what is not open yet: what stands
/// as it was, it need not put back. It may die before it has a watchdog, or never take the lock; so once only, and it is seen to.
fn after_death(root: &Cgroup) -> io::Result<()> {
    const TRIES: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);
    let mut may_leave = true;
    for _ in 0..TRIES {
        if let Some(_lock) = root.try_lock().map_err(io::Error::other)? {
            let result = open_until(root, &|workloads| may_leave && workloads.is_locked().unwrap_or(false));
            let is_left = result.as_ref().is_ok_and(|opened| opened.is_left);
            report("the agent died", result);
            if !is_left {
                return Ok(());
            }
            may_leave = false;
        }
        std::thread::sleep(PAUSE);
    }
    tell("watchdog: the agent died, and a new one has taken over");
    Ok(())
}

/// After the work: standard error may block, or be nobody's any more.
fn report(why: &str, result: Result<Opened, CgroupError>) {
    match result {
        Ok(Opened { workloads, failed, is_left }) => {
            let rest = if is_left { ", the others are left to the next agent" } else { "" };
            tell(&format!(
                "watchdog: {why}: opened the limits of {workloads} workloads, {failed} failed{rest}"
            ));
        }
        Err(error) => tell(&format!("watchdog: {why}: {error}")),
    }
}

/// What [`open_limits`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Opened {
    /// Workloads whose limits stand open now.
    pub workloads: usize,
    /// Workloads that could not be opened.
    pub failed: usize,
    /// The others were left as they are.
    pub is_left: bool,
}

/// Opens every workload below `root` to its failsafe. Also what `bellows release --all` does when no agent runs.
pub fn open_limits(root: &Cgroup) -> Result<Opened, CgroupError> {
    open_until(root, &|_| false)
}

/// The same until `leaves` says that the rest is to be left; it is asked of `workloads/`, now and then.
fn open_until(root: &Cgroup, leaves: &(dyn Fn(&Cgroup) -> bool + Sync)) -> Result<Opened, CgroupError> {
    /// Workloads between two questions.
    const SOME: usize = 8;
    let is_left = AtomicBool::new(false);
    let mut opened = Opened::default();
    let workloads = match root.child(WORKLOADS) {
        Err(e) if e.is_gone() => return Ok(opened),
        other => other?,
    };
    for tenant in workloads.children()? {
        let Ok(tenant) = workloads.child(&tenant) else { continue };
        let open_some = |names: &[String]| {
            let mut opened = Opened::default();
            for some in names.chunks(SOME) {
                if is_left.load(Ordering::Relaxed) || leaves(&workloads) {
                    is_left.store(true, Ordering::Relaxed);
                    break;
                }
                for name in some {
                    match tenant.child(name).and_then(|workload| open_one(&workload)) {
                        Ok(true) => opened.workloads += 1,
                        Ok(false) => {}
                        Err(e) if e.is_gone() => {}
                        Err(_) => opened.failed += 1,
                    }
                }
            }
            opened
        };
        for part in thread::share(&tenant.children().unwrap_or_default(), open_some) {
            opened.workloads += part.workloads;
            opened.failed += part.failed;
        }
    }
    opened.is_left = is_left.into_inner();
    Ok(opened)
}

/// Opens one workload, and notes what was in force for the agent that comes next; false when it is none of ours. What somebody
/// else made is given back as it was, and not thawed: that is its maker's too.
fn open_one(workload: &Cgroup) -> Result<bool, CgroupError> {
    if adoption::give_back(workload)? {
        return Ok(true);
    }
    let Some(failsafe) = workload.attribute(FAILSAFE)? else { return Ok(false) };
    if yielded::is_noted(workload)? {
        return Ok(false);
    }
    if let Err(error) = lease::note(workload) {
        // Then the next agent guesses: to open is what matters now.
        tell(&format!("watchdog: {error}"));
    }
    let failsafe = parse::number(&failsafe).map_or(Limit::Max, |n| Limit::At(Bytes(n)));
    // What an operator has frozen stays so: `frozen` says why.
    if !frozen::is_paused(workload)? {
        workload.write("cgroup.freeze", "0")?;
    }
    // Only ever up: lowering a limit below use would have the kernel kill.
    if parse::limit(workload.read("memory.max")?.as_bytes()).is_some_and(|present| present < failsafe) {
        workload.write("memory.max", &failsafe.to_string())?;
    }
    workload.write("memory.high", "max")?;
    if let Some(quota) = workload.attribute(FAILSAFE_CPU)? {
        let quota = String::from_utf8_lossy(&quota);
        // Each write refills the quota, even one of the same value.
        if workload.read("cpu.max")?.trim() != quota.trim() {
            workload.write("cpu.max", &quota)?;
        }
    }
    Ok(true)
}
