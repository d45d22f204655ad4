//! Stage 1: the namespaces of a workload, new ones or others' by their files.
//!
//! All files are opened before anything is joined: their paths are the host's. Then they are joined by who still is the host's root, and
//! so may join what belongs to any users; who has joined those may join only what is theirs. So users come last of all. Before them come
//! the mounts, when nothing of the host's files is needed any more. A pid namespace is that of children alone, so is a new one of time.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::exit;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{fstat, stat};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use crate::order::{CLONE_NEWTIME, KINDS, Order};
use crate::sys;
use crate::tree::{self, Step};

/// What is joined at last.
pub(crate) const LAST: [CloneFlags; 2] = [CloneFlags::CLONE_NEWNS, CloneFlags::CLONE_NEWUSER];
/// Those of the agent's own that nobody gets by a file either. Of users it is because nobody joins those that he is among.
const KEPT: CloneFlags =
    CloneFlags::CLONE_NEWNS.union(CloneFlags::CLONE_NEWCGROUP).union(CloneFlags::CLONE_NEWUSER);

/// A namespace that is to be joined.
pub(crate) struct Joined {
    kind: CloneFlags,
    /// What is done with it, in words.
    what: String,
    file: OwnedFd,
}

/// Opens all that are to be joined.
pub(crate) fn open(order: &Order) -> Result<Vec<Joined>, String> {
    order.joined().map(|(kind, path)| open_one(kind, path)).collect()
}

fn open_one(kind: CloneFlags, path: &str) -> Result<Joined, String> {
    let word = KINDS.iter().find(|(_, of)| *of == kind).map_or("", |(word, _)| *word);
    let name = if word == "net" { "network" } else { word };
    let what = format!("join the {name} namespace {path}");
    let is_none = || format!("cannot join {path}: it is no {name} namespace");
    let file = match tree::namespace(path) {
        Err(Errno::EINVAL) => return Err(is_none()),
        other => other.step(&what)?,
    };
    if sys::namespace_kind(file.as_fd()).step(&what)? != kind.bits() {
        return Err(is_none());
    }
    if KEPT.contains(kind) && is_own(word, &file).step(&what)? {
        return Err(format!("cannot join {path}: it is the agent's own {name} namespace"));
    }
    Ok(Joined { kind, what, file })
}

/// Whether it is the one that this process is in.
fn is_own(word: &str, file: &OwnedFd) -> nix::Result<bool> {
    let name = if word == "mount" { "mnt" } else { word };
    let (own, named) = (stat(format!("/proc/self/ns/{name}").as_str())?, fstat(file)?);
    Ok((own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
}

/// Joins those of them that `wanted` names.
pub(crate) fn join(joined: &[Joined], wanted: impl Fn(CloneFlags) -> bool) -> Result<(), String> {
    joined.iter().filter(|one| wanted(one.kind)).try_for_each(|one| match setns(&one.file, one.kind) {
        Err(Errno::EINVAL) if one.kind == CloneFlags::CLONE_NEWPID => {
            Err(format!("cannot {}: it is not below the agent's own", one.what))
        }
        other => other.step(&one.what),
    })
}

/// Who root of joined users is on the host, if any are joined. Nobody but a process among them tells, so a child joins them; one that
/// has ended tells, too, as long as it is not reaped.
pub(crate) fn root_of_users(joined: &[Joined]) -> Result<Option<u32>, String> {
    let Some(users) = joined.iter().find(|one| one.kind == CloneFlags::CLONE_NEWUSER) else {
        return Ok(None);
    };
    let child =
        sys::fork_child(|| exit(setns(&users.file, users.kind).map_or_else(|errno| errno as i32, |()| 0)))
            .step(&users.what)?;
    let ended = waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    let map = fs::read_to_string(format!("/proc/{child}/uid_map"));
    let _ = waitpid(child, None);
    if let WaitStatus::Exited(_, errno @ 1..) = ended.step(&users.what)? {
        return Err(Errno::from_raw(errno)).step(&users.what);
    }
    let map = map.map_err(|error| format!("cannot {}: {error}", users.what))?;
    let root = root_in(&map).ok_or_else(|| format!("cannot {}: it has no user 0", users.what))?;
    Ok(Some(root))
}

/// Who 0 is outside, in an id map.
fn root_in(map: &str) -> Option<u32> {
    let mut lines = map.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&"0"))?.get(1)?.parse().ok()
}

/// Has a child do something: one of the pid namespace that children are born in.
pub(crate) fn in_child(body: impl FnOnce() -> nix::Result<()>) -> nix::Result<()> {
    let child = sys::fork_child(|| exit(body().map_or_else(|errno| errno as i32, |()| 0)))?;
    match waitpid(child, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
        _ => Err(Errno::ECHILD),
    }
}

/// Those that stage 2 is born in and that are made for it.
pub(crate) fn made(order: &Order) -> CloneFlags {
    let kinds = KINDS.iter().map(|(_, kind)| *kind);
    let mut made: CloneFlags = kinds.filter(|kind| *kind != CLONE_NEWTIME && order.is_new(*kind)).collect();
    // Also where an ordinary user cannot do without: then nobody has asked for them.
    made.set(CloneFlags::CLONE_NEWUSER, order.users.is_some() && !order.joins(CloneFlags::CLONE_NEWUSER));
    made
}

/// Whether a namespace of this kind is somebody else's, whose users the workload's are not: only who has the host's rights can mount what
/// shows it.
pub(crate) fn is_foreign(order: &Order, kind: CloneFlags) -> bool {
    order.users.is_some() && !order.is_new(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_in_a_map_of_ids() {
        assert_eq!(root_in("         0 1610612736      65536\n"), Some(1_610_612_736));
        assert_eq!(root_in("1000 1000 1\n0 5 1\n"), Some(5));
        assert_eq!(root_in("1000 1000 1\n"), None);
        assert_eq!(root_in(""), None);
    }

    #[test]
    fn clone_makes_what_is_new_and_never_a_time_namespace() {
        let usual = CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        let order = |text: &str| Order::parse(text.replace(' ', "\0").as_bytes()).unwrap();
        assert_eq!(made(&order("new time ")), usual);
        assert_eq!(made(&order("users 7 new user ")), usual | CloneFlags::CLONE_NEWUSER);
        let mut joins = order("join user /u host pid ");
        joins.users = Some(7);
        assert_eq!(made(&joins), usual - CloneFlags::CLONE_NEWPID);
    }
}
