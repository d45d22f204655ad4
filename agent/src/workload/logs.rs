//! Where the output of a detached workload goes: through a pipe to a small process in its cgroup that writes files, and begins a
//! new one before the old one is too large. `agent/init/src/log.rs` says why it is not the agent, and not the workload itself. Or to
//! the system's journal, without anybody between.
//!
//! What is lost: up to a pipe's content (64 KiB) where everything in the cgroup is killed at once, this process with it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::OFlag;

use super::life::LogBounds;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::journald;
use crate::kernel::spawn::{self, Process, Program};
use crate::kernel::terminal;

/// Standard input, output and error of a workload.
#[derive(Debug)]
pub enum Stdio {
    /// Its client's.
    Passed([OwnedFd; 3]),
    /// Nothing, and a log.
    Logged {
        /// Where its files are.
        directory: PathBuf,
        /// How large they may become.
        bounds: LogBounds,
        /// Whether it gets a terminal, which is kept for who attaches.
        terminal: bool,
    },
    /// Nothing, and the system's journal under this name.
    Journaled(String),
}

/// Standard input, output and error, and the process that writes the log, if there is one: it is in `cgroup`, and ends when
/// nobody holds the output any more.
pub fn connect(
    program: &Program,
    cgroup: &Cgroup,
    stdio: Stdio,
) -> io::Result<([OwnedFd; 3], Option<Process>)> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let (directory, bounds, has_terminal) = match stdio {
        Stdio::Passed(descriptors) => return Ok((descriptors, None)),
        Stdio::Journaled(name) => {
            let stream = journald::stream(&name).map_err(|error| {
                let text =
                    format!("no journal takes its output: {error}; without --log-journal it goes to files");
                io::Error::new(error.kind(), text)
            })?;
            return Ok(([null()?, stream.try_clone()?, stream], None));
        }
        Stdio::Logged { directory, bounds, terminal } => (directory, bounds, terminal),
    };
    let mut arguments = vec![
        "bellows-init".to_owned(),
        "--log".to_owned(),
        format!("--bytes={}", bounds.bytes.0),
        format!("--files={}", bounds.files),
    ];
    if has_terminal {
        arguments.push("--terminal".to_owned());
        let (ours, theirs) = terminal::pair()?;
        let listener = terminal::listen_in(&directory)?;
        let descriptors = [ours, null()?, null()?, File::open(directory)?.into(), listener];
        let keeper = spawn::start_helper(program, Some(cgroup), &arguments, descriptors)?;
        return Ok(([theirs.try_clone()?, theirs.try_clone()?, theirs], Some(keeper)));
    }
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let descriptors = [read, null()?, null()?, File::open(directory)?.into()];
    let logger = spawn::start_helper(program, Some(cgroup), &arguments, descriptors)?;
    Ok(([null()?, write.try_clone()?, write], Some(logger)))
}
