//! A shadow: what the kernel would have shown of an observed workload, had its limits been written.
//!
//! Problem: an observed workload stands open. Nothing throttles it, no limit is met, and no event is counted; the laws, which
//! hear of little else, would think that all is well. Approach: the laws stay as they are, and are shown samples and details as
//! the kernel would have made them. C is use, H the `memory.high` that would have been written.
//!
//! ```text
//! C above H          a charge would have crossed it: one crossing for each look that finds it so
//!                    clean page cache above H would have been reclaimed: it counts as gone, as long as it is there in fact
//! H lowered          the same, without a crossing: the writer would have reclaimed it
//! memory.reclaim     cache would have been taken: it counts as gone
//! memory.stat        less what counts as gone, the coldest first; each page of it looked at once and taken
//! ```
//!
//! # What it cannot know
//! What limits would have done to the workload: pages that would have come back (they never left), time that would have been
//! waited, growth that throttling would have slowed, memory that would have been swapped out. And nothing calls for a look: use
//! between two looks is not seen.

use crate::sample::{Detail, Sample};
use crate::units::{Bytes, PAGE};

/// What would have become of one workload's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shadow {
    /// Use, at the last look.
    current: Bytes,
    /// Need and clean page cache, at the last look into `memory.stat`.
    need: Bytes,
    cache: Bytes,
    /// Cache that would be gone by now, and is there.
    gone: Bytes,
    /// Pages that would have been reclaimed, in sum.
    reclaimed: u64,
    /// Crossings that would have been counted, in sum.
    crossings: u64,
}

impl Shadow {
    /// The sample that would have been taken under `high`.
    #[must_use]
    pub fn sample(&mut self, high: Bytes, real: &Sample) -> Sample {
        self.current = real.current;
        // What the workload gave up by itself, or the kernel took, is missing no more; need is the last to go.
        self.gone = self.gone.min(real.current.saturating_sub(self.need));
        if self.left() > high {
            self.crossings += 1;
            self.lowered(high);
        }
        let mut seen = Sample { current: self.left(), ..*real };
        seen.events.high = seen.events.high.saturating_add(self.crossings);
        seen
    }

    /// The detail that would have been read.
    #[must_use]
    pub fn detail(&mut self, real: &Detail) -> Detail {
        let mut stat = real.stat;
        (self.need, self.cache) = (stat.need(), stat.cache());
        self.gone = self.gone.min(self.cache);
        let cold = self.gone.min(stat.inactive_file);
        stat.inactive_file = stat.inactive_file.saturating_sub(cold);
        stat.active_file = stat.active_file.saturating_sub(self.gone.saturating_sub(cold));
        stat.file = stat.file.saturating_sub(self.gone);
        stat.pgscan = stat.pgscan.saturating_add(self.reclaimed);
        stat.pgsteal = stat.pgsteal.saturating_add(self.reclaimed);
        Detail { stat, ..*real }
    }

    /// `memory.high` would have been lowered to `high`.
    pub fn lowered(&mut self, high: Bytes) {
        self.reclaim(self.left().saturating_sub(high));
    }

    /// So much would have been asked for by `memory.reclaim`.
    pub fn reclaim(&mut self, bytes: Bytes) {
        let taken = bytes.min(self.cache.saturating_sub(self.gone));
        self.gone = self.gone.saturating_add(taken);
        self.reclaimed = self.reclaimed.saturating_add(taken.0 / PAGE);
    }

