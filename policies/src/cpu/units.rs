//! Units of the cpu: an amount of cpus, and the bounds of a quota.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The period of every quota that is written, microseconds: the kernel's default.
pub const PERIOD_US: u64 = 100_000;
/// The smallest quota of a period that the kernel takes, microseconds.
pub const QUOTA_MIN_US: u64 = 1000;

/// An amount of cpus, in millionths of one: a quota, or a use. So a use in microseconds per second is this very number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Cpus(pub u64);

/// The bounds that a policy sets for the quota: floor <= quota <= ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawBounds")]
pub struct CpuBounds {
    /// The least quota, in millionths of a cpu; the burst too.
    pub floor: Cpus,
    /// The greatest quota, in millionths of a cpu.
    pub ceiling: Cpus,
}

/// Why a text or a pair of amounts is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuUnitError {
    /// The text is not an amount of cpus.
    NotCpus(String),
    /// The text is not a pair of bounds.
    NotBounds(String),
    /// The floor lies above the ceiling.
    FloorAboveCeiling(Cpus, Cpus),
    /// The kernel takes no quota that small.
    FloorTooSmall(Cpus),
}

impl Cpus {
    /// No cpu.
    pub const ZERO: Self = Self(0);
    /// One cpu.
    pub const ONE: Self = Self(1_000_000);
    /// 100 000 cpus: more than any machine has, and small enough that no product of it overflows.
    const MOST: u64 = 100_000 * Self::ONE.0;
    /// The least that the kernel takes as a quota.
    const LEAST: u64 = QUOTA_MIN_US * Self::ONE.0 / PERIOD_US;

    /// `n` thousandths of a cpu.
    #[must_use]
    pub const fn milli(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }

    /// The use that `usage_us` microseconds of cpu time within `time` are; zero for no time.
    #[must_use]
    pub fn used(usage_us: u64, time: Duration) -> Self {
        let used = u128::from(usage_us) * 1_000_000 / time.as_micros().max(1);
        if time.is_zero() { Self::ZERO } else { Self(u64::try_from(used).unwrap_or(u64::MAX)) }
    }

    /// The cpu time of one period, microseconds: what is written as quota.
    #[must_use]
    pub const fn quota_us(self) -> u64 {
        self.0 / (1_000_000 / PERIOD_US)
    }

    /// The amount that `quota_us` microseconds of each `period_us` are. No period is no cpu.
    #[must_use]
    pub const fn from_quota(quota_us: u64, period_us: u64) -> Self {
        match quota_us.saturating_mul(1_000_000).checked_div(period_us) {
            Some(cpus) => Self(cpus),
            None => Self::ZERO,
        }
    }

    /// The sum, or the greatest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This amount times `factor`, rounded down. A factor that is negative or not a number gives zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// As a number of cpus.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.3}", self.as_f64());
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Cpus {
    type Err = CpuUnitError;

    /// `0.5`, `2` or `500m` (thousandths).
    fn from_str(text: &str) -> Result<Self, CpuUnitError> {
        let bad = || CpuUnitError::NotCpus(text.to_owned());
        let trimmed = text.trim();
        let (number, unit) = match trimmed.strip_suffix('m') {
            Some(number) => (number, Self::milli(1)),
            None => (trimmed, Self::ONE),
        };
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(bad());
        }
        let number: f64 = number.parse().map_err(|_| bad())?;
        // Rounded, since 0.1 is not a binary fraction.
        let cpus = Self(1).scale((number * unit.0 as f64).round());
        if cpus.0 > Self::MOST { Err(bad()) } else { Ok(cpus) }
    }
}

/// Bounds as they come over the wire, before they are known to be in order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawBounds {
    #[schemars(range(min = Cpus::LEAST))]
    floor: Cpus,
    #[schemars(range(max = Cpus::MOST))]
    ceiling: Cpus,
}

impl TryFrom<RawBounds> for CpuBounds {
    type Error = CpuUnitError;

