//! The mounts that workloads begin with, where those are not the agent's.
//!
//! A service manager may have given the agent mounts of its own: read-only, without homes, devices and other processes. None of that is meant for
//! what the agent starts, and a mount namespace, unlike a seccomp filter, can be left. So each child enters the one that was named before it
//! executes anything, and whatever an operator names by a path is opened by such a child. The agent stays where it is.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A mount namespace that can be entered.
#[derive(Debug)]
pub struct Mounts(File);

impl Mounts {
    /// The one that is the file `path`, such as `/proc/1/ns/mnt`. Fails where that is no mount namespace, or one that may not be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        let opened = Self(File::open(path)?);
        opened.see(|| ())?;
        Ok(opened)
    }

    /// What `look` finds there by its paths. It runs in a thread that ends with it, since whoever enters does not come back.
    pub fn see<T: Send>(&self, look: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let builder = thread::Builder::new().name("bellows-mounts".to_owned());
            let thread = builder.spawn_scoped(scope, || -> io::Result<T> {
                // Threads share their root directory otherwise, and the kernel moves nobody who does.
                unshare(CloneFlags::CLONE_FS)?;
                setns(&self.0, CloneFlags::CLONE_NEWNS)?;
                Ok(look())
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_mount_namespace_is_refused() {
        for path in ["/proc/self/ns/uts", "/dev/null", "/none"] {
            assert!(Mounts::open(Path::new(path)).is_err(), "{path}");
        }
    }
}
