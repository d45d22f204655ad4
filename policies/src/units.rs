//! Units: bytes, limits, bounds and instants, each a type of its own so that no two can be mixed up.
//!
//! Sizes are powers of 1024 throughout, as the kernel counts them: `1M`, `1Mi` and `1MiB` are the same size.
//! On the wire a size is a plain integer of bytes; in text it is what a person would write.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The page size that limits are rounded to. Kernels with larger pages round further down by themselves.
pub const PAGE: u64 = 4096;

/// A size in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// The value of a kernel limit file: a size, or no limit at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// A limit in bytes.
    At(Bytes),
    /// No limit; the kernel spells it `max`. Greater than any size.
    Max,
}

/// The bounds that a policy sets for `memory.high`: floor <= granted <= ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawBounds")]
pub struct Bounds {
    /// The least that the workload is ever granted, in bytes; protected as well.
    pub floor: Bytes,
    /// The most that the workload is ever granted, in bytes.
    pub ceiling: Bytes,
}

/// A point in time: nanoseconds of `CLOCK_MONOTONIC`. This crate never reads the clock; it is told.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Instant(pub u64);

/// Why a text or a pair of sizes is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitError {
    /// The text is not a size.
    NotASize(String),
    /// The size does not fit 64 bits.
    TooLarge(String),
    /// The text is not a pair of bounds.
    NotBounds(String),
    /// The floor lies above the ceiling.
    FloorAboveCeiling(Bytes, Bytes),
    /// The floor is too small to start anything in.
    FloorTooSmall(Bytes),
}

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// 1024 bytes.
    pub const KIB: Self = Self(1 << 10);
    /// 1024 KiB.
    pub const MIB: Self = Self(1 << 20);
    /// 1024 MiB.
    pub const GIB: Self = Self(1 << 30);

    /// `n` MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// The sum, or the greatest size.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// This size times `factor`, rounded down. A factor that is negative or not a number gives zero.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// Rounded down to whole pages of 4096 bytes, as the kernel does on a write.
    #[must_use]
    pub const fn page_floor(self) -> Self {
        Self(self.0 & !(PAGE - 1))
    }

    /// Rounded up to whole pages of 4096 bytes.
    #[must_use]
    pub const fn page_ceil(self) -> Self {
        Self(self.0.saturating_add(PAGE - 1)).page_floor()
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            n if n >= Self::GIB.0 => (Self::GIB.0, "GiB"),
            n if n >= Self::MIB.0 => (Self::MIB.0, "MiB"),
            n if n >= Self::KIB.0 => (Self::KIB.0, "KiB"),
            n => return f.pad(&format!("{n} B")),
        };
        let text = if self.0.is_multiple_of(unit) {
            format!("{} {name}", self.0 / unit)
        } else {
            format!("{:.1} {name}", self.0 as f64 / unit as f64)
        };
        f.pad(&text)
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::NotASize(text.to_owned());
        let large = || UnitError::TooLarge(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "ki" | "kib" => 10,
            "m" | "mi" | "mib" => 20,
            "g" | "gi" | "gib" => 30,
            "t" | "ti" | "tib" => 40,
            _ => return Err(bad()),
        };
        // Whole numbers stay exact; only a fraction goes through floating point.
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(large);
        }
        if number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty() {
            return Err(large());
        }
        let value = number.parse::<f64>().map_err(|_| bad())?;
        if shift == 0 {
            return Err(bad());
        }
        let bytes = Self(1 << shift).scale(value);
        if bytes.0 == u64::MAX { Err(large()) } else { Ok(bytes) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(bytes) => write!(f, "{}", bytes.0),
            Self::Max => f.write_str("max"),
        }
    }
}

/// Bounds as they come over the wire, before they are known to be in order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawBounds {
    #[schemars(range(min = Bytes::MIB.0))]
    floor: Bytes,
    ceiling: Bytes,
}

impl TryFrom<RawBounds> for Bounds {
    type Error = UnitError;

    fn try_from(raw: RawBounds) -> Result<Self, UnitError> {
        Self::new(raw.floor, raw.ceiling)
    }
}

impl Bounds {
    /// Bounds in order: floor <= ceiling, and a floor of 1 MiB at least, below which no process starts.
    pub fn new(floor: Bytes, ceiling: Bytes) -> Result<Self, UnitError> {
        if floor < Bytes::MIB {
            return Err(UnitError::FloorTooSmall(floor));
        }
        if floor > ceiling {
            return Err(UnitError::FloorAboveCeiling(floor, ceiling));
        }
        Ok(Self { floor, ceiling })
    }

