//! What the agent asked for: words that end with a NUL each, from a descriptor. Some take arguments, which are the words after them.
//! The agent's side is `agent/src/kernel/spawn.rs` and `agent/src/workload/isolation.rs`.
//!
//! Not JSON: this program is loaded for each workload and stays in its memory, and a parser of a page is all that is needed.

use std::ffi::CString;

use nix::sched::CloneFlags;

/// What the agent asked for.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the order that is there or not")]
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) hostname: String,
    pub(crate) domainname: Option<String>,
    pub(crate) cwd: String,
    /// The command's environment, `NAME=value` each.
    pub(crate) env: Vec<CString>,
    /// The soft limit of open files.
    pub(crate) files: Option<u64>,
    /// Without a root of its own: where the workload gets its own view of the cgroup tree.
    pub(crate) cgroups: Vec<String>,
    /// Mounts that the workload must not see.
    pub(crate) hidden: Vec<String>,
    /// The root file system, when it has one of its own.
    pub(crate) root: Option<Root>,
    pub(crate) mounts: Vec<Mount>,
    /// The id on the host of root in a user namespace that is not the host's; of a joined one it is found out when that is opened.
    pub(crate) users: Option<u32>,
    /// Namespaces that are otherwise than usual.
    pub(crate) namespaces: Vec<(CloneFlags, Whose)>,
    /// The set of capabilities that are kept.
    pub(crate) capabilities: Option<u64>,
    pub(crate) rlimits: Vec<Rlimit>,
    /// Who the command is; root without.
    pub(crate) user: Option<String>,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: bool,
    /// It may make cgroups, mounts and namespaces of its own.
    pub(crate) nested: bool,
    /// Standard input is a socket, for which a terminal is made.
    pub(crate) terminal: bool,
}

/// Of linux/sched.h. For setns(2) and unshare(2) alone: clone(2) has a signal's number there.
pub(crate) const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(0x80);

/// Kinds of namespaces by their words.
pub(crate) const KINDS: [(&str, CloneFlags); 8] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("mount", CloneFlags::CLONE_NEWNS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];

/// Those that are new where nothing is said of them.
const USUAL: CloneFlags = CloneFlags::CLONE_NEWPID
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// Whose a namespace is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    New,
    /// The agent's.
    Host,
    /// That of a file.
    Join(String),
}

/// A root file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The host's, read-only.
    Host,
    /// A directory, read-only.
    Directory(String),
    /// A directory below a tmpfs of this many bytes.
    Overlay(String, u64),
}

/// A mount in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    Bind { source: String, target: String, writable: bool },
    Tmpfs { target: String, size: u64 },
}

/// A limit of processes, as setrlimit(2) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl Order {
    /// Reads an order; the error says which word was not understood.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|e| format!("the order is not text: {e}"))?;
        let mut words = Words(text.split_terminator('\0'));
        let mut order = Self::default();
        while let Some(word) = words.0.next() {
            match word {
                "hostname" => order.hostname = words.text()?,
                "domainname" => order.domainname = Some(words.text()?),
                "cwd" => order.cwd = words.text()?,
                "env" => order.env.push(CString::new(words.text()?).map_err(|e| e.to_string())?),
                "files" => order.files = Some(words.number()?),
                "cgroup" => order.cgroups.push(words.text()?),
                "hide" => order.hidden.push(words.text()?),
                "host-root" => order.root = Some(Root::Host),
                "root" => order.root = Some(Root::Directory(words.text()?)),
                "overlay" => order.root = Some(Root::Overlay(words.text()?, words.number()?)),
                "bind" => order.mounts.push(Mount::Bind {
                    source: words.text()?,
                    target: words.text()?,
                    writable: words.one_of("ro", "rw")?,
                }),
                "tmpfs" => {
                    order.mounts.push(Mount::Tmpfs { target: words.text()?, size: words.number()? });
                }
                "users" => order.users = Some(words.number()?),
                "new" => order.namespaces.push((words.kind()?, Whose::New)),
                "host" => order.namespaces.push((words.kind()?, Whose::Host)),
                "join" => order.namespaces.push((words.kind()?, Whose::Join(words.text()?))),
                "capabilities" => order.capabilities = Some(words.number()?),
                "rlimit" => order.rlimits.push(Rlimit {
                    resource: words.number()?,
                    soft: words.number()?,
                    hard: words.number()?,
                }),
                "user" => order.user = Some(words.text()?),
                "no-new-privs" => order.no_new_privs = true,
                "seccomp" => order.seccomp = true,
                "nested" => order.nested = true,
                "terminal" => order.terminal = true,
                // To leave out what is not understood would leave a wall out.
                _ => return Err(format!("the order has an unknown word {word:?}")),
            }
        }
        Ok(order)
    }
}

