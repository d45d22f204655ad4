//! Starting a process inside a cgroup: the agent's half of the launch. The other half is `bellows-init`.
//!
//! ```text
//! agent                              bellows-init, stage 1        bellows-init, stage 2 (PID 1 of the workload)
//! clone3(INTO_CGROUP) + execveat -->
//!                                    clone(CLONE_PARENT, NEW*) -->
//!           <-- "pid N" ------------ exit
//! pidfd_open
//! announce the pid
//! uid_map, gid_map
//!           --- "go" ---------------------------------------->    names, mounts, fork, exec
//! reap stage 1
//!           <-- "error ..." or end of file = executed --------
//! ```
//!
//! Who is born into a frozen cgroup stops before it executes, and we would wait for that (CLONE_VFORK). So that is refused; and nobody
//! is born where a tenant has a hand in it: see `enter`.
//!
//! Descriptors of the child: 0-2 stdio, 3 the channel (SOCK_SEQPACKET), 4 the exit record, 5 the order: words that end with a NUL
//! each, in a memfd, since they may be more than a message holds. `agent/init/src/order.rs` reads them.

use std::ffi::{CString, c_char};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::discover::{self, CgroupMount};
use super::mounts::Mounts;
pub use super::users::{IdRange, Users};
use super::{sys, users};

/// `bellows-init`, loaded once into a sealed memfd: replacing the file on disk, or a tenant writing to
/// `/proc/1/exe`, changes nothing.
#[derive(Debug)]
pub struct Program {
    memfd: OwnedFd,
    pub(super) open_files: u64,
    mounts: Option<Mounts>,
}

impl Program {
    /// Loads the program at `path`. What it starts begins with `open_files` as its soft limit of open files: the agent has
    /// raised its own, which programs that use `select` do not survive; and in `mounts`, where those are not to be the agent's.
    pub fn load(path: &Path, open_files: u64, mounts: Option<Mounts>) -> io::Result<Self> {
        let mut image = File::open(path)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // To be said since Linux 6.3, where `vm.memfd_noexec` is set; those before do not know it.
        let executable = flags | MFdFlags::from_bits_retain(libc::MFD_EXEC);
        let memfd = match memfd_create(c"bellows-init", executable) {
            Err(Errno::EINVAL) => memfd_create(c"bellows-init", flags)?,
            Err(Errno::EACCES) => {
                let text = "programs in memory are not allowed: sysctl vm.memfd_noexec=1, or 0";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            made => made?,
        };
        let mut file = File::from(memfd);
        // In the kernel, without a buffer of that size: a takeover waits for this.
        io::copy(&mut image, &mut file)?;
        let seals =
            SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        // What it is started with is placed at low numbers, and must not take its own.
        Ok(Self { memfd: raise(file.into())?, open_files, mounts })
    }

    /// The cgroup2 mounts that it begins with.
    pub fn cgroup_mounts(&self) -> io::Result<Vec<CgroupMount>> {
        self.mounts
            .as_ref()
            .map_or_else(discover::cgroup_mounts, |mounts| mounts.see(discover::cgroup_mounts)?)
    }
}

/// What is to run, and where.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The cgroup that it is born in; its limits are set already.
    pub cgroup: &'a Cgroup,
    /// Host name inside its UTS namespace.
    pub hostname: &'a str,
    /// Working directory.
    pub cwd: &'a str,
    /// Where the workload's own, read-only view of the cgroup tree is mounted.
    pub cgroup_mounts: &'a [String],
    /// Mounts of the host that are detached first: all that show a cgroup hierarchy.
    pub hidden_mounts: &'a [String],
    /// Its users, where they are not the host's.
    pub users: Option<Users>,
    /// What init is told of the workload's box, word by word.
    pub isolation: Vec<String>,
    /// The command and its arguments.
    pub argv: &'a [String],
    /// Its environment, `NAME=value` each.
    pub env: &'a [String],
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Where init writes how the command ended.
    pub record: File,
}

