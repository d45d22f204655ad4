//! One look at a workload: hit by hit, when its limits grow, are held, or are taken back.
//!
//! # Why these signals
//! Hits (`memory.events.local`) say that a limit was met; `memory.current` how fast use comes nearer to the next. Both
//! cost a few microseconds, so they are looked at on every event, and every 2 ms while it is hot: events come 12-20 ms
//! apart at best, and 1 GiB/s crosses the painless overage of a 256 MiB limit in 3 ms. What the growth is made of is
//! dear to know, and is asked for off this path.
//!
//! # When it acts
//! The first hit after calm grows at once and asks for a detail. A second step may go ahead of the verdict too; more
//! need it, since a reader fills cache as fast as a grower. With need proven it grows when a hit comes or use nears the
//! limit, without waiting for an event. A raise of less than a quarter step is not worth a write, and crossings counted
//! just before the last write are not a hit of the new limit. Growth found to be cache is held, and its step taken back: only
//! `memory.high` is lowered, never below need.
//!
//! # Protection at the start
//! A workload known to have clean cache of two steps and more gets one look (2 ms) of patience before its first step:
//! the kernel reclaims for it meanwhile. A verdict that never comes (50 ms) is worth one step each time, as leaving a
//! true grower throttled is worse than a step too many. A stale sample holds.
//!
//! # How it recovers
//! 20 ms without a hit or growth are calm, 250 ms where growth as fast as before would soon cross the limit. A held workload
//! is looked at on every event, but its details back off from 16 ms to 1 s, so that a churning reader costs nothing; while
//! need replaces its cache, reclaim stays cheap. When that ends, use rises above the limit: then a detail is read at once,
//! and, at most once per pause, a step granted.

use std::time::Duration;

use crate::decision::{Decision, Limits, Reason, Step, Verb};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::law::ms;
use crate::memory::verdict::Verdict;
use crate::memory::workload::{Episode, Hold, Mode, Phase, TakeBack, Wanted, Workload};
use crate::sample::{Detail, Sample};
use crate::signals::Signals;
use crate::units::{Bytes, Instant};

/// Looks at `workload`: the whole of [`crate::step`].
pub(crate) fn step(workload: &mut Workload, sample: &Sample) -> Step {
    let Some(mut signals) = Signals::take(&mut workload.window, sample) else {
        return workload.hold(Reason::SignalsStale, Some(ms(workload.law.hot_poll_ms)));
    };
    // Crossings that were counted between the last look and its write are an echo of the old limit.
    if let Some(room) = workload.fresh_room.take() {
        let left = workload.limits.high.saturating_sub(signals.current);
        signals.hit &= signals.hit_max || left.0 < room.0 / 2;
    }
    if signals.hit {
        workload.last_hit = Some(signals.at);
    }
    match workload.mode {
        Mode::Armed => {}
        Mode::Released => return workload.hold(Reason::LimitsReleased, None),
        Mode::Rearming(since) => return workload.put_back(&signals, since.unwrap_or(signals.at)),
        Mode::Failed => return workload.wait_for_end(&signals),
    }
    if workload.is_pinned {
        return workload.hold(if signals.hit { Reason::LimitPinned } else { Reason::Calm }, None);
    }
    if workload.has_stalled() {
        return workload.fail();
    }
    let mut step = match workload.phase {
        Phase::Calm => workload.look_calm(&signals),
        Phase::Hot(episode) => workload.look_hot(&signals, episode),
        Phase::Held(hold) => workload.look_held(&signals, hold),
    };
    workload.attend(&signals, &mut step);
    if step.decision.verb == Verb::Hold {
        workload.ease(&signals, &mut step);
    }
    step
}

impl Workload {
    fn look_calm(&mut self, signals: &Signals) -> Step {
        self.wanted = None;
        if !signals.hit {
            return self.hold(Reason::Calm, None);
        }
        let mut episode = self.begin(signals.at);
        let plenty = self.step_size(signals, MemoryLaw::Grow).0.saturating_mul(2);
        let cached = self.detail.filter(|detail| {
            signals.at.since(detail.at) <= ms(self.law.detail_fresh_ms) && detail.stat.cache().0 >= plenty
        });
        if cached.is_some() {
            episode.patient_until = signals.at.plus(ms(self.law.hot_poll_ms));
        }
        let step = self.press(signals, &mut episode, true);
        self.phase = Phase::Hot(episode);
        Step { read_detail: true, ..step }
    }

