//! One look at a workload's `cpu.stat`: when its quota grows, shrinks or stays.
//!
//! # Why these signals
//! The kernel does not tell of throttling, it counts: periods in which the workload ran, and those at whose end it was
//! throttled. Their ratio (rho) says how much it waits, use says how much it would do without. `cpu.pressure` rises with
//! throttling too, but also with a busy node, which no quota cures.
//!
//! # When it acts
//! It grows when a sample shows throttling that hurts: a period that stood still for a quarter of its time, or of a workload
//! that used little before. At once if there was none such lately, by a quarter at least; further only while rho stands above
//! three times its target, by as much as it stands above. Any other throttled period is what the target allows: nothing is
//! done while rho over five seconds stays within it, and beyond that the quota grows by the least step, once a second.
//! It shrinks, once a second, to the greatest use of
//! five seconds, with a headroom and a margin in deviations of use; the margin grows while rho stands above the target.
//! A throttling soon after a shrink rolls it back, to as much above the old quota as the shrink went below.
//!
//! # Protection at the start, and against its own writes
//! A shrink needs five seconds of samples, and a stale sample starts them anew. Each write refills the quota, so nothing is
//! written unchanged, nor for less than 5 %, and a grow waits while use stands above the ceiling in the long run: the refills
//! have given enough then. That count is of cpu time really used; whatever a tenant does to provoke writes, it cannot be
//! given much more than its ceiling, and a tenant that stayed below it is never delayed.
//!
//! # How it recovers
//! A relapse soon after a shrink doubles the time until the next shrink, up to five minutes, so that a periodic load finds
//! its quota open and costs a few writes in that time. A relapse is use that jumps, or a quota that comes back to where it
//! stood; a grow that merely follows a load up and down is none, or every quota would stand at the top of five minutes.
//! A grow long after a shrink forgets the doubling.

use std::time::Duration;

use crate::cpu::evidence::{CpuEvidence, CpuRule};
use crate::cpu::units::Cpus;
use crate::cpu::window::{CpuSample, Slice};
use crate::cpu::workload::{CpuWorkload, Mode};
use crate::decision::{Reason, Verb};

/// What the law wants of the quota. Not yet allowed: the node's guard comes after it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuDecision {
    /// What to do: grow, shrink or hold.
    pub verb: Verb,
    /// The quota wanted; the present one for a hold.
    pub want: Cpus,
    /// Why.
    pub reason: Reason,
    /// From what: [`CpuEvidence::decide`] gives this very decision.
    pub evidence: CpuEvidence,
}

/// The outcome of one look.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuStep {
    /// What to do.
    pub decision: CpuDecision,
    /// When to look again at the latest.
    pub look_again: Duration,
}

/// Looks at a workload: takes in `sample` and decides. `now` is `sample.at`.
///
/// Decides only: the quota is as it was until [`CpuWorkload::commit`]. Does not allocate.
pub fn step(workload: &mut CpuWorkload, sample: &CpuSample) -> CpuStep {
    let Some(slice) = workload.window.take(sample, &workload.law) else {
        workload.start_anew(sample.at);
        let decision = workload.hold(Reason::SignalsStale);
        return CpuStep { decision, look_again: Duration::from_millis(workload.law.look_hot_ms) };
    };
    let decision = match workload.mode {
        Mode::Released => workload.hold(Reason::LimitsReleased),
        Mode::Rearming(verb) => {
            let law = if verb == Verb::Grow { CpuRule::PutBackUp } else { CpuRule::PutBackDown };
            workload.evidence(law).decide(&workload.law, Reason::QuotaPutBack)
        }
        Mode::Armed => {
            workload.count(&slice);
            if workload.is_pinned {
                workload.hold(Reason::LimitPinned)
            } else if slice.throttled > 0 {
                workload.press()
            } else {
                workload.ease()
            }
        }
    };
    CpuStep { decision, look_again: workload.look_again() }
}

