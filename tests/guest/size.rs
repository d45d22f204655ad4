//! Sizes as one writes them: `512M`, `3G`.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Whole mebibytes.
    #[must_use]
    pub fn mebibytes(self) -> u64 {
        self.0 >> 20
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (digits, shift) = match text.trim_end_matches('B').trim_end_matches('i') {
            rest if rest.ends_with(['k', 'K']) => (&rest[..rest.len() - 1], 10),
            rest if rest.ends_with(['m', 'M']) => (&rest[..rest.len() - 1], 20),
            rest if rest.ends_with(['g', 'G']) => (&rest[..rest.len() - 1], 30),
            rest => (rest, 0),
        };
        let number: u64 = digits.parse().with_context(|| format!("`{text}` is no size like 512M or 3G"))?;
        number.checked_mul(1 << shift).map(Self).with_context(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_suffixes() {
        let bytes = |text: &str| text.parse::<Size>().unwrap().bytes();
        assert_eq!(bytes("4096"), 4096);
        assert_eq!(bytes("512M"), 512 << 20);
        assert_eq!(bytes("3GiB"), 3 << 30);
        assert_eq!(bytes("8k"), 8 << 10);
    }

    #[test]
    fn refuses_others() {
        for text in ["", "G", "3 G", "-1M", "99999999999G"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
