//! Swap, to the memory law: what of the anonymous memory can leave, and what of it stays in RAM all the same.
//!
//! # Why these signals
//! A page that is swapped to a disk has left RAM. One that zswap holds is compressed and has not: it is charged to its cgroup still
//! (`zswap` of `memory.stat`, a part of its `kernel`, so need has it). One on a zram disk is charged to nobody, and only the
//! machine has less room. So pages that reclaim took are no saving by themselves: what stays of them is taken off.
//!
//! # When it acts
//! Where reclaim is judged: futile or cheap at a limit by what leaves the cgroup, wasteful where it is ours by what leaves the
//! machine. A machine that compresses badly stops our reclaim of anonymous memory by itself; page cache is not touched by this.
//!
//! # Protection at the start
//! What share stays is that of everything swapped out so far, of the cgroup and of the machine's zram; before anything was, none.
//!
//! # How it recovers
//! Nothing is remembered here: each judgement has its own two details.

use crate::sample::Detail;
use crate::units::{Bytes, PAGE};

impl Detail {
    /// The share of what is swapped out that zswap holds, charged to the cgroup still: of one.
    #[must_use]
    pub fn kept_charged(&self) -> f64 {
        share(self.stat.zswap, self.swapped())
    }

    /// The share of what is swapped out that is in RAM still, in zswap or in a zram disk: of one.
    #[must_use]
    pub fn kept_in_ram(&self) -> f64 {
        let on_devices = self.swapped().saturating_sub(self.stat.zswapped);
        let zram = on_devices.scale(f64::from(self.swap.zram_permille.min(1000)) / 1000.0);
        share(self.stat.zswap.saturating_add(zram), self.swapped())
    }

    /// The same in thousandths.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    pub(crate) fn kept_permille(&self) -> u16 {
        (self.kept_in_ram() * 1000.0).round() as u16
    }

    /// What is swapped out. The two files are not read at the same instant.
    fn swapped(&self) -> Bytes {
        self.swap.used.max(self.stat.zswapped)
    }
}

/// Pages that were swapped out between two details, at most those that reclaim took. What came back meanwhile had gone before.
pub(crate) fn swapped_out(before: &Detail, after: &Detail) -> u64 {
    let stays = after.swapped().saturating_sub(before.swapped()).0 / PAGE;
    let came_back = after.stat.workingset_refault_anon.saturating_sub(before.stat.workingset_refault_anon);
    let taken = after.stat.pgsteal.saturating_sub(before.stat.pgsteal);
    // Without swap nothing comes back either; shmem that does is no page of ours.
    if after.swapped().max(before.swapped()) == Bytes::ZERO {
        0
    } else {
        stays.saturating_add(came_back).min(taken)
    }
}

/// Pages that `taken` pages have freed, of which `swapped` went to swap, where this share of them stays.
pub(crate) fn freed(taken: u64, swapped: u64, kept: f64) -> f64 {
    taken as f64 - swapped.min(taken) as f64 * kept
}

fn share(part: Bytes, whole: Bytes) -> f64 {
    if whole == Bytes::ZERO { 0.0 } else { (part.0 as f64 / whole.0 as f64).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MemoryStat, Swap};

    fn detail(used: u64, zswapped: u64, zswap: u64, zram_permille: u16) -> Detail {
        let (zswap, zswapped) = (Bytes::mib(zswap), Bytes::mib(zswapped));
        let stat = MemoryStat { zswap, zswapped, ..MemoryStat::default() };
        let swap = Swap { used: Bytes::mib(used), zram_permille, ..Swap::default() };
        Detail { stat, swap, ..Detail::default() }
    }

    #[test]
    fn what_stays_in_ram() {
        for (name, detail, charged, in_ram) in [
            ("nothing swapped", detail(0, 0, 0, 333), 0.0, 0.0),
            ("a disk", detail(60, 0, 0, 0), 0.0, 0.0),
            ("zswap, three to one", detail(60, 60, 20, 0), 1.0 / 3.0, 1.0 / 3.0),
            ("half of it written back to the disk", detail(60, 30, 10, 0), 1.0 / 6.0, 1.0 / 6.0),
            ("zram, four to one", detail(60, 0, 0, 250), 0.0, 0.25),
            ("zswap before zram", detail(60, 30, 15, 500), 0.25, 0.5),
            ("zswap counted first", detail(10, 20, 10, 0), 0.5, 0.5),
            ("incompressible", detail(60, 0, 0, 1200), 0.0, 1.0),
        ] {
            assert!((detail.kept_charged() - charged).abs() < 1e-9, "{name}: {}", detail.kept_charged());
            assert!((detail.kept_in_ram() - in_ram).abs() < 1e-3, "{name}: {}", detail.kept_in_ram());
        }
    }

    #[test]
    fn what_was_swapped_out() {
        let at = |used, pgsteal, came_back| {
            let mut detail = detail(used, 0, 0, 0);
            (detail.stat.pgsteal, detail.stat.workingset_refault_anon) = (pgsteal, came_back);
            detail
        };
        let before = at(1, 1000, 10);
        assert_eq!(swapped_out(&before, &at(2, 2000, 10)), 256);
        assert_eq!(swapped_out(&before, &at(2, 2000, 30)), 276, "what came back had gone");
        assert_eq!(swapped_out(&before, &at(9, 1100, 10)), 100, "no more than was taken");
        assert_eq!(swapped_out(&before, &at(0, 2000, 10)), 0, "it came back for good");
        assert_eq!(swapped_out(&at(0, 0, 0), &at(0, 500, 40)), 0, "without swap");
    }

    #[test]
    fn what_is_freed() {
        assert!((freed(100, 0, 0.5) - 100.0).abs() < 1e-9, "page cache");
        assert!((freed(100, 60, 0.5) - 70.0).abs() < 1e-9);
        assert!(freed(100, 200, 1.0).abs() < 1e-9, "nothing, and not less");
    }
}
