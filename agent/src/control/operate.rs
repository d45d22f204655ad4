//! What an operator orders about one workload. Each order is told in the journal with who gave it, whether it was carried out
//! or refused: here, and nowhere else.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::control_loop::Control;
use super::handle::Refused;
use super::pins::Wanted;
use super::stops::Telling;
use crate::journal::{Caller, Ease, What};
use crate::kernel::watch::Key;
use crate::kernel::{clock, spawn};
use crate::workload::change::Change;
use crate::workload::spec::Name;

/// Why no order is taken about what was adopted: it has no identity on its cgroup that would keep one.
const NOT_OURS: &str =
    "was not started by bellows: whoever made it ends it, and policies say how it is governed";

/// Who has asked for something, and waits for the answer.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) by: Arc<Caller>,
    pub(super) reply: oneshot::Sender<Result<What, Refused>>,
}

/// An order about a running workload.
#[derive(Debug)]
pub enum Order {
    /// Tell it to end.
    Stop(Telling),
    /// Forget it, if it has ended.
    Remove,
    /// Let it stand still.
    Freeze,
    /// Let it run again.
    Thaw,
    /// Send it a signal: to its init, or with SIGKILL to everything in its cgroup.
    Signal(i32),
    /// Govern it otherwise.
    Set(Change),
    /// Let no law move its limits for a while.
    Pin(Wanted),
    /// Let them be moved again.
    Unpin,
}

impl Control {
    /// Carries an order out, or has it begun; answers what the journal was told of it.
    pub(super) fn operate(
        &mut self,
        tenant: &Name,
        name: &Name,
        order: Order,
        by: &Arc<Caller>,
        reply: oneshot::Sender<Result<What, Refused>>,
    ) {
        let full: Arc<str> = format!("{tenant}/{name}").into();
        let asked = order.to_string();
        let key =
            self.registry.find(tenant, name).filter(|entry| entry.open.is_some()).map(|entry| entry.key);
        let is_adopted =
            key.and_then(|key| self.registry.get(key)).is_some_and(|entry| entry.adopted.is_some());
        let of_ended =
            matches!(order, Order::Remove | Order::Stop(_)).then(|| matches!(order, Order::Remove));
        let (is_freeze, is_set) = (matches!(order, Order::Freeze), matches!(order, Order::Set(_)));
        let is_slow = matches!(order, Order::Freeze | Order::Thaw | Order::Set(_));
        let waiter = Waiter { by: Arc::clone(by), reply };
        let carried_out = key.and_then(|key| match order {
            _ if is_adopted => Some(Err(Refused::NotAllowed(format!("{full} {NOT_OURS}")))),
            Order::Freeze | Order::Thaw => match self.begin_pausing(key, is_freeze) {
                Ok(()) => None,
                Err(refused) => Some(Err(refused)),
            },
            Order::Stop(telling) => self.stop(key, telling),
            Order::Remove => {
                Some(Err(Refused::NotAllowed(format!("{full} is not over: end it first, by `bellows stop`"))))
            }
            Order::Signal(signal) => self.send(key, signal),
            Order::Set(change) => self.set(key, &change).transpose(),
            Order::Pin(wanted) => self.pin(key, &wanted, by.uid),
            Order::Unpin => self.unpin(key),
        });
        if let Some(entry) = key.and_then(|key| self.registry.get(key))
            && carried_out.is_none()
            && is_slow
        {
            // It answers, and is told, when it has been done.
            match &mut entry.giving {
                Some(given) if is_set => given.waiter = Some(waiter),
                Some(_) | None => entry.pausing = Some(waiter),
            }
            return;
        }
        let carried_out =
            carried_out.or_else(|| if of_ended? { self.forget(&full) } else { self.cancel_restart(&full) });
        let result = carried_out.unwrap_or_else(|| Err(Refused::NotFound(full.to_string())));
        self.answer(key, &full, &asked, waiter, result);
    }

    /// Tells how an order went: the journal, and who has asked.
    pub(super) fn answer(
        &mut self,
        key: Option<Key>,
        full: &Arc<str>,
        order: &str,
        waiter: Waiter,
        result: Result<What, Refused>,
    ) {
        let what = match &result {
            Ok(what) => what.clone(),
            Err(refused) => What::OrderRefused { order: order.to_owned(), error: refused.to_string() },
        };
        self.journal.ordered(clock::unix_nanoseconds(), full, Some(&waiter.by), what);
        if let (Some(key), Ok(_)) = (key, &result) {
            let now = clock::now();
            self.raise_to_floor(key, now);
            self.look(key, now);
        }
        // A client that hung up hears nothing.
        let _ = waiter.reply.send(result);
    }

    /// `None`: it has no process any more.
    fn send(&mut self, key: Key, signal: i32) -> Option<Result<What, Refused>> {
        let running = &self.registry.get(key)?.open.as_ref()?.running;
        let sent = if signal == libc::SIGKILL {
            running.cgroup.kill().map_err(|e| e.to_string())
        } else {
            spawn::signal(&running.process.as_ref()?.pidfd, signal).map_err(|e| e.to_string())
        };
        // What is frozen can be killed, and takes no other signal before it runs.
        if sent.is_ok() && signal != libc::SIGKILL {
            self.thaw(key, Ease::Signaled);
        }
        Some(sent.map(|()| What::SignalSent { signal }).map_err(Refused::Failed))
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Remove => f.write_str("rm"),
            Self::Stop(_) => f.write_str("stop"),
            Self::Freeze => f.write_str("freeze"),
            Self::Thaw => f.write_str("thaw"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Set(_) => f.write_str("set"),
            Self::Pin(_) => f.write_str("pin"),
            Self::Unpin => f.write_str("unpin"),
        }
    }
}
