//! Who the command is, where that is not root: by number, or by a name of the root file system that it runs in. Whoever made that may
//! have written anything there: it is read as text, up to a bound, and says no more than numbers (`accounts`).

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::fchown;

pub(crate) use crate::accounts::User;
use crate::accounts::look_up;
use crate::sys;
use crate::tree;

/// Most of a file that is read, in bytes.
const LONGEST: u64 = 1 << 20;
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
