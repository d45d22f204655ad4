//! Quotas as they stand in the kernel: compared with the governed ones, and opened by a release.

use std::sync::atomic::Ordering;

use super::CpuLoop;
use crate::journal::What;
use crate::kernel::clock;
use crate::kernel::cpu::quota_text;

impl CpuLoop {
    /// Compares the next `count` quotas with the kernel's: what somebody else wrote is written over, and told of.
    pub(super) fn verify(&mut self, count: usize, tells: bool) {
        for _ in 0..count {
            self.next_verify = (self.next_verify + 1) % self.governed.len().max(1);
            let Some(governed) = self.governed.get_mut(self.next_verify) else { return };
            let Ok(found) = governed.files.quota() else { continue };
            let expected = governed.law.quota();
            if found.is_some_and(|cpus| cpus.quota_us() == expected.quota_us()) {
                continue;
            }
            if tells {
                let found = found.map_or_else(|| "max".to_owned(), quota_text);
                let (file, expected) = ("cpu.max".to_owned(), quota_text(expected));
                let what = What::ForeignWrite { file, expected, found };
                self.parts.journal.record(clock::unix_nanoseconds(), &governed.name, what);
            }
            let _ = governed.files.set_quota(expected);
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
