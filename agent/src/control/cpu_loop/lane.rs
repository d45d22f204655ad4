//! The control loop's end of the cpu loop: orders, and the thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use bellows_policies::Cpus;

use super::loans::Signs;
use super::reform::Reform;
use super::{CpuLoop, CpuParts, Governed};
use crate::kernel::watch::Key;

/// Orders that may wait for the next tick.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(super) enum Order {
    Govern(Box<Governed>),
    Reform(Box<Reform>),
    /// Pin the quota where it is, or there.
    Pin(Key, Option<Cpus>),
    Unpin(Key),
    Forget(Key),
    /// Lend this share of what is used above the floor.
    Lend(Key, f64),
    TakeBack(Key),
    Lift(Key),
}

/// The control loop's end. Dropping it ends the thread, after quotas that are released have been opened.
#[derive(Debug)]
pub(in crate::control) struct CpuLane {
    orders: Option<SyncSender<Order>>,
    released: Arc<AtomicBool>,
    pub(super) signs: Arc<Signs>,
    thread: Option<JoinHandle<()>>,
}

impl CpuLane {
    pub(in crate::control) fn start(parts: CpuParts) -> io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE);
        let released = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&released);
        let signs = Arc::new(Signs::default());
        let mut cpu_loop = CpuLoop::new(parts, flag, Arc::clone(&signs));
        let thread =
            thread::Builder::new().name("bellows-cpu".to_owned()).spawn(move || cpu_loop.run(&queue))?;
        Ok(Self { orders: Some(orders), released, signs, thread: Some(thread) })
    }

    /// The workload has ended. Should the queue be full, the loop finds out by itself: its files answer ENODEV.
    pub(in crate::control) fn forget(&self, key: Key) {
        self.send(Order::Forget(key));
    }

    /// Pins a quota where it is, or at a value; false when the loop has too much to do.
    pub(in crate::control) fn pin(&self, key: Key, at: Option<Cpus>) -> bool {
        self.send(Order::Pin(key, at))
    }

    /// Gives a quota back to its law.
    pub(in crate::control) fn unpin(&self, key: Key) -> bool {
        self.send(Order::Unpin(key))
    }

    /// The workload has no quota any more.
    pub(in crate::control) fn lift(&self, key: Key) {
        self.send(Order::Lift(key));
    }

    /// Opens all quotas to their ceilings, those to come too.
    pub(in crate::control) fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(super) fn send(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }
}

impl Drop for CpuLane {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
