//! The truth about an end: pure.

use bellows_policies::sample::MemoryEvents;

use super::records::{Exit, Witness};
use crate::kernel::spawn;

/// How it ended, from three witnesses: init's record, the kernel's kill counter, the parent's wait. The last is
/// missing after a takeover. Then an init that wrote nothing was killed: it is PID 1 of its namespace and blocks every other
/// signal, so only SIGKILL from outside ends it before it has written.
pub(super) fn how_it_ended(record: Witness, events: MemoryEvents, process: Option<spawn::Ended>) -> Exit {
    match record {
        // The group is killed as one, but init may have seen the first victim before it was killed itself.
        Witness::Silent | Witness::Lost | Witness::Told(Exit::Signaled { signal: libc::SIGKILL })
            if events.oom_kill > 0 =>
        {
            Exit::OutOfMemory
        }
        Witness::Told(exit) => exit,
        // What init itself returns then.
        Witness::Unstarted => Exit::Exited { code: 1 },
        Witness::Silent | Witness::Lost => match process {
            Some(spawn::Ended::Signaled(signal)) => Exit::Signaled { signal },
            Some(spawn::Ended::Exited(code)) => Exit::Exited { code },
            None if record == Witness::Silent => Exit::Signaled { signal: libc::SIGKILL },
            None => Exit::Vanished,
        },
    }
}

/// What counts of a workload's memory events for how it ended: all that is below it, too, as the killed may be there. Not so where only
/// a limit that was set inside was met (`oom` of cgroups below, and none of its own): who died of that was no end of the workload. The
/// counters do not tell that from a limit above it that is met later: then its end is told as one by a signal.
pub(super) const fn of_its_end(all: MemoryEvents, own: MemoryEvents) -> MemoryEvents {
    if all.oom > 0 && own.oom == 0 { own } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oom(kills: u64) -> MemoryEvents {
        MemoryEvents { oom_kill: kills, ..MemoryEvents::default() }
    }

    #[test]
    fn a_limit_inside_is_no_end() {
        let events = |oom, oom_kill| MemoryEvents { oom, oom_kill, ..MemoryEvents::default() };
        assert_eq!(of_its_end(events(1, 1), events(0, 0)).oom_kill, 0, "met inside only");
        assert_eq!(of_its_end(events(2, 2), events(1, 0)).oom_kill, 2, "its own was met");
        assert_eq!(of_its_end(events(0, 1), events(0, 1)).oom_kill, 1, "one above was met");
    }

    #[test]
    fn the_truth_about_an_end() {
        let told = |code| Witness::Told(Exit::Exited { code });
        let signaled = |signal| Exit::Signaled { signal };
        let killed = Some(spawn::Ended::Signaled(9));
        let table = [
            (told(3), oom(0), Some(spawn::Ended::Exited(3)), Exit::Exited { code: 3 }),
            (Witness::Told(signaled(15)), oom(0), Some(spawn::Ended::Exited(143)), signaled(15)),
            (Witness::Silent, oom(1), killed, Exit::OutOfMemory),
            (Witness::Told(signaled(9)), oom(2), killed, Exit::OutOfMemory),
            // The command outlived the kill of a helper and said so itself.
            (told(1), oom(1), Some(spawn::Ended::Exited(1)), Exit::Exited { code: 1 }),
            (Witness::Silent, oom(0), killed, signaled(9)),
            (Witness::Lost, oom(0), killed, signaled(9)),
            // After a takeover nobody has waited for it.
            (told(3), oom(0), None, Exit::Exited { code: 3 }),
            (Witness::Silent, oom(1), None, Exit::OutOfMemory),
            (Witness::Silent, oom(0), None, signaled(9)),
            (Witness::Unstarted, oom(0), None, Exit::Exited { code: 1 }),
            (Witness::Lost, oom(0), None, Exit::Vanished),
        ];
        for (record, events, process, expected) in table {
            assert_eq!(how_it_ended(record, events, process), expected, "{record:?} {events:?} {process:?}");
        }
    }
}
