//! The loop's dealings with its watchdog: the heartbeat, a silence that was too long, a watchdog that is gone.

use std::time::Duration;

use bellows_policies::units::Instant;

use super::control_loop::Control;
use crate::journal::What;
use crate::kernel::clock;
use crate::watchdog::PATIENCE;

/// After a silence this long the watchdog has opened the limits, or was about to: less than `watchdog::PATIENCE`, and more
/// than beats are ever apart.
const GAP: Duration = Duration::from_millis(1500);
impl Control {
    /// Beats, notices a silence that was too long, and replaces a watchdog that is gone.
    pub(super) fn beat(&mut self, woke: Instant) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        let silence = heartbeat.silence(woke);
        let is_heard = heartbeat.beat(woke);
        if silence > GAP {
            // It may be at its work still: once more when it must be done.
            self.recheck = Some(woke.plus(PATIENCE));
            self.held_up(silence);
        } else if self.recheck.is_some_and(|due| woke >= due) {
            self.recheck = None;
            self.held_up(PATIENCE);
        }
        if !is_heard {
            self.replace_watchdog();
        }
    }

    fn replace_watchdog(&mut self) {
        let text = "the watchdog is gone: starting another".to_owned();
        self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        self.metrics.watchdogs.inc();
        let Some((gone, root)) = self.heartbeat.take().zip(self.ground.workloads.path().parent()) else {
            return;
        };
        match gone.replace(root) {
            Ok(heartbeat) => self.heartbeat = Some(heartbeat),
            Err(error) => {
                let text =
                    format!("cannot start a watchdog: {error}: a dead agent would leave limits as they are");
                self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
            }
        }
    }

    /// The loop did not run for `gap`: the watchdog has opened the limits, or would have.
    fn held_up(&mut self, gap: Duration) {
        if self.released {
            return;
        }
        let mut found = false;
        let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        // Who is observed stands open anyway.
        for entry in self.registry.iter_mut().filter(|entry| !entry.is_observed()) {
            let Some(open) = &entry.open else { continue };
            // One that was failed, or that has been found open already, is meant to be.
            let opened = open.high.read().is_ok_and(|high| high == open.before);
            if opened && !entry.law.is_failed() && !entry.law.is_released() {
                found = true;
                if let Some(shrink) = &entry.shrink {
                    shrink.cancel();
                }
                entry.law.release();
                entry.law.rearm();
                self.journal.record(clock::unix_nanoseconds(), &entry.name, What::TakenBack { gap_ms });
            }
        }
        // It thaws, too.
        self.climb.check_at = Instant(0);
        self.metrics.gaps.inc_by(u64::from(found));
        self.pass.urgent = self.registry.len();
    }
}
