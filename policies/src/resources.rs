//! What of the machine a workload asks for by the piece, besides memory and a cpu quota: processes, swap, I/O, cpus, memory nodes,
//! huge pages. No law moves any of it: it is written before the first process, and stands until an operator's order.
//!
//! What a class says of the same is the most that can be asked for, as with bounds. Cpus, memory nodes and huge pages are no class's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::field::{Kind, Raw};
use crate::ruleset::Class;
use crate::units::{Bytes, Limit};

/// Longest list of cpus or memory nodes, and longest line of `io.max`, in bytes.
const LONGEST: usize = 256;
/// Most lines of `io.max`.
const LINES: usize = 16;
/// As of a class.
const MOST_PIDS: u64 = 4_194_304;
const MOST_WEIGHT: u64 = 10_000;
const PIDS: Kind = Kind::Count(1, MOST_PIDS);
const WEIGHT: Kind = Kind::Count(1, MOST_WEIGHT);

/// The sizes of huge pages that kernels have, with the files that limit those in use, and those set aside.
const PAGES: [(&str, &str, &str); 9] = [
    ("64KB", "hugetlb.64KB.max", "hugetlb.64KB.rsvd.max"),
    ("1MB", "hugetlb.1MB.max", "hugetlb.1MB.rsvd.max"),
    ("2MB", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"),
    ("16MB", "hugetlb.16MB.max", "hugetlb.16MB.rsvd.max"),
    ("32MB", "hugetlb.32MB.max", "hugetlb.32MB.rsvd.max"),
    ("512MB", "hugetlb.512MB.max", "hugetlb.512MB.rsvd.max"),
    ("1GB", "hugetlb.1GB.max", "hugetlb.1GB.rsvd.max"),
    ("2GB", "hugetlb.2GB.max", "hugetlb.2GB.rsvd.max"),
    ("16GB", "hugetlb.16GB.max", "hugetlb.16GB.rsvd.max"),
];

/// What a workload asks for; where it says nothing, its class does, or it has all that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// `pids.max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_PIDS))]
    pub pids: Option<u64>,
    /// `memory.swap.max`; bytes, or a text such as `64M`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "size")]
    #[schemars(with = "Option<Size>")]
    pub swap: Option<Bytes>,
    /// `io.weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_WEIGHT))]
    pub io_weight: Option<u32>,
    /// Lines of `io.max`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = LINES), inner(length(max = LONGEST)))]
    pub io_max: Vec<String>,
    /// The cpus that it runs on, for example `0-3,8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = LONGEST))]
    pub cpuset_cpus: Option<String>,
    /// The memory nodes that it allocates from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = LONGEST))]
    pub cpuset_mems: Option<String>,
    /// The most huge pages of each size, in bytes or as a text such as `64M`, by the size as the kernel spells it: `2MB`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "sizes")]
    #[schemars(with = "BTreeMap<String, Size>", extend("propertyNames" = { "enum": PAGES.map(|(size, ..)| size) }))]
    pub hugetlb: BTreeMap<String, Bytes>,
}

