//! The namespaces that a workload is in: each is a new one, the host's, or one that is there already.
//!
//! Without flags those of users, network and time are the host's, and the others are new. What cannot be had is refused by name:
//!
//! - the host's mounts and cgroups, also by a file of them: the limits of the workload, and those of others, could be written there;
//! - with joined mounts a root or mounts of its own: there is a root already;
//! - with a uts namespace that is not new a host name of its own: others have that one, too;
//! - nested, unless what it makes more of is its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::whose::{Namespace, Whose};

/// Whose namespaces a workload is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Namespaces {
    /// Users: in one of its own, its root is a user of the host that owns nothing else, out of its tenant's range. In a joined one it is
    /// root of that.
    #[schemars(with = "Namespace")]
    pub user: Whose,
    /// Processes: in one that is not its own it sees whoever else is there, and has another number than 1.
    #[serde(skip_serializing_if = "Whose::is_new")]
    pub pid: Whose,
    /// Mounts: a joined one has its root file system, and where that shows cgroups, they are its maker's. Never the host's.
    #[serde(skip_serializing_if = "Whose::is_new")]
    pub mount: Whose,
    /// Network: in one of its own there is a loopback device and nothing else.
    pub net: Whose,
    /// System V IPC and message queues.
    #[serde(skip_serializing_if = "Whose::is_new")]
    pub ipc: Whose,
    /// Host and domain name: of one that is not its own they are as they are there.
    #[serde(skip_serializing_if = "Whose::is_new")]
    pub uts: Whose,
    /// Cgroups: what it sees as the root of all. Its limits are its own in any case. Never the host's.
    #[serde(skip_serializing_if = "Whose::is_new")]
    pub cgroup: Whose,
    /// Time: in one of its own, the monotonic and the boot-time clock begin at the launch.
    #[schemars(with = "Namespace")]
    pub time: Whose,
}

/// As of a workload without flags.
impl Default for Namespaces {
    fn default() -> Self {
        Self {
            user: Whose::Host,
            pid: Whose::New,
            mount: Whose::New,
            net: Whose::Host,
            ipc: Whose::New,
            uts: Whose::New,
            cgroup: Whose::New,
            time: Whose::Host,
        }
    }
}

impl Namespaces {
    /// All of them by name, as init knows them, too.
    #[must_use]
    pub fn each(&self) -> [(&'static str, &Whose); 8] {
        let Self { user, pid, mount, net, ipc, uts, cgroup, time } = self;
        [
            ("user", user),
            ("pid", pid),
            ("mount", mount),
            ("net", net),
            ("ipc", ipc),
            ("uts", uts),
            ("cgroup", cgroup),
            ("time", time),
        ]
    }

    /// Whether what a tenant that is not trusted could reach others by is its own. Of the clocks nothing can be changed; those of
    /// somebody else it would be told by.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        let is_whole = |(name, whose): (&str, &Whose)| match name {
            "time" => !whose.is_joined(),
            _ => whose.is_new(),
        };
        self.each().into_iter().all(is_whole)
    }

    /// What cannot be of each, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        self.each().into_iter().find_map(|(name, whose)| whose.problem(name))
    }

    /// What init is told of those that are otherwise than without flags, word by word.
    pub(super) fn words(&self) -> Vec<String> {
        let usual = Self::default();
        let otherwise = self.each().into_iter().zip(usual.each()).filter(|(own, usual)| own != usual);
        let words = otherwise.flat_map(|((name, whose), _)| match whose {
            Whose::New => vec!["new", name],
            Whose::Host => vec!["host", name],
            Whose::Join(path) => vec!["join", name, path],
        });
        words.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Namespaces {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_as_usual_is_not_said() {
        let usual = r#"{"user":"host","net":"host","time":"host"}"#;
        assert_eq!(serde_json::to_string(&Namespaces::default()).unwrap(), usual);
        assert_eq!((read("{}"), read(usual)), (Namespaces::default(), Namespaces::default()));
        assert!(read("{}").words().is_empty());
        let other =
            r#"{"user":"new","pid":"host","mount":"join:/m","net":"new","cgroup":"join:/c","time":"new"}"#;
        assert_eq!(serde_json::to_string(&read(other)).unwrap(), other);
        assert_eq!(
            read(other).words().join(" "),
            "new user host pid join mount /m new net join cgroup /c new time"
        );
    }

    #[test]
    fn whole_is_what_shares_nothing() {
        let whole = |change: &str| {
            let mut all = serde_json::json!({ "user": "new", "net": "new" });
            for (key, value) in
                serde_json::from_str::<serde_json::Value>(change).unwrap().as_object().unwrap()
            {
                all[key] = value.clone();
            }
            read(&all.to_string()).are_whole()
        };
        assert!(whole("{}") && whole(r#"{"time":"new"}"#));
        for (name, _) in Namespaces::default().each() {
            assert!(!whole(&format!(r#"{{"{name}":"join:/a"}}"#)), "{name}");
            assert_eq!(whole(&format!(r#"{{"{name}":"host"}}"#)), name == "time", "{name}");
        }
    }
}
