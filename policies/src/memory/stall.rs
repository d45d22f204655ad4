//! The stall clock: a workload is never left parked at a limit that cannot be raised.
//!
//! # Why these signals
//! `memory.high` below what a workload needs is a livelock: throttled for ever, never killed. It shows as `full`
//! pressure, as reclaim that finds nothing, or as crossings that climb while use stays flat. None of them alone: a
//! full-speed reader waits in its own reclaim, which is `full` pressure if it has one thread. So it also takes need
//! at 90 % of the limit, or pressure while reclaim is not cheap. A held reader has neither, by construction.
//!
//! # When it acts
//! The clock starts with a hit at the ceiling, or with a grow that could not be had. A detail is read every 250 ms.
//! Bad time adds to the clock and good time takes away; at 2 s the decision is to fail: H = M, and the kernel ends the
//! workload cleanly. With the first detail that makes 2.3 to 2.8 s, of the 5 s allowed.
//!
//! # Protection at the start
//! The first detail is the baseline only. One long gap counts as two polls at most: a detail thread that was late
//! must not kill. A hold stops the clock: growth that is cache is well.
//!
//! # While others give
//! A squeeze that gives something for the workload pauses its clock, for two seconds in all: what dribbles in does not
//! keep anybody alive who cannot go on. Use that grows by a step between two details is no stall, whoever gave.
//!
//! # Where the kernel sees no end
//! With the tripwire out of the way the kernel ends a workload when reclaim finds nothing. It finds something as long as a page
//! of the workload's own programs is there, which is read back at once: that has gone on for minutes, with a core busy and
//! nothing done. So the clock starts anew. It counts time in which need is all but the whole of `memory.max`, nothing more
//! can be swapped out, and all the cache that is left was taken and read back many times between two details. Measured on
//! Linux 6.1: a storm of directories turns it over 400 times a second and gets nowhere; a reader of a file goes on at 50 MB/s
//! with 30. No pressure is asked for: most of the time is spent in reclaim and reading, of which little counts as waiting
//! (25 to 50 %). At 1.5 s the workload is ended, at most 5 s after the limit was in its way.
//!
//! # How it recovers
//! A granted grow stops it, but is taken for relief only when a second passes without another wait: where the part
//! was too small, the clock goes on from where it stood, and another bad detail ends it at the earliest. It stops, too, with a second without a hit and a clock run back to
//! zero. After a failure that the
//! workload survived (another process of it was killed) the tripwire is put back as soon as use fits below it.

use std::time::Duration;

use crate::decision::{Reason, Step};
use crate::evidence::Interval;
use crate::memory::law::{Law, ms};
use crate::memory::workload::{Phase, Workload};
use crate::sample::Detail;
use crate::signals::Signals;
use crate::units::{Bytes, Instant, PAGE};

/// A run of looks at a limit that cannot be raised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stall {
    /// Bad time less good time, ms; never negative.
    bad_ms: f64,
    /// Bad time that did not count, likewise.
    borne_ms: f64,
    /// Others gave for it since the last detail.
    is_helped: bool,
    /// The detail, crossings and use that the next detail is compared with.
    seen: Option<(Detail, u64, Bytes)>,
    next_detail: Instant,
}

/// Time without a hit after which a clock at zero stops.
const QUIET: Duration = Duration::from_secs(1);

impl Stall {
    /// A clock at zero.
    pub(crate) const fn new(now: Instant) -> Self {
        Self { bad_ms: 0.0, borne_ms: 0.0, is_helped: false, seen: None, next_detail: now }
    }

    /// Whether a detail is to be read now; the next one a poll later.
    pub(crate) fn is_due(&mut self, now: Instant, law: &Law) -> bool {
        let is_due = now >= self.next_detail;
        if is_due {
            self.next_detail = now.plus(ms(law.stall_poll_ms));
        }
        is_due
    }
}

impl Workload {
    /// Takes a detail into the stall clock, if it runs.
    pub(crate) fn wind(&mut self, detail: &Detail) {
        let step = self.law.step_min;
        let failed_at = self.is_failed().then_some(self.limits.max);
        let Some(stall) = &mut self.stall else { return };
        let (high, current) =
            self.window.last().map_or((0, Bytes::ZERO), |sample| (sample.events.high, sample.current));
        let Some((before, high_before, current_before)) = stall.seen else {
            stall.seen = Some((*detail, high, current));
            return;
        };
        let time = Interval::between(&before, detail);
        if time.ms > 0.0 && time.ms < self.law.stall_poll_ms as f64 / 2.0 {
            return;
        }
        let climbs_flat = high > high_before && current <= current_before.saturating_add(Bytes::MIB);
        let counted = time.ms.min(self.law.stall_poll_ms as f64 * 2.0);
        let advances = current >= current_before.saturating_add(step);
        let bad = match failed_at {
            Some(max) => is_thrashing(&self.law, max, &time, &before, detail),
            None => !advances && is_bad(&self.law, self.limits.high, &time, detail, climbs_flat),
        };
        let is_helped = std::mem::take(&mut stall.is_helped);
        if !bad {
            stall.bad_ms = (stall.bad_ms - counted).max(0.0);
            stall.borne_ms = (stall.borne_ms - counted).max(0.0);
        } else if is_helped && stall.borne_ms < self.law.stall_patience_ms as f64 {
            stall.borne_ms += counted;
        } else {
            stall.bad_ms += counted;
        }
        stall.seen = Some((*detail, high, current));
    }