    /// Use without what counts as gone.
    fn left(&self) -> Bytes {
        self.current.saturating_sub(self.gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Reason, Verb};
    use crate::guard::{Plan, plan, settle};
    use crate::memory::{Law, Workload};
    use crate::sample::MemoryStat;
    use crate::units::Instant;
    use crate::{Budget, Limits, step};

    const MIB: fn(u64) -> Bytes = Bytes::mib;

    fn sample(ms: u64, mib: u64) -> Sample {
        Sample { at: Instant(ms * 1_000_000), current: MIB(mib), ..Sample::default() }
    }

    fn detail(ms: u64, anon: u64, cache: u64) -> Detail {
        let stat = MemoryStat {
            anon: MIB(anon),
            file: MIB(cache),
            inactive_file: MIB(cache / 2),
            active_file: MIB(cache - cache / 2),
            ..MemoryStat::default()
        };
        Detail { at: Instant(ms * 1_000_000), stat, threads: 1, ..Detail::default() }
    }

    #[test]
    fn cache_above_the_limit_counts_as_gone_and_need_does_not() {
        let mut shadow = Shadow::default();
        assert_eq!(shadow.sample(MIB(64), &sample(0, 60)).events.high, 0, "below");
        let _ = shadow.detail(&detail(1, 40, 20));
        // 30 more, of which it is not known yet what they are: only known cache can be gone.
        let seen = shadow.sample(MIB(64), &sample(2, 90));
        assert_eq!((seen.current, seen.events.high), (MIB(70), 1));
        // It was cache.
        let told = shadow.detail(&detail(3, 40, 50));
        assert_eq!((told.stat.need(), told.stat.cache()), (MIB(40), MIB(30)));
        assert_eq!((told.stat.pgscan, told.stat.pgsteal), (MIB(20).0 / PAGE, MIB(20).0 / PAGE));
        let seen = shadow.sample(MIB(64), &sample(4, 90));
        assert_eq!((seen.current, seen.events.high), (MIB(64), 2));
        assert_eq!(shadow.sample(MIB(64), &sample(5, 90)).events.high, 2, "the kernel would have made room");
        // Lowered: reclaimed, and nobody crossed it. Need stays, whatever is asked for.
        shadow.lowered(MIB(50));
        let seen = shadow.sample(MIB(50), &sample(6, 90));
        assert_eq!((seen.current, seen.events.high), (MIB(50), 2));
        shadow.reclaim(MIB(1000));
        let seen = shadow.sample(MIB(50), &sample(7, 90));
        assert_eq!((seen.current, seen.events.high), (MIB(40), 2));
        // The host took the cache: what was gone on paper is gone indeed.
        assert_eq!(shadow.sample(MIB(50), &sample(8, 45)).current, MIB(40));
        assert_eq!(shadow.sample(MIB(50), &sample(9, 30)).current, MIB(30));
    }

    /// What a law does that is shown a shadow, look by look: the limits that it would have set.
    fn follow(uses: impl Fn(u64) -> (u64, u64), ms: u64) -> (Vec<(Verb, Reason)>, Workload) {
        let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
        let mut workload = Workload::new("32M..512M".parse().unwrap(), Law::default());
        let (mut shadow, mut moves) = (Shadow::default(), Vec::new());
        let (mut due, mut read_detail) = (0, false);
        for now in 0..ms {
            let (anon, cache) = uses(now);
            if std::mem::take(&mut read_detail) {
                workload.observe(&shadow.detail(&detail(now, anon, cache)));
                due = now;
            }
            if now < due && now % 1000 > 0 {
                continue;
            }
            let seen = shadow.sample(workload.limits().high, &sample(now, anon + cache));
            let look = step(&mut workload, &seen);
            due = look.look_again.map_or(ms, |after| now + u64::try_from(after.as_millis()).unwrap());
            read_detail = look.read_detail;
            let planned = plan(&workload, look.decision, &mut budget);
            settle(&planned, &mut budget);
            match planned {
                Plan::Write { verb, to, reason, .. } => {
                    workload.commit(to, seen.at);
                    shadow.lowered(to.high);
                    moves.push((verb, reason));
                }
                Plan::Reclaim { bytes, .. } => {
                    shadow.reclaim(bytes);
                    workload.reclaimed(seen.at);
                }
                Plan::Nothing { .. } => {}
            }
        }
        (moves, workload)
    }

    #[test]
    fn the_law_follows_a_need_that_nothing_tells_of() {
        // 100 MiB at once, five seconds later; it stays.
        let (moves, workload) = follow(|now| (if now < 5000 { 20 } else { 120 }, 0), 60_000);
        assert!(moves.iter().any(|(verb, _)| *verb == Verb::Grow), "{moves:?}");
        let Limits { high, .. } = workload.limits();
        assert!(high > MIB(120) && high < MIB(200), "{high}");
        assert!(moves.len() < 20, "it comes to rest: {moves:?}");
    }

    #[test]
    fn a_reader_is_held_and_comes_to_rest() {
        // 1 MiB of cache each 10 ms, up to 2 GiB, beside a need of 16 MiB.
        let (moves, workload) = follow(|now| (16, (now / 10).min(2048)), 60_000);
        assert!(workload.limits().high < MIB(128), "{}", workload.limits());
        assert!(moves.len() < 60, "{moves:?}");
    }

    #[test]
    fn a_need_above_the_ceiling_would_have_been_failed_once() {
        let (moves, workload) = follow(|now| (if now < 2000 { 20 } else { 600 }, 0), 30_000);
        let failed = moves.iter().filter(|(verb, _)| *verb == Verb::Fail).count();
        assert_eq!((failed, workload.is_failed()), (1, true), "{moves:?}");
    }
}
