//! What a client asks for. Everything here is validated when it is built, so that the inside never meets a bad name.

use std::fmt;
use std::str::FromStr;

use bellows_policies::CpuBounds;
use bellows_policies::units::Bounds;
use serde::{Deserialize, Serialize};

/// The name of a tenant or a workload, which is also the name of its cgroup directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A name cannot be that of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to 64 letters, digits and _ + - . and do not begin with a dot or a dash")]
pub struct NameError(String);

impl Name {
    /// Longest name, in bytes: file name limits are larger, metric labels and terminals are not.
    const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_+-.".contains(&b);
        // A leading dot hides a directory or escapes it; a leading dash looks like a flag to every tool.
        let begins_well = !text.starts_with(['.', '-']);
        if !text.is_empty() && text.len() <= Self::MAX && begins_well && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(NameError(text))
        }
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How much a workload matters when there is not enough for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Answers people: its floor is protected absolutely (`memory.min`), cpu first.
    Latency,
    /// Neither.
    #[default]
    Standard,
    /// Can wait.
    Batch,
}

impl Class {
    /// Its share of cpu (`cpu.weight`, 1 to 10 000, the kernel's default being 100) and of memory that others want too: five to
    /// one, and one to five.
    #[must_use]
    pub fn weight(self) -> u32 {
        match self {
            Self::Latency => 500,
            Self::Standard => 100,
            Self::Batch => 20,
        }
    }

    /// The file that protects the floor.
    #[must_use]
    pub fn protection(self) -> &'static str {
        match self {
            Self::Latency => "memory.min",
            Self::Standard | Self::Batch => "memory.low",
        }
    }

    /// The pool of the budget that it is granted from.
    #[must_use]
    pub fn pool(self) -> bellows_policies::Class {
        match self {
            Self::Latency => bellows_policies::Class::Latency,
            Self::Standard => bellows_policies::Class::Standard,
            Self::Batch => bellows_policies::Class::Batch,
        }
    }

    /// The name that metrics and people see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Standard => "standard",
            Self::Batch => "batch",
        }
    }
}

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its owner.
    pub tenant: Name,
    /// Its name, unique within the tenant.
    pub name: Name,
    /// Its class.
    #[serde(default)]
    pub class: Class,
    /// Between what its memory limit moves.
    pub memory: Bounds,
    /// Between what its cpu quota moves; without bounds it has none, and its weight decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuBounds>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

/// A workload to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Who it is.
    pub identity: Identity,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Its environment, `NAME=value` each.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its working directory, absolute.
    pub cwd: String,
}

impl Spec {
    /// What makes the spec unusable, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Some("no command was given".to_owned());
        }
        if !self.cwd.starts_with('/') {
            return Some(format!("the working directory {:?} is not absolute", self.cwd));
        }
        let texts = self.argv.iter().chain(&self.env).chain([&self.cwd]);
        texts.into_iter().any(|t| t.contains('\0')).then(|| "a NUL byte is in the command".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "-rf", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for good in ["web", "web-1.2_c+d", "7", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_bad_name_is_refused_on_the_wire_too() {
        let error = serde_json::from_str::<Name>("\"../etc\"").unwrap_err().to_string();
        assert!(error.contains("is not a name"), "{error}");
    }
}
