//! Whose a namespace is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::isolation::path_problem;

/// How a joined one is written.
const JOIN: &str = "join:";

/// A namespace, as it is written everywhere: `new`, `host`, `join:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Whose {
    /// A new one.
    New,
    /// The agent's.
    Host,
    /// That of a file, as `ip netns add` makes them, or `/proc/PID/ns/NAME`. No part of the path may be a symbolic link otherwise.
    Join(String),
}

impl Whose {
    /// Whether it is a new one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        *self == Self::New
    }

    /// Whether it is that of a file.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        matches!(self, Self::Join(_))
    }

    /// What cannot be of the namespace `kind`, if anything.
    pub(super) fn problem(&self, kind: &str) -> Option<String> {
        match (self, kind) {
            (Self::Join(path), _) => path_problem(&format!("{kind} namespace"), path),
            (Self::Host, "mount" | "cgroup") => Some(format!(
                "the host's {kind} namespace is not given away, since limits can be written there: new, or join:PATH"
            )),
            (Self::New | Self::Host, _) => None,
        }
    }
}

/// How `user` and `time` have been described since the API was first promised: as the two words that they once were, and a file by now.
#[derive(Debug)]
pub struct Namespace;

impl JsonSchema for Namespace {
    fn schema_name() -> Cow<'static, str> {
        "Namespace".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Whose a namespace is: one of these words, or `join:PATH`.",
            "oneOf": [
                { "const": "new", "description": "A new one.", "type": "string" },
                { "const": "host", "description": "The agent's.", "type": "string" },
                { "pattern": "^join:/", "description": "That of a file.", "type": "string" },
            ],
        })
    }
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "new" => Ok(Self::New),
            "host" => Ok(Self::Host),
            _ => text
                .strip_prefix(JOIN)
                .map(|path| Self::Join(path.to_owned()))
                .ok_or_else(|| format!("{text:?} is no namespace: new, host, join:PATH")),
        }
    }
}

impl TryFrom<String> for Whose {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Whose> for String {
    fn from(whose: Whose) -> Self {
        whose.to_string()
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Host => f.write_str("host"),
            Self::Join(path) => write!(f, "{JOIN}{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_read_as_they_are_written() {
        for text in ["new", "host", "join:/run/netns/web"] {
            assert_eq!(text.parse::<Whose>().unwrap().to_string(), text);
        }
        assert!("bridge".parse::<Whose>().is_err());
        for wrong in ["join:web", "join:/a/../b", "join:/a\0"] {
            assert!(wrong.parse::<Whose>().unwrap().problem("net").is_some(), "{wrong:?}");
        }
        for (kind, is_refused) in [("mount", true), ("cgroup", true), ("pid", false), ("net", false)] {
            assert_eq!(Whose::Host.problem(kind).is_some(), is_refused, "{kind}");
        }
    }
}
