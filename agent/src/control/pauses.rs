//! An operator's freeze: until an operator thaws it again, whatever becomes of the agent.
//!
//! A workload is frozen by an operator or by the ladder, never by both: an operator's freeze ends the ladder's lease on it, and
//! what the ladder has frozen is not thawed by an operator's word. While it stands still its limits are left alone: nothing is
//! granted to it, nothing taken from it, and it cannot stall.

use std::sync::Arc;

use super::control_loop::Control;
use super::grips::Act;
use super::handle::Refused;
use super::ladder::Standing;
use super::operate::Waiter;
use crate::journal::{Deed, Ease, What};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::workload::frozen;
use crate::workload::lifecycle::{Event, State};

impl Control {
    /// Hands a freeze or a thaw to its lane; what comes of it is told by [`Self::paused`].
    pub(super) fn begin_pausing(&mut self, key: Key, is_freeze: bool) -> Result<(), Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        let not_now = |text: &str| Err(Refused::NotAllowed(format!("{}: {text}", entry.name)));
        if entry.pausing.is_some() {
            return not_now("a freeze or a thaw of it is under way");
        }
        match entry.state {
            State::Running if !is_freeze && entry.way.standing != Standing::Running => {
                return not_now(
                    "it is not frozen by an operator, but for somebody more important: it runs when nobody waits any more",
                );
            }
            State::Running if !is_freeze => return not_now("it is not frozen"),
            State::Frozen if is_freeze => return not_now("it is frozen already"),
            State::Created
            | State::Starting
            | State::Stopping
            | State::Exited
            | State::Failed
            | State::Lost => {
                return not_now(&format!("it is {}", entry.state.as_str()));
            }
            State::Running | State::Frozen => {}
        }
        let Some(open) = &entry.open else { return Err(Refused::Busy) };
        let act = if is_freeze { Act::Pause } else { Act::Resume };
        if !self.climb.lane.order(key, &open.running, act) {
            return Err(Refused::Busy);
        }
        if is_freeze && entry.way.standing != Standing::Running {
            self.eased(key, Ease::Overruled, clock::now());
        }
        Ok(())
    }

    /// Takes in how a freeze or a thaw by order went: whether it was a freeze, and stands still.
    pub(super) fn paused(&mut self, key: Key, is_freeze: bool, result: Result<bool, String>) {
        let Some(entry) = self.registry.get(key) else { return };
        let asked = entry.pausing.take();
        let outcome = match result {
            Ok(true) if entry.state == State::Running => {
                self.stand_still(key);
                Ok(What::Life(Deed::Frozen {}))
            }
            Ok(true) => Err(Refused::NotAllowed(format!("{}: it is {}", entry.name, entry.state.as_str()))),
            Ok(false) if is_freeze => Err(Refused::Failed(format!(
                "{} would not stand still, and runs on: something in it waits in the kernel",
                entry.name
            ))),
            Ok(false) => {
                entry.move_to(entry.state.after(Event::Thawed));
                Ok(What::Life(Deed::Thawed { elsewhere: false }))
            }
            Err(text) => Err(Refused::Failed(text)),
        };
        let Some(entry) = self.registry.get(key) else { return };
        let (by, order) = (asked.as_ref().map(|asked| Arc::clone(&asked.by)), name_of(is_freeze));
        match (&outcome, &asked) {
            // A stop thaws what it ends, and has told so itself.
            (Ok(_), None) => {}
            (Ok(what), Some(_)) => {
                self.journal.ordered(clock::unix_nanoseconds(), &entry.name, by.as_ref(), what.clone());
            }
            (Err(refused), _) => {
                let what = What::OrderRefused { order: order.to_owned(), error: refused.to_string() };
                self.journal.ordered(clock::unix_nanoseconds(), &entry.name, by.as_ref(), what);
            }
        }
        if let Some(Waiter { reply, .. }) = asked {
            let _ = reply.send(outcome);
        }
        if !is_freeze {
            self.look(key, clock::now());
        }
    }

    /// An earlier agent's operator had frozen it. Where it runs, somebody has thawed it meanwhile.
    pub(super) fn take_over_paused(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        let Some(open) = &entry.open else { return };
        if frozen::is_frozen(open.cgroup()).unwrap_or(true) {
            self.stand_still(key);
        } else {
            let _ = frozen::resume(open.cgroup());
        }
    }

    /// Whether it still stands still; else somebody has thawed it in the kernel, and it is governed again.
    pub(super) fn check_paused(&mut self, key: Key) -> bool {
        let Some(entry) = self.registry.get(key) else { return true };
        let Some(open) = entry.open.as_ref().filter(|_| entry.pausing.is_none()) else { return true };
        // Gone or unreadable: the look says so.
        if frozen::is_frozen(open.cgroup()).unwrap_or(true) {
            return true;
        }
        let _ = frozen::resume(open.cgroup());
        entry.move_to(entry.state.after(Event::Thawed));
        let what = What::Life(Deed::Thawed { elsewhere: true });
        self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
        false
    }

    fn stand_still(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        entry.move_to(entry.state.after(Event::StoodStill));
        entry.law.rest();
        self.budget.withdraw(entry.law.seat());
    }
}

fn name_of(is_freeze: bool) -> &'static str {
    if is_freeze { "freeze" } else { "thaw" }
}