    fn look_hot(&mut self, signals: &Signals, mut episode: Episode) -> Step {
        match self.verdict.take() {
            Some(Verdict::Cache) => return self.begin_hold(signals.at, &episode),
            Some(Verdict::Need(reason)) => {
                episode.base = self.limits.high;
                episode.verdict_used &= episode.need.is_some();
                episode.need = Some(reason);
                episode.ahead = 0;
            }
            None => {}
        }
        if signals.hit || signals.rises {
            episode.last_active = signals.at;
        }
        let quiet = signals.at.since(episode.last_active);
        // A step that nobody has judged is not forgotten: it would never be taken back.
        let overdue = ms(self.law.verdict_timeout_ms);
        let awaits = episode.need.is_none() && (quiet < overdue || episode.ahead > 0);
        let calm = ms(self.law.calm_ms);
        let may_go_on = quiet >= calm && self.may_go_on(signals, quiet);
        if quiet >= calm && !awaits && !may_go_on && !self.is_pressed_in_vain(signals) {
            self.phase = Phase::Calm;
            return self.look_calm(signals);
        }
        let near =
            signals.hit || self.wanted.is_some() || (signals.rises && self.is_near(signals, episode.law()));
        let mut step = self.press(signals, &mut episode, near);
        // An unanswered request is repeated; a proven need is proven again while it goes on growing.
        let gap = if episode.need.is_some() { self.law.detail_gap_ms } else { self.law.calm_ms };
        if signals.at.since(episode.detail_asked) >= ms(gap) && (episode.need.is_none() || near) {
            episode.detail_asked = signals.at;
            step.read_detail = true;
        }
        if step.decision.reason == Reason::RoomLeft {
            if may_go_on {
                step.look_again = Some(calm / 2);
            } else if quiet >= overdue {
                step.look_again = Some(overdue);
            }
        }
        self.phase = Phase::Hot(episode);
        step
    }

    fn look_held(&mut self, signals: &Signals, mut hold: Hold) -> Step {
        let pause = ms(hold.pause_ms);
        match self.verdict.take() {
            Some(Verdict::Need(reason)) => {
                let mut episode = self.begin(signals.at);
                episode.need = Some(reason);
                let near = signals.hit || self.is_near(signals, episode.law());
                let step = self.press(signals, &mut episode, near);
                self.phase = Phase::Hot(episode);
                return step;
            }
            Some(Verdict::Cache) => {
                hold.pause_ms = (hold.pause_ms * 2).min(self.law.hold_max_ms);
                hold.next_detail = signals.at.plus(ms(hold.pause_ms));
            }
            None => {}
        }
        let quiet = self.last_hit.map_or(Duration::MAX, |hit| signals.at.since(hit));
        if quiet >= ms(self.law.hold_forget_ms) {
            self.phase = Phase::Calm;
            return self.hold(Reason::Calm, None);
        }
        let mut read_detail = signals.hit && signals.at >= hold.next_detail;
        // Cache stands a little above the limit too, by charges under way: that is worth a detail, not a step.
        let overage = signals.current.saturating_sub(self.limits.high);
        let settled = signals.at >= hold.settled_at;
        let least = self.limits.high.scale(self.law.overage_share).max(self.law.overage_min);
        if signals.hit_max || (settled && overage > least) {
            let gap = self.law.detail_gap_ms.max(hold.pause_ms / 8);
            read_detail |= signals.at.since(hold.detail_asked) >= ms(gap);
            let far = overage.0 > least.0.saturating_mul(self.law.overage_far);
            if (signals.hit_max || far) && signals.at >= hold.next_ahead {
                return self.leave_hold(signals, &hold);
            }
        }
        if read_detail {
            hold.detail_asked = signals.at;
            hold.next_detail = signals.at.plus(pause);
        }
        let again = hold.take_back.filter(|_| signals.hit && signals.at >= hold.next_ahead);
        if again.is_some() {
            hold.next_ahead = signals.at.plus(ms(self.law.hold_max_ms));
        }
        self.phase = Phase::Held(hold);
        let look = (quiet < ms(self.law.hold_max_ms)).then_some(pause.max(ms(self.law.calm_ms)));
        let step =
            again.map_or_else(|| self.hold(Reason::CacheHeld, look), |back| self.take_back(back, look));
        Step { read_detail, ..step }
    }

