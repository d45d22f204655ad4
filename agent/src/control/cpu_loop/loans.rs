//! What of a quota is lent for a time: ordered by the control loop's ladder, done here, where quotas are owned. And the signs by
//! which the control loop sees that the cpus are short, without asking.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellows_policies::cpu::CpuPlan;
use bellows_policies::ladder::NODE;
use bellows_policies::units::Instant;

use super::{CpuLane, CpuLoop, Order, quotas};
use crate::kernel::clock;
use crate::kernel::watch::Key;
use crate::metrics::Resource;

/// A sign counts for so long: three periods, since a hot group is looked at in each.
const FRESH: Duration = Duration::from_millis(300);

/// Who is short of cpu, and when that was seen last. A workload of a class that the guard spares goes before the node.
#[derive(Debug, Default)]
pub(super) struct Signs {
    workload: [AtomicU64; 2],
    node: AtomicU64,
}

impl Signs {
    pub(super) fn starved(&self, key: Key, now: Instant) {
        self.workload[1].store(key.number(), Ordering::Relaxed);
        self.workload[0].store(now.0, Ordering::Release);
    }

    pub(super) fn overloaded(&self, now: Instant) {
        self.node.store(now.0, Ordering::Release);
    }

    fn who(&self, now: Instant) -> Option<u64> {
        let is_fresh = |at: &AtomicU64| {
            let at = Instant(at.load(Ordering::Acquire));
            at > Instant(0) && now.since(at) <= FRESH
        };
        if is_fresh(&self.workload[0]) {
            Some(self.workload[1].load(Ordering::Relaxed))
        } else {
            is_fresh(&self.node).then_some(NODE)
        }
    }
}

impl CpuLane {
    /// Has a share of what a workload uses above its floor lent; false when the queue is full.
    pub(in crate::control) fn squeeze(&self, key: Key, share: f64) -> bool {
        self.send(Order::Lend(key, share))
    }

    /// Ends a loan; false when the queue is full.
    pub(in crate::control) fn give_back(&self, key: Key) -> bool {
        self.send(Order::TakeBack(key))
    }

    /// Who is short of cpu: the number of a workload, or [`NODE`].
    pub(in crate::control) fn who_is_short(&self, now: Instant) -> Option<u64> {
        self.signs.who(now)
    }
}

impl CpuLoop {
    /// Lends `share` of a quota, or ends the loan.
    pub(super) fn loan(&mut self, key: Key, share: Option<f64>) {
        let now = clock::now();
        self.end_silence(now);
        let Some(governed) = self.governed.iter_mut().find(|governed| governed.key == key) else { return };
        let plan = share.map_or_else(|| governed.law.take_back(), |share| governed.law.squeeze(share));
        let outcome = quotas::carry_out(&self.parts, governed, plan, now, 0, now);
        if share.is_none() {
            governed.law.end_loan();
        }
        governed.due = now;
        if let CpuPlan::Write { verb, reason, .. } = plan {
            self.parts.metrics.decided(Resource::Cpu, verb, reason, outcome);
        }
    }
}
