//! Whose the users of a user namespace are.

use std::{fs, io};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The users of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// These.
    Range(IdRange),
    /// Root, which is the agent's own user outside, and nobody else: all that an ordinary user can give.
    Own,
}

impl Users {
    /// The id outside of root inside; 0 where that is whoever made it.
    #[must_use]
    pub fn first(self) -> u32 {
        match self {
            Self::Range(ids) => ids.first,
            Self::Own => 0,
        }
    }
}

/// User and group ids of the host, from the first on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// What is 0 in the user namespace.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

/// Says whose the users of a new user namespace are: once, before anything runs in it. Written by us and not by init, so that
/// the whole range can be mapped, and groups be dropped inside.
pub(super) fn map(pid: Pid, users: Users) -> io::Result<()> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).map_err(|e| io::Error::other(format!("cannot write {path}: {e}")))
    };
    let (uids, gids) = match users {
        Users::Range(ids) => {
            (format!("0 {} {}", ids.first, ids.count), format!("0 {} {}", ids.first, ids.count))
        }
        Users::Own => {
            // Whoever could drop a group could get past what is forbidden to its members: the kernel wants that given up first.
            write("setgroups", "deny")?;
            (format!("0 {} 1", nix::unistd::geteuid()), format!("0 {} 1", nix::unistd::getegid()))
        }
    };
    write("uid_map", &uids)?;
    write("gid_map", &gids)
}
