//! The state of one workload under the cpu law, and everything that changes it but a look ([`crate::cpu::step`]).
//!
//! Plain data of a fixed size (about a kilobyte, the window's slices). The quota held here is the *governed* one: what was
//! last written successfully. Who writes tells us with [`CpuWorkload::commit`]; a change that was decided and never
//! committed was refused or failed, and is decided again as long as there is cause.

use std::time::Duration;

use crate::cpu::evidence::CpuRule;
use crate::cpu::law::{CpuLaw, periods_ms};
use crate::cpu::squeeze::Lent;
use crate::cpu::units::{CpuBounds, Cpus};
use crate::cpu::window::{CpuSample, CpuWindow};
use crate::decision::{Reason, Verb};
use crate::units::Instant;

/// One workload whose `cpu.max` is governed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuWorkload {
    pub(crate) bounds: CpuBounds,
    pub(crate) law: CpuLaw,
    pub(crate) quota: Cpus,
    pub(crate) mode: Mode,
    /// An operator's word: the quota stays where it is.
    pub(crate) is_pinned: bool,
    pub(crate) window: CpuWindow,
    /// The margin (m) that a shrink leaves above the greatest use, in deviations of use.
    pub(crate) margin: f64,
    pub(crate) margin_at: Option<Instant>,
    /// Throttling that hurts showed after a time without, and no grow has followed yet.
    pub(crate) is_relief_due: bool,
    /// So did throttling after little use.
    pub(crate) has_jumped: bool,
    /// The last sample that showed throttling that hurts: harsh, or after little use.
    pub(crate) hurt_at: Option<Instant>,
    /// The last sample that showed throttling.
    pub(crate) throttled_at: Option<Instant>,
    pub(crate) changed_at: Option<Instant>,
    pub(crate) grown_at: Option<Instant>,
    /// The last shrink, until a grow answers it.
    pub(crate) shrunk: Option<Shrunk>,
    /// Where the quota stood before shrinks, until it is back there or they are old.
    pub(crate) crest: Option<Crest>,
    /// What of the quota is lent.
    pub(crate) lent: Option<Lent>,
    /// The time from a grow to the next shrink, ms; doubled by relapses.
    pub(crate) hold_ms: u64,
    /// Cpu time used beyond the ceiling, less what is allowed; never negative, microseconds.
    pub(crate) excess_us: u64,
    /// The pause that the next look waits for unless it is hot, ms.
    pub(crate) look_ms: u64,
}

/// Whether the quota is where the law put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is.
    Armed,
    /// Opened by hand or by the watchdog.
    Released,
    /// Not known to be, and to be written at the next look; by this verb.
    Rearming(Verb),
}

/// A shrink of the law's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shrunk {
    pub(crate) at: Instant,
    pub(crate) before: Cpus,
}

/// The way down that shrinks took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crest {
    /// When the lowest quota was written.
    pub(crate) at: Instant,
    pub(crate) top: Cpus,
    pub(crate) low: Cpus,
}

impl CpuWorkload {
    /// A workload about to be launched with its floor as quota and as burst, in a cgroup whose counters stand at zero.
    #[must_use]
    pub const fn new(bounds: CpuBounds, law: CpuLaw) -> Self {
        Self {
            bounds,
            law,
            quota: bounds.floor,
            mode: Mode::Armed,
            is_pinned: false,
            window: CpuWindow::new(None),
            margin: 0.0,
            margin_at: None,
            is_relief_due: false,
            has_jumped: false,
            hurt_at: None,
            throttled_at: None,
            changed_at: None,
            grown_at: None,
            shrunk: None,
            crest: None,
            lent: None,
            hold_ms: law.shrink_gap_ms,
            excess_us: 0,
            look_ms: law.look_first_ms,
        }
    }

    /// A workload found running, with the quota (`None` for `max`) and the counters found on it. A quota outside the bounds
    /// is governed as the nearest one within, which the next look asks to be written; one within is not written again.
    #[must_use]
    pub fn adopt(bounds: CpuBounds, law: CpuLaw, found: Option<Cpus>, sample: CpuSample) -> Self {
        let quota = found.map_or(bounds.ceiling, |found| bounds.clamp(found));
        let mode = match found {
            Some(found) if found.quota_us() == quota.quota_us() => Mode::Armed,
            Some(found) if found < quota => Mode::Rearming(Verb::Grow),
            Some(_) | None => Mode::Rearming(Verb::Shrink),
        };
        Self { quota, mode, window: CpuWindow::new(Some(sample)), ..Self::new(bounds, law) }
    }

