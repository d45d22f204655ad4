//! The last step of every decision about memory: from [`Evidence`] and the law to what is wanted, and to nothing else.
//!
//! The phases gather evidence and choose the formula; this is what they call, and what whoever replays a journal calls. State
//! is read here only to make evidence of it.

use crate::decision::{Decision, Limits, Reason, Verb};
use crate::evidence::{Evidence, MemoryLaw};
use crate::memory::law::Law;
use crate::memory::shrink::Room;
use crate::memory::target;
use crate::memory::workload::Workload;
use crate::squeeze::Rung;
use crate::units::Bytes;

impl Workload {
    /// What is known at the last look, under the formula `law`.
    #[must_use]
    pub fn evidence(&self, law: MemoryLaw) -> Evidence {
        let now = self.now();
        let age = |at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
        let detail = self.detail.unwrap_or_default();
        Evidence {
            law,
            floor: self.bounds.floor,
            ceiling: self.bounds.ceiling,
            high: self.limits.high,
            max: self.limits.max,
            current: self.current(),
            need: detail.stat.need(),
            cache: detail.stat.cache(),
            swapped: detail.swap.used,
            swap_room: detail.swap.room,
            swap_kept_permille: detail.kept_permille(),
            detail_age_ms: self.detail.map(|detail| age(detail.at)),
            growth: self.growth,
            rate: self.window.rate(now),
            fastest: self.fastest_growth(),
            streak: self.streak,
            threads: self.threads,
            hit_age_ms: self.last_hit.map(age),
            waited_ms: self.wanted.map_or(0, |wanted| age(wanted.since)),
            stalled_ms: self.stalled_ms(),
            ..Evidence::default()
        }
    }

    /// Makes evidence of what is known, and decides by it.
    pub(crate) fn decide(&self, law: MemoryLaw, reason: Reason) -> Decision {
        self.evidence(law).decide(&self.law, reason)
    }
}

impl Evidence {
    /// What the law wants by this evidence. The reason is handed through: it tells what led here.
    pub fn decide(&self, law: &Law, reason: Reason) -> Decision {
        let now = self.limits();
        let (verb, want, reclaim) = match self.law {
            MemoryLaw::Hold => (Verb::Hold, now, Bytes::ZERO),
            MemoryLaw::Launch => (Verb::Grow, target::launch(law, self.floor), Bytes::ZERO),
            MemoryLaw::Grow => (Verb::Grow, self.step_up(law, self.rate), Bytes::ZERO),
            MemoryLaw::Relieve => (Verb::Grow, self.step_up(law, 0), Bytes::ZERO),
            MemoryLaw::Rearm => (Verb::Shrink, now, Bytes::ZERO),
            MemoryLaw::RearmAbove => {
                let want = self.step_up(law, self.rate);
                (if want == now { Verb::Shrink } else { Verb::Grow }, want, Bytes::ZERO)
            }
            MemoryLaw::TakeBack => {
                let high = self.certain_high(law).max(self.need.page_ceil()).min(now.high);
                (Verb::Shrink, Limits { high, max: now.max }, Bytes::ZERO)
            }
            MemoryLaw::Slack => {
                (Verb::Shrink, Limits { high: self.slack_high(law), max: now.max }, Bytes::ZERO)
            }
            MemoryLaw::Band => {
                (Verb::Shrink, Limits { high: now.high, max: self.least_max(law) }, Bytes::ZERO)
            }
            MemoryLaw::SqueezeSlack | MemoryLaw::SqueezeCache => (
                Verb::Shrink,
                Limits { high: now.high.saturating_sub(self.asked), max: now.max },
                Bytes::ZERO,
            ),
            MemoryLaw::Floor => (Verb::Grow, self.limits_at(law, self.floor), Bytes::ZERO),
            MemoryLaw::Pin if self.asked < now.high => {
                (Verb::Shrink, Limits { high: self.asked, max: now.max }, Bytes::ZERO)
            }
            MemoryLaw::Pin => (Verb::Grow, self.limits_at(law, self.asked), Bytes::ZERO),
            MemoryLaw::Reclaim | MemoryLaw::Probe => (Verb::Reclaim, now, self.cold(law)),
            MemoryLaw::SqueezeFrozen => (Verb::Reclaim, now, self.asked.min(law.reclaim_max).page_floor()),
            MemoryLaw::Stall | MemoryLaw::Thrash => {
                (Verb::Fail, Limits { high: now.max, max: now.max }, Bytes::ZERO)
            }
        };
        let evidence = Self { want: want.high, ..*self };
        Decision { verb, want, reclaim, reason, evidence }
    }

