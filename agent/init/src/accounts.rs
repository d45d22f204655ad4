//! Users and groups as `/etc/passwd` and `/etc/group` list them: pure. Whoever wrote those may have written anything.

use nix::unistd::{Gid, Uid};

/// Most groups that somebody is in besides his own.
const GROUPS: usize = 64;

/// A user, and its groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// Looks up `WHO[:GROUP]`. Without a group: its own by the list of users, and those that list it; of a number that is not listed, the same number.
pub(crate) fn look_up(text: &str, users: &str, groups: &str) -> Result<User, String> {
    let (who, group) = text.split_once(':').map_or((text, None), |(who, group)| (who, Some(group)));
    let number = id(who);
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
        Some(group) => id(group)
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
    id(fields.get(place)?)
}

/// The largest number is nobody's: to the kernel it says that nothing is to be changed, and root would stay root.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
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
        for wrong in ["nobody", "web:none", "broken", "", "4294967295", "web:4294967295"] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }
}
