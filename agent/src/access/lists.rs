//! The lists, as they are configured.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::names;
use super::rights::Access;
use crate::workload::spec::Name;

/// Who may do what on the control socket, and who can open it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// The mode of both sockets.
    pub mode: Mode,
    /// Their owner; the agent's user when absent.
    pub owner: Option<Who>,
    /// Their group; the agent's when absent.
    pub group: Option<Who>,
    /// May do everything.
    pub operators: Callers,
    /// See everything, and change nothing.
    pub readers: Callers,
    /// See and change what is their tenant's.
    pub tenants: BTreeMap<Name, TenantCallers>,
}

/// Users and groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callers {
    /// Users, by name or number.
    #[serde(deserialize_with = "several")]
    pub users: Vec<Who>,
    /// Groups, by name or number; a caller's supplementary ones count too.
    #[serde(deserialize_with = "several")]
    pub groups: Vec<Who>,
}

/// Who acts for a tenant, and what of the machine its workloads may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantCallers {
    /// Users, by name or number.
    #[serde(deserialize_with = "several")]
    pub users: Vec<Who>,
    /// Groups, by name or number.
    #[serde(deserialize_with = "several")]
    pub groups: Vec<Who>,
    /// What of the host can be a root file system or a bind mount: what is in these directories.
    pub directories: Vec<PathBuf>,
    /// Classes that may be asked for. Without one, a workload has what policies give it.
    pub classes: Vec<Name>,
    /// Workloads at most, those included that have ended and are remembered.
    pub workloads: usize,
}

impl Default for TenantCallers {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            groups: Vec::new(),
            directories: Vec::new(),
            classes: Vec::new(),
            workloads: 64,
        }
    }
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Who {
    /// By number.
    Id(u32),
    /// By name, as `/etc/passwd` or `/etc/group` has it.
    Name(String),
}

/// The mode of a socket: who can open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Default for Mode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl Api {
    /// What is wrong with it, each with its key.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, who, id) in [
            ("owner", &self.owner, names::user as fn(&Who) -> Result<u32, String>),
            ("group", &self.group, names::group),
        ] {
            if let Some(Err(text)) = who.as_ref().map(id) {
                found.push((format!("api.{key}"), format!("api.{key}: {text}")));
            }
        }
        if let Err((key, text)) = Access::new(self) {
            found.push((key.clone(), format!("{key}: {text}")));
        }
        for (tenant, TenantCallers { directories, .. }) in &self.tenants {
            if let Some(path) = directories.iter().find(|path| !is_plain(path)) {
                let text = "has to be absolute, without .. in it, and not the root";
                found.push((
                    "api.tenants".to_owned(),
                    format!("api.tenants.{tenant}.directories: {} {text}", path.display()),
                ));
            }
        }
        found
    }

    /// The owner and the group of the sockets, where they are named.
    pub fn owners(&self) -> Result<(Option<u32>, Option<u32>), String> {
        let owner = self.owner.as_ref().map(names::user).transpose()?;
        Ok((owner, self.group.as_ref().map(names::group).transpose()?))
    }
}

/// A directory whose content can be told from its path alone.
fn is_plain(path: &std::path::Path) -> bool {
    use std::path::Component;
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode =
            u32::from_str_radix(&text, 8).ok().filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
        mode.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no mode of a socket: for example \"0600\", \"0660\", \"0666\""
            ))
        })
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl Visitor<'_> for One {
            type Value = Who;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Who, E> {
                who(text)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Who, E> {
                who(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Who, E> {
                who(&number.to_string())
            }
        }
        deserializer.deserialize_any(One)
    }
}

/// A list; or, since an environment variable has no other type, names and numbers with commas between them.
fn several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Who>, D::Error> {
    struct Several;
    impl<'de> Visitor<'de> for Several {
        type Value = Vec<Who>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names and numbers")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<Who>, E> {
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(who).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Who>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Several)
}

fn who<E: de::Error>(text: &str) -> Result<Who, E> {
    // The largest number is nobody: what the kernel says of a caller that it does not know.
    match text.parse::<i64>().map(u32::try_from) {
        Ok(Ok(id)) if id != u32::MAX => Ok(Who::Id(id)),
        Ok(_) => Err(E::custom(format!("{text} is no user or group: there are 0 to {}", u32::MAX - 1))),
        Err(_) if text.is_empty() || text.contains([':', '\n']) => {
            Err(E::custom(format!("{text:?} is no name of a user or a group")))
        }
        Err(_) => Ok(Who::Name(text.to_owned())),
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_mistakes_are_told() {
        let read = |text: &str| toml::from_str::<Api>(text);
        let api = read(
            "mode = \"0666\"\noperators = { groups = [\"root\", 27] }\n[tenants]\nacme = { users = [1000], workloads = 3 }\n",
        )
        .unwrap();
        assert_eq!((api.mode, api.readers.users.len()), (Mode(0o666), 0));
        assert_eq!(api.operators.groups, [Who::Name("root".to_owned()), Who::Id(27)]);
        assert_eq!(api.tenants.values().next().map(|acme| acme.workloads), Some(3));
        assert!(api.problems().is_empty(), "{:?}", api.problems());
        for bad in [
            "mode = \"0777\"",
            "mode = \"0066\"",
            "readers = { user = [1] }",
            "operators = { users = [-1] }",
            "operators = { users = [4294967295] }",
            "tenants = { \"../x\" = { users = [1] } }",
            "tenants = { acme = { uids = [1] } }",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for (bad, key) in [
            ("readers = { users = [\"nobody-of-that-name\"] }", "api.readers.users"),
            ("group = \"nobody-of-that-name\"", "api.group"),
            ("tenants = { acme = { groups = [\"nobody-of-that-name\"] } }", "api.tenants"),
            ("tenants = { acme = { directories = [\"/srv/../etc\"] } }", "api.tenants"),
            ("tenants = { acme = { directories = [\"/\"] } }", "api.tenants"),
        ] {
            let problems = read(bad).unwrap().problems();
            assert!(problems.len() == 1 && problems[0].0 == key, "{bad}: {problems:?}");
        }
    }
}
