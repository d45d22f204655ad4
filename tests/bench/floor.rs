//! The floor: the smallest loop that hears a breach and raises two limits. What the agent adds to it is the agent's cost.
//!
//! It waits for POLLPRI on open `memory.events.local` files, reads the one that changed, and if `high` rose writes
//! `memory.max` and `memory.high`, each through a descriptor that stays open. It decides nothing: the next limits are the
//! last ones plus a step. It waits by `epoll_wait`, which is as fast as `poll` for one file and faster for fifty, and runs
//! at the same real-time priority as the agent's control loop.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::anyhow;
use bellows::kernel::{Cgroup, clock, parse, thread as kernel_thread};
use bellows_policies::units::{Bytes, Instant};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::cpu;

/// How much a limit is raised each time. The agent is set to the same step.
pub(crate) const STEP: Bytes = Bytes(256 << 10);
/// Room between the two limits, as the agent's law gives to a new workload.
const BAND: Bytes = Bytes::mib(16);
/// How soon the loop sees that it is to end.
const TICK_MS: u16 = 50;

/// One cgroup under the floor's care.
#[derive(Debug)]
pub(crate) struct Target {
    events: File,
    max: File,
    high: File,
    limit: Bytes,
    seen: u64,
}

/// Limits that were raised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    /// Whose: the target's number.
    pub(crate) target: usize,
    /// When the loop woke up for it.
    pub(crate) woke: Instant,
    /// When the second write had returned.
    pub(crate) wrote: Instant,
}

/// A running loop.
#[derive(Debug)]
pub(crate) struct Floor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(Vec<Target>, Vec<Move>)>>,
}

impl Target {
    /// Takes a cgroup over and sets its first limits.
    pub(crate) fn new(cgroup: &Cgroup, limit: Bytes) -> anyhow::Result<Self> {
        cgroup.write("memory.max", &limit.saturating_add(BAND).0.to_string())?;
        cgroup.write("memory.high", &limit.0.to_string())?;
        Ok(Self {
            events: cgroup.open_read("memory.events.local")?,
            max: cgroup.open_write("memory.max")?,
            high: cgroup.open_write("memory.high")?,
            limit,
            seen: 0,
        })
    }

    fn highs(&self) -> io::Result<u64> {
        let mut text = [0; 256];
        let length = self.events.read_at(&mut text, 0)?;
        Ok(parse::value_of(&text[..length], "high").unwrap_or(0))
    }

    /// The whole of the work: one read, and two writes if the counter rose.
    fn look(&mut self) -> io::Result<bool> {
        let highs = self.highs()?;
        if highs <= self.seen {
            return Ok(false);
        }
        self.seen = highs;
        self.limit = self.limit.saturating_add(STEP);
        write(&self.max, self.limit.saturating_add(BAND))?;
        write(&self.high, self.limit)?;
        Ok(true)
    }
}

impl Floor {
    /// Starts the loop over `targets`; room is made for `most` moves.
    pub(crate) fn start(mut targets: Vec<Target>, most: usize) -> anyhow::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        for (number, target) in targets.iter_mut().enumerate() {
            // What was counted before is not ours; the read arms the notification.
            target.seen = target.highs()?;
            let changed = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
            epoll.add(&target.events, EpollEvent::new(changed, number as u64))?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("bench-floor".to_owned())
            .spawn(move || run(&epoll, targets, most, &end))?;
        Ok(Self { stop, thread })
    }

    /// Ends the loop and returns what it did.
    pub(crate) fn finish(self) -> anyhow::Result<(Vec<Target>, Vec<Move>)> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the floor's thread panicked"))?
    }
}

fn run(
    epoll: &Epoll,
    mut targets: Vec<Target>,
    most: usize,
    stop: &AtomicBool,
) -> anyhow::Result<(Vec<Target>, Vec<Move>)> {
    cpu::pin_this_thread()?;
    kernel_thread::set_realtime()?;
    let mut moves = Vec::with_capacity(most);
    let mut ready = [EpollEvent::empty(); 64];
    while !stop.load(Ordering::Acquire) {
        let count = match epoll.wait(&mut ready, EpollTimeout::from(TICK_MS)) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let woke = clock::now();
        for event in &ready[..count] {
            let Some((number, target)) =
                usize::try_from(event.data()).ok().and_then(|n| Some((n, targets.get_mut(n)?)))
            else {
                continue;
            };
            if target.look()? {
                moves.push(Move { target: number, woke, wrote: clock::now() });
            }
        }
    }
    Ok((targets, moves))
}

/// Writes a number, formatted on the stack.
fn write(file: &File, bytes: Bytes) -> io::Result<()> {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = bytes.0;
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    file.write_at(&digits[start..], 0).map(drop)
}
