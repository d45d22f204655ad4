//! Need or cache? What a detail says about the growth that met the limit.
//!
//! # Why these signals
//! Page cache alone takes a file-heavy workload to any limit, and reclaim of it costs next to nothing: 428 MB read
//! through 32 MiB were not slower than unlimited. So an event is not yet a need. What cannot be reclaimed without
//! swap or I/O is (`MemoryStat::need`), and so are pages that come back and tasks that wait in vain. Pages of files
//! count only when the kernel activates them on return (`workingset_activate_file`): a scan that goes round a file
//! larger than the limit refaults every page, and would at any limit that is smaller than the file.
//!
//! # When it acts
//! On every detail. It is need when, since the last verdict, need grew by a quarter of the growth; or when it fills
//! half of the limit; or when pages come back while tasks wait; or when tasks wait and reclaim finds little. Else what
//! grew is clean cache. The second rule lets cache grow until it is as large as the need, and no further.
//!
//! # Protection at the start
//! Without a detail before it growth counts from zero, so that everything in a new workload is growth; refaults and
//! pressure are not judged, since their counters may be years old.
//!
//! # How it recovers
//! While cache is held the need to compare with stays where it was, so that a slow growth of need adds up and is
//! seen. Pressure of a reader is not need by itself: reclaim at the limit is waiting too, as long as it is cheap.

use crate::decision::Reason;
use crate::evidence::{Growth, Interval};
use crate::memory::law::Law;
use crate::memory::swap;
use crate::sample::{Detail, MemoryStat};
use crate::units::{Bytes, PAGE};

/// What a detail says about growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is needed, for this reason.
    Need(Reason),
    /// It is clean page cache.
    Cache,
}

impl Interval {
    /// The time between two details. Nothing is known when a counter or the clock went back.
    pub(crate) fn between(before: &Detail, after: &Detail) -> Self {
        let us = after.at.since(before.at).as_micros() as f64;
        let (old, new) = (&before.stat, &after.stat);
        if us <= 0.0 || new.pgscan < old.pgscan || after.pressure.some_us < before.pressure.some_us {
            return Self::default();
        }
        let scanned = new.pgscan - old.pgscan;
        let stolen = new.pgsteal.saturating_sub(old.pgsteal);
        let refaults = new.workingset_activate_file.saturating_sub(old.workingset_activate_file);
        let swapped = swap::swapped_out(before, after);
        let freed = swap::freed(stolen, swapped, after.kept_charged());
        Self {
            ms: us / 1000.0,
            some: (after.pressure.some_us - before.pressure.some_us) as f64 / us,
            full: after.pressure.full_us.saturating_sub(before.pressure.full_us) as f64 / us,
            scanned,
            efficiency: if scanned == 0 { 0.0 } else { freed / scanned as f64 },
            refaults: ratio(refaults, stolen),
            refaults_anon: new.workingset_refault_anon.saturating_sub(old.workingset_refault_anon),
        }
    }
}

/// What `detail` says under the limit `high`: growth against `reference`, time against `last`.
pub(crate) fn growth(high: Bytes, reference: &MemoryStat, last: Option<&Detail>, detail: &Detail) -> Growth {
    let need = detail.stat.need();
    Growth {
        high,
        need,
        need_grew: need.saturating_sub(reference.need()),
        grew: detail.stat.total().saturating_sub(reference.total()),
        time: last.map(|last| Interval::between(last, detail)).unwrap_or_default(),
    }
}

impl Growth {
    /// The verdict, by these values and the law alone.
    #[must_use]
    pub fn judge(&self, law: &Law) -> Verdict {
        let Self { high, need, need_grew, grew, time } = *self;
        if need_grew >= law.need_grew_min.max(grew.scale(law.need_grew_share))
            || need >= high.scale(law.need_share)
        {
            return Verdict::Need(Reason::NeedGrew);
        }
        if time.refaults_anon * PAGE >= law.need_grew_min.0
            || (time.refaults >= law.refault_share && time.some >= law.pressure_share / 2.0)
        {
            return Verdict::Need(Reason::RefaultsRose);
        }
        // A few pages say nothing about the rest: one large folio that is in use is a whole list of them.
        let has_searched = time.scanned * PAGE >= law.need_grew_min.0;
        let waits_in_vain = has_searched && time.efficiency < law.cheap_reclaim;
        let waits_without = time.scanned == 0 && time.some >= 0.5;
        if time.some >= law.pressure_share && (waits_in_vain || waits_without) {
            return Verdict::Need(Reason::StallRose);
        }
        Verdict::Cache
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Pressure;
    use crate::units::Instant;

    fn stat(anon: u64, cache: u64) -> MemoryStat {
        let (anon, cache) = (Bytes::mib(anon), Bytes::mib(cache));
        MemoryStat { anon, file: cache, inactive_file: cache, ..MemoryStat::default() }
    }

    fn detail(ms: u64, stat: MemoryStat, some_ms: u64) -> Detail {
        let pressure = Pressure { some_us: some_ms * 1000, full_us: some_ms * 1000 };
        Detail { at: Instant(ms * 1_000_000), stat, pressure, threads: 1, ..Detail::default() }
    }

    #[test]
    fn growth_is_need_or_cache() {
        let new = MemoryStat::default();
        let reader = MemoryStat { pgscan: 1000, pgsteal: 999, workingset_activate_file: 2, ..stat(4, 60) };
        let thrash = MemoryStat { workingset_activate_file: 900, ..reader };
        let futile = MemoryStat { pgsteal: 20, ..reader };
        let barely = MemoryStat { pgscan: 135, pgsteal: 71, ..reader };
        let swapper = MemoryStat { workingset_refault_anon: 256, ..reader };
        let table = [
            ("a new grower", new, stat(64, 0), 0, "need_grew"),
            ("a new reader", new, stat(4, 60), 0, "cache"),
            ("anon among cache", stat(4, 60), stat(6, 58), 0, "need_grew"),
            ("less than noise", stat(4, 60), detail(0, stat(4, 60), 0).stat, 0, "cache"),
            ("half of the limit", stat(32, 30), stat(32, 32), 0, "need_grew"),
            ("a reader that waits in cheap reclaim", stat(4, 60), reader, 60, "cache"),
            ("cheap refaults", stat(4, 60), thrash, 5, "cache"),
            ("refaults that are waited for", stat(4, 60), thrash, 15, "refaults_rose"),
            ("swapping in", stat(4, 60), swapper, 0, "refaults_rose"),
            ("waiting in vain", stat(4, 60), futile, 25, "stall_rose"),
            ("a first look at a large folio", stat(4, 60), barely, 56, "cache"),
            ("waiting without reclaim", stat(4, 60), stat(4, 60), 60, "stall_rose"),
        ];
        for (name, before, after, waited, verdict) in table {
            let (last, now) = (detail(1000, stat(4, 60), 0), detail(1100, after, waited));
            let got = match growth(Bytes::mib(64), &before, Some(&last), &now).judge(&Law::default()) {
                Verdict::Need(reason) => reason.as_str(),
                Verdict::Cache => "cache",
            };
            assert_eq!(got, verdict, "{name}");
        }
    }

    #[test]
    fn an_interval_that_went_back_says_nothing() {
        let (early, late) = (detail(0, stat(1, 1), 0), detail(100, stat(1, 1), 50));
        assert_eq!(Interval::between(&late, &early), Interval::default());
        assert!((Interval::between(&early, &late).some - 0.5).abs() < 1e-9);
    }
}
