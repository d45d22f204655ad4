//! Foreign writes: a limit in the kernel that is not the governed one was written by somebody else. It is told, counted, and
//! the governed limits are put back; or, where the class yields, left to whoever wrote it, the workload being observed from then on.
//!
//! Compared, not heard: inotify tells of each write, one's own too, and of none that came before it listened. Two reads per
//! workload every [`COMPARE_EVERY`] cost nothing beside the slow pass.

use std::time::Duration;

use bellows_policies::ruleset::Foreign;
use bellows_policies::units::{Instant, Limit};

use super::control_loop::Control;
use super::incidents;
use super::takeover::put_back;
use crate::journal::{Kind, What};
use crate::kernel::clock;
use crate::kernel::limit::LimitFile;
use crate::kernel::watch::Key;
use crate::workload::adoption;

/// Time between two comparisons of one workload.
const COMPARE_EVERY: Duration = Duration::from_secs(5);

impl Control {
    /// Compares a workload's limits with the kernel's, if it is time and nothing of ours is on its way.
    pub(super) fn compare(&mut self, key: Key, woke: Instant) {
        let Some(entry) = self.registry.get(key) else { return };
        if woke < entry.compare_at || !entry.is_governed() {
            return;
        }
        let is_first = entry.compare_at == Instant(0);
        entry.compare_at = woke.plus(COMPARE_EVERY);
        // Just launched or taken over: nobody else has had the time, and its first growth needs this thread.
        if is_first {
            return;
        }
        if entry.published.is_yielded() {
            return self.take_mode(key);
        }
        let Some(open) = &mut entry.open else { return };
        if entry.shrink.is_some()
            || (entry.law.is_released() && self.released)
            || (entry.law.is_failed() && open.max.is_none())
            || entry.shadow.is_some()
        {
            return;
        }
        // Gone or unreadable: the look says so.
        let max = open.max.as_ref().map(LimitFile::read).transpose();
        let (Ok(high), Ok(max)) = (open.high.read(), max) else { return };
        let governed = entry.law.limits();
        // Of what somebody else made `memory.max` is as it should be, whatever it is.
        let max = max.unwrap_or(Limit::At(governed.max));
        // Who is to end stands at its `memory.max`, which somebody may have raised, and who waits for room in the budget stands
        // open: a tripwire below that would be one that nobody tends.
        let (is_failed, is_open) = (entry.law.is_failed(), entry.law.is_released());
        let most = max.max(Limit::At(governed.max));
        let expected = if is_failed {
            (most, most)
        } else if is_open {
            (high.max(open.before.min(most)), most)
        } else {
            (Limit::At(governed.high), Limit::At(governed.max))
        };
        let files = [("memory.high", expected.0, high), ("memory.max", expected.1, max)];
        let yielded = entry.class.foreign == Foreign::Yield && !entry.is_unsure;
        let mut is_foreign = false;
        for (file, expected, found) in files {
            if is_same(expected, found) {
                continue;
            }
            is_foreign = true;
            if entry.is_unsure {
                // Our own failed write, by halves: put back, and nobody's fault.
                continue;
            }
            self.metrics.foreign_writes.inc();
            let (expected, found) = (expected.to_string(), found.to_string());
            let what = What::ForeignWrite { file: file.to_owned(), expected, found, yielded };
            self.journal.record(clock::unix_nanoseconds(), &entry.name, what);
        }
        if !is_foreign {
            return;
        }
        if yielded {
            incidents::tell(&self.lanes, &self.metrics, entry, Kind::ForeignWrite);
            entry.published.set_yielded(true);
            return self.take_mode(key);
        }
        if entry.adopted.is_some() && !entry.is_unsure && !is_same(expected.0, high) {
            // Its maker wants that: it is given back to it, in the end.
            open.before = high;
            let _ = adoption::note(open.cgroup(), high);
        }
        let open = &*open;
        let current = entry.law.current();
        let put_back = if is_failed || is_open {
            let high = if is_open { open.before } else { most };
            open.max.as_ref().map_or(Ok(()), |file| file.write(most)).and_then(|()| open.high.write(high))
        } else {
            put_back(open, &mut entry.law, (high, max), current)
        };
        if !entry.is_unsure {
            incidents::tell(&self.lanes, &self.metrics, entry, Kind::ForeignWrite);
        }
        if put_back.is_err() {
            entry.is_unsure = true;
        }
        self.look(key, clock::now());
    }
}

/// Equal to the page, as the kernel rounds.
fn is_same(expected: Limit, found: Limit) -> bool {
    let rounded = match expected {
        Limit::At(bytes) => Limit::At(bytes.page_floor()),
        Limit::Max => Limit::Max,
    };
    found == rounded || found == expected
}

#[cfg(test)]
mod tests {
    use bellows_policies::units::Bytes;

    use super::*;

    #[test]
    fn limits_are_the_same_to_the_page() {
        let table = [
            (Limit::At(Bytes(8192)), Limit::At(Bytes(8192)), true),
            (Limit::At(Bytes(8193)), Limit::At(Bytes(8192)), true),
            (Limit::At(Bytes(8192)), Limit::At(Bytes(4096)), false),
            (Limit::At(Bytes(8192)), Limit::At(Bytes(12288)), false),
            (Limit::At(Bytes(8192)), Limit::Max, false),
            (Limit::At(Bytes(u64::MAX)), Limit::Max, false),
            (Limit::Max, Limit::Max, true),
        ];
        for (expected, found, same) in table {
            assert_eq!(is_same(expected, found), same, "{expected:?} {found:?}");
        }
    }
}
