//! The state of one workload under the memory law, and everything that changes it but a look ([`crate::step`]).
//!
//! Plain data of a fixed size. The limits held here are the *governed* ones: what was last written successfully, or
//! what is to be gone back to after a release or a failure. Who writes tells us with [`Workload::commit`]; a grow that
//! was decided and never committed was refused or failed, and is asked for again at a slow pace.

use crate::budget::Seat;
use crate::decision::{Decision, Limits, Reason};
use crate::evidence::{Growth, MemoryLaw};
use crate::memory::law::Law;
use crate::memory::reclaim::Reclaim;
use crate::memory::shrink::Shrink;
use crate::memory::stall::Stall;
use crate::memory::target;
use crate::memory::verdict::{self, Verdict};
use crate::sample::{Detail, MemoryStat, Sample};
use crate::units::{Bounds, Bytes, Instant};
use crate::window::Window;

/// One governed workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Workload {
    pub(crate) bounds: Bounds,
    pub(crate) law: Law,
    /// Its place in the budget; without one it is charged to the node alone.
    pub(crate) seat: Option<Seat>,
    pub(crate) limits: Limits,
    pub(crate) window: Window,
    pub(crate) threads: u64,
    /// The last detail, if any.
    pub(crate) detail: Option<Detail>,
    /// What growth is measured against: as it was at the last verdict, or in the last calm.
    pub(crate) reference: MemoryStat,
    /// What the last detail said about growth.
    pub(crate) growth: Option<Growth>,
    /// A verdict that no look has taken yet.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) mode: Mode,
    /// An operator's word: the limits stay where they are.
    pub(crate) is_pinned: bool,
    pub(crate) phase: Phase,
    /// A grow that was decided and is not committed.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) stall: Option<Stall>,
    /// A stall that a grow has ended, and when: it goes on if that was too little.
    pub(crate) eased: Option<(Stall, Instant)>,
    pub(crate) last_hit: Option<Instant>,
    /// The last grow that a hit led to, and how many came in a row.
    pub(crate) last_press: Option<Instant>,
    pub(crate) streak: u32,
    /// Room below a limit that was just raised: the next look may still hear crossings of the old one.
    pub(crate) fresh_room: Option<Bytes>,
    pub(crate) shrink: Shrink,
    pub(crate) reclaim: Reclaim,
}

/// Whether the tripwire is where the law put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is.
    Armed,
    /// Disarmed by hand or by the watchdog.
    Released,
    /// Disarmed, and to be put back; since when a look has waited to know what stands above it.
    Rearming(Option<Instant>),
    /// Moved to `memory.max`, for the kernel to end the workload.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Phase {
    Calm,
    Hot(Episode),
    Held(Hold),
}

/// A time of growth, from the first hit until it is calm or held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Episode {
    /// `memory.high` as it was when need was last certain: what a step is taken back to.
    pub(crate) base: Bytes,
    /// The reason that the verdict gave; `None` while it is pending.
    pub(crate) need: Option<Reason>,
    /// Whether the limit was raised since the verdict.
    pub(crate) verdict_used: bool,
    /// Steps granted ahead of the verdict.
    pub(crate) ahead: u32,
    /// No step ahead of the verdict before this.
    pub(crate) patient_until: Instant,
    pub(crate) last_active: Instant,
    pub(crate) last_grow: Instant,
    pub(crate) detail_asked: Instant,
    /// The pause that a hold starts with.
    pub(crate) hold_ms: u64,
}

impl Episode {
    /// By which formula it grows. Who waits without a growth of need reads files: a step by the rate of that would be 100 ms of a
    /// disk, to be taken back at the next verdict.
    pub(crate) const fn law(&self) -> MemoryLaw {
        if matches!(self.need, Some(Reason::StallRose)) { MemoryLaw::Relieve } else { MemoryLaw::Grow }
    }
}

/// Growth is known to be cache; the limit stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hold {
    /// The pause between details, doubled each time, ms.
    pub(crate) pause_ms: u64,
    pub(crate) next_detail: Instant,
    pub(crate) detail_asked: Instant,
    /// No step ahead of a verdict, and no second try to take back, before this.
    pub(crate) next_ahead: Instant,
    /// Use above the limit counts from here.
    pub(crate) settled_at: Instant,
    /// What was asked for and is not committed.
    pub(crate) take_back: Option<TakeBack>,
}

