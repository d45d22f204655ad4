//! A change of policy in the cpu loop: other bounds, another law.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bellows_policies::cpu::{CpuBounds, CpuLaw};
use bellows_policies::units::Instant;

use super::{CpuLane, CpuLoop, Order};
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
    /// Where the floor is written to.
    pub(in crate::control) burst: Option<File>,
}

/// Orders it.
pub(in crate::control) fn reform(lane: &CpuLane, to: Reform) {
    lane.send(Order::Reform(Box::new(to)));
}

impl CpuLoop {
    /// Takes in a change of policy. The kernel takes no quota below the burst, so a lower burst is written first, and a
    /// higher one last. A write that fails is made up for by the next comparison.
    pub(super) fn reform(&mut self, to: &Reform) {
        self.end_silence(clock::now());
        let Some(governed) = self.governed.iter_mut().find(|governed| governed.key == to.key) else { return };
        let (quota, floor) = (governed.law.quota(), governed.law.bounds().floor);
        governed.law.govern(to.bounds, to.law);
        governed.version = Arc::clone(&to.version);
        let burst = || {
            let text = governed.law.burst().quota_us().to_string();
            to.burst.as_ref().map(|file| file.write_at(text.as_bytes(), 0))
        };
        if to.bounds.floor < floor {
            let _ = burst();
        }
        let now = governed.law.quota();
        if now != quota && governed.files.set_quota(now).is_ok() {
            governed.published.quota(Some(now));
        }
        if to.bounds.floor > floor {
            let _ = burst();
        }
        governed.due = Instant(0);
    }
}
