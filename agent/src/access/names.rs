//! Users and groups by name: of `/etc/passwd` and `/etc/group`, since a static program cannot ask the C library's directory services.
//! Who is elsewhere, as in LDAP, is named by number.

use std::fs;

use super::lists::Who;

/// The number of a user.
pub(super) fn user(who: &Who) -> Result<u32, String> {
    number(who, "user", "/etc/passwd")
}

/// The number of a group.
pub(super) fn group(who: &Who) -> Result<u32, String> {
    number(who, "group", "/etc/group")
}

fn number(who: &Who, kind: &str, file: &str) -> Result<u32, String> {
    match who {
        Who::Id(id) => Ok(*id),
        Who::Name(name) => {
            let text = fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
            find(&text, name).ok_or_else(|| {
                format!("there is no {kind} {name:?} in {file}: make it, or write a number (who comes by LDAP and its like has only that here)")
            })
        }
    }
}

/// In both files a line begins with the name, and the number is the third field.
fn find(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|fields| (fields.first() == Some(&name)).then(|| fields.get(2)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        let text = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nbad:x\n";
        let table = [("root", Some(0)), ("alice", Some(1000)), ("ali", None), ("bad", None), ("x", None)];
        for (name, id) in table {
            assert_eq!(find(text, name), id, "{name}");
        }
        assert_eq!(user(&Who::Name("root".to_owned())), Ok(0));
        assert!(group(&Who::Name("no such group".to_owned())).is_err());
    }
}
