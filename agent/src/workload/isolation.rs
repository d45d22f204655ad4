//! What a workload sees of the machine, and what it may do there: its box.
//!
//! Without any of it a workload is as it always was: real root on the host's root file system, in pid, mount, uts, ipc and cgroup
//! namespaces of its own (see `namespaces`). A root directory, a mount or a user namespace gives it a **root of its own**,
//! built by `bellows-init` before the command exists: with its own `/proc`, `/sys` and a minimal `/dev`, and nothing else of the host
//! than what is named here. The host's root as such a root is read-only, with `/tmp`, `/var/tmp` and `/run` empty.
//!
//! Everything is bounded, since it comes from a client and goes to a process that has to stay small.

use std::path::Path;

use bellows_policies::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::capability::Capability;
pub use super::namespaces::Namespaces;
use super::rlimit;
pub use super::rlimit::{Resource, Rlimit};
pub use super::whose::Whose;

/// Most mounts of a workload.
const MOUNTS: usize = 64;
/// Longest path, in bytes: a quarter of what the kernel takes.
const PATH: usize = 1024;
/// Longest host name: the kernel's `HOST_NAME_MAX`.
const HOSTNAME: usize = 64;
/// Where the box has mounts of its own. A size may be given to `/dev/shm`.
const OWN: [&str; 3] = ["/proc", "/sys", "/dev"];
const SHM: &str = "/dev/shm";
/// What of the host's root would let a workload meet other users of the host: files that all may write, and sockets.
const EMPTY_ON_HOST_ROOT: [&str; 3] = ["/tmp", "/var/tmp", "/run"];
/// Of each such directory. Its pages are charged to the workload besides.
const EMPTY_SIZE: Bytes = Bytes::mib(64);

/// A workload's box.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Isolation {
    /// What is its `/`.
    pub root: Root,
    /// What is mounted there besides, in this order.
    #[schemars(length(max = MOUNTS))]
    pub mounts: Vec<Mount>,
    /// Its host name; the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = HOSTNAME))]
    pub hostname: Option<String>,
    /// Its NIS domain name, as setdomainname(2) sets it; that of a new machine, `(none)`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = HOSTNAME))]
    pub domainname: Option<String>,
    /// Who its command is: `WHO[:GROUP]`, by number or by a name of its root file system; root when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whose namespaces it is in.
    pub namespaces: Namespaces,
    /// No program that it executes gives it more rights than it has.
    pub no_new_privs: bool,
    /// The capabilities that are kept; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// Limits of its processes; the agent's when absent.
    pub rlimits: Vec<Rlimit>,
    /// System calls that only administrate a machine are refused.
    pub seccomp: bool,
    /// It may make cgroups, mounts and namespaces of its own, for containers inside. Its limits stay out of its reach.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nested: bool,
}

/// A root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Root {
    /// The host's.
    #[default]
    Host,
    /// What is in a directory of the host.
    Directory {
        /// The directory. No part of it may be a symbolic link.
        path: String,
        /// The size of a tmpfs that takes what is written; without it the root is read-only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1))]
        upper: Option<Bytes>,
    },
}

/// A mount in a root of the workload's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mount {
    /// A file or a directory of the host, without what is mounted below it.
    Bind {
        /// Where it is on the host. No part of it may be a symbolic link.
        source: String,
        /// Where it is in the box.
        target: String,
        /// Whether it can be written.
        #[serde(default)]
        writable: bool,
    },
    /// Memory, charged to the workload.
    Tmpfs {
        /// Where it is in the box.
        target: String,
        /// Its size at most.
        #[schemars(range(min = 1))]
        size: Bytes,
    },
}

impl Isolation {
    /// The whole box, as for a tenant that is not trusted.
    #[must_use]
    pub fn tenant() -> Self {
        Self {
            namespaces: Namespaces { user: Whose::New, net: Whose::New, ..Namespaces::default() },
            no_new_privs: true,
            capabilities: Some(Capability::of_a_tenant()),
            seccomp: true,
            ..Self::default()
        }
    }

    /// What a preset stands for.
    #[must_use]
    pub fn of(preset: Preset) -> Self {
        match preset {
            Preset::Host => Self::default(),
            Preset::Tenant => Self::tenant(),
        }
    }

    /// Whether it gets a root of its own. Among other users than the host's it needs one: there the host's mounts could not be taken away.
    #[must_use]
    pub fn has_own_root(&self) -> bool {
        let is_asked_for = self.root != Root::Host || !self.mounts.is_empty();
        self.namespaces.mount.is_new() && (is_asked_for || self.namespaces.user != Whose::Host)
    }

    /// Whether it gets a range of user ids.
    #[must_use]
    pub fn has_own_users(&self) -> bool {
        self.namespaces.user.is_new()
    }

