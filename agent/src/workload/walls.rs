//! What a workload's command has given up, noted on its cgroup: a command that enters the workload later gives up the same, also
//! under the next agent. What its root is made of stands already, and is not noted.

use super::capability::Capability;
use super::isolation::{Isolation, Root, Whose};
use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that holds it, as JSON.
const WALLS: &str = "walls";

/// Notes the walls of a box, if it has any.
pub fn write(cgroup: &Cgroup, isolation: &Isolation) -> Result<(), CgroupError> {
    let isolation = isolation.clone();
    let walls =
        Isolation { root: Root::Host, mounts: Vec::new(), hostname: None, domainname: None, ..isolation };
    if walls == Isolation::default() {
        return Ok(());
    }
    cgroup.set_attribute(WALLS, &serde_json::to_vec(&walls).unwrap_or_default())
}

/// The walls that are noted. A note that is not understood stands for the highest there are.
pub fn read(cgroup: &Cgroup) -> Result<Isolation, CgroupError> {
    let highest = || Isolation {
        no_new_privs: true,
        capabilities: Some(Vec::new()),
        seccomp: true,
        ..Isolation::default()
    };
    let noted = cgroup.attribute(WALLS)?;
    Ok(noted
        .map_or_else(Isolation::default, |json| serde_json::from_slice(&json).unwrap_or_else(|_| highest())))
}

/// Whether it is the whole box, or more: nothing in there leads to the host or to others.
#[must_use]
pub fn are_whole(isolation: &Isolation) -> bool {
    // Each part by name: what a box may have besides one day is to be thought about here.
    let Isolation {
        root: _,
        mounts: _,
        hostname: _,
        domainname: _,
        // Somebody of its own users, with less than its root has.
        user: _,
        namespaces,
        no_new_privs,
        capabilities,
        rlimits: _,
        seccomp,
        nested,
    } = isolation;
    let usual = Capability::of_a_tenant();
    let keeps_few = capabilities.as_ref().is_some_and(|kept| kept.iter().all(|one| usual.contains(one)));
    namespaces.are_whole() && *no_new_privs && *seccomp && keeps_few && !*nested
}

/// What init is told for a command that enters, word by word.
#[must_use]
pub fn words(isolation: &Isolation) -> Vec<String> {
    let walls = Isolation { root: Root::Host, mounts: Vec::new(), ..isolation.clone() };
    let has_users = walls.namespaces.user != Whose::Host;
    let users = has_users.then(|| ["users".to_owned(), "0".to_owned()]);
    walls.words().into_iter().chain(users.into_iter().flatten()).collect()
}
