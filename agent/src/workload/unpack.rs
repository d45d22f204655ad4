//! Unpacks the tar of a root file system, as `docker export` writes it, into a directory of its own.
//!
//! Whoever made the archive may have written anything there. So no path of it is ever looked up from outside: each entry's directory is
//! opened beneath the new root without following any symbolic link, and the entry is made in there by one name, anew. What an
//! archive can take of the disk, of memory and of time is bounded by what it may come to: each entry counts for a page besides its
//! data, and what comes before an entry (long names, extensions) for itself.
//!
//! `tar`'s own unpacking looks paths up and checks them before; it is a parser here only.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use bellows_policies::units::Bytes;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use schemars::JsonSchema;
use serde::Serialize;
use tar::{Archive, Entry, EntryType, PaxExtensions};

/// What an entry counts for besides its data: about what a file system takes for it.
const ENTRY: u64 = 4096;
/// Longest name, and most of all extensions of one entry: the kernel takes no longer path than 4096.
const EXTENSION: u64 = 64 * 1024;
/// How many users a tenant has.
const USERS: u64 = 65_536;

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Their data.
    pub bytes: Bytes,
    /// Devices, pipes and sockets, which were left out: a box has its own.
    pub left_out: u64,
}

/// The archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no tar, or breaks off.
    #[error("the archive cannot be read: {0} (a compressed one has to be decompressed first)")]
    Archive(#[from] io::Error),
    /// Something in it cannot be.
    #[error("{path:?} in the archive is refused: {why}")]
    Entry {
        /// Which entry.
        path: String,
        /// Why.
        why: String,
    },
    /// It comes to more than it may.
    #[error("the archive comes to more than {0}: --max allows more")]
    TooLarge(Bytes),
}

/// Unpacks an archive into `root`, which is empty and nobody else's. With `first`, what belongs to user 0 in the archive belongs to that user of
/// the host, and so on; without it everything is the caller's own, and nothing is set-user-ID.
pub fn unpack(
    archive: impl Read,
    root: BorrowedFd<'_>,
    first: Option<u32>,
    most: Bytes,
) -> Result<Unpacked, UnpackError> {
    let mut archive = Archive::new(archive);
    let mut place = Place { root, first, most, left: most.0, done: Unpacked::default() };
    let mut ahead = Ahead::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        place.take(ENTRY)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => ahead.path = Some(text(extension(&mut entry)?)),
            EntryType::GNULongLink => ahead.link = Some(text(extension(&mut entry)?)),
            EntryType::XHeader => ahead.read(&extension(&mut entry)?)?,
            // Of the whole archive: who wrote it, as a rule.
            EntryType::XGlobalHeader => {}
            _ => place.put(&mut entry, std::mem::take(&mut ahead))?,
        }
    }
    Ok(place.done)
}

/// What comes before an entry.
#[derive(Debug, Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Ahead {
    fn read(&mut self, extensions: &[u8]) -> io::Result<()> {
        for extension in PaxExtensions::new(extensions) {
            let extension = extension?;
            match extension.key_bytes() {
                b"path" => self.path = Some(extension.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(extension.value_bytes().to_vec()),
                // Then the entry's own header says something else, and what follows is not where it says.
                b"size" => return Err(io::Error::other("a file of more than 8 GiB is in it")),
                _ => {}
            }
        }
        Ok(())
    }
}

fn extension(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let size = entry.header().entry_size()?;
    if size > EXTENSION {
        return Err(io::Error::other(format!("a name or extension of {size} bytes is in it")));
    }
    let mut whole = Vec::new();
    entry.read_to_end(&mut whole)?;
    Ok(whole)
}

/// Up to the first NUL.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    bytes
}

struct Place<'a> {
    root: BorrowedFd<'a>,
    first: Option<u32>,
    most: Bytes,
    left: u64,
    done: Unpacked,
}