    /// The nearest size within the bounds.
    #[must_use]
    pub fn clamp(self, size: Bytes) -> Bytes {
        // Not `Ord::clamp`, which panics when public fields were set out of order.
        size.max(self.floor).min(self.ceiling)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.floor, self.ceiling)
    }
}

impl FromStr for Bounds {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (floor, ceiling) = text.split_once("..").ok_or_else(|| UnitError::NotBounds(text.to_owned()))?;
        Self::new(floor.parse()?, ceiling.parse()?)
    }
}

impl Instant {
    /// The time from `earlier` to this instant; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved into the future.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASize(text) => {
                write!(
                    f,
                    "`{text}` is not a size: write bytes or a unit of 1024, as in 4096, 64K, 512M, 1.5G"
                )
            }
            Self::TooLarge(text) => write!(f, "`{text}` is too large: a size has to fit 64 bits"),
            Self::NotBounds(text) => {
                write!(f, "`{text}` are not bounds: write floor and ceiling, as in 64M..1G")
            }
            Self::FloorAboveCeiling(floor, ceiling) => {
                write!(f, "the floor {floor} lies above the ceiling {ceiling}: were the two swapped?")
            }
            Self::FloorTooSmall(floor) => {
                write!(
                    f,
                    "a floor of {floor} is too small to start in: it has to be 1 MiB or more; write 64M for 64 MiB"
                )
            }
        }
    }
}

impl std::error::Error for UnitError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("0", 0),
            ("64K", 64 << 10),
            ("512M", 512 << 20),
            ("512Mi", 512 << 20),
            ("512MiB", 512 << 20),
            ("512 MiB", 512 << 20),
            (" 1g ", 1 << 30),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_what_was_meant() {
        for text in ["", "M", "12Q", "-1", "1.5", "1..2G", "max", "NaN"] {
            assert!(matches!(text.parse::<Bytes>(), Err(UnitError::NotASize(_))), "{text}");
        }
        for text in ["18446744073709551616", "99999999999T", "99999999999.5T"] {
            assert!(matches!(text.parse::<Bytes>(), Err(UnitError::TooLarge(_))), "{text}");
        }
        insta::assert_snapshot!("12Q".parse::<Bytes>().unwrap_err(),
            @"`12Q` is not a size: write bytes or a unit of 1024, as in 4096, 64K, 512M, 1.5G");
        insta::assert_snapshot!("2G..1G".parse::<Bounds>().unwrap_err(),
            @"the floor 2 GiB lies above the ceiling 1 GiB: were the two swapped?");
        insta::assert_snapshot!("64..1G".parse::<Bounds>().unwrap_err(),
            @"a floor of 64 B is too small to start in: it has to be 1 MiB or more; write 64M for 64 MiB");
        insta::assert_snapshot!("64M-1G".parse::<Bounds>().unwrap_err(),
            @"`64M-1G` are not bounds: write floor and ceiling, as in 64M..1G");
    }

    #[test]
    fn sizes_are_shown_for_people_and_limits_for_the_kernel() {
        for (bytes, text) in [
            (17, "17 B"),
            (64 << 10, "64 KiB"),
            (64 << 20, "64 MiB"),
            (3 << 29, "1.5 GiB"),
            (5 << 30, "5 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Limit::At(Bytes::MIB).to_string(), "1048576");
        assert_eq!(Limit::Max.to_string(), "max");
        assert!(Limit::Max > Limit::At(Bytes(u64::MAX)));
        assert_eq!("64M..1G".parse::<Bounds>().unwrap().to_string(), "64 MiB..1 GiB");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Bytes(1).saturating_sub(Bytes(2)), Bytes::ZERO);
        assert_eq!(Bytes(u64::MAX).saturating_add(Bytes(1)), Bytes(u64::MAX));
        assert_eq!(Bytes::mib(4).scale(0.25), Bytes::MIB);
        assert_eq!(Bytes::mib(4).scale(-1.0), Bytes::ZERO);
        assert_eq!(Bytes::mib(4).scale(f64::NAN), Bytes::ZERO);
        assert_eq!(Bytes(4097).page_floor(), Bytes(4096));
        assert_eq!(Bytes(4097).page_ceil(), Bytes(8192));
        assert_eq!(Instant(1).since(Instant(2)), Duration::ZERO);
        assert_eq!(Instant(1).plus(Duration::from_nanos(2)), Instant(3));
    }
}