impl Resources {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What cannot be, if anything, whatever the machine and the class.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let count = |flag: &str, kind: &Kind, number: Option<u64>| {
            let read = kind.read(&Raw::Integer(i64::try_from(number?).unwrap_or(i64::MAX)));
            read.err().map(|problem| format!("--{flag} {problem}"))
        };
        let list = |flag: &str, list: &Option<String>| {
            let wrong = list.as_ref().filter(|text| text.len() > LONGEST || ranges(text).is_none())?;
            Some(format!("--{flag} {wrong:?} is no list of numbers: write one as in 0-3,8"))
        };
        let lines: Vec<&str> = self.io_max.iter().map(String::as_str).collect();
        count("pids", &PIDS, self.pids)
            .or_else(|| count("io-weight", &WEIGHT, self.io_weight.map(u64::from)))
            .or_else(|| list("cpuset-cpus", &self.cpuset_cpus))
            .or_else(|| list("cpuset-mems", &self.cpuset_mems))
            .or_else(|| {
                let is_long = lines.len() > LINES || lines.iter().any(|line| line.len() > LONGEST);
                is_long.then(|| format!("--io-max: {LINES} lines of {LONGEST} bytes at most"))
            })
            .or_else(|| Kind::IoMax.read(&Raw::Texts(lines)).err().map(|text| format!("--io-max: {text}")))
            .or_else(|| {
                let wrong = self.hugetlb.keys().find(|size| pages(size).is_none())?;
                let known: Vec<&str> = PAGES.iter().map(|(size, ..)| *size).collect();
                Some(format!("--hugetlb: {wrong:?} is no size of huge pages: there are {}", known.join(", ")))
            })
    }

    /// What of it a class does not allow, if anything.
    #[must_use]
    pub fn refused_by(&self, class: &Class) -> Option<String> {
        let refused = |what: String, most: String| {
            Some(format!("{what} is refused: the class {} allows {most}", class.name))
        };
        if let Some(pids) = self.pids.filter(|pids| *pids > class.pids) {
            return refused(format!("--pids {pids}"), class.pids.to_string());
        }
        if let Some(swap) = self.swap.filter(|swap| Limit::At(*swap) > class.memory.swap_max) {
            let most = match class.memory.swap_max {
                Limit::At(bytes) => bytes.to_string(),
                Limit::Max => "all".to_owned(),
            };
            return refused(format!("--swap {swap}"), most);
        }
        let wide = self.io_max.iter().find_map(|line| Some((line, wider(line, &class.io.max)?)));
        wide.and_then(|(line, most)| refused(format!("--io-max {line:?}"), format!("{most:?}")))
    }

    /// The files that it is written to, with the values.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let mut files: Vec<(&'static str, String)> = Vec::new();
        files.extend(self.pids.map(|pids| ("pids.max", pids.to_string())));
        files.extend(self.swap.map(|swap| ("memory.swap.max", swap.0.to_string())));
        files.extend(self.io_weight.map(|weight| ("io.weight", weight.to_string())));
        files.extend(self.io_max.iter().map(|line| ("io.max", line.clone())));
        files.extend(self.cpuset_cpus.clone().map(|list| ("cpuset.cpus", list)));
        files.extend(self.cpuset_mems.clone().map(|list| ("cpuset.mems", list)));
        for (size, most) in &self.hugetlb {
            // What is only set aside counts as well: who may do that without end has all that others would take.
            let files_of_it = pages(size).map(|(used, reserved)| [used, reserved]).into_iter().flatten();
            files.extend(files_of_it.map(|file| (file, most.0.to_string())));
        }
        files
    }

    /// The files of cpus, memory nodes and huge pages, which a class has none of.
    pub fn files_of_no_class() -> impl Iterator<Item = &'static str> {
        let pages = PAGES.into_iter().flat_map(|(_, used, reserved)| [used, reserved]);
        ["cpuset.cpus", "cpuset.mems"].into_iter().chain(pages)
    }

    /// The controllers that it takes besides those that a workload cannot do without.
    #[must_use]
    pub fn controllers(&self) -> Vec<&'static str> {
        let io = self.io_weight.is_some() || !self.io_max.is_empty();
        let cpuset = self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        let all = [("io", io), ("cpuset", cpuset), ("hugetlb", !self.hugetlb.is_empty())];
        all.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect()
    }
}

/// Whether everything in one list of cpus or memory nodes, as the kernel writes them, is in the other.
#[must_use]
pub fn is_within(part: &str, whole: &str) -> bool {
    let (Some(part), Some(whole)) = (ranges(part), ranges(whole)) else { return false };
    let is_in = |number: u32| whole.iter().any(|(first, last)| (*first..=*last).contains(&number));
    part.into_iter().all(|(first, last)| (first..=last).all(is_in))
}

/// The ranges of such a list, all within what a kernel can be built for.
fn ranges(text: &str) -> Option<Vec<(u32, u32)>> {
    const MOST: u32 = 8192;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number: &u32| is_number && *number < MOST)
    };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last)
    };
    text.split(',').map(range).collect()
}

fn pages(size: &str) -> Option<(&'static str, &'static str)> {
    PAGES.iter().find(|(known, ..)| *known == size).map(|(_, used, reserved)| (*used, *reserved))
}

/// The line of a class that allows less than this one does, if there is one.
fn wider<'a>(line: &str, class: &'a [String]) -> Option<&'a String> {
    let limits = |line: &str| -> Vec<(String, u64)> {
        let pairs = line.split(' ').filter_map(|word| word.split_once('='));
        // What is no number is `max`, or more than any device does.
        pairs.map(|(key, value)| (key.to_owned(), value.parse().unwrap_or(u64::MAX))).collect()
    };
    let device = |line: &str| line.split(' ').next().map(str::to_owned);
    class.iter().filter(|other| device(other) == device(line)).find(|other| {
        let most = limits(other);
        limits(line).iter().any(|(key, value)| most.iter().any(|(other, most)| key == other && value > most))
    })
}

/// A size as files and the wire have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

/// Asked for as either, and answered as a number.
impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_serialize() {
            return generator.subschema_for::<Bytes>();
        }
        json_schema!({ "type": ["integer", "string"], "format": "uint64", "minimum": 0 })
    }
}

