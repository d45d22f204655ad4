//! What changes in the cpu loop from outside: other bounds and another law by a policy, and an operator's pin.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bellows_policies::cpu::{CpuBounds, CpuLaw, CpuWorkload, Cpus};
use bellows_policies::units::Instant;

use super::{CpuLane, CpuLoop, Governed, Order};
use crate::kernel::clock;
use crate::kernel::watch::Key;

/// A policy was changed: the quota has other bounds, or another law.
#[derive(Debug)]
pub(in crate::control) struct Reform {
    pub(in crate::control) key: Key,
    /// The name of the law, for records.
    pub(in crate::control) version: Arc<str>,
    pub(in crate::control) bounds: CpuBounds,
    pub(in crate::control) law: CpuLaw,
    /// A quota that somebody else writes is left to them.
    pub(in crate::control) yields: bool,
    /// Where the floor is written to.
    pub(in crate::control) burst: Option<File>,
}

/// Orders it.
pub(in crate::control) fn reform(lane: &CpuLane, to: Reform) {
    lane.send(Order::Reform(Box::new(to)));
}

impl Governed {
    /// Writes the governed quota, if it is another one than `before`. A write that fails is made up for by the next comparison.
    fn catch_up(&self, before: Cpus) {
        let now = self.law.quota();
        if now != before && self.files.set_quota(now).is_ok() {
            self.published.quota(Some(now));
        }
    }
}

impl CpuLoop {
    /// Changes what a workload is governed by, and writes the quota that comes of it.
    pub(super) fn change(&mut self, key: Key, by: impl FnOnce(&mut CpuWorkload)) {
        self.end_silence(clock::now());
        let Some(governed) = self.governed.iter_mut().find(|governed| governed.key == key) else { return };
        let before = governed.law.quota();
        by(&mut governed.law);
        governed.catch_up(before);
        governed.due = Instant(0);
    }

    /// Takes in a change of policy. The kernel takes no quota below the burst, so a lower burst is written first, and a
    /// higher one last.
    pub(super) fn reform(&mut self, to: &Reform) {
        self.end_silence(clock::now());
        let Some(governed) = self.governed.iter_mut().find(|governed| governed.key == to.key) else { return };
        let (quota, floor) = (governed.law.quota(), governed.law.bounds().floor);
        governed.law.govern(to.bounds, to.law);
        governed.version = Arc::clone(&to.version);
        governed.yields = to.yields;
        let burst = || {
            let text = governed.law.burst().quota_us().to_string();
            to.burst.as_ref().map(|file| file.write_at(text.as_bytes(), 0))
        };
        if to.bounds.floor < floor {
            let _ = burst();
        }
        governed.catch_up(quota);
        if to.bounds.floor > floor {
            let _ = burst();
        }
        governed.due = Instant(0);
    }
}
