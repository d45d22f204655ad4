//! The lane of the ladder's harder rungs: freezes, thaws and kills, one after the other, on a thread of its own. Each may wait
//! for the kernel's one lock of the cgroup tree, and a freeze waits until the workload stands still.
//!
//! A release must not be overtaken by a freeze that waits here: the flag is looked at after each one, and the release thaws by
//! itself after it has set the flag. So whichever of both comes last, the workload runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::handle::{Command, Handle};
use super::incidents::{self, Seen};
use super::lanes::deliver;
use crate::journal::Writer;
use crate::kernel::cgroup::CgroupError;
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::frozen::{self, Note};
use crate::workload::supervisor::Running;

/// Orders that may wait.
const QUEUE: usize = 64;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Act {
    Freeze(Note),
    Thaw,
    /// A freeze by an operator's order.
    Pause,
    /// Its end.
    Resume,
    /// After a look inside, which nobody can take afterwards.
    Kill(Box<Seen>),
}

impl Act {
    /// Whether it is a freeze, of what an operator has ordered.
    fn by_order(&self) -> Option<bool> {
        match self {
            Self::Pause => Some(true),
            Self::Resume => Some(false),
            Self::Freeze(_) | Self::Thaw | Self::Kill(_) => None,
        }
    }
}

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It stands still.
    Frozen,
    /// It would not stand still, and runs; or all are released.
    NotFrozen,
    /// It runs.
    Thawed,
    /// Its end is on its way.
    Killed,
}

#[derive(Debug)]
struct Order {
    key: Key,
    running: Arc<Running>,
    act: Act,
}

/// The control loop's end. Dropping it waits for what is under way.
#[derive(Debug)]
pub(super) struct GripLane {
    orders: Option<SyncSender<Order>>,
    released: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GripLane {
    pub(super) fn start(answers: &Handle, journal: &Writer) -> io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        let released = Arc::new(AtomicBool::new(false));
        let (flag, answers, journal) = (Arc::clone(&released), answers.clone(), journal.clone());
        let thread = thread::Builder::new()
            .name("bellows-grips".to_owned())
            .spawn(move || serve(&queue, &flag, &answers, &journal))?;
        Ok(Self { orders: Some(orders), released, thread: Some(thread) })
    }

    /// Orders something; false when the queue is full.
    pub(super) fn order(&self, key: Key, running: &Arc<Running>, act: Act) -> bool {
        let order = Order { key, running: Arc::clone(running), act };
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }

    /// Nothing is frozen any more from now on.
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }
}

impl Drop for GripLane {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(queue: &Receiver<Order>, released: &AtomicBool, answers: &Handle, journal: &Writer) {
    while let Ok(Order { key, running, act }) = queue.recv() {
        if let Some(is_freeze) = act.by_order() {
            let cgroup = &running.cgroup;
            let result = if is_freeze {
                frozen::pause(cgroup, clock::unix_nanoseconds())
            } else {
                frozen::resume(cgroup).map(|()| false)
            };
            let result = result.map_err(|error| error.to_string());
            deliver(answers, Command::Paused { key, is_freeze, result });
            continue;
        }
        let result = match carry_out(&running, act, released, journal) {
            // It has ended, and the loop hears of that by itself.
            Err(error) if error.is_gone() => Ok(Done::Thawed),
            other => other.map_err(|error| error.to_string()),
        };
        deliver(answers, Command::Gripped { key, result });
    }
}

fn carry_out(
    running: &Running,
    act: Act,
    released: &AtomicBool,
    journal: &Writer,
) -> Result<Done, CgroupError> {
    let cgroup = &running.cgroup;
    match act {
        Act::Freeze(note) => {
            let mut is_frozen = frozen::freeze(cgroup, &note)?;
            if released.load(Ordering::SeqCst) {
                frozen::thaw(cgroup)?;
                is_frozen = false;
            }
            Ok(if is_frozen { Done::Frozen } else { Done::NotFrozen })
        }
        // Carried out by `serve`.
        Act::Pause | Act::Resume => Ok(Done::Thawed),
        Act::Thaw => frozen::thaw(cgroup).map(|()| Done::Thawed),
        Act::Kill(seen) => {
            incidents::record(&seen, journal);
            cgroup.kill().map(|()| Done::Killed)
        }
    }
}