/// A step that went to cache, to be taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TakeBack {
    /// `memory.high` when need was last certain.
    pub(crate) base: Bytes,
    /// Need at the verdict.
    pub(crate) need: Bytes,
    /// The `memory.high` to go back to that came of both.
    pub(crate) high: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// First asked for.
    pub(crate) since: Instant,
    /// Last asked for.
    pub(crate) asked: Instant,
    pub(crate) reason: Reason,
}

impl Workload {
    /// A workload about to be launched at its floor, in a cgroup of its own whose counters stand at zero.
    #[must_use]
    pub fn new(bounds: Bounds, law: Law) -> Self {
        Self {
            bounds,
            law,
            seat: None,
            limits: target::launch(&law, bounds.floor),
            window: Window::default(),
            threads: law.launch_threads,
            detail: None,
            reference: MemoryStat::default(),
            growth: None,
            verdict: None,
            mode: Mode::Armed,
            is_pinned: false,
            phase: Phase::Calm,
            wanted: None,
            stall: None,
            eased: None,
            last_hit: None,
            last_press: None,
            streak: 0,
            fresh_room: None,
            shrink: Shrink::default(),
            reclaim: Reclaim::default(),
        }
    }

    /// A workload found running, with the limits and counters found on it; no limit at all is `u64::MAX` bytes. Its
    /// counters may be old, so the first sample counts as seen.
    ///
    /// Where the tripwire was open (`high` at `max` or above), what is governed is a step above use, not the ceiling: the
    /// former agent is gone, and with it what it had granted. A tripwire within the bounds stays where it is, and else
    /// goes to the nearest bound. `memory.max` stays as found, or is raised to leave a band; the law lowers it later, with
    /// care. If [`Self::limits`] are not those found, [`Self::rearm`] has them written.
    #[must_use]
    pub fn adopt(bounds: Bounds, law: Law, found: Limits, sample: Sample) -> Self {
        let mut workload = Self::new(bounds, law);
        let is_open = found.high >= found.max;
        let step = law.step(sample.current, 0, 0);
        let aim = if is_open { sample.current.saturating_add(step).page_ceil() } else { found.high };
        let high = bounds.clamp(aim).page_floor();
        // A `memory.max` below use would have the kernel kill it: then it rather stands above the ceiling's band.
        let least = high.max(sample.current).saturating_add(law.band_min);
        workload.limits = Limits { high, max: found.max.max(least).page_ceil() };
        workload.window = Window::starting_at(sample);
        workload.shrink = Shrink::found(sample.at, sample.current);
        workload
    }

    /// The same workload with a place in the budget.
    #[must_use]
    pub fn seated(self, seat: Seat) -> Self {
        Self { seat: Some(seat), ..self }
    }

    /// Its place in the budget, if it has one.
    #[must_use]
    pub const fn seat(&self) -> Option<Seat> {
        self.seat
    }

    /// The limits to launch with: `memory.high` at the floor, `memory.max` a band above it.
    #[must_use]
    pub fn launch_limits(&self) -> Limits {
        target::launch(&self.law, self.bounds.floor)
    }

    /// The bounds of `memory.high`.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The governed limits: those last committed.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// What a budget holds for this workload: the governed `memory.high`, also while released or failed.
    #[must_use]
    pub const fn granted(&self) -> Bytes {
        self.limits.high
    }

    /// The sample of the last look.
    #[must_use]
    pub const fn last_sample(&self) -> Option<&Sample> {
        self.window.last()
    }

    /// The last look; the beginning of time before the first.
    pub(crate) fn now(&self) -> Instant {
        self.window.last().map_or(Instant::default(), |sample| sample.at)
    }

    /// Use at the last look, bytes.
    #[must_use]
    pub fn current(&self) -> Bytes {
        self.window.last().map_or(Bytes::ZERO, |sample| sample.current)
    }

    /// The band that a grow to `high` would put above it now, by threads and growth as they are known. Near the ceiling it
    /// shrinks to what [`Self::released_max`] leaves: growth needs a band while we react, and there we will not.
    #[must_use]
    pub fn band_above(&self, high: Bytes) -> Bytes {
        target::band_above(&self.law, self.bounds.ceiling, self.threads, self.window.rate(self.now()), high)
    }

    /// The constants it is governed by.
    #[must_use]
    pub const fn law(&self) -> &Law {
        &self.law
    }

    /// The last detail seen.
    #[must_use]
    pub const fn detail(&self) -> Option<&Detail> {
        self.detail.as_ref()
    }

    /// Whether a grow was decided that nobody committed: refused by the budget, or its write failed.
    #[must_use]
    pub const fn is_deferred(&self) -> bool {
        self.wanted.is_some()
    }

