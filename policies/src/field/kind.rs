//! Kinds: how each field is written, its range, and what to say where it is not so.

use super::{Amount, Value};
use crate::cpu::units::Cpus;
use crate::units::{Bytes, Limit};

/// The longest time that makes sense in a policy, ms: a day.
pub const LONGEST_MS: u64 = 86_400_000;

/// The longest pattern, bytes: twice the longest name.
const LONGEST_PATTERN: usize = 128;

/// How a field is written, and its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A size, of so many bytes at least.
    Size(u64),
    /// A size, or a percentage of the node's capacity; of so many bytes at least.
    Amount(u64),
    /// A size, `max` for no limit, or `none` for nothing at all.
    SizeOrMax,
    /// An amount of cpus, of so many thousandths at least.
    Cores(u64),
    /// A number from 0 to this.
    Ratio(f64),
    /// Milliseconds, so many at least, a day at most.
    Millis(u64),
    /// A whole number between the two.
    Count(u64, u64),
    /// True or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words.
    Choices(&'static [&'static str]),
    /// The name of a class.
    Class,
    /// A pattern of names: `*` is any text, `?` any one character.
    Pattern,
    /// Lines as the kernel takes them in `io.max`.
    IoMax,
}

/// A value as it stands in a file, before its kind is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw<'a> {
    /// A string.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A boolean.
    Flag(bool),
    /// An array of strings.
    Texts(Vec<&'a str>),
    /// Anything else, by its name.
    Other(&'static str),
}

impl Kind {
    /// Reads a value, or says what is wrong with it.
    pub fn read(&self, raw: &Raw<'_>) -> Result<Value, String> {
        let value = self.parse(raw)?;
        match self.problem(&value) {
            Some(problem) => Err(problem),
            None => Ok(value),
        }
    }

    /// What is wrong with a value of this kind.
    #[must_use]
    pub fn problem(&self, value: &Value) -> Option<String> {
        let within = |n: u64, least: u64, most: u64, unit: &str| {
            (!(least..=most).contains(&n)).then(|| format!("has to be between {least} and {most}{unit}"))
        };
        match (self, value) {
            (
                Self::Size(least) | Self::Amount(least),
                Value::Size(size) | Value::Amount(Amount::Size(size)),
            ) if size.0 < *least => {
                let least = if *least == 1 { "1 byte".to_owned() } else { Bytes(*least).to_string() };
                Some(format!("has to be {least} or more"))
            }
            (Self::Amount(_), Value::Amount(Amount::Percent(percent)))
                if !(*percent > 0.0 && *percent <= 100.0) =>
            {
                Some("a percentage has to be above 0 and at most 100".to_owned())
            }
            (Self::Cores(least), Value::Cores(cores)) if *cores < Cpus::milli(*least) => {
                Some(format!("has to be {} cpus or more", Cpus::milli(*least)))
            }
            // Not a number is in no range.
            (Self::Ratio(most), Value::Ratio(ratio)) if !(0.0..=*most).contains(ratio) => {
                Some(format!("has to be between 0 and {most}"))
            }
            (Self::Millis(least), Value::Count(ms)) => within(*ms, *least, LONGEST_MS, " ms"),
            (Self::Count(least, most), Value::Count(n)) => within(*n, *least, *most, ""),
            _ => None,
        }
    }

    /// What is expected, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Size(_) => "a size such as \"64M\", or a number of bytes".to_owned(),
            Self::Amount(_) => {
                "a size such as \"64M\", or a percentage of the capacity such as \"50%\"".to_owned()
            }
            Self::SizeOrMax => "a size such as \"64M\", \"max\" or \"none\"".to_owned(),
            Self::Cores(_) => "an amount of cpus such as 0.5, 2 or \"500m\"".to_owned(),
            Self::Ratio(most) => format!("a number between 0 and {most}"),
            Self::Millis(least) => format!("milliseconds, a whole number between {least} and {LONGEST_MS}"),
            Self::Count(least, most) => format!("a whole number between {least} and {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Choices(words) => format!("a list of {}", quoted(words)),
            Self::Class => "the name of a class".to_owned(),
            Self::Pattern => "a name, in which * is any text and ? any one character".to_owned(),
            Self::IoMax => "a list of lines such as \"8:0 rbps=1048576 wiops=120\"".to_owned(),
        }
    }

    /// The words that there are to choose from.
    #[must_use]
    pub fn words(&self) -> &'static [&'static str] {
        match self {
            Self::Choice(words) | Self::Choices(words) => words,
            Self::SizeOrMax => &["max", "none"],
            _ => &[],
        }
    }

    fn parse(&self, raw: &Raw<'_>) -> Result<Value, String> {
        let size = |text: &str| text.parse::<Bytes>().map_err(|e| e.to_string());
        let unexpected = || format!("expected {}, found {}", self.expected(), raw.name());
        let count = |n: &i64| u64::try_from(*n).map_err(|_| unexpected());
        Ok(match (self, raw) {
            (Self::Size(_), Raw::Text(text)) => Value::Size(size(text)?),
            (Self::Size(_), Raw::Integer(n)) => Value::Size(Bytes(count(n)?)),
            (Self::Amount(_), Raw::Text(text)) => match text.trim().strip_suffix('%') {
                Some(number) => {
                    Value::Amount(Amount::Percent(number.trim().parse().map_err(|_| unexpected())?))
                }
                None => Value::Amount(Amount::Size(size(text)?)),
            },
            (Self::Amount(_), Raw::Integer(n)) => Value::Amount(Amount::Size(Bytes(count(n)?))),
            (Self::SizeOrMax, Raw::Text("max")) => Value::Limit(Limit::Max),
            (Self::SizeOrMax, Raw::Text("none")) => Value::Limit(Limit::At(Bytes::ZERO)),
            (Self::SizeOrMax, Raw::Text(text)) => Value::Limit(Limit::At(size(text)?)),
            (Self::SizeOrMax, Raw::Integer(n)) => Value::Limit(Limit::At(Bytes(count(n)?))),
            (Self::Cores(_), Raw::Text(text)) => Value::Cores(text.parse().map_err(|_| unexpected())?),
            (Self::Cores(_), Raw::Integer(n)) => {
                Value::Cores(n.to_string().parse().map_err(|_| unexpected())?)
            }
            (Self::Cores(_), Raw::Float(n)) => Value::Cores(n.to_string().parse().map_err(|_| unexpected())?),
            (Self::Ratio(_), Raw::Float(n)) => Value::Ratio(*n),
            (Self::Ratio(_), Raw::Integer(n)) => Value::Ratio(*n as f64),
            (Self::Millis(_) | Self::Count(..), Raw::Integer(n)) => Value::Count(count(n)?),
            (Self::Flag, Raw::Flag(flag)) => Value::Flag(*flag),
            (Self::Choice(words), Raw::Text(text)) if words.contains(text) => Value::Word((*text).to_owned()),
            (Self::Choice(_), Raw::Text(text)) => {
                return Err(format!("`{text}` is not {}", self.expected()));
            }
            (Self::Choices(words), Raw::Texts(texts)) => {
                if let Some(text) = texts.iter().find(|text| !words.contains(*text)) {
                    return Err(format!("`{text}` is not one of {}", quoted(words)));
                }
                Value::Words(texts.iter().map(|&text| text.to_owned()).collect())
            }
            (Self::Class | Self::Pattern, Raw::Text(text)) if (1..=LONGEST_PATTERN).contains(&text.len()) => {
                Value::Word((*text).to_owned())
            }
            (Self::IoMax, Raw::Texts(texts)) => {
                if let Some(text) = texts.iter().find(|text| !is_io_max(text)) {
                    return Err(format!(
                        "`{text}` is not a line of io.max: write one as in \"8:0 rbps=1048576 wiops=120\""
                    ));
                }
                Value::Words(texts.iter().map(|&text| text.to_owned()).collect())
            }
            _ => return Err(unexpected()),
        })
    }
}

