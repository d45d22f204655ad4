//! What an agent without the machine's root cannot give to a workload. Refused by name, rather than left out: it may be a wall.

use super::capability::Capability;
use super::isolation::{Isolation, Root, Whose};

/// What of `isolation` takes root, if anything does.
#[must_use]
pub fn missing(isolation: &Isolation) -> Option<&'static str> {
    let Isolation { root, mounts, namespaces, .. } = isolation;
    // Mounts are made before the user namespace exists, with the host's rights.
    if *root != Root::Host || !mounts.is_empty() {
        return Some("a root file system or mounts of its own");
    }
    if isolation.user.as_ref().is_some_and(|user| user != "0") {
        return Some("a command that is not root inside");
    }
    if namespaces.user.is_new() {
        return Some("a range of user ids of its own");
    }
    if namespaces.each().into_iter().any(|(_, whose)| whose.is_joined()) {
        return Some("a namespace that is there already");
    }
    if namespaces.pid == Whose::Host {
        // Its own users may not mount what shows them.
        return Some("the host's pid namespace");
    }
    namespaces.time.is_new().then_some("a time namespace")
}

/// What init is told besides, word by word. Its view of the cgroups covers the host's, where it cannot take that away; whoever may
/// administrate mounts could uncover it.
#[must_use]
pub fn words(isolation: &Isolation) -> Vec<String> {
    if isolation.capabilities.is_some() {
        return Vec::new();
    }
    let kept = Capability::all().into_iter().map(Capability::bit).fold(0, |sum, bit| sum | bit);
    let administrates = "CAP_SYS_ADMIN".parse().map_or(0, Capability::bit);
    vec!["capabilities".to_owned(), (kept & !administrates).to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::isolation::Namespaces;

    #[test]
    fn what_takes_root_is_named() {
        let with = |user, time| {
            let namespaces = Namespaces { user, time, net: Whose::New, ..Namespaces::default() };
            missing(&Isolation { namespaces, seccomp: true, ..Isolation::default() })
        };
        assert_eq!(with(Whose::Host, Whose::Host), None);
        assert!(with(Whose::New, Whose::Host).is_some_and(|what| what.contains("user ids")));
        assert!(with(Whose::Host, Whose::New).is_some_and(|what| what.contains("time")));
        for (namespaces, what) in
            [(r#"{"pid":"host"}"#, "pid namespace"), (r#"{"cgroup":"join:/c"}"#, "there already")]
        {
            let namespaces = serde_json::from_str(namespaces).unwrap();
            let missing = missing(&Isolation { namespaces, ..Isolation::default() });
            assert!(missing.is_some_and(|said| said.contains(what)), "{missing:?}");
        }
        let root = Root::Directory { path: "/srv".to_owned(), upper: None };
        assert!(missing(&Isolation { root, ..Isolation::default() }).is_some());
    }
}
