//! What a client asks for. Everything here is validated when it is built, so that the inside never meets a bad name.

use std::fmt;
use std::str::FromStr;

use bellows_policies::ruleset::DEFAULT_CLASS;
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{AssignedBy, Assignment, CpuBounds, Resources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::isolation::Isolation;
use super::life::Life;

/// The name of a tenant or a workload, which is also the name of its cgroup directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = 64))]
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

/// Who a workload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Identity {
    /// Its owner.
    pub tenant: Name,
    /// Its name, unique within the tenant.
    pub name: Name,
    /// Its class.
    #[serde(default = "default_class")]
    pub class: Name,
    /// What gave it that class; unknown of a record of old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<AssignedBy>,
    /// Between what its memory limit moves.
    pub memory: Bounds,
    /// Between what its cpu quota moves; without bounds it has none, and its weight decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuBounds>,
    /// Its share of memory and cpu beside others; that of its class when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What it asked for by the piece.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// Which of these bounds are its class's, and follow it.
    #[serde(default)]
    pub by_class: ByClass,
}

/// Which bounds a workload did not ask for. Those of a record of old were all asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ByClass {
    /// Those of memory.
    pub memory: bool,
    /// Those of the quota.
    pub cpu: bool,
}

/// Who a workload wants to be: what it does not say, policies do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its owner.
    pub tenant: Name,
    /// Its name, unique within the tenant.
    pub name: Name,
    /// The class that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// Between what its memory limit is to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bounds>,
    /// Between what its cpu quota is to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuBounds>,
    /// What it asks for by the piece.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

impl Asked {
    /// Who it is, once its class is known, on a node of `capacity`; or why it cannot be that.
    pub fn become_of(self, assignment: &Assignment, capacity: Bytes) -> Result<Identity, String> {
        let Assignment { class, by, .. } = assignment;
        let refused = |text: String| match by {
            AssignedBy::Rule(_) => format!("{text} ({by})"),
            AssignedBy::Asked | AssignedBy::Tenant | AssignedBy::Default => text,
        };
        if let Some(text) = self.resources.refused_by(class) {
            return Err(refused(text));
        }
        let by_class = ByClass { memory: self.memory.is_none(), cpu: self.cpu.is_none() };
        Ok(Identity {
            memory: class.memory_bounds(self.memory, capacity).map_err(refused)?,
            cpu: class.cpu_bounds(self.cpu).map_err(refused)?,
            class: class.name.parse().map_err(|error: NameError| error.to_string())?,
            assigned: Some(by.clone()),
            weight: None,
            resources: self.resources,
            tenant: self.tenant,
            name: self.name,
            by_class,
        })
    }
}

/// Whose a workload is that nobody is named for.
pub(crate) fn default_tenant() -> Name {
    Name("default".to_owned())
}

fn default_class() -> Name {
    Name(DEFAULT_CLASS.to_owned())
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

/// A workload to be started: as it is asked for (`Spec<Asked>`), or as it was admitted.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec<Who = Identity> {
    /// Who it is.
    pub identity: Who,
    /// The command and its arguments.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// Its environment, `NAME=value` each.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its working directory, absolute.
    pub cwd: String,
    /// What it sees of the machine, and what it may do there.
    #[serde(default)]
    pub isolation: Isolation,
    /// How it is to live.
    #[serde(default)]
    pub life: Life,
}

/// Bytes of a path, as execve(2) and chdir(2) take it: `PATH_MAX` without its NUL.
const PATH: usize = 4095;

/// What makes a command unusable, if anything.
#[must_use]
pub fn command_problem(argv: &[String], env: &[String], cwd: &str) -> Option<String> {
    let program = argv.first().map_or("", String::as_str);
    if program.is_empty() {
        return Some("no command was given".to_owned());
    }
    if program.len().max(cwd.len()) > PATH {
        return Some(format!("the command's name or its working directory is longer than {PATH} bytes"));
    }
    if !cwd.starts_with('/') {
        return Some(format!("the working directory {cwd:?} is not absolute"));
    }
    // It is not repeated: it may be a secret.
    if env.iter().any(|entry| entry.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        return Some("a variable of the environment has no name, or no `=`: NAME=VALUE is needed".to_owned());
    }
    let mut texts = argv.iter().chain(env).map(String::as_str).chain([cwd]);
    texts.any(|text| text.contains('\0')).then(|| "a NUL byte is in the command".to_owned())
}

impl Spec<Asked> {
    /// What makes the spec unusable, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(text) = command_problem(&self.argv, &self.env, &self.cwd).or_else(|| self.life.problem())
        {
            return Some(text);
        }
        self.identity.resources.problem().or_else(|| self.isolation.problem())
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
    fn what_cannot_be_a_command_is_told() {
        let told = |argv: &[&str], cwd: &str| {
            let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
            command_problem(&argv, &[], cwd).unwrap_or_default()
        };
        assert_eq!(told(&["/bin/true", &"x".repeat(5000)], "/"), "", "arguments may be long");
        let longest = format!("/{}", "x".repeat(PATH - 1));
        assert_eq!(told(&[&longest], &longest), "");
        for (argv, cwd) in [(&[&*format!("{longest}x")][..], "/"), (&["true"], &*format!("{longest}x"))] {
            assert!(told(argv, cwd).contains("longer than 4095 bytes"), "{}", told(argv, cwd));
        }
        assert!(told(&["true"], "tmp").contains("is not absolute"));
        assert!(told(&[], "/").contains("no command"));
        assert!(told(&["true", "a\0b"], "/").contains("NUL"));
        let variable = |entry: &str| command_problem(&["true".to_owned()], &[entry.to_owned()], "/");
        assert_eq!((variable("A="), variable("A=B=C")), (None, None));
        for entry in ["PATH", "=x", ""] {
            assert!(variable(entry).is_some_and(|told| told.contains("NAME=VALUE is needed")), "{entry}");
        }
    }

    /// Records that an earlier agent wrote are understood.
    #[test]
    fn an_identity_of_old_is_read() {
        let bounds = r#""memory":{"floor":1048576,"ceiling":2097152}"#;
        let read = |class: &str| {
            let text = format!(r#"{{"tenant":"acme","name":"web",{class}{bounds}}}"#);
            serde_json::from_str::<Identity>(&text).unwrap()
        };
        assert_eq!(read(r#""class":"latency","#).class.as_str(), "latency");
        assert_eq!(read("").class.as_str(), "standard");
        assert_eq!(read("").by_class, ByClass { memory: false, cpu: false });
        assert_eq!(
            serde_json::from_str::<Identity>(&serde_json::to_string(&read("")).unwrap()).unwrap(),
            read("")
        );
    }

    #[test]
    fn a_bad_name_is_refused_on_the_wire_too() {
        let error = serde_json::from_str::<Name>("\"../etc\"").unwrap_err().to_string();
        assert!(error.contains("is not a name"), "{error}");
    }
}
