//! Hidden use: what tells the cpu loop that an idle group need not be read.
//!
//! To read every idle group's `cpu.stat` each period would cost more than all the rest. Yet an idle group that starts to run
//! must be relieved within two periods. So one read tells the use of the whole subtree; what the groups just sampled do not
//! explain of it is hidden use. Hidden use adds up, and an idle group is looked at as soon as it is enough to have used up that
//! group's quota: before that, it cannot have been throttled.
//!
//! While there is none at all, what was read last is what would be read now. A group at its floor is not even decided about
//! then; when that is so of all, they are not even visited. Their laws hear of the silence when it is over, so that it is no gap.

use bellows_policies::cpu::CpuSample;
use bellows_policies::units::Instant;

/// The use of the subtree that nobody was seen to have caused.
#[derive(Debug, Default)]
pub(super) struct HiddenUse {
    /// Its sum since the start, microseconds.
    sum_us: u64,
    /// Use of the whole subtree at the last tick, microseconds; `None` if it could not be read.
    subtree_us: Option<u64>,
    /// When that was: of what came after nothing is known.
    at: Instant,
}

impl HiddenUse {
    /// Whether nothing in the subtree has run since the last tick, at which `add` was told of it.
    pub(super) fn is_still(&self, subtree_us: Option<u64>) -> bool {
        subtree_us.is_some() && subtree_us == self.subtree_us
    }

    /// What the whole subtree had used at `at`, and what of that since the last tick is explained, microseconds.
    pub(super) fn add(&mut self, at: Instant, subtree_us: Option<u64>, explained_us: u64) {
        if let (Some(before), Some(after)) = (self.subtree_us, subtree_us) {
            self.sum_us += after.saturating_sub(before).saturating_sub(explained_us);
        }
        self.subtree_us = subtree_us;
        self.at = at;
    }
}

/// What was read of one group, and since when nothing can have changed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sample: Option<CpuSample>,
    /// The sum of hidden use at that time.
    hidden_us: u64,
    /// It was not read, and need not have been, until here.
    silent_until: Option<Instant>,
}

impl Seen {
    /// Takes in what was read; returns the use since the last reading, microseconds.
    pub(super) fn read(&mut self, sample: CpuSample, hidden: &HiddenUse) -> u64 {
        let before = self.sample.map_or(sample.usage_us, |before| before.usage_us);
        *self = Self { sample: Some(sample), hidden_us: hidden.sum_us, silent_until: None };
        sample.usage_us.saturating_sub(before)
    }

    /// What it can have used since it was read, microseconds; nothing is known of one that never was.
    pub(super) fn most_us(&self, hidden: &HiddenUse) -> u64 {
        if self.sample.is_some() { hidden.sum_us.saturating_sub(self.hidden_us) } else { 0 }
    }

    /// What would have been read at the last tick, if that is certain.
    pub(super) fn unread(&self, hidden: &HiddenUse) -> Option<CpuSample> {
        let is_certain = hidden.subtree_us.is_some() && hidden.sum_us == self.hidden_us;
        // It may have been read after the subtree was.
        self.sample.filter(|_| is_certain).map(|sample| CpuSample { at: hidden.at.max(sample.at), ..sample })
    }

    /// It is not looked at, since this is what would have been read.
    pub(super) fn skip(&mut self, unread: &CpuSample) {
        self.silent_until = Some(unread.at);
    }

    /// Whether it was not looked at when it was visited last.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_until.is_some()
    }

    /// The sample that tells of the silence before this look.
    pub(super) fn end_silence(&mut self) -> Option<CpuSample> {
        Some(CpuSample { at: self.silent_until.take()?, ..self.sample? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: CpuSample =
        CpuSample { at: Instant(15), usage_us: 500, nr_periods: 0, nr_throttled: 0, throttled_us: 0 };

    #[test]
    fn what_was_not_explained_adds_up_and_ends_the_certainty() {
        let mut hidden = HiddenUse::default();
        let mut seen = Seen::default();
        assert_eq!(seen.read(READ, &hidden), 0, "of the first reading nothing is known");
        assert_eq!(seen.unread(&hidden), None, "the subtree is not known yet");
        assert!(!hidden.is_still(None) && !hidden.is_still(Some(0)));
        hidden.add(Instant(10), Some(1000), 0);
        assert_eq!(seen.unread(&hidden), Some(READ), "never older than the reading");
        hidden.add(Instant(20), Some(1700), 700);
        let at_tick = CpuSample { at: Instant(20), ..READ };
        assert_eq!((seen.most_us(&hidden), seen.unread(&hidden)), (0, Some(at_tick)), "explained");
        assert!(hidden.is_still(Some(1700)) && !hidden.is_still(Some(1701)));
        hidden.add(Instant(30), None, 0);
        assert_eq!(seen.unread(&hidden), None, "unreadable");
        hidden.add(Instant(40), Some(1700), 0);
        hidden.add(Instant(50), Some(1800), 40);
        assert_eq!((seen.most_us(&hidden), seen.unread(&hidden)), (60, None));
        assert_eq!(seen.read(CpuSample { usage_us: 560, ..READ }, &hidden), 60);
        assert_eq!(seen.most_us(&hidden), 0);
    }

    #[test]
    fn a_silence_is_told_once() {
        let until = |at| CpuSample { at: Instant(at), ..READ };
        let mut seen = Seen::default();
        seen.skip(&until(20));
        assert_eq!(seen.end_silence(), None, "never read");
        let _ = seen.read(READ, &HiddenUse::default());
        seen.skip(&until(20));
        seen.skip(&until(30));
        assert!(seen.is_silent());
        assert_eq!((seen.end_silence(), seen.end_silence()), (Some(until(30)), None));
        assert!(!seen.is_silent());
    }
}