    /// A step above use for growth at `rate`, with its band.
    fn step_up(&self, law: &Law, rate: u64) -> Limits {
        let bounds = self.bounds();
        let step = law.step(self.current, rate, self.streak);
        let aim = bounds.clamp(self.current.saturating_add(step));
        let still = law.band(aim, self.threads, 0);
        target::grow(law, bounds, self.limits(), self.current, step, still, |high| self.band_above(law, high))
    }

    /// A `memory.high` above the present one that was named, with its band.
    fn limits_at(&self, law: &Law, high: Bytes) -> Limits {
        let high = high.page_floor();
        Limits { high, max: high.saturating_add(self.band_above(law, high)).max(self.max) }
    }

    /// The band that a grow to `high` puts above it.
    pub(crate) fn band_above(&self, law: &Law, high: Bytes) -> Bytes {
        target::band_above(law, self.ceiling, self.threads, self.rate, high)
    }

    /// The highest `memory.max` that is ever asked for.
    pub(crate) fn released_max(&self, law: &Law) -> Bytes {
        target::released_max(law, self.ceiling, self.threads)
    }

    /// The room that a lowered `memory.max` has to leave above use.
    pub(crate) fn room(&self, law: &Law) -> Room {
        let least = law.band_min.max(law.reach(self.fastest, law.max_horizon_ms));
        Room { least, share: law.max_share }
    }

    /// `memory.high` that was granted for more than cache. Where need fills its share of the limit any growth is a need again:
    /// back there, it would grow at once.
    pub(crate) fn certain_high(&self, law: &Law) -> Bytes {
        let shared = self.base_need.scale(law.need_share.recip());
        let least = self.bounds().clamp(shared.max(self.base_need).saturating_add(law.step_min));
        self.base.max(least).page_ceil().min(self.ceiling)
    }

    /// `memory.high` that leaves room above the peak of the hold, and above need.
    pub(crate) fn slack_high(&self, law: &Law) -> Bytes {
        let growth = law.reach(self.fastest, law.rate_horizon_ms);
        let room = law.headroom_min.max(self.peak.scale(law.headroom_share)).max(growth);
        self.bounds().clamp(self.peak.saturating_add(room).max(self.least_high(law)).page_ceil())
    }

    /// The lowest `memory.max` that leaves a band above `memory.high`, and its room above use.
    pub(crate) fn least_max(&self, law: &Law) -> Bytes {
        let band = law.band(self.high, self.threads, self.fastest);
        let room = self.room(law);
        let own = Room { least: room.least.max(band), ..room }.above(self.current);
        self.high.saturating_add(band).max(own).max(target::launch(law, self.floor).max).page_ceil()
    }

    /// Below this nothing is ever taken: need and a margin, and the policy's floor.
    pub(crate) fn least_high(&self, law: &Law) -> Bytes {
        let margin = self.need.scale(law.need_margin_share).min(law.need_margin_max);
        self.floor.max(self.need.saturating_add(margin))
    }

    /// What use stands above that: the most that a reclaim may take.
    pub(crate) fn spare(&self, law: &Law) -> Bytes {
        self.current.saturating_sub(self.least_high(law))
    }

    /// What can be given to somebody who waits: room above use, or the cold part of the cache, a chunk at a time.
    pub(crate) fn squeezable(&self, law: &Law, rung: Rung) -> Bytes {
        match rung {
            Rung::Slack => self.high.saturating_sub(self.slack_high(law)),
            Rung::Reclaim => {
                let above = self.high.saturating_sub(self.least_high(law));
                self.cold.min(self.cache).min(law.reclaim_max).min(above).page_floor()
            }
        }
    }

    /// What to reclaim: a share of use, the less the more was waited, or a probe.
    fn cold(&self, law: &Law) -> Bytes {
        let bytes = if self.law == MemoryLaw::Probe {
            law.reclaim_probe
        } else {
            let ease = 1.0 - self.waits / law.reclaim_pressure;
            self.current.scale(law.reclaim_factor * ease)
        };
        bytes.min(self.spare(law)).min(law.reclaim_max).page_floor()
    }
}
