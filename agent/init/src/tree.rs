//! Mounts by descriptor: a mount is made apart from everything, changed there, and attached to a directory that is held open. No
//! step looks a path up twice, so nobody can put something else in between.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};

use crate::sys;
pub(crate) use crate::sys::{Attributes, attach, change, clone_tree};

/// What every mount has that is not there to execute or to be a device.
pub(crate) const PLAIN: Attributes = Attributes::NOSUID.union(Attributes::NODEV).union(Attributes::NOEXEC);

/// Of linux/magic.h: where namespaces are files.
const NSFS: FsType = FsType(0x6e73_6673);

/// Says which step failed.
pub(crate) trait Step<T> {
    fn step(self, what: &str) -> Result<T, String>;
}

impl<T> Step<T> for nix::Result<T> {
    fn step(self, what: &str) -> Result<T, String> {
        self.map_err(|errno| format!("cannot {what}: {}", errno.desc()))
    }
}

/// What has to be where something is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// A new file system, attached nowhere. An option without a value is a flag.
pub(crate) fn filesystem(
    kind: &std::ffi::CStr,
    options: &[(&str, &str)],
    attributes: Attributes,
) -> nix::Result<OwnedFd> {
    let context = sys::fsopen(kind)?;
    for (key, value) in options {
        sys::fsconfig_string(context.as_fd(), key, value)?;
    }
    sys::fsconfig_create(context.as_fd())?;
    sys::fsmount(context.as_fd(), attributes)
}

/// Opens what the operator named on the host. A tenant may be able to write to one of the directories on the way: a symbolic link
/// there could lead anywhere, so there must be none.
pub(crate) fn source(path: &str) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(AT_FDCWD, path, how(OFlag::O_PATH, resolve))
}

/// Opens the file of a namespace that the operator named, likewise. Of anything else not even that: to open a device may do something.
pub(crate) fn namespace(path: &str) -> nix::Result<OwnedFd> {
    let found = match of_process(path) {
        // The last part is a link of the kernel's own, which nobody else can make there.
        Some((directory, name)) => {
            let directory = source(directory)?;
            if fstatfs(&directory)?.filesystem_type() != PROC_SUPER_MAGIC {
                return Err(Errno::EINVAL);
            }
            openat(&directory, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?
        }
        None => source(path)?,
    };
    if fstatfs(&found)?.filesystem_type() != NSFS {
        return Err(Errno::EINVAL);
    }
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    open(again.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

/// The directory and the name in `/proc/PID/ns/NAME`.
fn of_process(path: &str) -> Option<(&str, &str)> {
    let (directory, name) = path.rsplit_once('/')?;
    let pid = directory.strip_prefix("/proc/")?.strip_suffix("/ns")?;
    let is_it = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    is_it.then_some((directory, name))
}

/// Opens `path` inside `root`, whatever symbolic links there are, and makes it if it is missing and can be made.
pub(crate) fn target(root: BorrowedFd<'_>, path: &str, kind: Kind) -> nix::Result<OwnedFd> {
    let mut place = inside(root, ".")?;
    let mut reached = String::from(".");
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".").peekable();
    while let Some(part) = parts.next() {
        reached = format!("{reached}/{part}");
        place = match inside(root, &reached) {
            Err(Errno::ENOENT) => {
                // Made in the directory that is held, by one name: no link is followed.
                if parts.peek().is_some() || kind == Kind::Directory {
                    mkdirat(&place, part, Mode::from_bits_truncate(0o755))?;
                } else {
                    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    openat(&place, part, flags, Mode::from_bits_truncate(0o644))?;
                }
                inside(root, &reached)?
            }
            other => other?,
        };
    }
    if (kind_of(&place)? == Kind::Directory) == (kind == Kind::Directory) {
        Ok(place)
    } else {
        Err(if kind == Kind::Directory { Errno::ENOTDIR } else { Errno::EISDIR })
    }
}

/// Opens one of the directories that the box mounts its own things on. A link in its place is refused, wherever it leads: what is
/// looked for below `/proc` later must be what was mounted there.
pub(crate) fn own(root: BorrowedFd<'_>, path: &str) -> nix::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(root, path, how(OFlag::O_PATH | OFlag::O_DIRECTORY, resolve)) {
        Err(Errno::ENOENT) => {
            mkdirat(root, path, Mode::from_bits_truncate(0o755))?;
            openat2(root, path, how(OFlag::O_PATH | OFlag::O_DIRECTORY, resolve))
        }
        other => other,
    }
}

/// Opens what is in `root` by this path and no link; `None` when there is nothing.
pub(crate) fn beneath(root: BorrowedFd<'_>, path: &str) -> nix::Result<Option<OwnedFd>> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(root, path, how(OFlag::O_PATH, resolve)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether something is a directory, or anything else.
pub(crate) fn kind_of(fd: &OwnedFd) -> nix::Result<Kind> {
    Ok(if is(&fstat(fd)?, SFlag::S_IFDIR) { Kind::Directory } else { Kind::File })
}

/// Whether a file is of this type.
pub(crate) fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn inside(root: BorrowedFd<'_>, path: &str) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(root, path, how(OFlag::O_PATH, resolve))
}

fn how(flags: OFlag, resolve: ResolveFlag) -> OpenHow {
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_processes_are_told_from_others() {
        assert_eq!(of_process("/proc/77/ns/net"), Some(("/proc/77/ns", "net")));
        for other in
            ["/proc/self/ns/net", "/proc//ns/net", "/proc/7/x/ns/net", "/run/netns/web", "/proc/7/ns", "net"]
        {
            assert_eq!(of_process(other), None, "{other}");
        }
    }
}
