//! The rule set: policies compiled into what an agent governs by. Classes, what assigns them, tenants, and the node.
//!
//! | file | holds |
//! |---|---|
//! | `class` | a class: bounds, weight, laws; the three that are built in |
//! | `parts` | tenants, the node, and rules |
//! | `glob` | patterns of names |
//! | `words` | what is said in one word of a few |
//!
//! It is built from files elsewhere, as a whole or not at all, and never changes afterwards: who governs by it shares it.

mod class;
pub mod glob;
mod parts;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use class::{Class, CpuPart, Io, MemoryPart, RUNGS};
pub use parts::{Node, Rule, Tenant};
pub use words::{Adopt, Base, CpuControl, Foreign, Mode};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::memory::Law;

/// The class of whoever asks for none and matches no rule.
pub const DEFAULT_CLASS: &str = "standard";

/// What the built-in classes begin with: an agent's configuration may set it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Defaults {
    /// The memory law.
    pub memory: Law,
    /// `pids.max`.
    pub pids: u64,
}

/// All policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    /// Tells one rule set from another: of the files' content.
    pub version: String,
    /// The node.
    pub node: Node,
    /// The classes by name; the built-in ones are always there.
    pub classes: BTreeMap<String, Arc<Class>>,
    /// The tenants by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// The first that matches assigns.
    pub rules: Vec<Rule>,
}

/// Which class a workload has, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The class.
    pub class: Arc<Class>,
    /// What gave it to it.
    pub by: AssignedBy,
    /// The rule set's version.
    pub version: String,
}

/// What gave a workload its class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AssignedBy {
    /// The rule that stands there: file and line.
    Rule(String),
    /// It was asked for.
    Asked,
    /// Its tenant: it is the class of those that ask for none.
    Tenant,
    /// Nothing: it is the default.
    Default,
}

/// A class that the rule set does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownClass {
    /// Its name.
    pub name: String,
    /// Those that there are.
    pub known: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { memory: Law::DEFAULT, pids: 4096 }
    }
}

impl Ruleset {
    /// The rule set of no files at all.
    #[must_use]
    pub fn built_in(defaults: Defaults) -> Self {
        let class = |base: Base| (base.as_str().to_owned(), Arc::new(Class::built_in(base, defaults)));
        Self {
            version: "built-in".to_owned(),
            node: Node::default(),
            classes: Base::ALL.into_iter().map(class).collect(),
            tenants: BTreeMap::new(),
            rules: Vec::new(),
        }
    }

    /// The class of a workload: that of the first rule that matches, unless it asks for one and the rule lets it; and without
    /// a rule the one asked for, its tenant's, or the default.
    pub fn assign(
        &self,
        tenant: &str,
        workload: &str,
        asked: Option<&str>,
    ) -> Result<Assignment, UnknownClass> {
        let rule = self
            .rules
            .iter()
            .find(|rule| glob::matches(&rule.tenant, tenant) && glob::matches(&rule.workload, workload));
        let rule = rule.filter(|rule| rule.force || asked.is_none());
        let of_tenant = || self.tenants.get(tenant)?.class.as_deref();
        let (name, by) = match (rule, asked) {
            (Some(rule), _) => (rule.class.as_str(), AssignedBy::Rule(rule.origin.clone())),
            (None, Some(asked)) => (asked, AssignedBy::Asked),
            (None, None) => match of_tenant() {
                Some(class) => (class, AssignedBy::Tenant),
                None => (DEFAULT_CLASS, AssignedBy::Default),
            },
        };
        Ok(Assignment { class: Arc::clone(self.class(name)?), by, version: self.version.clone() })
    }

    /// What is done with a cgroup that somebody else makes in a tenant's.
    #[must_use]
    pub fn adopts(&self, tenant: &str) -> Adopt {
        self.tenants.get(tenant).map_or(Adopt::No, |tenant| tenant.adopt)
    }

    /// A class by its name.
    pub fn class(&self, name: &str) -> Result<&Arc<Class>, UnknownClass> {
        self.classes.get(name).ok_or_else(|| UnknownClass {
            name: name.to_owned(),
            known: self.classes.keys().cloned().collect(),
        })
    }
}

impl fmt::Display for AssignedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(origin) => write!(f, "by the rule {origin}"),
            Self::Asked => f.write_str("by --class"),
            Self::Tenant => f.write_str("by its tenant"),
            Self::Default => f.write_str("by default"),
        }
    }
}

impl fmt::Display for UnknownClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no class `{}`: there are {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for UnknownClass {}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(tenant: &str, workload: &str, class: &str, force: bool) -> Rule {
        let origin = format!("test.toml:{class}");
        Rule { tenant: tenant.into(), workload: workload.into(), class: class.into(), force, origin }
    }

    #[test]
    fn the_first_rule_that_matches_assigns() {
        let mut rules = Ruleset::built_in(Defaults::default());
        rules.rules = vec![
            rule("acme", "web-*", "latency", false),
            rule("acme", "*", "batch", true),
            rule("b*", "?", "latency", false),
        ];
        rules.tenants.insert("own".to_owned(), Tenant { class: Some("batch".to_owned()), ..Tenant::plain() });
        for (tenant, workload, asked, class, by) in [
            ("acme", "web-1", None, "latency", "by the rule test.toml:latency"),
            ("acme", "web-1", Some("standard"), "standard", "by --class"),
            ("acme", "job", None, "batch", "by the rule test.toml:batch"),
            ("acme", "job", Some("latency"), "batch", "by the rule test.toml:batch"),
            ("blue", "x", None, "latency", "by the rule test.toml:latency"),
            ("blue", "xy", None, "standard", "by default"),
            ("other", "web-1", Some("batch"), "batch", "by --class"),
            ("own", "x", None, "batch", "by its tenant"),
            ("own", "x", Some("latency"), "latency", "by --class"),
        ] {
            let assignment = rules.assign(tenant, workload, asked).unwrap();
            assert_eq!(
                (&*assignment.class.name, &*assignment.by.to_string()),
                (class, by),
                "{tenant}/{workload}"
            );
        }
        let unknown = rules.assign("other", "x", Some("wbe")).unwrap_err();
        insta::assert_snapshot!(unknown, @"there is no class `wbe`: there are batch, latency, standard");
    }
}