    /// What makes it unusable, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.mounts.len() > MOUNTS {
            return Some(format!("{} mounts are more than the {MOUNTS} that are allowed", self.mounts.len()));
        }
        let Namespaces { user: _, pid, mount, net: _, ipc: _, uts, cgroup, time: _ } = &self.namespaces;
        if self.nested && !self.has_own_users() {
            return Some("nested needs users of its own, as --isolation tenant has them".to_owned());
        }
        if self.nested && !(pid.is_new() && mount.is_new() && cgroup.is_new()) {
            return Some(
                "nested needs pid, mount and cgroup namespaces of its own: leave them out".to_owned(),
            );
        }
        if mount.is_joined() && (self.root != Root::Host || !self.mounts.is_empty()) {
            let text = "a joined mount namespace has a root file system: leave out root and mounts, or the namespace";
            return Some(text.to_owned());
        }
        let names = [&self.hostname, &self.domainname];
        if let Some(name) = names.into_iter().flatten().find(|name| !is_hostname(name)) {
            return Some(format!(
                "{name:?} is no host name and no domain name: 1 to {HOSTNAME} letters, digits, - and ."
            ));
        }
        if let Some(text) = self.user.as_deref().filter(|user| !is_user(user)) {
            return Some(format!(
                "{text:?} is nobody: a number or a name, and the same of a group after a colon"
            ));
        }
        if !uts.is_new() && names.into_iter().any(Option::is_some) {
            let text = "the host name or domain name of a uts namespace that is not its own is as it is there: leave it out";
            return Some(text.to_owned());
        }
        rlimit::problem(&self.rlimits)
            .or_else(|| self.namespaces.problem())
            .or_else(|| self.root.problem())
            .or_else(|| self.mounts.iter().find_map(Mount::problem))
    }

    /// What init is told of it, word by word; `agent/init/src/order.rs` is the other side.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = self.namespaces.words();
        let mut say = |said: &[&str]| words.extend(said.iter().map(|&word| word.to_owned()));
        if self.has_own_root() {
            match &self.root {
                Root::Host => say(&["host-root"]),
                Root::Directory { path, upper: None } => say(&["root", path]),
                Root::Directory { path, upper: Some(size) } => say(&["overlay", path, &size.0.to_string()]),
            }
            if self.root == Root::Host {
                for target in EMPTY_ON_HOST_ROOT {
                    say(&["tmpfs", target, &EMPTY_SIZE.0.to_string()]);
                }
            }
            for mount in &self.mounts {
                match mount {
                    Mount::Bind { source, target, writable } => {
                        say(&["bind", source, target, if *writable { "rw" } else { "ro" }]);
                    }
                    Mount::Tmpfs { target, size } => say(&["tmpfs", target, &size.0.to_string()]),
                }
            }
        }
        if let Some(kept) = &self.capabilities {
            say(&["capabilities", &kept.iter().fold(0, |set, c| set | c.bit()).to_string()]);
        }
        for limit in &self.rlimits {
            let [resource, soft, hard] = limit.numbers().map(|number| number.to_string());
            say(&["rlimit", &resource, &soft, &hard]);
        }
        if let Some(name) = &self.domainname {
            say(&["domainname", name]);
        }
        if let Some(user) = &self.user {
            say(&["user", user]);
        }
        if self.no_new_privs {
            say(&["no-new-privs"]);
        }
        for (word, _) in [("seccomp", self.seccomp), ("nested", self.nested)].iter().filter(|(_, is)| *is) {
            say(&[word]);
        }
        words
    }
}

impl Root {
    fn problem(&self) -> Option<String> {
        match self {
            Self::Host => None,
            Self::Directory { path, .. } if Path::new(path) == Path::new("/") => {
                Some("the root directory is the host's root: leave it out".to_owned())
            }
            Self::Directory { upper: Some(Bytes(0)), .. } => Some("the upper layer has no room".to_owned()),
            Self::Directory { path, .. } => path_problem("root directory", path),
        }
    }
}

impl Mount {
    fn problem(&self) -> Option<String> {
        let (target, source) = match self {
            Self::Bind { source, target, .. } => (target, Some(source)),
            Self::Tmpfs { target, .. } => (target, None),
        };
        if let Self::Tmpfs { size: Bytes(0), .. } = self {
            return Some(format!("the tmpfs at {target} has no room"));
        }
        // By its parts: `//proc` and `/./proc` are `/proc`.
        let place = Path::new(target);
        if let Some(own) = OWN.iter().find(|own| place.starts_with(own))
            && !(target == SHM && source.is_none())
        {
            return Some(format!("{target} cannot be mounted: what is in {own} is the box's own"));
        }
        if place == Path::new("/") {
            return Some("a mount cannot be the root: name a root directory".to_owned());
        }
        source
            .and_then(|source| path_problem("source", source))
            .or_else(|| path_problem("mount point", target))
    }
}

fn is_user(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let mut parts = text.splitn(2, ':');
    parts.all(|part| (1..=HOSTNAME).contains(&part.len()) && part.bytes().all(allowed))
}

