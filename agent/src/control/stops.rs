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
        let process = running.process.as_ref()?;
        let signal = telling.signal.unwrap_or(entry.spec.life.stop_signal);
        let grace = telling.grace.unwrap_or_else(|| entry.spec.life.grace());
        let mut stop = Stop { signal, until: clock::now().plus(grace), is_sent: false };
        if let Err(error) = stops::write(&running.cgroup, &stop) {
            return Some(Err(Refused::Failed(error.to_string())));
        }
        // It has to run for the signal, by whatever order it stands still; one that freezes it may be under way.
        let is_paused = entry.state == State::Frozen || entry.pausing.is_some();
        let sent = if is_paused && !self.climb.lane.order(key, running, Act::Resume) {
            Err(Refused::Busy)
        } else if signal == libc::SIGKILL {
            running.cgroup.kill().map_err(|e| Refused::Failed(e.to_string()))
        } else {
            spawn::signal(&process.pidfd, signal).map_err(|e| Refused::Failed(e.to_string()))
        };
        if let Err(refused) = sent {
            // The next agent must not carry out what was refused; what was ordered before stands.
            let noted = entry.stop.as_ref();
            let _ = noted
                .map_or_else(|| stops::withdraw(&running.cgroup), |stop| stops::write(&running.cgroup, stop));
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