impl Order {
    /// Whether a namespace of this kind is made for it.
    pub(crate) fn is_new(&self, kind: CloneFlags) -> bool {
        let said = self.namespaces.iter().find(|(of, _)| *of == kind);
        said.map_or(USUAL.contains(kind), |(_, whose)| *whose == Whose::New)
    }

    /// Those that are joined, and their files.
    pub(crate) fn joined(&self) -> impl Iterator<Item = (CloneFlags, &str)> {
        self.namespaces.iter().filter_map(|(kind, whose)| match whose {
            Whose::Join(path) => Some((*kind, path.as_str())),
            Whose::New | Whose::Host => None,
        })
    }

    /// Whether a namespace of this kind is joined.
    pub(crate) fn joins(&self, kind: CloneFlags) -> bool {
        self.joined().any(|(joined, _)| joined == kind)
    }
}

struct Words<'a>(std::str::SplitTerminator<'a, char>);

impl Words<'_> {
    fn text(&mut self) -> Result<String, String> {
        self.0.next().map(str::to_owned).ok_or_else(|| "the order ends in the middle".to_owned())
    }

    fn kind(&mut self) -> Result<CloneFlags, String> {
        let word = self.text()?;
        let found = KINDS.iter().find(|(name, _)| *name == word);
        found.map(|(_, kind)| *kind).ok_or_else(|| format!("the order has {word:?}, which is no namespace"))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.text()?;
        word.parse().map_err(|_| format!("the order has {word:?} where a number should be"))
    }

    /// Whether it is the second of two words.
    fn one_of(&mut self, first: &str, second: &str) -> Result<bool, String> {
        let word = self.text()?;
        if word != first && word != second {
            return Err(format!("the order has {word:?} where {first} or {second} should be"));
        }
        Ok(word == second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Order, String> {
        Order::parse(words.iter().flat_map(|w| [w, "\0"]).collect::<String>().as_bytes())
    }

    #[test]
    fn an_order_is_read_whole() {
        let order =
            parsed(&["hostname", "web", "cwd", "/", "cgroup", "/a", "hide", "/b", "env", "A=b"]).unwrap();
        assert_eq!(order.env, [c"A=b".to_owned()]);
        assert_eq!((order.hostname.as_str(), order.cwd.as_str()), ("web", "/"));
        assert_eq!((order.cgroups, order.hidden), (vec!["/a".to_owned()], vec!["/b".to_owned()]));
        assert_eq!(order.root, None);

        let order = parsed(&[
            "overlay", "/r", "4096", "bind", "/s", "root", "rw", "tmpfs", "/t", "1", "users", "7", "new",
            "net", "rlimit", "7", "1", "2", "seccomp",
        ]);
        let order = order.unwrap();
        assert_eq!(order.root, Some(Root::Overlay("/r".to_owned(), 4096)));
        let bind = Mount::Bind { source: "/s".to_owned(), target: "root".to_owned(), writable: true };
        assert_eq!(order.mounts, [bind, Mount::Tmpfs { target: "/t".to_owned(), size: 1 }]);
        assert_eq!((order.users, order.is_new(CloneFlags::CLONE_NEWNET)), (Some(7), true));
        assert_eq!(order.rlimits, [Rlimit { resource: 7, soft: 1, hard: 2 }]);
        assert!(order.seccomp && !order.no_new_privs);
    }

    #[test]
    fn namespaces_are_new_as_usual_or_as_is_said() {
        let order = parsed(&["new", "time", "host", "pid", "join", "ipc", "/i"]).unwrap();
        let made: Vec<&str> = KINDS.iter().filter(|(_, kind)| order.is_new(*kind)).map(|k| k.0).collect();
        assert_eq!(made, ["mount", "uts", "cgroup", "time"]);
        assert_eq!(order.joined().collect::<Vec<_>>(), [(CloneFlags::CLONE_NEWIPC, "/i")]);
        assert!(order.joins(CloneFlags::CLONE_NEWIPC) && !order.joins(CloneFlags::CLONE_NEWPID));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["bogus"][..],
            &["cwd"],
            &["users", "x"],
            &["bind", "/a", "/b", "maybe"],
            &["new", "bridge"],
            &["host"],
            &["join", "mnt", "/a"],
            &["join", "net"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
