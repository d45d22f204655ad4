//! Quotas as they stand in the kernel: moved by a plan, compared with the governed ones, and opened by a release.

use std::sync::atomic::Ordering;

use bellows_policies::units::Instant;
use bellows_policies::{CpuEvidence, CpuPlan, Cpus, Reason};

use super::{CpuLoop, CpuParts, Governed};
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::cpu::quota_text;
use crate::kernel::watch::Key;
use crate::metrics::Outcome;

/// Reasons for leaving a throttled workload's quota as it is that are worth a record.
const TELLING: [Reason; 4] =
    [Reason::CeilingReached, Reason::CeilingOverdrawn, Reason::CpuSqueezed, Reason::NodeBusy];

/// Writes the quota of a plan, and tells of it. `looked` is when its sample was taken, `woke` when the tick began.
pub(super) fn carry_out(
    parts: &CpuParts,
    governed: &mut Governed,
    plan: CpuPlan,
    looked: Instant,
    throttled: u64,
    woke: Instant,
) -> Outcome {
    let CpuPlan::Write { verb, from, to, reason, evidence } = plan else { return Outcome::Nothing };
    let written = governed.files.set_quota(to);
    let wake_to_write_us = u64::try_from(clock::now().since(woke).as_micros()).unwrap_or(u64::MAX);
    let (what, outcome) = match written {
        Ok(()) => {
            governed.law.commit(to, reason, looked);
            governed.held = None;
            governed.published.quota(Some(to));
            governed.published.quota_moved();
            let what = What::QuotaMoved { verb, reason, from, to, throttled, wake_to_write_us, evidence };
            (what, Outcome::Applied)
        }
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            (What::QuotaFailed { to, errno }, Outcome::Failed)
        }
    };
    parts.journal.decided(clock::unix_nanoseconds(), &governed.name, &governed.version, what);
    outcome
}

/// Tells that a workload is throttled and why its quota stays, once for each time and reason.
pub(super) fn hold(parts: &CpuParts, governed: &mut Governed, reason: Reason, evidence: CpuEvidence) {
    if !TELLING.contains(&reason) {
        if !governed.is_hot {
            governed.held = None;
        }
        return;
    }
    if governed.held.replace(reason) == Some(reason) {
        return;
    }
    // The guard gave nothing; of the others it was not asked.
    let granted = (reason == Reason::NodeBusy).then_some(Cpus::ZERO);
    let evidence = CpuEvidence { granted, ..evidence };
    let what = What::QuotaHeld { reason, quota: governed.law.quota(), evidence };
    parts.journal.decided(clock::unix_nanoseconds(), &governed.name, &governed.version, what);
}

impl CpuLoop {
    /// Compares the next `count` quotas with the kernel's: what somebody else wrote is written over, or left to
    /// them where the class says so, and told of.
    pub(super) fn verify(&mut self, count: usize, tells: bool) {
        for _ in 0..count {
            self.next_verify = (self.next_verify + 1) % self.governed.len().max(1);
            let Some(governed) = self.governed.get_mut(self.next_verify) else { return };
            let Ok(found) = governed.files.quota() else { continue };
            let expected = governed.law.quota();
            if found.is_some_and(|cpus| cpus.quota_us() == expected.quota_us()) {
                continue;
            }
            let yielded = tells && governed.yields;
            if tells {
                self.parts.metrics.foreign_writes.inc();
                let found = found.map_or_else(|| "max".to_owned(), quota_text);
                let (file, expected) = ("cpu.max".to_owned(), quota_text(expected));
                let what = What::ForeignWrite { file, expected, found, yielded };
                self.parts.journal.record(clock::unix_nanoseconds(), &governed.name, what);
            }
            if yielded {
                // The control loop does what is left to do at its next comparison.
                governed.published.quota(found);
                governed.published.set_yielded(true);
                self.governed.swap_remove(self.next_verify);
                continue;
            }
            let _ = governed.files.set_quota(expected);
        }
    }

    /// Takes a quota away, and governs it no longer.
    pub(super) fn lift(&mut self, key: Key) {
        let Some(index) = self.governed.iter().position(|governed| governed.key == key) else { return };
        let governed = self.governed.swap_remove(index);
        if let Err(error) = governed.files.lift_quota() {
            let text = format!("its cpu quota stays as it is: {error}");
            self.parts.journal.record(clock::unix_nanoseconds(), &governed.name, What::Trouble { text });
        }
    }

    /// After a release every quota stands at its ceiling.
    pub(super) fn open_released(&mut self) {
        if !self.released.load(Ordering::Acquire) {
            return;
        }
        for governed in self.governed.iter_mut().filter(|g| !g.law.is_released()) {
            let ceiling = governed.law.bounds().ceiling;
            if governed.files.set_quota(ceiling).is_ok() {
                governed.law.release();
                governed.published.quota(Some(ceiling));
            }
        }
    }
}