    /// The governed quota: the one last committed.
    #[must_use]
    pub const fn quota(&self) -> Cpus {
        self.quota
    }

    /// `cpu.max.burst`, the same for life: the floor. A refill puts a group at quota + burst at most, so a larger burst would
    /// make each write dearer; and the kernel takes no quota below it.
    #[must_use]
    pub const fn burst(&self) -> Cpus {
        self.bounds.floor
    }

    /// The bounds of the quota.
    #[must_use]
    pub const fn bounds(&self) -> CpuBounds {
        self.bounds
    }

    /// The constants it is governed by.
    #[must_use]
    pub const fn law(&self) -> &CpuLaw {
        &self.law
    }

    /// Use in the last slice, over the periods in which it ran.
    #[must_use]
    pub fn used(&self) -> Cpus {
        self.window.latest()
    }

    /// Whether it is looked at each period: it was throttled lately, or uses most of its quota.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        let lately =
            self.throttled_at.is_some_and(|at| !self.law.is_over(self.now().since(at), self.law.lately_ms));
        lately || self.used() > self.quota.scale(self.law.hot_share)
    }

    /// Whether a look at it could change nothing as long as it does not run: governed, and at its floor.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.mode == Mode::Armed && self.quota <= self.bounds.floor
    }

    /// The least use, over one tick of a period, that can have exhausted the quota. Periods of the kernel lie across ticks,
    /// so that half a quota in each of two ticks may be a whole one in a period.
    ///
    /// While the use of a subtree that is not explained by the workloads just looked at stays below this, a workload that was
    /// not looked at has not been throttled, and need not be looked at.
    #[must_use]
    pub const fn least_exhausting_use(&self) -> Cpus {
        Cpus(self.quota.0 / 2)
    }

    /// Whether the quota is open; also while it is about to be governed again.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        matches!(self.mode, Mode::Released | Mode::Rearming(_))
    }

    /// Takes in a quota that was written successfully at `now`, with the reason of its plan.
    pub fn commit(&mut self, to: Cpus, reason: Reason, now: Instant) {
        let from = self.quota;
        self.quota = to;
        self.changed_at = Some(now);
        self.look_ms = self.law.look_first_ms;
        if self.is_released() {
            self.mode = Mode::Armed;
            self.window.forget();
            self.excess_us = 0;
            return;
        }
        if reason == Reason::CpuSqueezed {
            let before = self.lent.map_or(from, |lent| lent.before);
            self.lent = Some(Lent { before, left: to });
            self.shrunk = None;
        } else if reason == Reason::CpuGivenBack {
            self.grown_at = Some(now);
        } else if to > from {
            self.grown(to, reason, now);
        } else if to < from {
            // What the node takes is not given back by a rollback.
            let own = reason != Reason::NodeOverloaded;
            self.shrunk = own.then_some(Shrunk { at: now, before: from });
            if own {
                let Crest { at, top, low } = self.crest.unwrap_or(Crest { at: now, top: from, low: from });
                let at = if to < low { now } else { at };
                self.crest = Some(Crest { at, top: top.max(from), low: low.min(to) });
            }
        }
    }

    /// Takes in that the quota was opened to the ceiling. Looks hold until [`Self::rearm`].
    pub fn release(&mut self) {
        self.quota = self.bounds.ceiling;
        self.mode = Mode::Released;
        self.is_relief_due = false;
        self.shrunk = None;
        self.crest = None;
        self.lent = None;
    }

    /// Takes in other bounds and constants: a policy was changed. What is governed from now on is the nearest quota within,
    /// which is to be written.
    pub fn govern(&mut self, bounds: CpuBounds, law: CpuLaw) {
        let is_open = self.mode == Mode::Released;
        self.quota = if is_open { bounds.ceiling } else { bounds.clamp(self.quota) };
        self.bounds = bounds;
        self.law = law;
        self.hold_ms = self.hold_ms.max(law.shrink_gap_ms).min(law.hold_most_ms);
        self.look_ms = law.look_first_ms;
        self.shrunk = None;
        self.crest = None;
    }

    /// The quota stays where it is, or at `at` within its bounds, which is to be written: looks hold until [`Self::unpin`], and
    /// the node's guard takes nothing.
    pub fn pin(&mut self, at: Option<Cpus>) {
        self.quota = at.map_or(self.quota, |at| self.bounds.clamp(at));
        self.is_pinned = true;
        self.is_relief_due = false;
        self.shrunk = None;
    }

    /// The law moves it again.
    pub fn unpin(&mut self) {
        self.is_pinned = false;
        self.look_ms = self.law.look_first_ms;
    }

    /// Governs again, from the ceiling on: the next look asks for it to be written, as it may stand open wider.
    pub fn rearm(&mut self) {
        if self.mode == Mode::Released {
            self.mode = Mode::Rearming(Verb::Shrink);
        }
    }

    /// When it was last looked at; the `now` of a plan.
    pub(crate) fn now(&self) -> Instant {
        self.window.last().map_or(Instant(0), |sample| sample.at)
    }

    /// Whether the quota rests for `gap_ms` already.
    pub(crate) fn rests(&self, gap_ms: u64) -> bool {
        self.has_passed(self.changed_at, gap_ms)
    }

    /// Whether `gap_ms` passed since `at`, if that ever was.
    pub(crate) fn has_passed(&self, at: Option<Instant>, gap_ms: u64) -> bool {
        at.is_none_or(|at| self.law.is_over(self.now().since(at), gap_ms))
    }

    /// Whether a change to `to` is worth its write: large enough, or the last one to a bound.
    pub(crate) fn is_worth(&self, to: Cpus) -> bool {
        self.evidence(CpuRule::Hold).is_worth(&self.law, to)
    }

    /// The least change that is worth a write.
    pub(crate) fn least_change(&self) -> Cpus {
        self.quota.scale(self.law.change_least)
    }

    /// The share of throttled periods (rho).
    pub(crate) fn rho(&self) -> f64 {
        self.window.throttled_share(self.law.throttled_periods)
    }

    /// The last shrink, if throttling now would roll it back.
    pub(crate) fn regretted(&self) -> Option<Shrunk> {
        let window_ms = periods_ms(self.law.rollback_periods).saturating_add(self.law.jitter_ms);
        self.shrunk.filter(|shrunk| self.now().since(shrunk.at) <= Duration::from_millis(window_ms))
    }

    /// Counting starts anew: the clock may have gone back, and nothing may lie in the future.
    pub(crate) fn start_anew(&mut self, now: Instant) {
        for at in [&mut self.margin_at, &mut self.changed_at, &mut self.grown_at] {
            *at = at.map(|at| at.min(now));
        }
        self.throttled_at = None;
        self.hurt_at = None;
        self.is_relief_due = false;
        self.has_jumped = false;
        self.shrunk = None;
        self.crest = None;
        self.look_ms = self.law.look_first_ms;
    }

    fn grown(&mut self, to: Cpus, reason: Reason, now: Instant) {
        self.grown_at = Some(now);
        self.is_relief_due = false;
        if reason == Reason::ThrottledAfterShrink {
            let more = (self.rho() - self.law.throttled_target).max(0.0);
            self.margin = (self.margin + more).min(self.law.margin_most);
        }
        self.shrunk = None;
        let has_jumped = std::mem::take(&mut self.has_jumped);
        let Some(crest) = self.crest.take() else { return };
        let law = &self.law;
        let shoulder = crest.top.scale(law.relapse_share);
        if now.since(crest.at) >= Duration::from_millis(law.relapse_ms) {
            self.hold_ms = law.shrink_gap_ms;
        } else if has_jumped || (crest.low < shoulder && shoulder <= to) {
            self.hold_ms = self.hold_ms.saturating_mul(2).min(law.hold_most_ms);
        } else if to < shoulder {
            self.crest = Some(crest);
        }
    }
}
