//! Telling a workload to end: its signal, a time for it to do so, and then the end of everything in its cgroup.
//!
//! The order is noted on the cgroup before the signal goes out. So the next agent waits for what is left of that time and no
//! longer, and what ends meanwhile has not failed.

use std::sync::Arc;
use std::time::Duration;

use bellows_policies::units::Instant;

use super::control_loop::Control;
use super::grips::Act;
use super::handle::Refused;
use crate::journal::{Deed, Ease, What};
use crate::kernel::watch::Key;
use crate::kernel::{clock, spawn};
use crate::workload::frozen;
use crate::workload::lifecycle::{Event, State};
use crate::workload::stops::{self, Stop};

/// How it is to be told, where that is not as it says itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Telling {
    /// The signal.
    pub signal: Option<i32>,
    /// How long it may take.
    pub grace: Option<Duration>,
}

impl Control {
    /// Tells a workload to end. `None`: it has no process any more.
    pub(super) fn stop(&mut self, key: Key, telling: Telling) -> Option<Result<What, Refused>> {
        let entry = self.registry.get(key).filter(|entry| !entry.is_clearing)?;
        let running = &entry.open.as_ref()?.running;
        running.process.as_ref()?;
        let signal = telling.signal.unwrap_or(entry.spec.life.stop_signal);
        let grace = telling.grace.unwrap_or_else(|| entry.spec.life.grace());
        let mut stop = Stop { signal, until: clock::now().plus(grace), is_sent: false };
        let given = stops::write(&running.cgroup, &stop)
            .map_err(|error| Refused::Failed(error.to_string()))
            .and_then(|()| self.tell_to_end(key, signal));
        let entry = self.registry.get(key)?;
        let before = entry.stop;
        let running = &entry.open.as_ref()?.running;
        if let Err(refused) = given {
            // The next agent must not carry out what was refused.
            let _ = before.map_or_else(
                || stops::withdraw(&running.cgroup),
                |before| stops::write(&running.cgroup, &before),
            );
            return Some(Err(refused));
        }
        stop.is_sent = true;
        // Where this fails the signal is sent twice, should another agent come before the end.
        let _ = stops::write(&running.cgroup, &stop);
        let cgroup = running.cgroup.id();
        self.await_end(key, stop);
        self.thaw(key, Ease::Signaled);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Some(Ok(What::Life(Deed::StopOrdered { cgroup, signal, grace_ms })))
    }

    /// Has it run, by whatever order it stands still, and signals it.
    fn tell_to_end(&mut self, key: Key, signal: i32) -> Result<(), Refused> {
        let Some(entry) = self.registry.get(key) else { return Err(Refused::Busy) };
        let Some(open) = &entry.open else { return Err(Refused::Busy) };
        let running = &open.running;
        let Some(process) = &running.process else { return Err(Refused::Busy) };
        // A freeze may be under way.
        let is_paused = entry.state == State::Frozen || entry.pausing.is_some();
        if is_paused && !self.climb.lane.order(key, running, Act::Resume) {
            return Err(Refused::Busy);
        }
        if signal == libc::SIGKILL {
            running.cgroup.kill().map_err(|error| Refused::Failed(error.to_string()))
        } else {
            spawn::signal(&process.pidfd, signal).map_err(|error| Refused::Failed(error.to_string()))
        }
    }

    /// An earlier agent had told it to end.
    pub(super) fn take_over_stop(&mut self, key: Key, mut stop: Stop) {
        let Some(entry) = self.registry.get(key) else { return };
        if let Some(running) = entry.open.as_ref().map(|open| &open.running)
            && let Some(process) = running.process.as_ref().filter(|_| !stop.is_sent)
        {
            let _ = spawn::signal(&process.pidfd, stop.signal);
            stop.is_sent = true;
            let _ = stops::write(&running.cgroup, &stop);
        }
        // It has to run to hear it, whoever has frozen it.
        if entry.state == State::Frozen
            && let Some(open) = &entry.open
        {
            let _ = frozen::resume(open.cgroup());
        }
        self.await_end(key, stop);
        self.thaw(key, Ease::Signaled);
    }

    fn await_end(&mut self, key: Key, stop: Stop) {
        let Some(entry) = self.registry.get(key) else { return };
        entry.stop = Some(stop);
        entry.move_to(entry.state.after(Event::StopOrdered));
        let name = Arc::clone(&entry.name);
        self.timers.push(stop.until, key);
        self.kept_stops(&name);
    }

    /// Kills what has not ended in the time that it was given, if that is over.
    pub(super) fn end_grace(&mut self, key: Key, due: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        let is_due = entry.stop.is_some_and(|stop| stop.until == due) && !entry.is_clearing;
        if !is_due {
            return;
        }
        let name = entry.name.clone();
        self.journal.record(clock::unix_nanoseconds(), &name, What::Life(Deed::StopForced {}));
        self.kill(key);
    }
}