    /// Use rose above a held limit, which cache does not do: one step ahead of the verdict.
    fn leave_hold(&mut self, signals: &Signals, hold: &Hold) -> Step {
        let mut episode = self.begin(signals.at);
        episode.ahead = self.law.steps_ahead.saturating_sub(1);
        episode.hold_ms = (hold.pause_ms * 2).min(self.law.hold_max_ms);
        let step = self.press(signals, &mut episode, true);
        self.phase = Phase::Hot(episode);
        Step { read_detail: true, ..step }
    }

    fn begin(&mut self, now: Instant) -> Episode {
        self.verdict = None;
        Episode {
            base: self.limits.high,
            need: None,
            verdict_used: false,
            ahead: 0,
            patient_until: now,
            last_active: now,
            last_grow: now,
            detail_asked: now,
            hold_ms: self.law.hold_first_ms,
        }
    }

    /// What grew was cache: holds, and takes back what was granted since need was last certain.
    fn begin_hold(&mut self, now: Instant, episode: &Episode) -> Step {
        let (base, need) = (episode.base, self.detail.map_or(Bytes::ZERO, |detail| detail.stat.need()));
        let high =
            Evidence { base, base_need: need, ..self.evidence(MemoryLaw::TakeBack) }.certain_high(&self.law);
        let take_back = (high < self.limits.high).then_some(TakeBack { base, need, high });
        let pause = ms(episode.hold_ms);
        self.wanted = None;
        self.phase = Phase::Held(Hold {
            pause_ms: episode.hold_ms,
            next_detail: now.plus(pause),
            detail_asked: now,
            next_ahead: now.plus(pause.max(ms(self.law.settle_ms))),
            settled_at: now.plus(ms(self.law.settle_ms)),
            take_back,
        });
        let look = Some(pause.max(ms(self.law.calm_ms)));
        take_back.map_or_else(|| self.hold(Reason::CacheHeld, look), |back| self.take_back(back, look))
    }

    fn take_back(&self, back: TakeBack, look_again: Option<Duration>) -> Step {
        let known = self.evidence(MemoryLaw::TakeBack);
        let evidence = Evidence { base: back.base, base_need: back.need, ..known };
        let decision = evidence.decide(&self.law, Reason::CacheTakenBack);
        Step { decision, look_again, read_detail: false }
    }

    /// Grows if the limit is near, a raise is worth a write, and the verdict allows it.
    fn press(&mut self, signals: &Signals, episode: &mut Episode, near: bool) -> Step {
        let hot = Some(ms(self.law.hot_poll_ms));
        let further = self.last_press.is_some_and(|last| signals.at.since(last) <= ms(self.law.streak_ms));
        if !further {
            self.streak = 0;
        }
        let grow = self.decide(episode.law(), Reason::GrowthContinued);
        if !near || !self.is_worth(grow.want) {
            let at_ceiling = near && self.is_at_ceiling();
            self.wanted = None;
            if at_ceiling {
                // The band may have been cut by the jump rule on the way up; it costs no grant, and saves from a kill.
                if grow.want.max >= self.limits.max.saturating_add(self.law.band_min) {
                    let decision = Decision { reason: Reason::CeilingReached, ..grow };
                    return Step { decision, look_again: hot, read_detail: false };
                }
                return self.hold(Reason::CeilingReached, Some(ms(self.law.deferred_poll_ms)));
            }
            return self.hold(Reason::RoomLeft, hot);
        }
        let overdue = signals.at.since(episode.last_grow) >= ms(self.law.verdict_timeout_ms);
        let ahead = episode.ahead < self.law.steps_ahead && signals.at >= episode.patient_until;
        if episode.need.is_none() && !ahead && !overdue {
            return self.hold(Reason::VerdictAwaited, hot);
        }
        let pause = ms(self.law.deferred_poll_ms);
        let reason = match (self.wanted, episode.need) {
            (Some(wanted), _) if signals.at.since(wanted.asked) < pause => {
                return self.hold(
                    Reason::BudgetDeferred,
                    Some(pause.saturating_sub(signals.at.since(wanted.asked))),
                );
            }
            (Some(wanted), _) => wanted.reason,
            (None, Some(reason)) if !episode.verdict_used => reason,
            (None, None) if episode.base >= self.limits.high => Reason::TripwireHit,
            (None, _) => Reason::GrowthContinued,
        };
        if signals.hit && self.wanted.is_none() {
            self.last_press = Some(signals.at);
            self.streak += 1;
        }
        let look_again = if self.wanted.is_some() { Some(pause) } else { hot };
        let since = self.wanted.map_or(signals.at, |wanted| wanted.since);
        self.wanted = Some(Wanted { since, asked: signals.at, reason });
        Step { decision: Decision { reason, ..grow }, look_again, read_detail: false }
    }