/// A workload's first process.
#[derive(Debug)]
pub struct Process {
    /// Its pid as the agent sees it.
    pub pid: i32,
    /// A descriptor that stays valid, whatever becomes of the number.
    pub pidfd: OwnedFd,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It returned this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// A launch failed. Nothing of it is left running except, perhaps, what is still in the cgroup.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The kernel refused the clone or the execution of init.
    #[error("cannot start bellows-init inside {cgroup}: {source}")]
    Clone {
        /// The cgroup.
        cgroup: String,
        /// Why.
        source: io::Error,
    },
    /// Init reported a failed step, for example that the command does not exist.
    #[error("{0}")]
    Init(String),
    /// Init ended.
    #[error("bellows-init ended before it could start the command (was its memory limit too low?)")]
    Silent,
    /// Init did not answer in time.
    #[error(
        "bellows-init did not answer in {ANSWER_DEADLINE_S} s (is the machine, or the workload's cpu, starved?)"
    )]
    Late,
    /// The channel itself failed.
    #[error("launch channel: {0}")]
    Channel(#[from] io::Error),
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        Self::Channel(errno.into())
    }
}

/// What init is told for who gets a terminal.
pub const TERMINAL: &str = "terminal";
/// Seconds that init may take for each of its messages.
const ANSWER_DEADLINE_S: i64 = 20;
/// The first descriptor number that is free for ours, above all that the child will be given.
const FIRST_FREE: RawFd = 16;

/// Starts `launch.argv` as the child of a new PID 1 in namespaces of its own. Blocks for some milliseconds. `announce` is told
/// the pid of that one, and stage 1, before it gets the word to go, and may forbid it.
pub fn start(
    program: &Program,
    launch: Launch<'_>,
    announce: impl FnOnce(i32, &Process) -> io::Result<()>,
) -> Result<Process, SpawnError> {
    let (ours, theirs) = channel()?;
    let order = order(program, &launch)?;
    let [stdin, stdout, stderr] = launch.stdio;
    let own = ["bellows-init", "--"].map(str::to_owned);
    let arguments: Vec<String> = own.into_iter().chain(launch.argv.iter().cloned()).collect();
    let descriptors = [stdin, stdout, stderr, theirs, launch.record.into(), order];
    let stage1 = start_helper(program, Some(launch.cgroup), &arguments, descriptors)
        .map_err(|source| SpawnError::Clone { cgroup: launch.cgroup.path().display().to_string(), source })?;

    let announce = |pid: Pid| {
        announce(pid.as_raw(), &stage1)?;
        launch.users.map_or(Ok(()), |users| users::map(pid, users))
    };
    hand_over(&ours, &stage1, announce).inspect_err(|_| {
        let _ = launch.cgroup.kill();
        end(&stage1);
    })
}

/// Starts the program by `arguments`, in `cgroup`, where no tenant may have a hand in yet, or in our own. The n-th of `descriptors`
/// becomes its descriptor n, and ours are closed: the end
/// of its copies is the end of file.
pub fn start_helper<const N: usize>(
    program: &Program,
    cgroup: Option<&Cgroup>,
    arguments: &[String],
    descriptors: [OwnedFd; N],
) -> io::Result<Process> {
    let argv = c_strings(arguments)?;
    let argv_pointers = pointers(&argv);
    let kept: Vec<OwnedFd> = descriptors.into_iter().map(raise).collect::<io::Result<_>>()?;
    let descriptors: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let exec = sys::Exec {
        program: program.memfd.as_fd(),
        argv: &argv_pointers,
        // A workload's own is in the order: init begins with the host's rights, and no variable may tell it anything.
        envp: &[std::ptr::null()],
        descriptors: &descriptors,
        mounts: program.mounts.as_ref().map(AsFd::as_fd),
    };
    if cgroup.map_or(Ok(false), Cgroup::is_frozen)? {
        let text = "it is frozen, or one above it is: thaw that first (echo 0 > cgroup.freeze)";
        return Err(io::Error::other(text));
    }
    let (pid, pidfd) = sys::clone_exec(cgroup.map(AsFd::as_fd), &exec)?;
    Ok(Process { pid: pid.as_raw(), pidfd })
}

/// Nothing of an attempt may outlive it, nor be a zombie. Both stages are our children, and one process group: stage 1 made it, if it came so far.
pub(super) fn end(stage1: &Process) {
    // First this one: then it makes no more groups, nor children.
    let _ = signal(&stage1.pidfd, libc::SIGKILL);
    let _ = killpg(Pid::from_raw(stage1.pid), Signal::SIGKILL);
    while waitpid(Pid::from_raw(-stage1.pid), None).is_ok() {}
    let _ = wait(&stage1.pidfd);
}

