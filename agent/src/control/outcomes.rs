//! What came of a move of the limits: did it help? Seen by the slow pass, some time after the move, from what looks have read
//! anyway. One at a time per workload: a further move is judged instead of the one before, which it has answered.

use bellows_policies::units::Instant;
use bellows_policies::{Detail, Limits, Sample, Verb, Workload};

use super::registry::Entry;
use crate::journal::{What, Writer};
use crate::kernel::clock;

/// A move whose outcome is not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    verb: Verb,
    to: Limits,
    /// The look that it is counted from. The one that moved saw crossings of the old limit only, and those that came in between
    /// are told by the next one: so it is the first after the move.
    from: Option<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    hits: u64,
    /// The last detail then, with the time waited so far.
    waited: Option<(Instant, u64)>,
}

impl Entry {
    /// Takes in that limits were written: these are in force, and what comes of them will be seen.
    pub(super) fn has_moved(&mut self, verb: Verb, to: Limits, at: Instant) {
        self.law.commit(to, at);
        self.is_unsure = false;
        self.publish(to);
        self.published.moved();
        self.outcome = Pending::new(verb, to);
    }
}

impl Pending {
    /// Limits were moved. What comes of a failure is the end.
    pub(super) fn new(verb: Verb, to: Limits) -> Option<Self> {
        (verb != Verb::Fail).then_some(Self { verb, to, from: None })
    }

    /// Begins to count, or tells what came of it when enough time has passed.
    fn look(&mut self, law: &Workload, now: Instant) -> Option<What> {
        let sample = law.last_sample()?;
        let seen = Seen { at: now, hits: hits(sample), waited: law.detail().map(waited) };
        let Some(from) = self.from else {
            self.from = Some(seen);
            return None;
        };
        let over = now.since(from.at);
        if over.as_millis() < u128::from(law.law().outcome_ms) {
            return None;
        }
        let hits = seen.hits.saturating_sub(from.hits);
        let limits = law.limits();
        // A shrink has helped when use has stayed below; a reader is held at its limit, and meets it all the time.
        let helped = match self.verb {
            Verb::Grow => hits == 0 || law.is_held(),
            Verb::Shrink => limits.high <= self.to.high && (hits == 0 || law.is_held()),
            Verb::Fail | Verb::Reclaim | Verb::Hold => false,
        };
        Some(What::OutcomeSeen {
            of: 0,
            verb: self.verb,
            helped,
            over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
            hits,
            waited: share(from.waited, seen.waited),
            current: sample.current,
            limits,
        })
    }
}

/// Looks whether the outcome of a workload's last move can be told, and tells it.
pub(super) fn look(journal: &Writer, entry: &mut Entry, now: Instant) {
    let Some(pending) = &mut entry.outcome else { return };
    if let Some(what) = pending.look(&entry.law, now) {
        entry.outcome = None;
        journal.decided(clock::unix_nanoseconds(), &entry.name, &entry.version, what);
    }
}

fn hits(sample: &Sample) -> u64 {
    sample.events.high.saturating_add(sample.events.max)
}

fn waited(detail: &Detail) -> (Instant, u64) {
    (detail.at, detail.pressure.some_us)
}

/// The time waited between two details, as a share of it; unknown unless there were two.
fn share(before: Option<(Instant, u64)>, after: Option<(Instant, u64)>) -> Option<f64> {
    let ((from, waited_before), (to, waited)) = (before?, after?);
    let us = to.since(from).as_micros();
    (us > 0).then(|| waited.saturating_sub(waited_before) as f64 / us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::{Bytes, Law, MemoryEvents};

    fn look_at(workload: &mut Workload, ms: u64, mib: u64, high: u64) {
        let events = MemoryEvents { high, ..MemoryEvents::default() };
        let sample = Sample { at: Instant(ms * 1_000_000), current: Bytes::mib(mib), events };
        let _ = bellows_policies::step(workload, &sample);
    }

    #[test]
    fn a_move_is_judged_a_second_after_the_look_that_follows_it() {
        let to = Limits { high: Bytes::mib(64), max: Bytes::mib(80) };
        for (verb, hits, helped) in
            [(Verb::Grow, 0, true), (Verb::Grow, 3, false), (Verb::Shrink, 0, true), (Verb::Shrink, 1, false)]
        {
            let mut workload = Workload::new("64M..512M".parse().unwrap(), Law::default());
            let mut pending = Pending::new(verb, to).unwrap();
            look_at(&mut workload, 1, 10, 7);
            assert!(pending.look(&workload, Instant(1_000_000)).is_none(), "begins to count");
            look_at(&mut workload, 900, 10, 7 + hits);
            assert!(pending.look(&workload, Instant(900_000_000)).is_none(), "too early");
            let seen = pending.look(&workload, Instant(1_101_000_000)).unwrap();
            let What::OutcomeSeen { helped: told, hits: counted, over_ms, .. } = seen else {
                panic!("{seen:?}")
            };
            assert_eq!((told, counted, over_ms), (helped, hits, 1100), "{verb} with {hits} hits");
        }
    }
}