    /// Others give for it: what it waits meanwhile does not count, for a while.
    pub const fn be_patient(&mut self) {
        if let Some(stall) = &mut self.stall {
            stall.is_helped = true;
        }
    }

    /// Whether the workload stalled for as long as is allowed.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stall.is_some_and(|stall| stall.bad_ms >= self.law.stall_ms as f64)
    }

    /// What the clock shows, ms.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative; saturates")]
    pub(crate) fn stalled_ms(&self) -> u64 {
        self.stall.map_or(0, |stall| stall.bad_ms as u64)
    }

    /// Starts and stops the clock, and adds to `step` the looks that it needs.
    pub(crate) fn attend(&mut self, signals: &Signals, step: &mut Step) {
        let cornered = self.is_at_ceiling() || self.wanted.is_some_and(|wanted| wanted.since < signals.at);
        if matches!(self.phase, Phase::Held(_)) {
            (self.stall, self.eased) = (None, None);
            return;
        }
        if !cornered {
            self.eased = self.stall.take().map(|stall| (stall, signals.at)).or(self.eased);
            return;
        }
        let quiet = self.last_hit.is_none_or(|hit| signals.at.since(hit) >= QUIET);
        match &mut self.stall {
            None if !quiet => {
                let eased = self.eased.take().filter(|(_, at)| signals.at.since(*at) < QUIET);
                let new = Stall::new(signals.at);
                // Nobody is ended by what was seen before the relief alone.
                let most = (self.law.stall_ms as f64 - 1.0).max(0.0);
                self.stall =
                    Some(eased.map_or(new, |(stall, _)| Stall { bad_ms: stall.bad_ms.min(most), ..stall }));
            }
            Some(stall) if quiet && stall.seen.is_some() && stall.bad_ms <= 0.0 => self.stall = None,
            None | Some(_) => {}
        }
        let Some(stall) = &mut self.stall else { return };
        if step.decision.reason == Reason::Calm {
            step.decision.reason = Reason::CeilingReached;
        }
        step.read_detail |= stall.is_due(signals.at, &self.law);
        let due = stall.next_detail.since(signals.at);
        step.look_again = Some(step.look_again.map_or(due, |look| look.min(due)));
    }

    /// Whether `memory.high` stands at the ceiling, to the page.
    pub(crate) fn is_at_ceiling(&self) -> bool {
        self.limits.high.0 + PAGE > self.bounds.ceiling.0
    }
}

fn is_bad(law: &Law, limit: Bytes, time: &Interval, detail: &Detail, climbs_flat: bool) -> bool {
    let cheap = time.scanned > 0 && time.efficiency >= law.cheap_reclaim;
    let futile = time.scanned > 0 && time.efficiency < law.stall_futile;
    let stalls = time.full > law.stall_full_share || futile || (climbs_flat && !cheap);
    let needs = detail.stat.need() >= limit.scale(law.stall_need_share);
    stalls && (needs || (time.some > law.pressure_share && !cheap))
}