/// The agent's side of the conversation, from the first answer to the execution of the command.
pub(super) fn hand_over(
    ours: &OwnedFd,
    stage1: &Process,
    announce: impl FnOnce(Pid) -> io::Result<()>,
) -> Result<Process, SpawnError> {
    let text = receive(ours)?.ok_or(SpawnError::Silent)?;
    let Some(pid) = told_pid(&text).map(Pid::from_raw) else {
        return Err(SpawnError::Init(text));
    };
    // Stage 2 is our child by CLONE_PARENT and nobody else reaps it: the number is still its own.
    let pidfd = sys::pidfd_open(pid)?;
    announce(pid)?;
    send(ours.as_raw_fd(), b"go", MsgFlags::MSG_NOSIGNAL)?;
    let answer = receive(ours)?;
    dismiss(stage1);
    match answer {
        None => Ok(Process { pid: pid.as_raw(), pidfd }),
        Some(text) => Err(SpawnError::Init(text)),
    }
}

/// Waits for the end of stage 1, which has told the pid of stage 2 and so has said all that it had to say. In a cgroup that is frozen
/// meanwhile it ends by this alone.
pub fn dismiss(stage1: &Process) {
    let _ = signal(&stage1.pidfd, libc::SIGKILL);
    let _ = wait(&stage1.pidfd);
}

/// The pid of stage 2 in what stage 1 says, if it says one. Zero and less would mean groups of processes.
#[must_use]
pub fn told_pid(text: &str) -> Option<i32> {
    text.strip_prefix("pid ")?.parse().ok().filter(|pid| *pid > 0)
}

/// Reaps the process behind `pidfd` and tells how it ended; `None` when it was not our child (after a takeover).
pub fn wait(pidfd: &OwnedFd) -> io::Result<Option<Ended>> {
    match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {
        Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ended::Exited(code))),
        Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Signaled(signal as i32))),
        Ok(_) | Err(Errno::ECHILD) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Sends a signal to the process behind `pidfd`.
pub fn signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    sys::pidfd_send_signal(pidfd.as_fd(), signal)
}

/// The order, to be read from its beginning.
fn order(program: &Program, launch: &Launch<'_>) -> io::Result<OwnedFd> {
    let mut words = Vec::new();
    let files = program.open_files.to_string();
    let pairs = [("hostname", launch.hostname), ("cwd", launch.cwd), ("files", &files)];
    let points = launch.cgroup_mounts.iter().map(|point| ("cgroup", point.as_str()));
    let hidden = launch.hidden_mounts.iter().map(|point| ("hide", point.as_str()));
    for (word, value) in pairs.into_iter().chain(points).chain(hidden) {
        words.extend([word.to_owned(), value.to_owned()]);
    }
    if let Some(users) = launch.users {
        words.extend(["users".to_owned(), users.first().to_string()]);
    }
    words.extend(launch.env.iter().flat_map(|variable| ["env".to_owned(), variable.clone()]));
    words.extend_from_slice(&launch.isolation);
    sheet(&words)
}

/// Words that end with a NUL each, in a file that nobody else has.
pub(super) fn sheet(words: &[String]) -> io::Result<OwnedFd> {
    let text: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let mut file = File::from(memfd_create(c"bellows-order", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&text)?;
    Ok(file.into())
}

/// Moves a descriptor above [`FIRST_FREE`], so that placing the child's low numbers overwrites none of them.
fn raise(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST_FREE { Ok(fd) } else { sys::duplicate_above(fd.as_fd(), FIRST_FREE) }
}

fn c_strings(list: &[String]) -> io::Result<Vec<CString>> {
    list.iter().map(|s| CString::new(s.as_str()).map_err(io::Error::from)).collect()
}

fn pointers(list: &[CString]) -> Vec<*const c_char> {
    list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The channel to an init: our end, on which nobody is waited for too long, and that of the other.
pub(super) fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_DEADLINE_S))?;
    Ok((ours, theirs))
}

/// One message, `None` at the end of file.
fn receive(socket: &OwnedFd) -> Result<Option<String>, SpawnError> {
    let mut buffer = [0_u8; 4096];
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty()) {
            Ok(message) => {
                let length = message.bytes;
                return Ok((length > 0).then(|| String::from_utf8_lossy(&buffer[..length]).into_owned()));
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(SpawnError::Late),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Takes ownership of descriptors that `recvmsg` has just delivered; each number must be passed once only.
#[must_use]
pub fn own_received(numbers: &[RawFd]) -> Vec<OwnedFd> {
    sys::own(numbers)
}