    /// Whether growth that pauses would soon be at the limit if it went on.
    fn may_go_on(&self, signals: &Signals, quiet: Duration) -> bool {
        let room = self.limits.high.saturating_sub(signals.current);
        let near = self.law.calm_near_ms;
        quiet < ms(near) && room < self.law.reach(signals.rate, near)
    }

    /// The limit could not be raised and is still in the way.
    fn is_pressed_in_vain(&self, signals: &Signals) -> bool {
        let recently = self.last_hit.is_some_and(|hit| signals.at.since(hit) <= ms(self.law.stall_ms * 2));
        self.wanted.is_some() && recently && self.is_worth(self.grow_target())
    }

    fn is_near(&self, signals: &Signals, law: MemoryLaw) -> bool {
        let room = self.limits.high.saturating_sub(signals.current);
        room < self.law.reach(signals.rate, self.law.look_ahead_ms)
            || room.0 < self.step_size(signals, law).0 / 2
    }

    fn is_worth(&self, want: Limits) -> bool {
        let raise = want.high.saturating_sub(self.limits.high);
        let last = raise > Bytes::ZERO && want.high.0 + crate::units::PAGE > self.bounds.ceiling.0;
        last || raise.0 >= self.law.step_min.0 / 4
    }

    fn step_size(&self, signals: &Signals, law: MemoryLaw) -> Bytes {
        let rate = if law == MemoryLaw::Relieve { 0 } else { signals.rate };
        self.law.step(signals.current, rate, self.streak)
    }

    fn grow_target(&self) -> Limits {
        self.decide(MemoryLaw::Grow, Reason::GrowthContinued).want
    }

    fn fail(&self) -> Step {
        let decision = self.decide(MemoryLaw::Stall, Reason::StalledAtLimit);
        Step { decision, look_again: Some(ms(self.law.stall_poll_ms)), read_detail: false }
    }

    /// The kernel is about to end the workload. If it lives on below its old limit, the tripwire comes back; if it thrashes, the
    /// kernel sees no end.
    fn wait_for_end(&mut self, signals: &Signals) -> Step {
        if signals.current.saturating_add(self.law.band_min) <= self.limits.high {
            self.stall = None;
            return self.put_back(signals, signals.at);
        }
        let poll = Some(ms(self.law.stall_poll_ms));
        if self.stalled_ms() >= self.law.thrash_ms {
            let decision = self.decide(MemoryLaw::Thrash, Reason::ThrashedAtLimit);
            return Step { decision, look_again: poll, read_detail: false };
        }
        let read_detail = self.stall.as_mut().is_some_and(|stall| stall.is_due(signals.at, &self.law));
        Step { read_detail, ..self.hold(Reason::StalledAtLimit, poll) }
    }

    /// Puts the tripwire back to where it was. What need now stands above is let, and that is a grow, which the budget has to
    /// allow; page cache, which fills any limit that is opened, is not. `since`: so long a detail has been waited for.
    fn put_back(&mut self, signals: &Signals, since: Instant) -> Step {
        self.phase = Phase::Calm;
        self.verdict = None;
        let mut law = MemoryLaw::Rearm;
        if signals.current.saturating_add(self.law.band_min) > self.limits.high {
            let fresh = |detail: &&Detail| signals.at.since(detail.at) <= ms(self.law.detail_fresh_ms);
            let need = self.detail.as_ref().filter(fresh).map(|detail| detail.stat.need());
            if need.is_none() && signals.at.since(since) < ms(self.law.verdict_timeout_ms) {
                self.mode = Mode::Rearming(Some(since));
                let step = self.hold(Reason::VerdictAwaited, Some(ms(self.law.hot_poll_ms)));
                return Step { read_detail: true, ..step };
            }
            if need.is_none_or(|need| need.saturating_add(self.law.step_min) > self.limits.high) {
                law = MemoryLaw::RearmAbove;
                if need.is_none() {
                    // A step ahead of the verdict: what turns out to be cache is taken back.
                    self.phase = Phase::Hot(self.begin(signals.at));
                }
            }
        }
        let decision = self.decide(law, Reason::Rearmed);
        Step { decision, look_again: Some(ms(self.law.deferred_poll_ms)), read_detail: true }
    }

    fn hold(&self, reason: Reason, look_again: Option<Duration>) -> Step {
        let decision = self.decide(MemoryLaw::Hold, reason);
        Step { decision, look_again, read_detail: false }
    }
}