/// Whether the cache of a workload at its `memory.max` was taken and came back again and again in this time.
fn is_thrashing(law: &Law, max: Bytes, time: &Interval, before: &Detail, detail: &Detail) -> bool {
    let (old, stat) = (&before.stat, &detail.stat);
    let taken = stat.pgsteal.saturating_sub(old.pgsteal);
    let came_back = stat.workingset_refault_file.saturating_sub(old.workingset_refault_file);
    // What comes in anew is a stream, and goes on.
    let is_again = came_back.saturating_mul(2) >= taken;
    let turns = taken as f64 * PAGE as f64 / stat.cache().0.max(PAGE) as f64;
    let may_go = detail.swap.room.min(stat.anon.saturating_add(stat.shmem));
    let is_full = stat.need().saturating_sub(may_go) >= max.scale(law.thrash_need_share);
    is_again && is_full && turns >= law.thrash_turns * time.ms / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{MemoryStat, Pressure, Sample};

    /// A workload at its limit that reads a detail each 250 ms, throttled all the time, and others give for it each time: when it
    /// has stalled for too long, ms.
    fn stalled_after(law: &Law, is_helped: bool, growth: Bytes) -> Option<u64> {
        let mut workload = Workload::new("32M..512M".parse().unwrap(), *law);
        workload.stall = Some(Stall::new(Instant(0)));
        (1..100_u64).map(|n| n * 250).find(|ms| {
            let at = Instant(ms * 1_000_000);
            let current = Bytes::mib(32).saturating_add(growth.scale(*ms as f64 / 250.0));
            let sample = Sample { at, current, ..Sample::default() };
            let _ = Signals::take(&mut workload.window, &sample);
            if is_helped {
                workload.be_patient();
            }
            let waited = Pressure { some_us: ms * 1000, full_us: ms * 1000 };
            let stat = MemoryStat { anon: current, ..MemoryStat::default() };
            workload.wind(&Detail { at, stat, pressure: waited, ..Detail::default() });
            workload.has_stalled()
        })
    }

    #[test]
    fn what_dribbles_in_does_not_keep_anybody_waiting() {
        let law = Law::default();
        let (alone, helped) =
            (stalled_after(&law, false, Bytes::ZERO), stalled_after(&law, true, Bytes::ZERO));
        assert_eq!((alone, helped), (Some(2250), Some(4250)), "of the 5 s allowed");
        assert_eq!(stalled_after(&law, true, Bytes::mib(1)), helped, "a part that changes nothing");
        assert_eq!(stalled_after(&law, true, law.step_min), None, "it goes on");
    }

    #[test]
    fn what_is_bad() {
        let full = Interval { ms: 250.0, some: 0.9, full: 0.9, ..Interval::default() };
        let cheap = Interval { scanned: 1000, efficiency: 0.99, ..full };
        let futile = Interval { scanned: 1000, efficiency: 0.01, some: 0.0, full: 0.0, ..full };
        let idle = Interval { ms: 250.0, ..Interval::default() };
        let table = [
            ("parked on need", full, 60, false, true),
            ("parked, little need, nothing to reclaim", full, 10, false, true),
            ("a reader waiting in cheap reclaim", cheap, 10, true, false),
            ("need that fills the limit and waits", cheap, 60, false, true),
            ("futile reclaim on need", futile, 60, false, true),
            ("futile reclaim that nobody waits for", futile, 10, false, false),
            ("crossings climb on need", idle, 60, true, true),
            ("crossings climb without pressure", idle, 10, true, false),
            ("need that rests", idle, 60, false, false),
        ];
        for (name, time, need, climbs_flat, bad) in table {
            let stat = MemoryStat { anon: Bytes::mib(need), ..MemoryStat::default() };
            let detail = Detail { stat, ..Detail::default() };
            assert_eq!(is_bad(&Law::default(), Bytes::mib(64), &time, &detail, climbs_flat), bad, "{name}");
        }
    }

    #[test]
    fn what_thrashes() {
        // A quarter of a second at 64 MiB: all but so many KiB are needed, so many KiB of cache were taken, and so many came back.
        let is_thrash = |rest: u64, cache: u64, taken: u64, back: u64, swap: Bytes| {
            let (file, pages) = (Bytes(cache << 10), |kib: u64| (kib << 10) / PAGE);
            let (anon, need) = (Bytes::mib(10), Bytes((64 << 20) - (rest << 10)));
            let stat = MemoryStat {
                anon,
                active_anon: anon,
                kernel: need.saturating_sub(anon),
                file,
                inactive_file: file,
                pgsteal: pages(taken),
                workingset_refault_file: pages(back),
                ..MemoryStat::default()
            };
            let swap = crate::sample::Swap { room: swap, ..Default::default() };
            let detail = Detail { at: Instant(250_000_000), stat, swap, ..Detail::default() };
            let (law, before) = (Law::default(), Detail::default());
            is_thrashing(&law, Bytes::mib(64), &Interval::between(&before, &detail), &before, &detail)
        };
        let none = Bytes::ZERO;
        let table = [
            ("its own program, again and again", (300, 200, 16_000, 15_000, none), true),
            ("a stream through what is left", (300, 200, 16_000, 2000, none), false),
            ("slowly", (300, 200, 2000, 2000, none), false),
            ("cache to go on with", (4000, 200, 16_000, 16_000, none), false),
            ("what can be swapped out", (300, 200, 16_000, 16_000, Bytes::mib(100)), false),
            ("nothing taken", (300, 200, 0, 0, none), false),
        ];
        for (name, (need, cache, taken, back, swap), thrashes) in table {
            assert_eq!(is_thrash(need, cache, taken, back, swap), thrashes, "{name}");
        }
    }
}