    fn try_from(raw: RawBounds) -> Result<Self, CpuUnitError> {
        Self::new(raw.floor, raw.ceiling)
    }
}

impl CpuBounds {
    /// Bounds in order: a floor that the kernel takes, and not above the ceiling.
    pub fn new(floor: Cpus, ceiling: Cpus) -> Result<Self, CpuUnitError> {
        if floor.quota_us() < QUOTA_MIN_US {
            return Err(CpuUnitError::FloorTooSmall(floor));
        }
        if floor > ceiling {
            return Err(CpuUnitError::FloorAboveCeiling(floor, ceiling));
        }
        if ceiling.0 > Cpus::MOST {
            return Err(CpuUnitError::NotCpus(ceiling.to_string()));
        }
        Ok(Self { floor, ceiling })
    }

    /// The nearest amount within the bounds.
    #[must_use]
    pub fn clamp(self, cpus: Cpus) -> Cpus {
        // Not `Ord::clamp`, which panics when public fields were set out of order.
        cpus.max(self.floor).min(self.ceiling)
    }
}

impl fmt::Display for CpuBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.floor, self.ceiling)
    }
}

impl FromStr for CpuBounds {
    type Err = CpuUnitError;

    fn from_str(text: &str) -> Result<Self, CpuUnitError> {
        let (floor, ceiling) =
            text.split_once("..").ok_or_else(|| CpuUnitError::NotBounds(text.to_owned()))?;
        Self::new(floor.parse()?, ceiling.parse()?)
    }
}

impl fmt::Display for CpuUnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCpus(text) => {
                write!(f, "`{text}` is not an amount of cpus: write 0.5, 2, or 500m for 500 thousandths")
            }
            Self::NotBounds(text) => {
                write!(f, "`{text}` are not bounds: write floor and ceiling, as in 0.1..2")
            }
            Self::FloorAboveCeiling(floor, ceiling) => {
                write!(f, "the floor {floor} lies above the ceiling {ceiling}: were the two swapped?")
            }
            Self::FloorTooSmall(floor) => {
                write!(f, "a floor of {floor} cpus is too small: the kernel takes 0.01 and more")
            }
        }
    }
}

impl std::error::Error for CpuUnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, cpus) in
            [("1", 1_000_000), ("0.1", 100_000), ("2.5", 2_500_000), ("250m", 250_000), (" 4 ", 4_000_000)]
        {
            assert_eq!(text.parse(), Ok(Cpus(cpus)), "{text}");
        }
        for text in ["", "m", "-1", "1e3", "one", "1.2.3", "inf", "NaN", "999999999"] {
            assert!(matches!(text.parse::<Cpus>(), Err(CpuUnitError::NotCpus(_))), "{text}");
        }
    }

    #[test]
    fn bounds_are_in_order() {
        assert_eq!("0.1..2".parse::<CpuBounds>().unwrap().to_string(), "0.1..2");
        insta::assert_snapshot!("2..1".parse::<CpuBounds>().unwrap_err(),
            @"the floor 2 lies above the ceiling 1: were the two swapped?");
        insta::assert_snapshot!("0.001..1".parse::<CpuBounds>().unwrap_err(),
            @"a floor of 0.001 cpus is too small: the kernel takes 0.01 and more");
        insta::assert_snapshot!("0.1-2".parse::<CpuBounds>().unwrap_err(),
            @"`0.1-2` are not bounds: write floor and ceiling, as in 0.1..2");
    }

    #[test]
    fn quota_and_use() {
        assert_eq!(Cpus::milli(500).quota_us(), 50_000);
        assert_eq!(Cpus::from_quota(50_000, 100_000), Cpus::milli(500));
        assert_eq!(Cpus::from_quota(1, 0), Cpus::ZERO);
        assert_eq!(Cpus::used(30_000, Duration::from_millis(100)), Cpus::milli(300));
        assert_eq!(Cpus::used(1, Duration::ZERO), Cpus::ZERO);
        assert_eq!(Cpus::milli(333).to_string(), "0.333");
    }
}
