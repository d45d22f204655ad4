//! Cold memory: a little page cache at a time, as long as nobody notices.
//!
//! # Why these signals
//! That a page is cold shows only when it is taken. So very little is taken, and pressure is watched: time in which some
//! task waited for memory, or for I/O, where files that were taken too early are waited for. Pages that came back
//! (refaults per page taken) and pages that were looked at in vain say the same before anybody waits.
//!
//! # When it acts
//! Every 6 s, 0.05 % of use less what pressure there is, where all gates are open: no hit and no raise for 30 s;
//! `some` pressure of memory and I/O below 0.1 % over 10 s and over 60 s; 99 of 100 pages taken stay away; 60 of 100
//! pages looked at are freed; and use stands at least 1 MiB above the floor and need with its margin. A detail is read
//! for each, so a workload that has nothing to give is asked again at the pace of the hold only.
//!
//! # Protection at the start
//! Nothing is taken within a minute of a launch or a takeover, nor before pressure is known for 60 s. Details are not read
//! to the second: what was waited since one that is old enough counts as if it were of the last 10 s or 60 s, so that it
//! is never too little. How reclaim fared is judged from 1 MiB on; one page of twenty that comes back says nothing.
//!
//! # How it recovers
//! A wasteful reclaim, or a raise soon after one, doubles the hold, up to 10 minutes. After it 1 MiB is tried, or the
//! gate would never open again. Limits are not moved here: what was given up is slack, and taken as such.

use std::time::Duration;

use crate::decision::{Reason, Step};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::backoff::Backoff;
use crate::memory::law::{Law, ms};
use crate::memory::swap;
use crate::memory::workload::Workload;
use crate::sample::{Detail, MemoryStat, Pressure};
use crate::signals::Signals;
use crate::units::{Bytes, Instant, PAGE};

/// What is remembered between reclaims.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reclaim {
    /// Nothing is asked for before this.
    next: Instant,
    backoff: Backoff,
    /// Reclaim was wasteful: the next one is a probe.
    closed: bool,
    /// What the plan under way takes, bytes.
    wanted: Bytes,
    /// What has been taken, or should have been, since `judged`, bytes.
    asked: Bytes,
    /// The counters that reclaim is judged against.
    judged: Option<Detail>,
    /// The last reclaim.
    done: Option<Instant>,
    short: Waits,
    long: Waits,
}

/// Two points in time, at least a span apart, between which waiting is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Waits {
    older: Option<Mark>,
    newer: Option<Mark>,
}

/// The `some` time of memory and of I/O, at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    at: Instant,
    memory: Pressure,
    io: Pressure,
}

impl Workload {
    /// Takes in that a [`crate::Plan::Reclaim`] was carried out, wholly or in part.
    pub fn reclaimed(&mut self, now: Instant) {
        self.shrink.pending = None;
        self.reclaim.done = Some(now);
        self.reclaim.asked = self.reclaim.asked.saturating_add(self.reclaim.wanted);
    }

    /// Takes the pressure of a detail into account.
    pub(crate) fn note_pressure(&mut self, detail: &Detail) {
        let mark = Mark { at: detail.at, memory: detail.pressure, io: detail.io };
        self.reclaim.short.push(mark, ms(self.law.reclaim_short_ms));
        self.reclaim.long.push(mark, ms(self.law.reclaim_long_ms));
    }

    /// A limit was raised at `now`: soon after a reclaim, that took what was needed.
    pub(crate) fn regrown(&mut self, now: Instant) {
        let soon = ms(self.law.regrow_soon_ms);
        if self.reclaim.done.take().is_some_and(|at| now.since(at) <= soon) {
            self.reclaim.backoff.relapse(&self.law, now);
        }
    }

    /// A reclaim was not carried out.
    pub(crate) fn put_off_reclaim(&mut self, now: Instant) {
        self.reclaim.next = now.plus(self.reclaim_hold(now));
    }