impl Raw<'_> {
    /// What it is, in words.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Text(text) => format!("the text {text:?}"),
            Self::Integer(n) => format!("the number {n}"),
            Self::Float(n) => format!("the number {n}"),
            Self::Flag(flag) => flag.to_string(),
            Self::Texts(_) => "a list".to_owned(),
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

/// `MAJOR:MINOR key=value...`, with the keys that the kernel knows.
fn is_io_max(line: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut words = line.split(' ');
    let device = words.next().and_then(|word| word.split_once(':'));
    let limits: Vec<_> = words.map(|word| word.split_once('=')).collect();
    device.is_some_and(|(major, minor)| is_number(major) && is_number(minor))
        && !limits.is_empty()
        && limits.iter().all(|limit| {
            limit.is_some_and(|(key, value)| {
                ["rbps", "wbps", "riops", "wiops"].contains(&key) && (value == "max" || is_number(value))
            })
        })
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_kind() {
        let amount = |bytes| Ok(Value::Amount(Amount::Size(bytes)));
        for (kind, raw, value) in [
            (Kind::Size(1), Raw::Text("64M"), Ok(Value::Size(Bytes::mib(64)))),
            (Kind::Size(1), Raw::Integer(4096), Ok(Value::Size(Bytes(4096)))),
            (Kind::Amount(1), Raw::Text("1G"), amount(Bytes::GIB)),
            (Kind::Amount(1), Raw::Text("12.5%"), Ok(Value::Amount(Amount::Percent(12.5)))),
            (Kind::SizeOrMax, Raw::Text("none"), Ok(Value::Limit(Limit::At(Bytes::ZERO)))),
            (Kind::SizeOrMax, Raw::Text("max"), Ok(Value::Limit(Limit::Max))),
            (Kind::Cores(10), Raw::Float(0.5), Ok(Value::Cores(Cpus::milli(500)))),
            (Kind::Cores(10), Raw::Text("500m"), Ok(Value::Cores(Cpus::milli(500)))),
            (Kind::Ratio(1.0), Raw::Integer(1), Ok(Value::Ratio(1.0))),
            (Kind::Size(1), Raw::Integer(0), Err("has to be 1 byte or more")),
            (Kind::Amount(1), Raw::Text("120%"), Err("a percentage has to be above 0 and at most 100")),
            (Kind::Amount(1), Raw::Text("NaN%"), Err("a percentage has to be above 0 and at most 100")),
            (Kind::Cores(10), Raw::Float(0.001), Err("has to be 0.01 cpus or more")),
            (Kind::Ratio(1.0), Raw::Float(f64::NAN), Err("has to be between 0 and 1")),
            (Kind::Millis(1), Raw::Integer(0), Err("has to be between 1 and 86400000 ms")),
            (
                Kind::Count(1, 50),
                Raw::Float(1.5),
                Err("expected a whole number between 1 and 50, found the number 1.5"),
            ),
            (Kind::Flag, Raw::Text("yes"), Err("expected true or false, found the text \"yes\"")),
            (Kind::Choice(&["a", "b"]), Raw::Text("c"), Err("`c` is not one of \"a\", \"b\"")),
            (
                Kind::IoMax,
                Raw::Texts(vec!["sda rbps=1"]),
                Err("`sda rbps=1` is not a line of io.max: write one as in \"8:0 rbps=1048576 wiops=120\""),
            ),
        ] {
            assert_eq!(kind.read(&raw), value.map_err(str::to_owned), "{kind:?} {raw:?}");
        }
        assert!(is_io_max("259:12 rbps=1048576 wiops=max"));
        assert!(!is_io_max("8:0") && !is_io_max("8: rbps=1") && !is_io_max("8:0 bps=1"));
    }
}
