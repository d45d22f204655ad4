//! The slow pass: looks at workloads that nobody was heard of, so that a lost event heals, and what moves without events (a
//! use that falls, a hold that ends, a limit that somebody wrote) is seen.
//!
//! A thousand looks a second would be most of what an idle agent costs. So a workload whose use has not moved for a while is at
//! rest, and looked at ever more rarely, every half minute at last. No lost event stays lost for longer than before: the kernel has counted it, in
//! `memory.events` of the whole subtree too, and one read tells whether there was any. Then everybody is looked at within a
//! second. After an overflow of the kernel's queue that is done at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bellows_policies::sample::MemoryEvents;
use bellows_policies::units::{Bytes, Instant};

use super::control_loop::Control;
use super::outcomes;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::parse;

/// Time between two slices of the slow pass.
const SLICE_EVERY: Duration = Duration::from_millis(100);
/// So many times that, and so much more in each slice, while everybody is at rest: to wake up is most of what a slice costs.
const CALM_PACE: u32 = 2;
/// Slices of a pass through all workloads: a second. More when each were more than [`SLICE`].
const SLICES: usize = 10;
/// Looks in one slice: at some 10 us each, an event waits behind them for less than a millisecond.
const SLICE: usize = 64;
/// Time without a change after which a workload is at rest: longer than the first hold of slack, so that what is not used is
/// taken back as soon as ever.
const AWAKE: Duration = Duration::from_secs(16);
/// Time between two looks at rest: half of the time that it has rested for, between these bounds.
const AT_REST: Duration = Duration::from_secs(8);
const AT_REST_MOST: Duration = Duration::from_secs(32);
/// A change of use that is not noise: a quarter of the least slack that the law takes.
const CHANGE: Bytes = Bytes::MIB;

/// Where the slow pass is.
#[derive(Debug)]
pub(super) struct Pass {
    /// `memory.events` of the subtree, and what it said.
    events: File,
    seen: MemoryEvents,
    /// Workloads still to be looked at in turn, at rest or not, since something happened to one of them.
    stirred: usize,
    /// Slices since one met a workload that was not at rest.
    calm: usize,
    /// Workloads still to be looked at without pause.
    pub(super) urgent: usize,
    next_slot: usize,
    next_slice: Instant,
    /// Since when the slice that is due has waited for a turn of its own.
    put_off: Option<Instant>,
}

/// Since when the use of a workload has been this, or about this.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rest {
    since: Option<Instant>,
    current: Bytes,
}

impl Rest {
    /// Takes in a use; never more than [`CHANGE`] from the first one of a rest.
    fn note(&mut self, now: Instant, current: Bytes) {
        if self.since.is_none() || current.0.abs_diff(self.current.0) > CHANGE.0 {
            *self = Self { since: Some(now), current };
        }
    }

    fn is_awake(self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.since(since) < AWAKE)
    }

    /// Whether it is to be looked at, the last time having been at `looked`.
    fn is_due(self, now: Instant, looked: Instant) -> bool {
        let rested = self.since.map_or(Duration::ZERO, |since| now.since(since));
        self.is_awake(now) || now.since(looked) >= (rested / 2).clamp(AT_REST, AT_REST_MOST)
    }
}

impl Pass {
    /// A pass through the workloads below `subtree`.
    pub(super) fn new(subtree: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self {
            events: subtree.open_read("memory.events")?,
            seen: MemoryEvents::default(),
            stirred: 0,
            calm: 0,
            urgent: 0,
            next_slot: 0,
            next_slice: Instant(0),
            put_off: None,
        })
    }

    /// How long to wait for the next slice.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.urgent > 0 { Duration::ZERO } else { self.next_slice.since(now).min(SLICE_EVERY * CALM_PACE) }
    }

    fn pace(&self) -> u32 {
        if self.calm >= SLICES && self.stirred == 0 { CALM_PACE } else { 1 }
    }

    /// Whether anything was counted since this was asked last. Where it cannot be read, there is nothing below.
    fn has_stirred(&mut self) -> bool {
        let events = self.read().unwrap_or_default();
        std::mem::replace(&mut self.seen, events) != events
    }

    fn read(&self) -> io::Result<MemoryEvents> {
        let mut text = [0_u8; 256];
        let length = self.events.read_at(&mut text, 0)?;
        Ok(parse::memory_events(&text[..length]))
    }
}