impl Place<'_> {
    fn take(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.left = self.left.checked_sub(bytes).ok_or(UnpackError::TooLarge(self.most))?;
        Ok(())
    }

    /// Puts an entry where it says.
    fn put(&mut self, entry: &mut Entry<'_, impl Read>, ahead: Ahead) -> Result<(), UnpackError> {
        let path = ahead.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let link = ahead.link.or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned));
        let size = entry.header().entry_size()?;
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let refused = |why: String| UnpackError::Entry { path: shown(), why };
        let parts = parts(&path).map_err(refused)?;
        // The root itself.
        let Some((name, above)) = parts.split_last() else { return Ok(()) };
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::Char | EntryType::Block | EntryType::Fifo) {
            self.done.left_out += 1;
            return Ok(());
        }
        let size = if matches!(kind, EntryType::Regular | EntryType::Continuous) { size } else { 0 };
        self.take(size)?;
        let made = self.directory(above).map_err(why).and_then(|directory| {
            let directory = directory.as_fd();
            match kind {
                EntryType::Directory => make_directory(directory, name),
                EntryType::Regular | EntryType::Continuous => make_file(directory, name, entry, size),
                EntryType::Symlink => {
                    let target = link.as_deref().unwrap_or_default();
                    free(directory, name)?;
                    symlinkat(OsStr::from_bytes(target), directory, *name).map_err(why)
                }
                EntryType::Link => self.make_link(directory, name, link.as_deref().unwrap_or_default()),
                other => Err(format!("it is of a kind that is not known: {other:?}")),
            }?;
            self.furnish(directory, name, entry)
        });
        made.map_err(refused)?;
        self.done.entries += 1;
        self.done.bytes = self.done.bytes.saturating_add(Bytes(size));
        Ok(())
    }

    /// Owner, mode and time, as far as there are any of its own.
    fn furnish(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry<'_, impl Read>,
    ) -> Result<(), String> {
        let (header, kind) = (entry.header(), entry.header().entry_type());
        // Those of another name of a file are that one's.
        if kind == EntryType::Link {
            return Ok(());
        }
        let number = |number: io::Result<u64>| number.map_err(|error| error.to_string());
        if let Some(first) = self.first {
            let id = |id: u64| {
                let id = u32::try_from(id).ok().filter(|id| u64::from(*id) < USERS);
                id.and_then(|id| first.checked_add(id)).ok_or("its owner is none of the tenant's users")
            };
            let (user, group) = (id(number(header.uid())?)?, id(number(header.gid())?)?);
            let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
            fchownat(directory, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(why)?;
        }
        if kind == EntryType::Symlink {
            return Ok(());
        }
        // After the owner, since a change of that takes bits away. It was made here as what it is, and nobody else is in here.
        let allowed = if self.first.is_some() { 0o7777 } else { 0o1777 };
        let mode = header.mode().map_err(|error| error.to_string())? & allowed;
        // Into a directory more may come.
        let mode = if kind == EntryType::Directory { mode | 0o700 } else { mode };
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(directory, name, mode, FchmodatFlags::NoFollowSymlink).map_err(why)?;
        let seconds = i64::try_from(number(header.mtime())?).map_err(|error| error.to_string())?;
        let time = TimeSpec::new(seconds, 0);
        utimensat(directory, name, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(why)
    }

    /// Another name of a file that is there already.
    fn make_link(&self, directory: BorrowedFd<'_>, name: &OsStr, target: &[u8]) -> Result<(), String> {
        let parts = parts(target)?;
        let (other, above) = parts.split_last().ok_or("it is a link to nothing")?;
        let there = self.open(above).map_err(why)?;
        let stat = fstatat(&there, *other, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(why)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err("it is a link to what is no file".to_owned());
        }
        free(directory, name)?;
        linkat(&there, *other, directory, name, AtFlags::empty()).map_err(why)
    }

    /// The directory of these names, made where it is not there.
    fn directory(&self, names: &[&OsStr]) -> nix::Result<OwnedFd> {
        match self.open(names) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let mut reached = self.open(&[])?;
        for (index, name) in names.iter().enumerate() {
            match mkdirat(&reached, *name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => reached = self.open(&names[..=index])?,
                Err(errno) => return Err(errno),
            }
        }
        Ok(reached)
    }

    /// Opens it beneath the root, by no link.
    fn open(&self, names: &[&OsStr]) -> nix::Result<OwnedFd> {
        let path: PathBuf = std::iter::once(OsStr::new(".")).chain(names.iter().copied()).collect();
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat2(self.root, &path, OpenHow::new().flags(flags).resolve(resolve))
    }
}

/// The names of a path below the root.
fn parts(path: &[u8]) -> Result<Vec<&OsStr>, String> {
    if path.starts_with(b"/") {
        return Err("it is absolute".to_owned());
    }
    let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
    let names: Vec<&OsStr> = names.map(OsStr::from_bytes).collect();
    if names.iter().any(|name| *name == "..") { Err("it has a .. in it".to_owned()) } else { Ok(names) }
}

fn make_directory(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), String> {
    match mkdirat(directory, name, Mode::from_bits_truncate(0o700)) {
        Err(Errno::EEXIST) => {
            let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(why)?;
            let is_directory = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
            if is_directory { Ok(()) } else { Err("something else is in its place".to_owned()) }
        }
        other => other.map_err(why),
    }
}

fn make_file(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    content: &mut impl Read,
    size: u64,
) -> Result<(), String> {
    free(directory, name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_bits_truncate(0o600)).map_err(why)?;
    match io::copy(&mut content.take(size), &mut File::from(file)) {
        Ok(written) if written == size => Ok(()),
        Ok(_) => Err("the archive ends in the middle of it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Of two entries of a name the later one counts.
fn free(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), String> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => Err("a directory is in its place".to_owned()),
        Err(errno) => Err(why(errno)),
    }
}

fn why(errno: Errno) -> String {
    match errno {
        Errno::ELOOP => "a symbolic link is on the way".to_owned(),
        Errno::ENOTDIR => "something on the way is no directory".to_owned(),
        other => other.desc().to_owned(),
    }
}

#[cfg(test)]
mod tests;
