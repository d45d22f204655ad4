//! Squeeze: how much each workload gives when another one waits for a grant and there is none.
//!
//! Problem: the pool is granted out, and somebody who matters needs more at once. Taking all from one ruins it; taking a
//! little from everybody takes from those who matter, too. Approach: rungs, the harmless one first ([`Rung`]; what comes after
//! these two is [`crate::ladder`]); within a
//! rung the lowest priority first, and of equal ones everybody in proportion to what it can spare over its weight. A
//! round is for one waiter and one rung:
//!
//! ```text
//! count each ---> close ---> part of each ---> Workload::squeeze ---> plan, like any shrink
//! ```
//!
//! Properties: no part is larger than what was counted for it; the parts add up to what is missing and one least part
//! at most, or to all that can be spared; nothing is taken from a priority as long as a lower one can spare; parts
//! smaller than [`LEAST_PART`] are not worth a write, so of many small ones some give and others do not. A round costs
//! two walks over the workloads, and is taken only where a grant was refused. A round is used again for the next one:
//! then it allocates only for a priority more than there were.

use crate::budget::LEAST_PART;
use crate::units::Bytes;

/// What is taken. Each only when the one before it has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Room between use and `memory.high`: nobody feels it.
    Slack,
    /// Page cache that the kernel holds to be cold: it may have to be read again.
    Reclaim,
}

impl Rung {
    /// All, the harmless one first.
    pub const ALL: [Self; 2] = [Self::Slack, Self::Reclaim];

    /// As a policy spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Reclaim => "reclaim",
        }
    }

    /// Whether a workload of priority `victim` is asked on behalf of one of priority `waiter`. Slack serves nobody, so
    /// anybody's may go; cache is taken from equals and below.
    #[must_use]
    pub const fn may_take(self, victim: u32, waiter: u32) -> bool {
        match self {
            Self::Slack => true,
            Self::Reclaim => victim <= waiter,
        }
    }
}

/// One round.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Round {
    missing: Bytes,
    /// By priority, the lowest first.
    pots: Vec<Pot>,
}

/// What the workloads of one priority can spare.
#[derive(Clone, Copy, Debug, Default)]
struct Pot {
    priority: u32,
    spare: Bytes,
    /// The sum of what each can spare over its weight.
    shares: f64,
    /// What is taken of it, and how much of that is still to be given.
    take: Bytes,
    left: Bytes,
}

impl Round {
    /// A round for somebody who misses so much, bytes.
    pub fn new(missing: Bytes) -> Self {
        Self { missing, pots: Vec::new() }
    }

    /// Begins another round, for somebody who misses so much, bytes.
    pub fn begin(&mut self, missing: Bytes) {
        self.missing = missing;
        self.pots.clear();
    }

    /// Counts a workload in, with what it can spare.
    pub fn count(&mut self, priority: u32, weight: u32, spare: Bytes) {
        let index = self.find(priority).unwrap_or_else(|index| {
            self.pots.insert(index, Pot { priority, ..Pot::default() });
            index
        });
        let pot = &mut self.pots[index];
        pot.spare = pot.spare.saturating_add(spare);
        pot.shares += share(weight, spare);
    }

    /// Says what is taken of each priority, the lowest first. Returns the sum, bytes.
    pub fn close(&mut self) -> Bytes {
        let mut missing = self.missing;
        for pot in &mut self.pots {
            pot.take = pot.spare.min(missing);
            pot.left = pot.take;
            missing = missing.saturating_sub(pot.take);
        }
        self.missing.saturating_sub(missing)
    }

    /// What a workload gives that was counted in with this spare, bytes; zero when others give enough.
    pub fn part(&mut self, priority: u32, weight: u32, spare: Bytes) -> Bytes {
        let Ok(index) = self.find(priority) else { return Bytes::ZERO };
        let pot = &mut self.pots[index];
        if pot.left == Bytes::ZERO || pot.shares <= 0.0 {
            return Bytes::ZERO;
        }
        let fair =
            if pot.take == pot.spare { spare } else { pot.take.scale(share(weight, spare) / pot.shares) };
        let part = fair.max(LEAST_PART).min(spare).page_ceil();
        pot.left = pot.left.saturating_sub(part);
        part
    }

    fn find(&self, priority: u32) -> Result<usize, usize> {
        self.pots.binary_search_by_key(&priority, |pot| pot.priority)
    }
}

fn share(weight: u32, spare: Bytes) -> f64 {
    spare.0 as f64 / f64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u32 = 100;
    const STANDARD: u32 = 200;
    const LATENCY: u32 = 300;

    /// The parts of a round, MiB, for those who can spare so much: priority, weight, MiB.
    fn parts(missing: u64, spares: &[(u32, u32, u64)]) -> Vec<u64> {
        let mut round = Round::new(Bytes::mib(missing));
        for &(priority, weight, spare) in spares {
            round.count(priority, weight, Bytes::mib(spare));
        }
        let _ = round.close();
        spares
            .iter()
            .map(|&(priority, weight, spare)| round.part(priority, weight, Bytes::mib(spare)).0 >> 20)
            .collect()
    }

    #[test]
    fn the_least_important_give_first_and_in_proportion() {
        let spares = [(LATENCY, 100, 50), (STANDARD, 100, 40), (BATCH, 100, 20), (BATCH, 100, 10)];
        assert_eq!(parts(15, &spares), [0, 0, 10, 5]);
        assert_eq!(parts(30, &spares), [0, 0, 20, 10]);
        assert_eq!(parts(50, &spares), [0, 20, 20, 10]);
        assert_eq!(parts(500, &spares), [50, 40, 20, 10], "all that there is");
        assert_eq!(parts(0, &spares), [0, 0, 0, 0]);
    }

    #[test]
    fn weight_protects() {
        assert_eq!(parts(12, &[(BATCH, 100, 20), (BATCH, 50, 20)]), [4, 8]);
        // Its share would be more than it has: the round gives less, and the next one takes the rest.
        assert_eq!(parts(30, &[(BATCH, 100, 20), (BATCH, 1, 20)]), [1, 20]);
    }

    #[test]
    fn of_many_small_parts_only_as_many_are_taken_as_are_missing() {
        let parts = parts(10, &vec![(STANDARD, 100, 2); 100]);
        assert_eq!((parts.iter().sum::<u64>(), parts.iter().filter(|&&part| part > 0).count()), (10, 10));
    }

    #[test]
    fn cache_is_taken_from_equals_and_below_only() {
        for (victim, waiter, slack, cache) in [
            (LATENCY, BATCH, true, false),
            (STANDARD, BATCH, true, false),
            (BATCH, BATCH, true, true),
            (STANDARD, LATENCY, true, true),
        ] {
            assert_eq!(Rung::Slack.may_take(victim, waiter), slack);
            assert_eq!(Rung::Reclaim.may_take(victim, waiter), cache, "{victim} for {waiter}");
        }
    }
}