impl Control {
    /// Visits the next few workloads, if it is time.
    pub(super) fn slow_pass(&mut self, woke: Instant) {
        let total = self.registry.len();
        if self.pass.urgent == 0 {
            if woke < self.pass.next_slice {
                return;
            }
            // Whoever was heard comes first: a slice has a turn of its own, the next one, unless all have somebody heard.
            if self.looked == woke {
                let since = *self.pass.put_off.get_or_insert(woke);
                if woke < since.plus(SLICE_EVERY) {
                    return;
                }
            }
        }
        self.pass.put_off = None;
        let pace = self.pass.pace();
        self.pass.next_slice = woke.plus(SLICE_EVERY * pace);
        self.journal.nudge();
        self.publish_tenants();
        self.keep.save_again();
        self.tend_ladder(woke);
        if self.pass.urgent == 0 && self.pass.stirred == 0 && self.pass.has_stirred() {
            // From the next slice on: by then whoever is at work has been heard, if he was.
            self.pass.stirred = total;
            self.pass.calm = 0;
            return;
        }
        self.pass.calm = self.pass.calm.saturating_add(1);
        let is_everybody = self.pass.urgent > 0 || self.pass.stirred > 0;
        let most = if self.pass.urgent > 0 { SLICE } else { total.div_ceil(SLICES) * pace as usize };
        let (mut visits, mut looks) = (0, 0);
        while visits < most && looks < SLICE {
            let next = self.registry.next_from(self.pass.next_slot).or_else(|| self.registry.next_from(0));
            let Some(key) = next else { break };
            self.pass.next_slot = key.slot as usize + 1;
            visits += 1;
            let Some(entry) = self.registry.get(key) else { continue };
            entry.rest.note(woke, entry.law.current());
            if entry.rest.is_awake(woke) {
                self.pass.calm = 0;
            }
            outcomes::look(&self.journal, entry, woke);
            // No event tells of what an observed one does.
            if is_everybody || entry.is_observed() || entry.rest.is_due(woke, entry.looked) {
                looks += 1;
                self.look(key, woke);
                self.compare(key, woke);
                self.watch(key, woke);
            }
        }
        self.pass.urgent = self.pass.urgent.saturating_sub(visits);
        self.pass.stirred = self.pass.stirred.saturating_sub(visits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of a hundred in which a workload is looked at that is visited once a second, with this use.
    fn looks(current: impl Fn(u64) -> Bytes) -> Vec<u64> {
        let (mut rest, mut looked, mut looks) = (Rest::default(), Instant(0), Vec::new());
        for second in 1..=100 {
            let now = Instant(second * 1_000_000_000);
            // As it was at the last look.
            rest.note(now, current(looked.0 / 1_000_000_000));
            if rest.is_due(now, looked) {
                looked = now;
                looks.push(second);
            }
        }
        looks
    }

    #[test]
    fn who_is_quiet_is_looked_at_less_often() {
        // At rest for 30 seconds, not looked at for 15; for 60 and 30; then never longer than 32.
        let resting: Vec<u64> = (1..=16).chain([31, 61, 93]).collect();
        assert_eq!(looks(|_| Bytes::ZERO), resting);
        assert_eq!(looks(|second| Bytes((second % 2) << 20)), resting, "noise is no change");
        assert_eq!(looks(|second| Bytes::mib(second % 3)).len(), 100, "who moves is awake");
        let grown = looks(|second| Bytes::mib(if second > 50 { 5 } else { 0 }));
        // Seen with the look at 61, awake from the next visit on.
        let awake: Vec<u64> = (61..=77).chain([92]).collect();
        assert_eq!(grown[grown.len() - awake.len()..], awake, "{grown:?}");
    }
}