impl CpuWorkload {
    /// Takes a slice into what is counted beyond the window.
    fn count(&mut self, slice: &Slice) {
        let (law, now) = (self.law, self.now());
        let ceiling_us = self.bounds.ceiling.scale(f64::from(slice.time_us) / 1e6).0;
        let allowed_us = Cpus(ceiling_us).scale(1.0 + law.gift_share).0;
        // The first slice of a launch has no time that its use could be measured by.
        let used_us = if slice.time_us > 0 { u64::from(slice.usage_us) } else { 0 };
        self.excess_us = self.excess_us.saturating_add(used_us).saturating_sub(allowed_us);

        // The first adjustment waits its time too: one period would make a rho of nothing or all.
        let adjusted_at = *self.margin_at.get_or_insert(now);
        if self.has_passed(Some(adjusted_at), law.shrink_gap_ms) {
            self.margin_at = Some(now);
            // Not `clamp`, which panics when a policy sets a bound below zero.
            self.margin = (self.margin + self.rho() - law.throttled_target).min(law.margin_most).max(0.0);
        }
        let is_quiet = self.has_passed(self.hurt_at, law.lately_ms);
        if slice.throttled > 0 {
            self.throttled_at = Some(now);
            let before = self.window.most_before(law.throttled_periods);
            let has_jumped = before < self.quota.scale(law.jump_at);
            if has_jumped || slice.is_harsh(law.relief_at) {
                self.is_relief_due |= is_quiet;
                self.has_jumped |= has_jumped;
                self.hurt_at = Some(now);
            }
        } else if is_quiet {
            self.is_relief_due = false;
            self.has_jumped = false;
        }
    }

    /// The sample shows throttling.
    fn press(&self) -> CpuDecision {
        let (law, ceiling) = (&self.law, self.bounds.ceiling);
        let rho_window = self.window.throttled_share(law.use_periods);
        let is_fast = self.rho() > law.grow_at * law.throttled_target;
        let is_due = is_fast || self.has_passed(self.grown_at, law.shrink_gap_ms);
        let is_too_much = is_due && rho_window > law.throttled_target;
        if !(self.is_relief_due || is_too_much) {
            return self.hold(Reason::ThrottlingTolerated);
        }
        if self.quota >= ceiling {
            return self.hold(Reason::CeilingReached);
        }
        if self.quota >= self.most() {
            return self.hold(Reason::CpuSqueezed);
        }
        if !self.rests(law.change_gap_ms) || !self.has_passed(self.grown_at, law.grow_gap_ms) {
            return self.hold(Reason::JustChanged);
        }
        if self.excess_us > ceiling.scale(law.gift_ms as f64 / 1e3).0 {
            return self.hold(Reason::CeilingOverdrawn);
        }
        let evidence = CpuEvidence { rho_window, ..self.evidence(CpuRule::Grow) };
        let reason = match (evidence.before, evidence.is_first) {
            (Some(_), _) => Reason::ThrottledAfterShrink,
            (None, true) => Reason::QuotaExhausted,
            (None, false) => Reason::ThrottlingWentOn,
        };
        evidence.decide(law, reason)
    }

    /// The sample shows no throttling.
    fn ease(&self) -> CpuDecision {
        let law = &self.law;
        let rest = if self.is_hot() { Reason::RoomLeft } else { Reason::Calm };
        let is_due = self.rests(law.shrink_gap_ms) && self.has_passed(self.grown_at, self.hold_ms);
        if !is_due || self.quota <= self.bounds.floor {
            return self.hold(rest);
        }
        let Some(used) = self.window.used(law.use_periods) else { return self.hold(rest) };
        let known = self.evidence(CpuRule::Shrink);
        let evidence = CpuEvidence { most: used.most, deviation: used.deviation, ..known };
        if evidence.least(law) > self.quota.scale(law.shrink_at) {
            return self.hold(rest);
        }
        evidence.decide(law, Reason::QuotaUnused)
    }

    pub(crate) fn hold(&self, reason: Reason) -> CpuDecision {
        self.evidence(CpuRule::Hold).decide(&self.law, reason)
    }

    /// Each period while hot. Else the pause doubles, but a use that rises is looked at when it would be hot at its pace.
    fn look_again(&mut self) -> Duration {
        let law = self.law;
        let hot = Duration::from_millis(law.look_hot_ms);
        if matches!(self.mode, Mode::Rearming(_)) || self.is_hot() {
            self.look_ms = law.look_first_ms;
            return hot;
        }
        let pause = Duration::from_millis(self.look_ms.min(law.look_most_ms)).max(hot);
        self.look_ms = self.look_ms.saturating_mul(2).min(law.look_most_ms);
        let rise = self.used().saturating_sub(self.window.latest_but_one());
        let room = self.quota.scale(law.hot_share).saturating_sub(self.used());
        if rise == Cpus::ZERO {
            return pause;
        }
        // The rise is one of a slice, which is a period at least: slower rises are overestimated, and looked at sooner.
        pause.min(Duration::from_millis(law.look_hot_ms.saturating_mul(room.0 / rise.0))).max(hot)
    }
}
