//! Letting go of workloads: their limits are opened, or they are ended as a whole.

use std::sync::Arc;

use bellows_policies::units::Bytes;

use super::actuator;
use super::control_loop::Control;
use crate::journal::{Caller, What};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::watchdog::Opened;
use crate::workload::lease;

impl Control {
    /// Opens every limit and stops governing; workloads started from now on are opened too.
    pub(super) fn release_all(&mut self, by: Option<&Arc<Caller>>) -> Opened {
        self.released = true;
        self.cpu.release();
        self.climb.lane.release();
        let keys: Vec<Key> = self.registry.iter_mut().filter(|e| e.open.is_some()).map(|e| e.key).collect();
        let workloads = keys.iter().filter(|&&key| self.release_one(key)).count();
        self.journal.ordered(clock::unix_nanoseconds(), &self.node, by, What::Released {});
        Opened { workloads, failed: keys.len() - workloads, is_left: false }
    }

    pub(super) fn release_one(&mut self, key: Key) -> bool {
        self.end_leases(key);
        let Some(entry) = self.registry.get(key) else { return false };
        let Some(open) = &entry.open else { return false };
        if let Some(shrink) = &entry.shrink {
            shrink.cancel();
        }
        if entry.is_observed() {
            entry.law.release();
            return true;
        }
        // The next agent goes back to these.
        if entry.adopted.is_none()
            && let Err(error) = lease::note(open.cgroup())
        {
            let text = error.to_string();
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
        entry.law.release();
        let max = entry.law.limits().max;
        if let Err(error) = actuator::open_up(open, max) {
            let text = format!("cannot open its limits: {error}");
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
            return false;
        }
        entry.publish(bellows_policies::Limits { high: Bytes(u64::MAX), max });
        true
    }

    /// Ends everything in a workload's cgroup. What somebody else made is let be.
    pub(super) fn kill(&mut self, key: Key) {
        let Some(entry) = self.registry.get(key) else { return };
        if entry.adopted.is_some() {
            self.release_one(key);
            return;
        }
        let Some(open) = &entry.open else { return };
        if let Err(error) = open.cgroup().kill() {
            let text = error.to_string();
            self.journal.record(clock::unix_nanoseconds(), &entry.name, What::Trouble { text });
        }
    }
}