impl Size {
    fn bytes<E: de::Error>(self) -> Result<Bytes, E> {
        match self {
            Self::Bytes(bytes) => Ok(Bytes(bytes)),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    Option::<Size>::deserialize(deserializer)?.map(Size::bytes).transpose()
}

fn sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Bytes>, D::Error> {
    let all = BTreeMap::<String, Size>::deserialize(deserializer)?;
    all.into_iter().map(|(page, size)| Ok((page, size.bytes()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Alter = fn(&mut Resources);

    fn resources(change: Alter) -> Resources {
        let mut resources = Resources::default();
        change(&mut resources);
        resources
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let wrong: [(Alter, &str); 9] = [
            (|r| r.pids = Some(0), "--pids"),
            (|r| r.io_weight = Some(10_001), "--io-weight"),
            (|r| r.cpuset_cpus = Some(String::new()), "--cpuset-cpus"),
            (|r| r.cpuset_cpus = Some("3-1".to_owned()), "--cpuset-cpus"),
            (|r| r.cpuset_mems = Some("0\n1".to_owned()), "--cpuset-mems"),
            (|r| r.cpuset_cpus = Some("0-99999".to_owned()), "--cpuset-cpus"),
            (|r| r.io_max = vec!["8:0 bps=1".to_owned()], "--io-max"),
            (|r| r.io_max = vec!["8:0 rbps=1".to_owned(); LINES + 1], "--io-max"),
            (|r| r.hugetlb = BTreeMap::from([("../2MB".to_owned(), Bytes(0))]), "--hugetlb"),
        ];
        for (change, flag) in wrong {
            let problem = resources(change).problem().unwrap_or_default();
            assert!(problem.starts_with(flag), "{flag}: {problem}");
        }
        assert_eq!(Resources::default().problem(), None);
    }

    #[test]
    fn all_of_it_is_read_as_people_write_it() {
        let text = r#"{"pids":64,"swap":"64M","io_weight":50,"io_max":["8:0 rbps=1048576"],"cpuset_cpus":"0-3,8",
                       "cpuset_mems":"0","hugetlb":{"2MB":"4M","1GB":0}}"#;
        let read: Resources = serde_json::from_str(text).unwrap();
        assert_eq!(read.problem(), None);
        assert_eq!(serde_json::from_str::<Resources>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
        let files: Vec<String> = read.files().iter().map(|(file, value)| format!("{file}={value}")).collect();
        let expected = "pids.max=64|memory.swap.max=67108864|io.weight=50|io.max=8:0 rbps=1048576|cpuset.cpus=0-3,8|\
                        cpuset.mems=0|hugetlb.1GB.max=0|hugetlb.1GB.rsvd.max=0|hugetlb.2MB.max=4194304|\
                        hugetlb.2MB.rsvd.max=4194304";
        assert_eq!(files.join("|"), expected);
        assert_eq!(read.controllers(), ["io", "cpuset", "hugetlb"]);
        assert!(serde_json::from_str::<Resources>(r#"{"swap":"lots"}"#).is_err());
        assert!(serde_json::from_str::<Resources>(r#"{"cpus":"0"}"#).is_err());
    }

    #[test]
    fn a_class_is_the_most_that_can_be_asked_for() {
        let mut class = Class { pids: 100, ..Class::default() };
        class.memory.swap_max = Limit::At(Bytes::MIB);
        class.io.max = vec!["8:0 rbps=1000 wbps=max".to_owned()];
        let line = |r: &mut Resources, text: &str| r.io_max = vec![text.to_owned()];
        let refused = |change: &dyn Fn(&mut Resources)| {
            let mut resources = Resources::default();
            change(&mut resources);
            resources.refused_by(&class).unwrap_or_default()
        };
        assert_eq!(refused(&|r| r.pids = Some(101)), "--pids 101 is refused: the class standard allows 100");
        assert_eq!(
            refused(&|r| r.swap = Some(Bytes::mib(2))),
            "--swap 2 MiB is refused: the class standard allows 1 MiB"
        );
        for wide in ["8:0 rbps=1001", "8:0 riops=5 rbps=max", "8:0 rbps=99999999999999999999"] {
            assert!(refused(&|r| line(r, wide)).contains("--io-max"), "{wide}");
        }
        for narrow in ["8:0 rbps=1000 wbps=5", "8:1 rbps=max", "8:0 wbps=max"] {
            assert_eq!(refused(&|r| line(r, narrow)), "", "{narrow}");
        }
        assert_eq!(refused(&|r| (r.pids, r.swap) = (Some(100), Some(Bytes::MIB))), "");
    }

    #[test]
    fn lists_are_compared_by_what_is_in_them() {
        for (part, whole, is) in [
            ("0-1", "0-3", true),
            ("3,0-1", "0-3", true),
            ("0-4", "0-3", false),
            ("0", "", false),
            ("", "0", false),
        ] {
            assert_eq!(is_within(part, whole), is, "{part} {whole}");
        }
    }
}
