//! Fields: what a policy may set, told once. One table per section drives decoding, its ranges, the schema for editors, what
//! `policy show` prints and the generated reference; so none of them can disagree with another.
//!
//! A field's kind says how it is written; a [`Value`] is what was read. Rejected: serde for the decoding, which stops at
//! the first mistake, and knows neither places nor the key that was meant.

mod kind;
mod table;

use std::fmt;

pub use kind::{Kind, LONGEST_MS, Raw};
pub(crate) use table::{constants, fields};

use crate::cpu::units::Cpus;
use crate::units::{Bytes, Limit};

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Unset,
    /// A size.
    Size(Bytes),
    /// A size, or a percentage of the node's capacity.
    Amount(Amount),
    /// A size or `max`.
    Limit(Limit),
    /// An amount of cpus.
    Cores(Cpus),
    /// A number.
    Ratio(f64),
    /// A whole number; milliseconds too.
    Count(u64),
    /// True or false.
    Flag(bool),
    /// A word.
    Word(String),
    /// Words.
    Words(Vec<String>),
}

/// A size, or a share of the node's capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many bytes.
    Size(Bytes),
    /// So many per cent of the capacity, 0 to 100.
    Percent(f64),
}

/// A getter of a field.
type Get<T> = Box<dyn Fn(&T) -> Value + Send + Sync>;
/// A setter of a field.
type Set<T> = Box<dyn Fn(&mut T, Value) + Send + Sync>;

/// One field of a section `T`.
pub struct Field<T> {
    /// Its key, dotted within its section: `memory.floor`.
    pub key: String,
    /// How it is written.
    pub kind: Kind,
    /// What it is for.
    pub doc: &'static str,
    /// Reads it.
    pub get: Get<T>,
    /// Sets it; a value of another kind changes nothing.
    pub set: Set<T>,
}

/// What can be the type of a field.
pub trait Settable {
    /// As a value.
    fn value(&self) -> Value;
    /// Takes a value in; one of another kind changes nothing.
    fn set(&mut self, value: Value);
}

impl<T: 'static> Field<T> {
    /// The same field, seen from a section that holds this one.
    #[must_use]
    pub fn within<U: 'static>(
        self,
        prefix: &str,
        part: fn(&U) -> &T,
        part_mut: fn(&mut U) -> &mut T,
    ) -> Field<U> {
        let (get, set) = (self.get, self.set);
        Field {
            key: format!("{prefix}.{}", self.key),
            kind: self.kind,
            doc: self.doc,
            get: Box::new(move |whole| get(part(whole))),
            set: Box::new(move |whole, value| set(part_mut(whole), value)),
        }
    }
}

impl<T> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.key, self.kind)
    }
}

impl Amount {
    /// In bytes, of a node's capacity.
    #[must_use]
    pub fn of(self, capacity: Bytes) -> Bytes {
        match self {
            Self::Size(bytes) => bytes,
            Self::Percent(percent) => capacity.scale(percent / 100.0),
        }
    }

    /// In bytes, where that does not take a capacity, or there is one.
    #[must_use]
    pub fn known(self, capacity: Option<Bytes>) -> Option<Bytes> {
        match self {
            Self::Size(bytes) => Some(bytes),
            Self::Percent(_) => capacity.map(|capacity| self.of(capacity)),
        }
    }
}

/// As it would be written in a policy file; the exact value, not a rounded one.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => Ok(()),
            Self::Size(bytes) | Self::Amount(Amount::Size(bytes)) | Self::Limit(Limit::At(bytes)) => {
                exact(*bytes, f)
            }
            Self::Amount(Amount::Percent(percent)) => write!(f, "\"{percent}%\""),
            Self::Limit(Limit::Max) => f.write_str("\"max\""),
            Self::Cores(cpus) => write!(f, "{}", cpus.as_f64()),
            Self::Ratio(ratio) => write!(f, "{ratio:?}"),
            Self::Count(n) => write!(f, "{n}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Words(words) => write!(f, "{words:?}"),
        }
    }
}

fn exact(bytes: Bytes, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let units = [(Bytes::GIB.0, "GiB"), (Bytes::MIB.0, "MiB"), (Bytes::KIB.0, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes.0 > 0 && bytes.0.is_multiple_of(*unit)) {
        Some((unit, name)) => write!(f, "\"{}{name}\"", bytes.0 / unit),
        None => write!(f, "\"{}\"", bytes.0),
    }
}

/// Pairs of keys of which the first may not be more than the second.
pub type Pairs = [(&'static str, &'static str)];

/// The pairs of keys that are out of order, in words.
pub fn out_of_order<'p, T>(
    fields: &[Field<T>],
    pairs: impl IntoIterator<Item = &'p (&'static str, &'static str)>,
    whole: &T,
) -> Vec<String> {
    let value = |key: &str| fields.iter().find(|field| field.key == key).map(|field| (field.get)(whole));
    let told = |(least, most): &'p (&'static str, &'static str)| {
        let (low, high) = (value(least)?, value(most)?);
        low.is_above(&high)
            .then(|| format!("{least} = {}: is more than {most} = {}", low.plain(), high.plain()))
    };
    pairs.into_iter().filter_map(told).collect()
}

impl Value {
    /// Whether it is certainly more than another value of its kind.
    #[must_use]
    pub fn is_above(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Size(a), Self::Size(b)) => a > b,
            (Self::Cores(a), Self::Cores(b)) => a > b,
            (Self::Count(a), Self::Count(b)) => a > b,
            (Self::Ratio(a), Self::Ratio(b)) => a > b,
            _ => false,
        }
    }

    /// As text without quotes, for a sentence.
    #[must_use]
    pub fn plain(&self) -> String {
        self.to_string().trim_matches('"').to_owned()
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::Size(Bytes::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_exactly() {
        for (value, text) in [
            (Value::Size(Bytes::mib(1536)), "\"1536MiB\""),
            (Value::Size(Bytes(1025)), "\"1025\""),
            (Value::Amount(Amount::Percent(50.0)), "\"50%\""),
            (Value::Cores(Cpus(1_234_567)), "1.234567"),
            (Value::Ratio(1.0), "1.0"),
            (Value::Ratio(0.0005), "0.0005"),
            (Value::Words(vec!["a".to_owned(), "b".to_owned()]), "[\"a\", \"b\"]"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }
}