    /// Asks for a detail, or for a reclaim, if it is time.
    pub(crate) fn reclaim_cold(&mut self, signals: &Signals, step: &mut Step) {
        let now = signals.at;
        let least = self.bounds.floor.saturating_add(self.law.reclaim_probe);
        if self.law.reclaim_factor <= 0.0 || signals.current < least || now < self.reclaim.next {
            return;
        }
        let disturbed = self.shrink.raised.max(self.last_hit.unwrap_or_default());
        if now.since(disturbed) < self.reclaim_hold(now) {
            // What the kernel reclaimed by itself at a limit says nothing about ours.
            self.reclaim.judged = None;
            return;
        }
        if self.shrink.born.is_none_or(|born| now.since(born) < ms(self.law.reclaim_grace_ms)) {
            return;
        }
        let Some(detail) = self.fresh_detail(now, step) else { return };
        let law = self.law;
        self.reclaim.next = now.plus(ms(law.reclaim_period_ms));
        let known = self.evidence(MemoryLaw::Reclaim);
        if self.reclaim.has_wasted(&law, &detail) || known.spare(&law) < law.reclaim_probe {
            self.reclaim.closed = true;
            self.reclaim.backoff.relapse(&law, now);
            self.put_off_reclaim(now);
            return;
        }
        let Some(waits) = self.reclaim.pressure(&law, &detail) else { return };
        if waits >= law.reclaim_pressure {
            self.reclaim.next = now.plus(ms(law.reclaim_long_ms));
            return;
        }
        let (formula, reason) = if self.reclaim.closed {
            (MemoryLaw::Probe, Reason::ReclaimProbed)
        } else {
            (MemoryLaw::Reclaim, Reason::ColdReclaimed)
        };
        let decision = Evidence { law: formula, waits, ..known }.decide(&law, reason);
        if decision.reclaim > Bytes::ZERO {
            self.reclaim.closed = false;
            self.reclaim.wanted = decision.reclaim;
            self.shrink.pending = Some(now);
            step.decision = decision;
        }
    }

    fn reclaim_hold(&self, now: Instant) -> Duration {
        self.reclaim.backoff.hold(&self.law, self.law.reclaim_hold_ms, now)
    }
}

impl Reclaim {
    /// Whether reclaim since the last judgement was wasteful. Too little of it is not judged yet.
    fn has_wasted(&mut self, law: &Law, now: &Detail) -> bool {
        let refaults = |stat: &MemoryStat| stat.workingset_activate_file + stat.workingset_refault_anon;
        let Some(before) = self.judged.filter(|before| before.stat.pgscan <= now.stat.pgscan) else {
            self.judged = Some(*now);
            self.asked = Bytes::ZERO;
            return false;
        };
        let stolen = now.stat.pgsteal.saturating_sub(before.stat.pgsteal);
        let returned = refaults(&now.stat).saturating_sub(refaults(&before.stat)) as f64;
        // What was swapped out and is in RAM still, compressed, is no saving.
        let freed = swap::freed(stolen, swap::swapped_out(&before, now), now.kept_in_ram());
        // Where no list has a page that may go, nothing is even looked at.
        let scanned = (now.stat.pgscan - before.stat.pgscan).max(self.asked.0 / PAGE);
        if scanned.saturating_mul(PAGE) < law.reclaim_probe.0 {
            return false;
        }
        self.judged = Some(*now);
        self.asked = Bytes::ZERO;
        freed < scanned as f64 * law.reclaim_efficiency
            || returned > stolen as f64 * (1.0 - law.reclaim_accuracy)
    }

    /// The highest share of time in which some task waited; `None` while the long past is unknown.
    fn pressure(&self, law: &Law, detail: &Detail) -> Option<f64> {
        let short = self.short.share(detail, ms(law.reclaim_short_ms))?;
        let long = self.long.share(detail, ms(law.reclaim_long_ms))?;
        Some(short.max(long))
    }
}

