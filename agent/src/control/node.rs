//! The node's own shortage, of memory or of cpus: then it is the node that waits, and the ladder is climbed for it.
//!
//! A stall is heard; what is available is read once a second, by the slow pass, and while there is a shortage with each slice.

use std::fs::File;
use std::time::Duration;

use bellows_policies::ladder::{NODE, NodePressure, PressureLaw};
use bellows_policies::units::{Bytes, Instant};

use super::control_loop::Control;
use super::squeeze::Waiter;
use crate::journal::What;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::clock;
use crate::kernel::pressure::{self, MemoryFile};
use crate::kernel::watch::{Key, Watcher};

/// Time between two reads while all is well.
const READ_EVERY: Duration = Duration::from_secs(1);

/// What is known of the node's memory.
#[derive(Debug)]
pub(super) struct NodeMemoryWatch {
    law: PressureLaw,
    file: Option<MemoryFile>,
    /// Kept open, or it would tell nothing more.
    _trigger: Option<File>,
    /// What is to be told when the loop begins.
    trouble: Vec<String>,
    pressure: NodePressure,
    next_read: Instant,
    unknown_since: Option<Instant>,
}

impl NodeMemoryWatch {
    pub(super) fn new(law: PressureLaw, root: &Cgroup, watcher: &mut Watcher) -> Self {
        let mut trouble = Vec::new();
        let armed = pressure::trigger(root, law.stalled)
            .and_then(|file| watcher.add_trigger(&file).map(|()| file))
            .map_err(|error| {
                trouble
                    .push(format!("stalls for memory are not heard, only what is available counts: {error}"));
            });
        let file = MemoryFile::open().map_err(|error| {
            trouble.push(format!("it is not known how much memory is available: {error}"));
        });
        Self {
            law,
            file: file.ok(),
            _trigger: armed.ok(),
            trouble,
            pressure: NodePressure::default(),
            next_read: Instant(0),
            unknown_since: None,
        }
    }

    pub(super) const fn govern(&mut self, law: PressureLaw) {
        self.law = law;
    }
}

impl Control {
    /// Tasks stall: what is available is looked at with the next slice.
    pub(super) fn node_stalled(&mut self, now: Instant) {
        self.node_memory.pressure.stalled(now);
        self.node_memory.next_read = now;
    }

    /// One slice: looks whether the node is short of anything, and climbs or descends.
    pub(super) fn tend_ladder(&mut self, now: Instant) {
        for text in std::mem::take(&mut self.node_memory.trouble) {
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        }
        if self.released || self.stopping {
            return;
        }
        let missing = self.look_at_node(now);
        if let Some(missing) = missing.filter(|missing| *missing > Bytes::ZERO) {
            let waiter = Waiter { key: None, priority: u32::MAX, tenant: None };
            self.squeeze_round(&waiter, true, missing, now);
        }
        if let Some(who) = self.cpu.who_is_short(now) {
            self.cpu_short(who, now);
        }
        // What is not known is no calm, but not for longer than the longest hold.
        let longest = Duration::from_millis(self.climb.ladder.law().hold_most_ms);
        if self.node_memory.unknown_since.is_none_or(|since| now.since(since) >= longest) {
            self.descend(now);
        }
        self.publish_leases();
    }

    /// What the node lacks of memory; `None` when that is not known, which is told when it begins.
    fn look_at_node(&mut self, now: Instant) -> Option<Bytes> {
        let watch = &mut self.node_memory;
        if now >= watch.next_read {
            if let Some(Ok(memory)) = watch.file.as_ref().map(MemoryFile::read) {
                watch.pressure.observe(&watch.law, now, memory);
            }
            watch.next_read = now.plus(READ_EVERY);
        }
        let missing = watch.pressure.missing(&watch.law, now);
        if missing.is_some_and(|missing| missing > Bytes::ZERO) {
            watch.next_read = now;
        }
        if missing.is_none() && watch.unknown_since.is_none() {
            let text = "it is not known any more whether the node is short of memory: nobody is held or let go \
                        for it until it is";
            self.metrics.squeezes.node_unknown.inc();
            self.journal.record(
                clock::unix_nanoseconds(),
                &self.node,
                What::Trouble { text: text.to_owned() },
            );
        }
        watch.unknown_since = missing.is_none().then(|| watch.unknown_since.unwrap_or(now));
        self.metrics.squeezes.node(missing);
        missing
    }

    /// The cpus are short for a workload, or for the node: batch lends of its quotas.
    fn cpu_short(&mut self, who: u64, now: Instant) {
        let key = (who != NODE).then(|| Key::from_number(who));
        let priority = match key.map(|key| self.registry.get(key)) {
            Some(Some(entry)) => entry.priority(),
            Some(None) => return,
            None => u32::MAX,
        };
        if self.climb.ladder.cpu_short(priority, now) {
            let waiter = Waiter { key, priority, tenant: None };
            self.slow_down(&waiter, Bytes::ZERO, now);
        }
    }
}
