//! Slack: what a workload was granted and has not used for a while is taken back.
//!
//! C use, P its peak since the hold began, H `memory.high`, M `memory.max`, r the fastest growth in memory.
//!
//! ```text
//!   hold passed, H is worth it      fresh detail           H written, 50 ms without a hit
//!   ------------------------> ask ---------------> lower H ------------------------------> lower M
//!   H' = max(floor, need + margin, P + max(4 MiB, 10 %, r x 100 ms))
//!   M' = max(H' + band, C + max(band, 10 %, r x 1 s), M of the launch)
//! ```
//!
//! # Why these signals
//! Time alone, and no pressure: H' is above use, so that lowering it reclaims nothing, and a busy database does not
//! ratchet upwards for ever. The peak of the whole hold counts and not the use of the moment, or a look into a trough
//! would take what the next crest needs. Growth is remembered for minutes, since M must leave it a second of room.
//!
//! # When it acts
//! 10 s after the last raise, hit or shrink, if at least 4 MiB and 5 % are saved; else the hold begins anew. A detail is
//! read only then, so that a workload at its floor, or below, costs nothing. M follows H once that has settled, or by
//! itself where H needs no lowering: after a step that was taken back, a release or a takeover. A held reader meets H
//! all the time, by choice: it keeps H, and M comes down without regard to hits. M of the launch is left as it is.
//!
//! # Protection at the start
//! No slack is taken within 10 s of a launch or a takeover. One thing at a time: nothing is asked for while a plan is
//! under way, and none where a grow is wanted, a stall is timed, or growth is watched.
//!
//! # How it recovers
//! A raise within a minute of a shrink was a relapse: the hold doubles, up to 10 minutes, and so becomes longer than
//! the workload's period; then the peak covers it, and nothing is written any more. A plan that was given up waits for
//! another hold.

use std::time::Duration;

use crate::decision::{Decision, Limits, Reason, Step};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::backoff::Backoff;
use crate::memory::law::{Law, ms};
use crate::memory::workload::{Phase, Workload};
use crate::sample::Detail;
use crate::signals::Signals;
use crate::units::{Bytes, Instant};

/// What is remembered between shrinks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shrink {
    /// The first look, or the takeover.
    pub(crate) born: Option<Instant>,
    /// The last raise of a limit.
    pub(crate) raised: Instant,
    /// The present hold began here; a hit begins it anew as well.
    since: Instant,
    /// Highest use since then.
    peak: Bytes,
    /// The fastest growth seen, bytes per second, and when: it is forgotten by halves.
    fastest: (u64, Instant),
    backoff: Backoff,
    /// A plan that has not come back.
    pub(crate) pending: Option<Instant>,
    /// A detail that was asked for.
    asked: Option<Instant>,
    /// The last shrink, until a raise.
    lowered: Option<Instant>,
    /// `memory.high` was lowered, and `memory.max` is to follow.
    settling: Option<Instant>,
}

/// The room that a lowered `memory.max` has to leave above use. Handed to whoever writes it, to be held against the use
/// of that moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// At least this, bytes.
    pub least: Bytes,
    /// At least this share of use.
    pub share: f64,
}

impl Room {
    /// The lowest `memory.max` that may be written at a use of `current`, bytes.
    #[must_use]
    pub fn above(&self, current: Bytes) -> Bytes {
        current.saturating_add(self.least.max(current.scale(self.share)))
    }
}

impl Workload {
    /// The room that a lowered `memory.max` has to leave above use: the least band, a share of use, and growth at the
    /// fastest rate in memory until the workload could be helped.
    #[must_use]
    pub fn room(&self) -> Room {
        self.evidence(MemoryLaw::Hold).room(&self.law)
    }

    /// The fastest growth in memory, bytes per second: that of the last second, or an earlier one, half forgotten for each
    /// minute that has passed.
    #[must_use]
    pub fn fastest_growth(&self) -> u64 {
        let now = self.now();
        self.shrink.fastest(&self.law, now).max(self.window.rate(now))
    }

    /// Takes in that a shrink or a reclaim was given up, cancelled, or failed. The next is decided after a whole hold.
    pub fn shrink_refused(&mut self, now: Instant) {
        self.shrink.forget_plan();
        self.shrink.restart(now, self.current());
        self.put_off_reclaim(now);
    }

    /// Looks for slack, and for cold memory, after a look that came to hold.
    pub(crate) fn ease(&mut self, signals: &Signals, step: &mut Step) {
        let now = signals.at;
        self.shrink.born.get_or_insert(now);
        self.shrink.peak = self.shrink.peak.max(signals.current);
        self.shrink.remember(&self.law, now, signals.rate);
        let hold = ms(self.law.slack_hold_ms);
        let busy = self.shrink.pending.is_some_and(|since| now.since(since) < hold);
        let grows = matches!(self.phase, Phase::Hot(_)) || self.wanted.is_some() || self.stall.is_some();
        if busy || grows {
            return;
        }
        if let Some(decision) = self.take_slack(now, step) {
            self.shrink.pending = Some(now);
            step.decision = decision;
        } else if self.phase == Phase::Calm {
            self.reclaim_cold(signals, step);
        }
    }

    /// Takes in limits that were written: `from` is what they were, `governed` whether they were in force.
    pub(crate) fn moved(&mut self, from: Limits, governed: bool, now: Instant) {
        let to = self.limits;
        let at = self.window.last().map_or(now, |sample| sample.at);
        self.shrink.remember(&self.law, at, self.window.rate(at));
        self.shrink.restart(now, self.current());
        self.shrink.settling = None;
        let is_ours = self.shrink.pending.take().is_some();
        if to.high > from.high || to.max > from.max {
            self.shrink.raised = now;
            let soon = ms(self.law.regrow_soon_ms);
            if self.shrink.lowered.take().is_some_and(|at| governed && now.since(at) <= soon) {
                self.shrink.backoff.relapse(&self.law, now);
            }
            if governed {
                self.regrown(now);
            }
        } else if is_ours {
            self.shrink.lowered = Some(now);
            self.shrink.settling = (to.high < from.high).then_some(now);
        }
    }