impl Waits {
    fn push(&mut self, mark: Mark, span: Duration) {
        match self.newer {
            Some(newer) if mark.at.since(newer.at) < span => {}
            Some(_) | None => *self = Self { older: self.newer, newer: Some(mark) },
        }
    }

    /// The time that was waited since the older point, at least `span` ago, as a share of `span`.
    fn share(&self, detail: &Detail, span: Duration) -> Option<f64> {
        let older = self.older?;
        let memory = detail.pressure.some_us.checked_sub(older.memory.some_us)?;
        let io = detail.io.some_us.checked_sub(older.io.some_us)?;
        Some(memory.max(io) as f64 / span.as_micros().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Swap;

    #[test]
    fn waiting_is_counted_over_the_whole_span_at_least() {
        let span = Duration::from_secs(10);
        let detail = |second: u64, memory: u64, io: u64| Detail {
            at: Instant(second * 1_000_000_000),
            pressure: Pressure { some_us: memory, full_us: 0 },
            io: Pressure { some_us: io, full_us: 0 },
            ..Detail::default()
        };
        let mut waits = Waits::default();
        for (second, memory, io, share) in [
            (0, 500, 0, None),
            (6, 500, 0, None),
            (12, 10_500, 0, Some(0.001)),
            (18, 10_500, 20_000, Some(0.002)),
            (24, 10_500, 20_000, Some(0.002)),
            (36, 10_500, 20_000, Some(0.0)),
            (42, 0, 20_000, None),
        ] {
            let detail = detail(second, memory, io);
            waits.push(Mark { at: detail.at, memory: detail.pressure, io: detail.io }, span);
            assert_eq!(waits.share(&detail, span), share, "at {second} s");
        }
    }

    #[test]
    fn what_is_wasteful() {
        let law = Law::default();
        let detail = |pgscan, pgsteal, returned| {
            let stat =
                MemoryStat { workingset_activate_file: returned, pgscan, pgsteal, ..MemoryStat::default() };
            Detail { stat, ..Detail::default() }
        };
        let swapped = |pages, zram_permille| {
            let swap = Swap { used: Bytes(pages * PAGE), zram_permille, ..Swap::default() };
            Detail { swap, ..detail(256, 256, 0) }
        };
        let zswapped = |mut detail: Detail, zswap| {
            (detail.stat.zswapped, detail.stat.zswap) = (detail.swap.used, Bytes(zswap * PAGE));
            detail
        };
        for (name, asked, after, wasted) in [
            ("nothing happened", 0, detail(0, 0, 0), false),
            ("too little to tell", 64, detail(200, 10, 10), false),
            ("clean", 256, detail(256, 256, 2), false),
            ("pages come back", 256, detail(256, 256, 3), true),
            ("pages are looked at in vain", 256, detail(1000, 500, 0), true),
            ("there is nothing to look at", 256, detail(0, 0, 0), true),
            ("to a disk", 256, swapped(256, 0), false),
            ("to zram, three to one", 256, swapped(256, 333), false),
            ("to zram that saves little", 256, swapped(256, 600), true),
            ("a part of it", 256, swapped(128, 600), false),
            ("to zswap, three to one", 256, zswapped(swapped(256, 0), 86), false),
            ("to zswap that saves little", 256, zswapped(swapped(256, 0), 154), true),
        ] {
            let mut reclaim = Reclaim { judged: Some(detail(0, 0, 0)), ..Reclaim::default() };
            reclaim.asked = Bytes(asked * PAGE);
            assert_eq!(reclaim.has_wasted(&law, &after), wasted, "{name}");
        }
        let mut reclaim = Reclaim { judged: Some(detail(9000, 0, 0)), ..Reclaim::default() };
        assert!(!reclaim.has_wasted(&law, &detail(1000, 0, 0)), "another cgroup");
        assert!(reclaim.has_wasted(&law, &detail(2000, 0, 0)), "known from there on");
    }
}
