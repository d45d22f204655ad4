//! What goes wrong, and how often. A rate of `n` is once in `n` times, zero is never.
//!
//! The wall clock is missing on purpose: nothing that decides is ever given it, so there is nothing to jump. What does reach
//! the loop is the monotonic clock, which a suspended machine moves at once for everybody.

use crate::chance::Chance;
use crate::load::SECOND;

/// One millisecond, nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// The rates of a run. Mean times are nanoseconds, and of the whole node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// An event is not heard at all.
    pub(crate) event_lost: u64,
    /// An event is heard up to 2 s late.
    pub(crate) event_late: u64,
    /// The look into `memory.stat` fails.
    pub(crate) detail_lost: u64,
    /// It comes up to 2 s late.
    pub(crate) detail_late: u64,
    /// A write answers EINTR or EBUSY.
    pub(crate) write_fails: u64,
    /// The slow lane takes up to 10 s for a plan.
    pub(crate) slow: u64,
    /// The signal that cancels a shrink is lost, or hits the next one of that thread.
    pub(crate) signal_lost: u64,
    /// The control thread is off its cpu for up to 5 ms in the middle of a turn.
    pub(crate) preempted: u64,
    /// The sample of a look was overtaken by a newer one.
    pub(crate) overtaken: u64,
    /// A quota tick comes up to 900 ms late.
    pub(crate) tick_late: u64,
    /// Somebody removes a cgroup.
    pub(crate) vanish: u64,
    /// Somebody writes a limit.
    pub(crate) foreign: u64,
    /// The agent hangs for up to 6 s.
    pub(crate) hang: u64,
    /// The agent is killed, and started again up to 5 s later.
    pub(crate) kill: u64,
    /// The machine is suspended for up to an hour.
    pub(crate) suspend: u64,
}

impl Faults {
    /// Each kind never, seldom or often.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let mut rate = |often: u64| chance.of(&[0, often * 10, often]);
        Self {
            event_lost: rate(3),
            event_late: rate(4),
            detail_lost: rate(5),
            detail_late: rate(5),
            write_fails: rate(8),
            slow: rate(2),
            signal_lost: rate(2),
            preempted: rate(20),
            overtaken: rate(20),
            tick_late: rate(20),
            vanish: rate(10 * SECOND),
            foreign: rate(5 * SECOND),
            hang: rate(20 * SECOND),
            kill: rate(20 * SECOND),
            suspend: rate(60 * SECOND),
        }
    }

    /// Whether nothing ever goes wrong.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something that happens each `mean` ns on average happens in the next `span` ns.
    pub(crate) fn strikes(mean: u64, span: u64, chance: &mut Chance) -> bool {
        mean > 0 && chance.below(mean) < span
    }
}
