//! A cgroup as an open directory: all access is by descriptor, never by a path that a tenant could swap.
//!
//! Identity is the directory's inode (the cgroup id); the path is kept for error texts only.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

use super::{discover, parse, privilege, sys};

/// The longest attribute that is read, bytes: what a workload is given by the piece has up to 5 KiB, twice that with what its class says; and a
/// box may have joined eight namespaces by paths of a KiB each.
const ATTRIBUTE: usize = 16 << 10;
/// Nearly all are shorter than this, bytes. A takeover reads a dozen of each workload, and to clear the longest would be most of it.
const USUAL_ATTRIBUTE: usize = 1 << 10;
/// Of the directories that are made here: every user may walk through, and none but the owner may change them.
const MODE: Mode = Mode::from_bits_truncate(0o755);

/// An open cgroup directory. Cloning shares the descriptor.
#[derive(Debug, Clone)]
pub struct Cgroup {
    dir: Arc<OwnedFd>,
    path: Arc<Path>,
    id: u64,
}

/// An operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct CgroupError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<CgroupError> for io::Error {
    /// What the kernel has said, for whoever has no use for the place.
    fn from(error: CgroupError) -> Self {
        error.source
    }
}

impl CgroupError {
    /// The cgroup was removed meanwhile.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENOENT))
    }

    /// The cgroup exists already.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
    }

    /// The kernel does not do that here: one of threads lists no processes, and pressure may not be accounted.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EOPNOTSUPP)
    }

    /// The cgroup still has processes or children.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY))
    }
}