fn is_hostname(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    (1..=HOSTNAME).contains(&name.len()) && name.bytes().all(allowed)
}

pub(super) fn path_problem(what: &str, path: &str) -> Option<String> {
    let text = if !path.starts_with('/') {
        "is not absolute"
    } else if path.len() > PATH {
        "is too long"
    } else if path.contains('\0') {
        "has a NUL byte"
    } else if path.split('/').any(|part| part == "..") {
        "has a .. in it"
    } else {
        return None;
    };
    Some(format!("the {what} {path:?} {text}"))
}

/// How much of the box `bellows run` turns on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// The host's root file system, users and network, and all of root's capabilities.
    #[default]
    Host,
    /// The whole box, for who is not trusted.
    Tenant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let bind = |source: &str, target: &str| Mount::Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            writable: false,
        };
        let tmpfs = |target: &str, size| Mount::Tmpfs { target: target.to_owned(), size: Bytes(size) };
        let problem = |mount: Mount| Isolation { mounts: vec![mount], ..Isolation::tenant() }.problem();
        for bad in [
            bind("usr", "/usr"),
            bind("/usr", "/"),
            bind("/usr", "/proc"),
            bind("/a", "/dev/shm"),
            bind("/a/../b", "/c"),
            bind("/a", "//proc"),
            bind("/a", "/./dev/null"),
            bind("/a", "//."),
            bind("/a\0", "/c"),
            bind("/a", &format!("/{}", "x".repeat(PATH))),
            tmpfs("/tmp", 0),
            tmpfs("/sys/fs/cgroup", 1),
        ] {
            assert!(problem(bad.clone()).is_some(), "{bad:?}");
        }
        for good in [bind("/usr", "/usr"), bind("/a", "/device"), tmpfs("/dev/shm", 1)] {
            assert_eq!(problem(good.clone()), None, "{good:?}");
        }
        for path in ["/", "//", "/.", "srv", "/srv/../etc"] {
            let root = Root::Directory { path: path.to_owned(), upper: None };
            assert!(Isolation { root, ..Isolation::tenant() }.problem().is_some(), "{path}");
        }
        let many = Isolation { mounts: vec![tmpfs("/t", 1); MOUNTS + 1], ..Isolation::default() };
        assert!(many.problem().is_some());
    }

    type Alter = fn(&mut Isolation);

    #[test]
    fn namespaces_are_refused_that_cannot_be_beside_others() {
        let problem = |namespaces: &str, change: Alter| {
            let mut isolation = Isolation::tenant();
            isolation.namespaces = serde_json::from_str(namespaces).unwrap();
            change(&mut isolation);
            isolation.problem().unwrap_or_default()
        };
        let refused: [(&str, Alter, &str); 9] = [
            (r#"{"mount":"host"}"#, |_| {}, "not given away"),
            (r#"{"cgroup":"host"}"#, |_| {}, "not given away"),
            (r#"{"time":"join:x"}"#, |_| {}, "not absolute"),
            (
                r#"{"mount":"join:/m"}"#,
                |i| i.mounts = vec![Mount::Tmpfs { target: "/t".to_owned(), size: Bytes::MIB }],
                "leave out root",
            ),
            (r#"{"uts":"host"}"#, |i| i.hostname = Some("web".to_owned()), "host name"),
            (r#"{"uts":"host"}"#, |i| i.domainname = Some("corp".to_owned()), "domain name"),
            ("{}", |i| i.domainname = Some("a b".to_owned()), "no domain name"),
            (r#"{"user":"new","pid":"host"}"#, |i| i.nested = true, "nested needs pid"),
            (r#"{"user":"join:/u"}"#, |i| i.nested = true, "nested needs users"),
        ];
        for (namespaces, change, said) in refused {
            let text = problem(namespaces, change);
            assert!(text.contains(said), "{namespaces}: {text}");
        }
        let all = r#"{"user":"join:/u","pid":"join:/p","mount":"join:/m","net":"join:/n","ipc":"join:/i","uts":"join:/h","cgroup":"join:/c","time":"join:/t"}"#;
        assert_eq!(problem(all, |_| {}), "");
        assert_eq!(problem(r#"{"pid":"host","ipc":"host","uts":"host"}"#, |_| {}), "");
    }

    #[test]
    fn a_spec_without_a_box_reads_back_as_none() {
        let read: Isolation = serde_json::from_str("{}").unwrap();
        assert_eq!((read.words(), read.has_own_root()), (Vec::new(), false));
        let tenant = Isolation::tenant();
        assert_eq!(
            serde_json::from_str::<Isolation>(&serde_json::to_string(&tenant).unwrap()).unwrap(),
            tenant
        );
        assert!(tenant.has_own_root() && tenant.words().contains(&"host-root".to_owned()));
        assert!(serde_json::from_str::<Isolation>(r#"{"sandbox":true}"#).is_err());
    }
}
