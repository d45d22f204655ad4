//! Whose a namespace is, where it can be one that is there already: network, ipc, uts. The others carry what init is made of (pid, mount,
//! user, cgroup), or its clocks.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
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
    /// That of a file, as `ip netns add` makes them. No part of the path may be a symbolic link.
    Join(String),
}

impl Whose {
    /// Whether it is a new one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        *self == Self::New
    }

    /// What cannot be of the namespace `kind`, if anything.
    pub(super) fn problem(&self, kind: &str) -> Option<String> {
        match self {
            Self::Join(path) => path_problem(&format!("{kind} namespace"), path),
            Self::Host if kind != "network" => {
                Some(format!("the host's {kind} namespace is not given away: new, or join:PATH"))
            }
            Self::New | Self::Host => None,
        }
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
            assert!(wrong.parse::<Whose>().unwrap().problem("network").is_some(), "{wrong:?}");
        }
        assert!(Whose::Host.problem("ipc").is_some() && Whose::Host.problem("network").is_none());
    }
}
