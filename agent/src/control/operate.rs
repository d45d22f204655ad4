//! What an operator orders about one workload. Each order is told in the journal with who gave it, whether it was carried out
//! or refused: here, and nowhere else.

use std::sync::Arc;

use super::control_loop::Control;
use super::handle::Refused;
use super::registry::Entry;
use crate::journal::{Caller, What};
use crate::kernel::{clock, spawn};
use crate::workload::spec::Name;

/// An order about a running workload.
#[derive(Debug)]
pub enum Order {
    /// Send it a signal: to its init, or with SIGKILL to everything in its cgroup.
    Signal(i32),
}

impl Control {
    /// Carries an order out; what the journal was told of it.
    pub(super) fn operate(
        &mut self,
        tenant: &Name,
        name: &Name,
        order: Order,
        by: &Arc<Caller>,
    ) -> Result<What, Refused> {
        let full: Arc<str> = format!("{tenant}/{name}").into();
        let asked = order.to_string();
        let entry = self.registry.find(tenant, name).filter(|entry| entry.open.is_some());
        let result = match (entry, order) {
            (None, _) => Err(Refused::NotFound(full.to_string())),
            (Some(entry), Order::Signal(signal)) => send(entry, signal),
        };
        let what = match &result {
            Ok(what) => what.clone(),
            Err(refused) => What::OrderRefused { order: asked, error: refused.to_string() },
        };
        self.journal.ordered(clock::unix_nanoseconds(), &full, Some(by), what);
        result
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

fn send(entry: &Entry, signal: i32) -> Result<What, Refused> {
    let Some(open) = &entry.open else { return Err(Refused::NotFound(entry.name.to_string())) };
    if signal == libc::SIGKILL {
        open.cgroup().kill().map_err(|e| Refused::Failed(e.to_string()))?;
    } else {
        let process = open.running.process.as_ref();
        let process = process.ok_or_else(|| Refused::NotFound(entry.name.to_string()))?;
        spawn::signal(&process.pidfd, signal).map_err(|e| Refused::Failed(e.to_string()))?;
    }
    Ok(What::SignalSent { signal })
}
