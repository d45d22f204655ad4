//! Starting a command beside a workload's own, in its namespaces: the agent's half. The other half is `agent/init/src/enter.rs`.
//!
//! Its tenant has a hand in the workload's cgroup: it may freeze, throttle or fill it at this moment. Whoever was born there would stop or
//! crawl before it executes, with the agent's memory and descriptors, and be killed with the agent. So a helper executes in the agent's own
//! cgroup, and has the kernel make the one that enters there at once. It is not moved there: for a move the kernel stops all forks of the
//! machine, and waits for those that are under way, also of who is throttled.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::cgroup::Cgroup;
use super::privilege;
use super::spawn::{
    Process, Program, SpawnError, TERMINAL, channel, end, hand_over, sheet, signal, start_helper,
};

/// A command beside a workload's own.
#[derive(Debug)]
pub struct Beside {
    /// It and its arguments.
    pub argv: Vec<String>,
    /// Its environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Its working directory, as the workload sees it.
    pub cwd: String,
    /// What the workload's own command has given up, word by word; so does this one.
    pub isolation: Vec<String>,
    /// Whether it gets a terminal; standard input is a socket then, by which that comes.
    pub terminal: bool,
    /// Who it is; as the workload's own command when absent.
    pub user: Option<String>,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// The way to the client, which hears how it ended; it ends with the other end.
    pub line: Option<OwnedFd>,
}

/// Starts a command beside the first process of a workload, in its namespaces; the process that comes back is one outside that ends as the
/// command does, and takes it along. In `cgroup` it may be slow: waits for its answers.
pub fn enter(
    program: &Program,
    cgroup: &Cgroup,
    first: &Process,
    command: Beside,
) -> Result<Process, SpawnError> {
    if privilege::is_rootless() {
        // Its init belongs to nobody who could look into it, so that nobody inside can.
        let text = "a command beside a workload takes root: this agent is rootless";
        return Err(SpawnError::Init(text.to_owned()));
    }
    if cgroup.is_frozen().map_err(io::Error::from)? {
        return Err(SpawnError::Init("the cgroup of its first process is frozen".to_owned()));
    }
    let (ours, theirs) = channel()?;
    let own = ["bellows-init", "--enter", "--"].map(str::to_owned);
    let arguments: Vec<String> = own.into_iter().chain(command.argv).collect();
    let mut words = vec!["cwd".to_owned(), command.cwd, "files".to_owned(), program.open_files.to_string()];
    words.extend(command.env.into_iter().flat_map(|variable| ["env".to_owned(), variable]));
    words.extend(command.isolation);
    words.extend(command.user.into_iter().flat_map(|user| ["user".to_owned(), user]));
    words.extend(command.terminal.then(|| TERMINAL.to_owned()));
    let order = sheet(&words)?;
    let [stdin, stdout, stderr] = command.stdio;
    let root = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{}/root", first.pid))?;
    // Not reaped even now: so the number was its own.
    signal(&first.pidfd, 0)?;
    let nobody = || File::options().write(true).open("/dev/null").map(OwnedFd::from);
    let line = command.line.map_or_else(nobody, Ok)?;
    let place = cgroup.as_fd().try_clone_to_owned()?;
    let descriptors =
        [stdin, stdout, stderr, theirs, first.pidfd.try_clone()?, root.into(), order, line, place];
    let helper = start_helper(program, None, &arguments, descriptors)?;
    hand_over(&ours, &helper, |_| Ok(())).inspect_err(|_| end(&helper))
}
