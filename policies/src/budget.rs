//! The budget: how much may be granted in sum. One counter, so that every operation is O(1).
//!
//! Problem: grants are given on the fast path, thousands of workloads may ask, and the sum must never exceed the
//! pool. Approach: a grant is charged *before* its write and given back after a failed one; what a shrink frees is
//! given back only *after* its write succeeded. So the counter is never below what the kernel was told.
//!
//! Properties: granted <= pool whatever is asked in whatever order; nothing is charged unless something is granted;
//! an ungranted request is either deferred (it may fit later) or infeasible (it never will).

use std::fmt;

use crate::units::Bytes;

/// A part of a grow that is smaller than this is not worth its write; it is deferred instead.
pub const LEAST_PART: Bytes = Bytes::MIB;

/// What may be granted in sum, and what has been.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// What there is, bytes.
    pub capacity: Bytes,
    /// What is never granted, bytes: bands and the emergency pool live there.
    pub reserve: Bytes,
    /// The pool is (capacity - reserve) times this; 1.0 promises nothing twice.
    pub overcommit: f64,
    granted: Bytes,
}

/// The answer to a request for more.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// All of it, charged.
    Full,
    /// As much as there was, charged: the new value of `memory.high`, not the difference.
    Partial(Bytes),
    /// Nothing now; it may fit later.
    Deferred,
    /// Nothing, ever: more than the whole pool was asked for.
    Infeasible,
}

/// Why a launch was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The floor does not fit beside what is granted; it may later.
    Deferred {
        /// The floor asked for, bytes.
        floor: Bytes,
        /// What was free, bytes.
        free: Bytes,
    },
    /// The floor is larger than the whole pool.
    Infeasible {
        /// The floor asked for, bytes.
        floor: Bytes,
        /// The whole pool, bytes.
        pool: Bytes,
    },
}

impl Budget {
    /// A budget with nothing granted and no overcommit.
    #[must_use]
    pub const fn new(capacity: Bytes, reserve: Bytes) -> Self {
        Self { capacity, reserve, overcommit: 1.0, granted: Bytes::ZERO }
    }

    /// The same budget with another ratio of overcommit.
    #[must_use]
    pub const fn with_overcommit(self, overcommit: f64) -> Self {
        Self { overcommit, ..self }
    }

    /// What may be granted in sum: (capacity - reserve) times overcommit.
    #[must_use]
    pub fn pool(&self) -> Bytes {
        self.capacity.saturating_sub(self.reserve).scale(self.overcommit)
    }

    /// What is granted.
    #[must_use]
    pub const fn granted(&self) -> Bytes {
        self.granted
    }

    /// What is left of the pool; zero also when the pool has become smaller than what is granted.
    #[must_use]
    pub fn free(&self) -> Bytes {
        self.pool().saturating_sub(self.granted)
    }

    /// Charges the floor of a launch, all or nothing.
    pub fn admit(&mut self, floor: Bytes) -> Result<(), Refusal> {
        let (pool, free) = (self.pool(), self.free());
        if floor > pool {
            return Err(Refusal::Infeasible { floor, pool });
        }
        if floor > free {
            return Err(Refusal::Deferred { floor, free });
        }
        self.granted = self.granted.saturating_add(floor);
        Ok(())
    }

    /// Charges a grow of one workload from `now_granted` to `want`, or as much of it as there is.
    pub fn request(&mut self, now_granted: Bytes, want: Bytes) -> Grant {
        let more = want.saturating_sub(now_granted);
        let free = self.free();
        if more <= free {
            self.granted = self.granted.saturating_add(more);
            return Grant::Full;
        }
        let part = free.page_floor();
        if part >= LEAST_PART {
            self.granted = self.granted.saturating_add(part);
            return Grant::Partial(now_granted.saturating_add(part));
        }
        if want > self.pool() { Grant::Infeasible } else { Grant::Deferred }
    }

    /// Counts what a workload holds already, whether it fits or not: an adopted one has it whatever we say.
    pub const fn adopt(&mut self, granted: Bytes) {
        self.granted = self.granted.saturating_add(granted);
    }

    /// Takes back what was charged: a workload ended, shrank, or its write failed.
    pub const fn give_back(&mut self, bytes: Bytes) {
        self.granted = self.granted.saturating_sub(bytes);
    }
}

impl Refusal {
    /// Whether trying again later can help.
    #[must_use]
    pub const fn is_deferred(&self) -> bool {
        matches!(self, Self::Deferred { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deferred { floor, free } => {
                write!(f, "a floor of {floor} does not fit now: {free} of the budget are free")
            }
            Self::Infeasible { floor, pool } => {
                write!(f, "a floor of {floor} can never fit: the whole budget is {pool}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: fn(u64) -> Bytes = Bytes::mib;

    #[test]
    fn pool_is_capacity_less_reserve_times_overcommit() {
        let budget = Budget::new(MIB(1000), MIB(100));
        assert_eq!(budget.pool(), MIB(900));
        assert_eq!(budget.with_overcommit(1.5).pool(), MIB(1350));
        assert_eq!(budget.with_overcommit(f64::NAN).pool(), Bytes::ZERO);
        assert_eq!(Budget::new(MIB(1), MIB(2)).pool(), Bytes::ZERO);
    }

    #[test]
    fn admits_all_or_nothing() {
        let mut budget = Budget::new(MIB(100), MIB(0));
        assert_eq!(budget.admit(MIB(60)), Ok(()));
        assert_eq!(budget.admit(MIB(60)), Err(Refusal::Deferred { floor: MIB(60), free: MIB(40) }));
        assert_eq!(budget.admit(MIB(101)), Err(Refusal::Infeasible { floor: MIB(101), pool: MIB(100) }));
        assert_eq!((budget.granted(), budget.free()), (MIB(60), MIB(40)));
    }

    #[test]
    fn grants_fully_partly_later_or_never() {
        let mut budget = Budget::new(MIB(100), MIB(0));
        assert_eq!(budget.request(MIB(0), MIB(64)), Grant::Full);
        assert_eq!(budget.request(MIB(64), MIB(64)), Grant::Full, "nothing more is always there");
        assert_eq!(budget.request(MIB(64), MIB(128)), Grant::Partial(MIB(100)));
        assert_eq!(budget.request(MIB(20), MIB(30)), Grant::Deferred);
        assert_eq!(budget.request(MIB(100), MIB(101)), Grant::Infeasible);
        assert_eq!(budget.granted(), MIB(100));
        budget.give_back(MIB(40));
        assert_eq!(budget.free(), MIB(40));
    }

    #[test]
    fn adopted_grants_may_exceed_the_pool_but_nothing_more_is_given() {
        let mut budget = Budget::new(MIB(100), MIB(0));
        budget.adopt(MIB(150));
        assert_eq!(budget.free(), Bytes::ZERO);
        assert_eq!(budget.request(MIB(10), MIB(20)), Grant::Deferred);
    }
}