    /// The detail of this very turn, if there is one. Asks for it otherwise, unless it is on its way.
    pub(crate) fn fresh_detail(&mut self, now: Instant, step: &mut Step) -> Option<Detail> {
        let fresh = ms(self.law.detail_fresh_ms);
        let detail = self.detail.filter(|detail| now.since(detail.at) <= fresh);
        if detail.is_none() && self.shrink.asked.is_none_or(|at| now.since(at) > fresh) {
            self.shrink.asked = Some(now);
            step.read_detail = true;
        }
        detail
    }

    fn take_slack(&mut self, now: Instant, step: &mut Step) -> Option<Decision> {
        let is_held = matches!(self.phase, Phase::Held(_));
        let hit = if is_held { None } else { self.last_hit };
        if let Some(written) = self.shrink.settling {
            let left = ms(self.law.settle_ms).saturating_sub(now.since(written));
            if !left.is_zero() {
                step.look_again = Some(step.look_again.map_or(left, |look| look.min(left)));
                return None;
            }
            self.shrink.settling = None;
            if hit.is_none_or(|hit| hit <= written) {
                return self.take_band();
            }
        }
        let born = self.shrink.born.unwrap_or(now);
        let begun = self.shrink.since.max(born).max(hit.unwrap_or_default());
        let hold = self.shrink.backoff.hold(&self.law, self.law.slack_hold_ms, now);
        if now.since(begun) < hold || now.since(born) < ms(self.law.slack_grace_ms) {
            return None;
        }
        let slack = Evidence {
            peak: self.shrink.peak,
            held_ms: millis(now.since(begun)),
            hold_ms: millis(hold),
            ..self.evidence(MemoryLaw::Slack)
        };
        // Not worth a detail where even without any need there is nothing to save.
        let most = Evidence { need: Bytes::ZERO, ..slack };
        if !is_held && self.is_saving(self.limits.high, most.slack_high(&self.law)) {
            self.fresh_detail(now, step)?;
            let decision = slack.decide(&self.law, Reason::SlackTaken);
            if self.is_saving(self.limits.high, decision.want.high) {
                step.look_again = Some(ms(self.law.settle_ms * 2));
                return Some(decision);
            }
        }
        let band = self.take_band();
        if band.is_none() {
            self.shrink.restart(now, self.current());
        }
        band
    }

    /// Lowers `memory.max` alone, if that is worth a write.
    fn take_band(&self) -> Option<Decision> {
        let decision = self.decide(MemoryLaw::Band, Reason::BandTaken);
        self.is_saving(self.limits.max, decision.want.max).then_some(decision)
    }

    fn is_saving(&self, now: Bytes, then: Bytes) -> bool {
        let least = self.law.slack_min.max(now.scale(self.law.slack_share));
        now.saturating_sub(then) >= least
    }
}

impl Shrink {
    /// The state of a workload found running at `now`, with this use.
    pub(crate) fn found(now: Instant, current: Bytes) -> Self {
        Self { born: Some(now), since: now, peak: current, ..Self::default() }
    }

    /// Begins a hold.
    pub(crate) fn restart(&mut self, now: Instant, current: Bytes) {
        self.since = now;
        self.peak = current;
    }

    /// Nothing is under way any more, and nothing is to follow.
    pub(crate) fn forget_plan(&mut self) {
        self.pending = None;
        self.settling = None;
    }

    fn remember(&mut self, law: &Law, now: Instant, rate: u64) {
        if rate > 0 && rate >= self.fastest(law, now) {
            self.fastest = (rate, now);
        }
    }

    /// What is left of the fastest growth, in a straight line between one half and the next: the same on every machine.
    fn fastest(&self, law: &Law, now: Instant) -> u64 {
        let (rate, at) = self.fastest;
        let half_life = ms(law.peak_half_life_ms.max(1)).as_nanos();
        let passed = now.since(at).as_nanos();
        let whole = u32::try_from(passed / half_life).unwrap_or(u32::MAX);
        let left = u128::from(rate.checked_shr(whole).unwrap_or(0));
        let lost = left * (passed % half_life) / (2 * half_life);
        u64::try_from(left - lost).unwrap_or(u64::MAX)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_forgotten_by_halves() {
        let law = Law::default();
        let second = |n: u64| Instant(n * 1_000_000_000);
        let mut shrink = Shrink::default();
        shrink.remember(&law, second(1), 1000);
        for (at, left) in [(1, 1000), (31, 750), (61, 500), (91, 375), (121, 250), (661, 0), (999_999, 0)] {
            assert_eq!(shrink.fastest(&law, second(at)), left, "after {at} s");
        }
        shrink.remember(&law, second(31), 700);
        assert_eq!(shrink.fastest(&law, second(61)), 500, "a slower growth does not count");
        shrink.remember(&law, second(61), 600);
        assert_eq!(shrink.fastest(&law, second(61)), 600, "one that is faster than what is left does");
    }

    #[test]
    fn room_is_a_share_of_use_or_a_least() {
        let room = Room { least: Bytes::mib(8), share: 0.1 };
        assert_eq!(room.above(Bytes::mib(50)), Bytes::mib(58));
        assert_eq!(room.above(Bytes::mib(200)), Bytes::mib(220));
    }
}