    /// Room has come for it: what it wants is asked for by the next look, not at the slow pace of who was refused.
    pub fn ask_again(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.asked = Instant(0);
        }
    }

    /// Whether growth is known to be cache, and the limit held.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held(_))
    }

    /// Whether the stall clock runs: a limit was met that cannot be raised.
    #[must_use]
    pub const fn is_cornered(&self) -> bool {
        self.stall.is_some()
    }

    /// Whether the tripwire was moved away for the kernel to end the workload.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        matches!(self.mode, Mode::Failed)
    }

    /// Whether the limits are released; also while the tripwire is about to be put back.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        matches!(self.mode, Mode::Released | Mode::Rearming(_))
    }

    /// Takes in the dear reads: counts threads, judges growth, winds the stall clock. A detail that was overtaken is
    /// ignored. The verdict is acted upon by the next [`crate::step`].
    pub fn observe(&mut self, detail: &Detail) {
        if self.detail.is_some_and(|last| detail.at <= last.at) {
            return;
        }
        self.threads = detail.threads.max(1);
        let growth = verdict::growth(self.limits.high, &self.reference, self.detail.as_ref(), detail);
        self.growth = Some(growth);
        if self.phase == Phase::Calm {
            self.reference = detail.stat;
        } else {
            let verdict = growth.judge(&self.law);
            if matches!(verdict, Verdict::Need(_)) {
                self.reference = detail.stat;
            }
            self.verdict = Some(verdict);
        }
        self.wind(detail);
        self.note_pressure(detail);
        self.detail = Some(*detail);
    }

    /// Takes in limits that were written successfully at `now`. `high` = `max` is a failure put into effect: the
    /// governed `memory.high` stays as it was, to go back to if the workload lives on.
    pub fn commit(&mut self, limits: Limits, now: Instant) {
        if limits.high >= limits.max {
            self.mode = Mode::Failed;
            self.limits.max = limits.max;
            (self.stall, self.eased) = (Some(Stall::new(now)), None);
            return;
        }
        let (from, governed) = (self.limits, self.mode == Mode::Armed);
        let raised = limits.high > from.high;
        self.limits = limits;
        self.mode = Mode::Armed;
        if raised {
            self.wanted = None;
            self.fresh_room = Some(limits.high.saturating_sub(self.current()));
        }
        match &mut self.phase {
            Phase::Hot(episode) if raised => {
                episode.last_grow = now;
                episode.last_active = now;
                episode.verdict_used = true;
                episode.ahead += u32::from(episode.need.is_none());
            }
            Phase::Held(hold) if !raised => {
                hold.settled_at = now.plus(super::law::ms(self.law.settle_ms));
                if hold.take_back.is_some_and(|back| limits.high <= back.high) {
                    hold.take_back = None;
                }
            }
            Phase::Hot(_) | Phase::Held(_) | Phase::Calm => {}
        }
        self.moved(from, governed, now);
    }

    /// Takes in that the tripwire is disarmed: `memory.high` = max and `memory.max` = ceiling + band, which is what
    /// `limits().max` says afterwards.
    /// The grant stays charged. Looks hold until [`Self::rearm`].
    pub fn release(&mut self) {
        self.limits.max = self.limits.max.max(self.released_max());
        self.mode = Mode::Released;
        self.phase = Phase::Calm;
        self.verdict = None;
        self.wanted = None;
        (self.stall, self.eased) = (None, None);
        self.shrink.forget_plan();
    }

    /// The highest `memory.max` that is ever asked for, and that of a release: ceiling + the band of its threads. However
    /// fast it grows, a tenant gets no more beyond its ceiling.
    #[must_use]
    pub fn released_max(&self) -> Bytes {
        target::released_max(&self.law, self.bounds.ceiling, self.threads)
    }

    /// Takes in other bounds and constants: a policy was changed. Limits move with the next decisions, each within the new
    /// bounds; what a raised floor lacks is asked for by [`Self::to_floor`].
    pub const fn govern(&mut self, bounds: Bounds, law: Law) {
        self.bounds = bounds;
        self.law = law;
    }

    /// A grow to the floor, if the governed limit stands below it.
    #[must_use]
    pub fn to_floor(&self) -> Option<Decision> {
        let is_below = self.limits.high < self.bounds.floor.page_floor();
        (self.mode == Mode::Armed && is_below && !self.is_pinned)
            .then(|| self.decide(MemoryLaw::Floor, Reason::PolicyChanged))
    }

    /// Asks for the tripwire to be put back: the next [`crate::step`] decides where.
    pub fn rearm(&mut self) {
        self.mode = Mode::Rearming(None);
    }
}
