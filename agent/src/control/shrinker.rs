//! The slow lane: lowering `memory.high` and reclaiming, both of which can block in the kernel for as long as there is
//! something to reclaim. A small pool, so that one that is stuck does not hold up the others.
//!
//! A grow cancels a shrink: it marks it and signals its thread, which makes the kernel's reclaim loop return, but only after its
//! present round, and one round may take all that the limit was lowered by. So use is taken down in steps of [`STEP`]. The
//! signal may also come a moment before the thread enters the kernel and so be lost; as long as the shrink is on its way each
//! further look signals again. Whatever was written last, the answer of a cancelled shrink makes the control loop write its
//! own limits.
//!
//! `memory.max` is not lowered here but by its owner, the control loop: see `actuator::narrow`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bellows_policies::Plan;
use bellows_policies::units::{Bytes, Limit};

use super::handle::{Command, Handle};
use super::lanes::{deliver, spawn};
use super::registry::Later;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::limit::LimitFile;
use crate::kernel::parse;
use crate::kernel::thread::Interruptible;
use crate::kernel::watch::Key;

/// Shrinks that may wait. More are refused; the law asks again.
const QUEUE: usize = 256;
/// Threads: one may be stuck in the kernel for long, and the others' turn still comes.
const THREADS: usize = 2;

/// Use that one write of `memory.high` is to take: on a slow disk for swap, some tenths of a second. There the kernel takes more
/// than it is asked for, up to some six times as much; of page cache, which is what is taken here, it does not.
const STEP: Bytes = Bytes::mib(32);

/// What the slow lane does to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Lower `memory.high`; blocks in reclaim when use is above.
    LowerHigh(Bytes),
    /// Reclaim so much by `memory.reclaim`.
    Reclaim(Bytes),
}

/// Use before and after a reclaim, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaimed {
    /// `memory.current` before.
    pub before: Bytes,
    /// `memory.current` after.
    pub after: Bytes,
}

/// The slow lane's own descriptors: writes through one are serialised, and a grow must not wait behind a shrink.
#[derive(Debug)]
pub(super) struct SlowFiles {
    high: LimitFile,
    current: File,
    /// Absent before Linux 5.19.
    reclaim: Option<File>,
}

impl SlowFiles {
    pub(super) fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self {
            high: LimitFile::open_blocking(cgroup, "memory.high")?,
            current: cgroup.open_read("memory.current")?,
            reclaim: cgroup.open_write("memory.reclaim").ok(),
        })
    }

    fn current(&self) -> io::Result<Bytes> {
        let mut text = [0_u8; 32];
        let length = self.current.read_at(&mut text, 0)?;
        Ok(Bytes(parse::number(&text[..length]).unwrap_or(0)))
    }

    /// The kernel answers EAGAIN when it found less than was asked for: that is a result, not an error.
    fn reclaim(&self, bytes: Bytes) -> io::Result<Reclaimed> {
        let Some(file) = &self.reclaim else { return Err(io::ErrorKind::Unsupported.into()) };
        let before = self.current()?;
        match file.write_at(bytes.0.to_string().as_bytes(), 0) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Ok(_) | Err(_) => {}
        }
        Ok(Reclaimed { before, after: self.current()? })
    }
}

/// A shrink on its way.
#[derive(Debug)]
pub(super) struct Shrink {
    key: Key,
    files: Arc<Later<SlowFiles>>,
    act: Act,
    /// What is carried out, to be settled or undone.
    pub(super) plan: Plan,
    /// The laws that it was decided by: a reload may come in between.
    pub(super) version: Arc<str>,
    /// A grow has come in between: whatever was written, the control loop will write over.
    cancelled: AtomicBool,
    /// The thread that is at it.
    thread: OnceLock<Interruptible>,
}

impl Shrink {
    pub(super) fn new(
        key: Key,
        files: &Arc<Later<SlowFiles>>,
        act: Act,
        plan: &Plan,
        version: &Arc<str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            files: Arc::clone(files),
            act,
            plan: *plan,
            version: Arc::clone(version),
            cancelled: AtomicBool::new(false),
            thread: OnceLock::new(),
        })
    }

    /// Ends it, also when it is stuck in the kernel's reclaim.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            // It may by now be at another workload's shrink: that one ends early and is decided anew.
            let _ = thread.interrupt();
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Lowers `memory.high` to `to`, use before it in steps, for as long as each step helps.
    fn lower_high(&self, files: &SlowFiles, to: Bytes) -> io::Result<Reclaimed> {
        let before = files.current()?;
        let mut current = before;
        while current.saturating_sub(to) > STEP && !self.is_cancelled() {
            files.high.write(Limit::At(current.saturating_sub(STEP).page_floor()))?;
            let after = files.current()?;
            if after.saturating_add(Bytes::MIB) > current {
                break;
            }
            current = after;
        }
        if !self.is_cancelled() {
            files.high.write(Limit::At(to))?;
        }
        Ok(Reclaimed { before, after: files.current()? })
    }

    fn carry_out(&self) -> io::Result<Option<Reclaimed>> {
        if self.is_cancelled() {
            return Ok(None);
        }
        let files = self.files.get()?;
        match self.act {
            Act::LowerHigh(high) => self.lower_high(files, high),
            Act::Reclaim(bytes) => files.reclaim(bytes),
        }
        .map(Some)
    }
}

/// Starts the pool. Its threads end when the queue is dropped and empty.
pub(super) fn start(answers: &Handle) -> io::Result<SyncSender<Arc<Shrink>>> {
    let (shrinks, queue) = sync_channel(QUEUE);
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..THREADS {
        let (answers, queue) = (answers.clone(), Arc::clone(&queue));
        spawn(&format!("bellows-shrink{number}"), move || {
            if let Ok(me) = Interruptible::current() {
                serve(me, &queue, &answers);
            }
        })?;
    }
    Ok(shrinks)
}

fn serve(me: Interruptible, queue: &Mutex<Receiver<Arc<Shrink>>>, answers: &Handle) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(shrink) = next else { return };
        let _ = shrink.thread.set(me);
        let result = shrink.carry_out().map_err(|e| e.raw_os_error().unwrap_or(libc::EIO));
        deliver(answers, Command::ShrinkDone { key: shrink.key, result });
    }
}
