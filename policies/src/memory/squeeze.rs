//! What a workload gives at once, because another one waits for a grant that it could have.
//!
//! # Why these signals
//! Slack is room that use leaves below `memory.high`; the use of the moment counts and not the peak of a hold, and the
//! growth of the last second and not the fastest that is remembered, since who waits is throttled now, and what is missed later is
//! granted again within milliseconds. Cache counts only as far as the
//! kernel holds it to be cold (`inactive_file`), as a detail of the last second has it.
//!
//! # When it acts
//! When it is asked to, and never after a raise of the last second: two who take from each other in turns would else move limits
//! all the time. Whoever has given and has not missed it gives again, or a fast grower would wait for the rest of a second while
//! there is something left; of cold cache what was given since the detail counts as gone.
//!
//! # Protection
//! Never below the floor, need and its margin, nor, for slack, into the room that any shrink leaves above use. Nothing is taken
//! where growth is watched or waited for, a stall is timed, a plan is under way, or the limits are pinned or not the governed ones.
//! Of cache one chunk of `reclaim_max` at a time.
//!
//! # How it recovers
//! As from any shrink: it grows when it has to. A raise within a minute doubles its hold. What gave cache is held, as a
//! reader is, or its first hit would take back at once what was just given.

use crate::decision::{Decision, Reason};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::law::ms;
use crate::memory::workload::{Hold, Mode, Phase, Workload};
use crate::squeeze::Rung;
use crate::units::{Bytes, Instant};

/// What a workload can spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// So much, bytes; zero when nothing.
    Known(Bytes),
    /// To be told after a look into `memory.stat`.
    AfterDetail,
}

impl Workload {
    /// What it can spare on this rung.
    #[must_use]
    pub fn spare(&self, rung: Rung, now: Instant) -> Spare {
        let nothing = Spare::Known(Bytes::ZERO);
        let grows = matches!(self.phase, Phase::Hot(_)) || self.wanted.is_some() || self.stall.is_some();
        let rests = now.since(self.shrink.raised) >= ms(self.law.squeeze_gap_ms);
        if self.mode != Mode::Armed || self.is_pinned || grows || self.shrink.pending.is_some() || !rests {
            return nothing;
        }
        match rung {
            Rung::Slack => {}
            // Whoever stands at its floor has nothing to be looked for.
            Rung::Reclaim if self.limits.high <= self.bounds.floor => return nothing,
            Rung::Reclaim => {
                let fresh = ms(self.law.detail_fresh_ms);
                if self.detail.is_none_or(|detail| now.since(detail.at) > fresh) {
                    return Spare::AfterDetail;
                }
            }
        }
        Spare::Known(self.squeezed(rung).spare)
    }

    /// Gives `bytes` of what it can spare on this rung. A decision like any other: planned, and committed or refused.
    pub fn squeeze(&mut self, rung: Rung, bytes: Bytes, now: Instant) -> Decision {
        let evidence = Evidence { asked: bytes, ..self.squeezed(rung) };
        self.shrink.pending = Some(now);
        let reason = match rung {
            Rung::Slack => Reason::SlackSqueezed,
            Rung::Reclaim => {
                if let Some(detail) = &mut self.detail {
                    detail.stat.inactive_file = detail.stat.inactive_file.saturating_sub(bytes);
                    detail.stat.file = detail.stat.file.saturating_sub(bytes);
                }
                let pause = ms(self.law.hold_max_ms);
                self.phase = Phase::Held(Hold {
                    pause_ms: self.law.hold_max_ms,
                    next_detail: now.plus(pause),
                    detail_asked: now,
                    next_ahead: now.plus(pause),
                    settled_at: now.plus(ms(self.law.settle_ms)),
                    take_back: None,
                });
                Reason::CacheSqueezed
            }
        };
        evidence.decide(&self.law, reason)
    }

    /// Cache that was asked for could not be had: there is no more of it as far as is known, until a detail says otherwise.
    pub const fn found_warm(&mut self) {
        if let Some(detail) = &mut self.detail {
            detail.stat.inactive_file = Bytes::ZERO;
        }
    }

    /// Gives memory while it is frozen: whatever stands above its floor, since nothing of it is used before it is thawed. One
    /// chunk at a time; `None` when there is nothing, or something is under way.
    pub fn drain(&mut self, asked: Bytes, now: Instant) -> Option<Decision> {
        let above = self.current().saturating_sub(self.bounds.floor);
        if self.mode != Mode::Armed || self.shrink.pending.is_some() || above < self.law.reclaim_probe {
            return None;
        }
        let evidence =
            Evidence { asked: asked.min(above), spare: above, ..self.evidence(MemoryLaw::SqueezeFrozen) };
        self.shrink.pending = Some(now);
        Some(evidence.decide(&self.law, Reason::FrozenReclaimed))
    }

    /// What it gave while frozen has been taken, or could not be.
    pub const fn drained(&mut self) {
        self.shrink.pending = None;
    }

    /// It was frozen, and wants nothing until it is thawed.
    pub fn rest(&mut self) {
        self.phase = Phase::Calm;
        self.verdict = None;
        self.wanted = None;
        (self.stall, self.eased) = (None, None);
    }

    /// What is known on this rung, and what can be spared by it. The moment stands for the peak of a hold, and for the past.
    fn squeezed(&self, rung: Rung) -> Evidence {
        let law = match rung {
            Rung::Slack => MemoryLaw::SqueezeSlack,
            Rung::Reclaim => MemoryLaw::SqueezeCache,
        };
        let cold = self.detail.map_or(Bytes::ZERO, |detail| detail.stat.inactive_file);
        let known = self.evidence(law);
        let known = Evidence { cold, peak: self.current(), fastest: known.rate, ..known };
        Evidence { spare: known.squeezable(&self.law, rung), ..known }
    }
}
