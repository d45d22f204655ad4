//! Answers to those who ask: a grant, or a refusal that says at which level and for how long.

use std::fmt;

use crate::units::Bytes;

/// Where a request does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// In the node's pool.
    Node,
    /// Under the tenant's cap.
    Tenant,
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
    Deferred(Level),
    /// Nothing, and it will never fit whole.
    Infeasible(Level),
}

/// Why a launch was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The floor does not fit beside what is granted; it may later.
    Deferred {
        /// Where.
        level: Level,
        /// The floor asked for, bytes.
        floor: Bytes,
        /// What was free for it there, bytes.
        free: Bytes,
    },
    /// The floor does not fit even when nothing is granted.
    Infeasible {
        /// Where.
        level: Level,
        /// The floor asked for, bytes.
        floor: Bytes,
        /// What there is for it at most, bytes.
        most: Bytes,
    },
}

impl Refusal {
    /// Whether trying again later can help.
    #[must_use]
    pub const fn is_deferred(&self) -> bool {
        matches!(self, Self::Deferred { .. })
    }

    /// Where it does not fit.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Deferred { level, .. } | Self::Infeasible { level, .. } => *level,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deferred { level: Level::Node, floor, free } => {
                write!(f, "a floor of {floor} does not fit now: {free} of the node's budget are free")
            }
            Self::Deferred { level: Level::Tenant, floor, free } => {
                write!(f, "a floor of {floor} does not fit now: {free} below the tenant's cap are free")
            }
            Self::Infeasible { level: Level::Node, floor, most } => {
                write!(f, "a floor of {floor} can never fit: the node's budget has {most} for it")
            }
            Self::Infeasible { level: Level::Tenant, floor, most } => {
                write!(f, "a floor of {floor} can never fit: the tenant's cap is {most}")
            }
        }
    }
}

impl std::error::Error for Refusal {}
