//! Who the command is, where that is not root: by number, or by a name of the root file system that it runs in. Whoever made that may
//! have written anything there: it is read as text, up to a bound, and says no more than numbers.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};

use crate::sys;
use crate::tree;

/// Most of a file that is read, in bytes.
const LONGEST: u64 = 1 << 20;
/// Most groups that somebody is in besides his own.
const GROUPS: usize = 64;

/// A user, and its groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// Looks up `WHO[:GROUP]`, in the root file system that this process is in.
pub(crate) fn find(text: &str) -> Result<User, String> {
    look_up(text, &read("/etc/passwd"), &read("/etc/group"))
}

impl User {
    /// Makes what it has as standard input, output and error its own, so that it can open them anew: a terminal or a pipe of the
    /// workload. Files are their owners', and stay that; so are the pipes of who enters, which the workload's root cannot give.
    pub(crate) fn own_stdio(&self, is_terminal: bool) {
        for number in 0..=2 {
            let fd = sys::borrow(number);
            if is_terminal || fstat(fd).is_ok_and(|stat| tree::is(&stat, SFlag::S_IFIFO)) {
                // Of a terminal the group is that of all terminals.
                let _ = fchown(fd, Some(self.uid), (!is_terminal).then_some(self.gid));
            }
        }
    }
}

/// Without a group: its own by the list of users, and those that list it; of a number that is not listed, the same number.
fn look_up(text: &str, users: &str, groups: &str) -> Result<User, String> {
    let (who, group) = text.split_once(':').map_or((text, None), |(who, group)| (who, Some(group)));
    let number: Option<u32> = who.parse().ok();
    let listed = fields(users)
        .find(|f| f.first() == Some(&who))
        .or_else(|| fields(users).find(|f| number.is_some() && at(f, 2) == number));
    let name = listed.as_ref().and_then(|fields| fields.first().copied());
    let uid = number
        .or_else(|| at(listed.as_ref()?, 2))
        .ok_or_else(|| format!("there is no user {who} in /etc/passwd of the root file system"))?;
    let own = listed.as_ref().and_then(|fields| at(fields, 3)).unwrap_or(uid);
    let gid = match group {
        None => own,
        Some(group) => group
            .parse()
            .ok()
            .or_else(|| fields(groups).find(|f| f.first() == Some(&group)).and_then(|f| at(&f, 2)))
            .ok_or_else(|| format!("there is no group {group} in /etc/group of the root file system"))?,
    };
    let is_member = |fields: &Vec<&str>| {
        group.is_none()
            && fields.get(3).zip(name).is_some_and(|(all, name)| all.split(',').any(|one| one == name))
    };
    let more = fields(groups).filter(is_member).filter_map(|fields| at(&fields, 2));
    let groups = more.filter(|other| *other != gid).take(GROUPS).map(Gid::from_raw).collect();
    Ok(User { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups })
}

fn fields(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn at(fields: &[&str], place: usize) -> Option<u32> {
    fields.get(place)?.parse().ok()
}

/// What is there, if it is a file; it need not be.
fn read(path: &str) -> String {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut text = Vec::new();
    if let Ok(opened) = open(path, flags, Mode::empty())
        && fstat(opened.as_fd()).is_ok_and(|stat| tree::is(&stat, SFlag::S_IFREG))
    {
        // What breaks off is told as nobody's name.
        let _ = File::from(opened).take(LONGEST).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str =
        "root:x:0:0::/root:/bin/sh\nweb:x:33:34:w:/var/www:/bin/false\nbroken:x:many\n7:x:1:1::/:/bin/sh\n";
    const ALL: &str = "root:x:0:\nlogs:x:50:web,other\nown:x:34:web\nothers:x:51:other\n";

    fn found(text: &str) -> Result<(u32, u32, Vec<u32>), String> {
        let User { uid, gid, groups } = look_up(text, USERS, ALL)?;
        Ok((uid.as_raw(), gid.as_raw(), groups.into_iter().map(Gid::as_raw).collect()))
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(found("web"), Ok((33, 34, vec![50])));
        assert_eq!(found("33"), Ok((33, 34, vec![50])));
        assert_eq!(found("web:logs"), Ok((33, 50, vec![])), "a group that is asked for is the only one");
        assert_eq!(found("1000"), Ok((1000, 1000, vec![])), "not listed");
        assert_eq!(found("1000:5"), Ok((1000, 5, vec![])));
        for wrong in ["nobody", "web:none", "broken", ""] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }
}
