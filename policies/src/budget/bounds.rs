//! What a tenant is promised and allowed, and how often the pool may be sold to each class.

use std::fmt;

use crate::ruleset::Base;
use crate::units::Bytes;

/// What bounds the grants of one tenant in sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantBounds {
    /// What is kept for it, bytes, whether it is granted or not.
    pub guarantee: Bytes,
    /// What it is never granted more than, bytes; no cap but the node's pool when absent.
    pub cap: Option<Bytes>,
    /// Its share of what others want too, against their weights; 1 or more.
    pub weight: u32,
}

impl Default for TenantBounds {
    fn default() -> Self {
        Self { guarantee: Bytes::ZERO, cap: None, weight: 100 }
    }
}

/// How often the pool may be sold: the pool of a class is (capacity - reserve) times its ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overcommit {
    /// For the class latency.
    pub latency: f64,
    /// For the class standard.
    pub standard: f64,
    /// For the class batch.
    pub batch: f64,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self::same(1.0)
    }
}

impl Overcommit {
    /// One ratio for all classes.
    #[must_use]
    pub const fn same(ratio: f64) -> Self {
        Self { latency: ratio, standard: ratio, batch: ratio }
    }

    /// The ratio of a class.
    #[must_use]
    pub const fn ratio(&self, class: Base) -> f64 {
        match class {
            Base::Latency => self.latency,
            Base::Standard => self.standard,
            Base::Batch => self.batch,
        }
    }

    /// The greatest ratio, 1.0 at least.
    #[must_use]
    pub fn most(&self) -> f64 {
        Base::ALL.into_iter().map(|class| self.ratio(class)).fold(1.0, f64::max)
    }
}

/// Bounds that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundsError {
    /// The guarantees of all tenants exceed the pool.
    GuaranteesExceedPool {
        /// Their sum, bytes.
        guaranteed: Bytes,
        /// The pool at ratio 1.0, bytes.
        pool: Bytes,
    },
    /// The guarantee of a tenant lies above its cap.
    GuaranteeAboveCap {
        /// The guarantee, bytes.
        guarantee: Bytes,
        /// The cap, bytes.
        cap: Bytes,
    },
    /// A weight of nothing: its workloads would starve.
    NoWeight,
}

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuaranteesExceedPool { guaranteed, pool } => {
                let over = guaranteed.saturating_sub(*pool);
                write!(f, "the guarantees add up to {guaranteed}, {over} more than the budget of {pool}")
            }
            Self::GuaranteeAboveCap { guarantee, cap } => {
                write!(f, "the guarantee of {guarantee} lies above the cap of {cap}: were the two swapped?")
            }
            Self::NoWeight => f.write_str("the weight is 0: it has to be 1 or more"),
        }
    }
}

impl std::error::Error for BoundsError {}