impl Cgroup {
    /// Opens `path`, which must be a directory of a cgroup v2 file system.
    pub fn open(path: &Path) -> Result<Self, CgroupError> {
        let failed = |source| CgroupError { action: "open the cgroup", path: path.to_owned(), source };
        let dir = File::open(path).map_err(failed)?;
        let kind = nix::sys::statfs::fstatfs(&dir).map_err(|e| failed(e.into()))?;
        if kind.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
            return Err(failed(io::Error::other("it is not on a cgroup v2 file system")));
        }
        Self::from_dir(dir.into(), path.to_owned())
    }

    fn from_dir(dir: OwnedFd, path: PathBuf) -> Result<Self, CgroupError> {
        let id = fstat(&dir)
            .map_err(|e| CgroupError { action: "stat", path: path.clone(), source: e.into() })?
            .st_ino;
        Ok(Self { dir: Arc::new(dir), path: path.into(), id })
    }

    /// The kernel's cgroup id: the inode of the directory.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it is, for people; never used for access.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a child directory. `name` is one path component.
    pub fn child(&self, name: &str) -> Result<Self, CgroupError> {
        let dir = self.open_beneath("open the cgroup", name, libc::O_RDONLY | libc::O_DIRECTORY)?;
        Self::from_dir(dir, self.path.join(name))
    }

    /// Makes a child; fails when it exists already.
    pub fn create_child(&self, name: &str) -> Result<Self, CgroupError> {
        mkdirat(&*self.dir, name, MODE).map_err(|e| self.error("create the cgroup", name, e.into()))?;
        self.child(name).inspect(Self::let_in)
    }

    /// Opens a child, making it first when it does not exist.
    pub fn ensure_child(&self, name: &str) -> Result<Self, CgroupError> {
        match self.create_child(name) {
            Err(e) if e.is_taken() => self.child(name).inspect(Self::let_in),
            other => other,
        }
    }

    /// Whatever the umask is or was: to show a box its own cgroup the kernel walks there by the rights of who is in it. What is somebody
    /// else's stays as it is.
    fn let_in(&self) {
        let _ = fchmod(&*self.dir, MODE);
    }

    /// Removes an empty child.
    pub fn remove_child(&self, name: &str) -> Result<(), CgroupError> {
        unlinkat(&*self.dir, name, UnlinkatFlags::RemoveDir)
            .map_err(|e| self.error("remove the cgroup", name, e.into()))
    }

    /// Removes a child with all that is below, deepest first. The kernel may say EBUSY for a moment after the last process has
    /// gone.
    pub fn remove_tree(&self, name: &str) -> Result<(), CgroupError> {
        self.remove_named(&self.named(name)?)
    }

    fn remove_named(&self, name: &CStr) -> Result<(), CgroupError> {
        const TRIES: u32 = 50;
        let child = self.child_named(name)?;
        for below in child.names()? {
            child.remove_named(&below)?;
        }
        for attempt in 1.. {
            let removed = unlinkat(&*self.dir, name, UnlinkatFlags::RemoveDir)
                .map_err(|e| self.error("remove the cgroup", &name.to_string_lossy(), e.into()));
            match removed {
                Err(e) if e.is_busy() && attempt < TRIES => std::thread::sleep(Duration::from_millis(5)),
                other => return other,
            }
        }
        Ok(())
    }

    /// The names of the child cgroups.
    pub fn children(&self) -> Result<Vec<String>, CgroupError> {
        let names = self.names()?;
        let mut names: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The child cgroups, each opened when it is its turn. What a workload makes may have names that are no text.
    pub fn below(&self) -> Result<impl Iterator<Item = Result<Self, CgroupError>>, CgroupError> {
        Ok(self.names()?.into_iter().map(|name| self.child_named(&name)))
    }

    fn names(&self) -> Result<Vec<CString>, CgroupError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&*self.dir, ".", flags, Mode::empty())
            .map_err(|e| self.error("list", "", e.into()))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(|e| self.error("list", "", e.into()))?;
            let name = entry.file_name();
            if entry.file_type() == Some(nix::dir::Type::Directory) && name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn child_named(&self, name: &CStr) -> Result<Self, CgroupError> {
        let dir = sys::openat2_beneath(self.dir.as_fd(), name, libc::O_RDONLY | libc::O_DIRECTORY)
            .map_err(|e| self.error("open the cgroup", &name.to_string_lossy(), e))?;
        Self::from_dir(dir, self.path.join(OsStr::from_bytes(name.to_bytes())))
    }

    /// Delegates it to this user and group: the directory, and the files by which processes are moved and controllers handed on.
    /// The limits stay their owner's.
    pub fn give(&self, owner: u32) -> Result<(), CgroupError> {
        let (user, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
        ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "."].iter().try_for_each(|file| {
            fchownat(&*self.dir, *file, user, group, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|e| self.error("delegate", file, e.into()))
        })
    }

    /// Opens one of its files for reading.
    pub fn open_read(&self, file: &str) -> Result<File, CgroupError> {
        self.open_beneath("open", file, libc::O_RDONLY).map(File::from)
    }

    /// Opens one of its files for writing.
    pub fn open_write(&self, file: &str) -> Result<File, CgroupError> {
        self.open_beneath("open for writing", file, libc::O_WRONLY).map(File::from)
    }

    /// Opens one of its files for reading and writing, with `O_NONBLOCK`: from Linux 6.16 on a write of a memory limit then
    /// never reclaims; older kernels ignore the flag.
    pub fn open_nonblocking(&self, file: &str) -> Result<File, CgroupError> {
        self.open_beneath("open", file, libc::O_RDWR | libc::O_NONBLOCK).map(File::from)
    }

    /// Reads a file whole.
    pub fn read(&self, file: &str) -> Result<String, CgroupError> {
        read_whole(&mut self.open_read(file)?).map_err(|e| self.error("read", file, e))
    }

    /// Writes `value` to a file in one write.
    pub fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.open_write(file)?
            .write_all(value.as_bytes())
            .map_err(|e| self.error("write to", &format!("{file} ({value:?})"), e))
    }

    /// Whether any process lives in it or below.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        self.is_told("populated")
    }

    /// Whether all in it stand still, or would if there were any: by its own `cgroup.freeze`, or that of one above.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        self.is_told("frozen")
    }

    fn is_told(&self, key: &str) -> Result<bool, CgroupError> {
        self.wait_for(key, 1, Duration::ZERO)
    }

    /// Kills every process in it and below, frozen ones too (kernel 5.14).
    pub fn kill(&self) -> Result<(), CgroupError> {
        self.write("cgroup.kill", "1")
    }

    /// Waits until no process is left; false when the deadline passed first.
    pub fn wait_empty(&self, deadline: Duration) -> Result<bool, CgroupError> {
        self.wait_for("populated", 0, deadline)
    }

    /// Waits until `cgroup.events` says so; false when the deadline passed first.
    pub fn wait_for(&self, key: &str, value: u64, deadline: Duration) -> Result<bool, CgroupError> {
        let end = Instant::now() + deadline;
        let mut file = self.open_read("cgroup.events")?;
        loop {
            // A fresh read arms the next notification: change after it wakes the poll.
            let mut text = [0_u8; 128];
            let read =
                rewind_read(&mut file, &mut text).map_err(|e| self.error("read", "cgroup.events", e))?;
            if parse::value_of(&text[..read], key) == Some(value) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            // At most 100 ms at a time: a lost notification then costs no more than that.
            let wait = u16::try_from(left.as_millis().min(100)).unwrap_or(100).max(1);
            match poll(&mut fds, PollTimeout::from(wait)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(self.error("poll", "cgroup.events", e.into())),
            }
        }
    }

    /// Sets an extended attribute: how a workload's identity and failsafe live in the tree itself.
    pub fn set_attribute(&self, name: &str, value: &[u8]) -> Result<(), CgroupError> {
        let key = attribute_name(name);
        sys::fsetxattr(self.dir.as_fd(), &key, value).map_err(|e| self.error("set attribute", name, e))
    }

    /// Reads an extended attribute, `None` when it is not there.
    pub fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, CgroupError> {
        let (key, mut buffer) = (attribute_name(name), vec![0_u8; USUAL_ATTRIBUTE]);
        loop {
            match sys::fgetxattr(self.dir.as_fd(), &key, &mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(e) if e.raw_os_error() == Some(libc::ENODATA) => return Ok(None),
                Err(e) if e.raw_os_error() == Some(libc::ERANGE) && buffer.len() < ATTRIBUTE => {
                    buffer.resize(ATTRIBUTE, 0);
                }
                Err(e) => return Err(self.error("read attribute", name, e)),
            }
        }
    }

    /// Removes an extended attribute, if it is there.
    pub fn remove_attribute(&self, name: &str) -> Result<(), CgroupError> {
        match sys::fremovexattr(self.dir.as_fd(), &attribute_name(name)) {
            Err(e) if e.raw_os_error() != Some(libc::ENODATA) => Err(self.error("remove attribute", name, e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether a service manager says of it that it is handed over: systemd does, from version 251 on.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        let mut buffer = [0; 8];
        let length = sys::fgetxattr(self.dir.as_fd(), c"user.delegate", &mut buffer).unwrap_or(0);
        buffer.starts_with(b"1") && length == 1
    }

    /// The pids of the processes in it, not below.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Takes the exclusive lock of this cgroup, `None` when another process holds it. It lasts as long as the value.
    pub fn try_lock(&self) -> Result<Option<Flock<OwnedFd>>, CgroupError> {
        self.lock(FlockArg::LockExclusiveNonblock)
    }

    /// Whether another process holds the exclusive lock. Askers are in nobody's way but that of who takes it at this moment.
    pub fn is_locked(&self) -> Result<bool, CgroupError> {
        Ok(self.lock(FlockArg::LockSharedNonblock)?.is_none())
    }

    fn lock(&self, how: FlockArg) -> Result<Option<Flock<OwnedFd>>, CgroupError> {
        let dir = self.open_beneath("open the cgroup", ".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        match Flock::lock(dir, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(self.error("lock", "", e.into())),
        }
    }

    fn open_beneath(&self, action: &'static str, name: &str, flags: i32) -> Result<OwnedFd, CgroupError> {
        sys::openat2_beneath(self.dir.as_fd(), &self.named(name)?, flags)
            .map_err(|e| self.error(action, name, e))
    }

    fn named(&self, name: &str) -> Result<CString, CgroupError> {
        CString::new(name).map_err(|_| self.error("open", name, io::Error::from(io::ErrorKind::InvalidInput)))
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> CgroupError {
        let path = if name.is_empty() { self.path.to_path_buf() } else { self.path.join(name) };
        CgroupError { action, path, source }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// `trusted.*` cannot be rewritten by a tenant, whoever owns the directory. It takes the machine's root, though: who is root of a
/// user namespace only (bellows inside bellows), and an ordinary user, has `user.*`, which whoever owns the directory can write.
fn attribute_name(name: &str) -> CString {
    static KIND: OnceLock<&str> = OnceLock::new();
    let is_trusted = || discover::has_all_users() && !privilege::is_rootless();
    let kind = KIND.get_or_init(|| if is_trusted() { "trusted" } else { "user" });
    CString::new(format!("{kind}.bellows.{name}")).unwrap_or_default()
}

/// Reads a file of the kernel's from here on: its size is not known before, and in most cases one read has it whole.
pub(super) fn read_whole(file: &mut File) -> io::Result<String> {
    const PAGE: usize = 4096;
    let mut page = [0; PAGE];
    let length = file.read(&mut page)?;
    let mut text = String::from_utf8_lossy(&page[..length]).into_owned();
    // The kernel gives as many whole lines as a page of its own holds: who is given less than half of one is at the end.
    if length > PAGE / 2 {
        file.read_to_string(&mut text)?;
    }
    Ok(text)
}

fn rewind_read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    file.read_at(buffer, 0)
}
