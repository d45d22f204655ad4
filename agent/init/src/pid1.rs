//! Stage 2: PID 1 of the workload. In a pid namespace that is not its own it is not number 1: it does the same there, but its end takes
//! nobody with it. That is left to the agent, who kills the whole cgroup then.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::process::exit;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::prctl::{set_child_subreaper, set_dumpable};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, close, fsync, getcwd, setgroups, sethostname, setresgid, setresuid, write,
};

use crate::signals::{self, Ended};
use crate::tree::Step;
use crate::user::{self, User};
use crate::{CHANNEL, ORDER, Order, RECORD, apart, mounts, rights, say, sys, terminal};

/// Exit codes that a shell uses for a command that cannot be started.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Waits for the agent's word, sets up, starts the command, and stays until it has ended. Never returns.
pub(crate) fn run(order: &Order, command: &[CString], view: Option<&OwnedFd>) {
    if !may_go() {
        give_up();
    }
    let user = match prepare(order, view) {
        Ok(user) => user,
        Err(text) => {
            say(&text);
            give_up();
        }
    };
    // Blocked, not ignored: they queue up for `supervise`, from before the command exists.
    let _ = SigSet::all().thread_set_mask();
    let command = match sys::fork_child(|| execute(order, command, user.as_ref(), || Ok(()))) {
        Ok(pid) => pid,
        Err(errno) => {
            say(&format!("cannot fork the command: {errno}"));
            give_up();
        }
    };
    // The command's copy closes when it executes: only then does the agent see the end of file.
    let _ = close(CHANNEL);
    let ended = supervise(command);
    record(&match ended {
        Ended::Exited(code) => format!("exited {code}"),
        Ended::Signaled(signal) => format!("signaled {signal}"),
    });
    exit(ended.code());
}

/// Waits for the agent's word. Without it the agent is gone, or has changed its mind before anything was started.
pub(crate) fn may_go() -> bool {
    let mut word = [0_u8; 8];
    recv(CHANNEL, &mut word, MsgFlags::empty()).is_ok_and(|length| &word[..length] == b"go")
}

fn prepare(order: &Order, view: Option<&OwnedFd>) -> Result<Option<User>, String> {
    if order.users.is_some() {
        become_root().step("become root of the user namespace")?;
    }
    // Nobody in the box can look into this process, whatever they keep: its memory belongs to the host's root.
    set_dumpable(false).step("hide init's memory")?;
    if !order.is_new(CloneFlags::CLONE_NEWPID) {
        // Whoever loses its parent would be the child of that namespace's first process.
        set_child_subreaper(true).step("look after orphans")?;
    }
    if order.is_new(CloneFlags::CLONE_NEWUTS) {
        sethostname(&order.hostname)
            .map_err(|e| format!("cannot set the host name {}: {e}", order.hostname))?;
        // Without one of its own it has that of a new machine, and not the host's.
        sys::set_domainname(order.domainname.as_deref().unwrap_or("(none)")).step("set the domain name")?;
    }
    if order.root.is_some() {
        mounts::enter(order, view)?;
    } else if order.is_new(CloneFlags::CLONE_NEWNS) {
        mounts::set_up(order)?;
    }
    if order.is_new(CloneFlags::CLONE_NEWNET) {
        apart::raise_loopback()?;
    }
    // What stage 1 had open came along with the clone: not one descriptor of the host's may stay, nor be a working directory.
    sys::close_from(ORDER.unsigned_abs());
    reset(order)?;
    go_to(&order.cwd)?;
    let user = user(order)?;
    rights::give_up(order)?;
    Ok(user)
}

/// Makes the terminal, and finds out who the command is.
pub(crate) fn user(order: &Order) -> Result<Option<User>, String> {
    if order.terminal {
        terminal::open()?;
    }
    let user = order.user.as_deref().map(user::find).transpose()?;
    if let Some(user) = &user {
        user.own_stdio(order.terminal);
    }
    Ok(user)
}

/// Undoes what is the agent's own and is inherited.
pub(crate) fn reset(order: &Order) -> Result<(), String> {
    umask(Mode::from_bits_truncate(0o022));
    drop_groups().step("drop the agent's groups")?;
    if let Some(files) = order.files {
        getrlimit(Resource::RLIMIT_NOFILE)
            .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, files.min(hard), hard))
            .map_err(|e| format!("cannot set the number of open files: {e}"))?;
    }
    Ok(())
}

pub(crate) fn go_to(directory: &str) -> Result<(), String> {
    chdir(directory).map_err(|e| format!("cannot enter the working directory {directory}: {e}"))?;
    // It has a path here, so it is not a directory of somewhere else that was left open.
    getcwd().map(drop).map_err(|e| format!("the working directory {directory} is not inside the root: {e}"))
}

/// Takes the ids that are mapped, and drops the agent's groups: one of them may be what keeps it out of something.
pub(crate) fn become_root() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group)?;
    drop_groups()?;
    setresuid(user, user, user)
}

/// Where an ordinary user has made the namespace, nobody may, and they stay.
fn drop_groups() -> nix::Result<()> {
    match setgroups(&[]) {
        Err(Errno::EPERM) => Ok(()),
        other => other,
    }
}

/// Becomes the command, with a last step as the user that it is; comes back only as an exit.
pub(crate) fn execute(
    order: &Order,
    command: &[CString],
    user: Option<&User>,
    last: impl FnOnce() -> Result<(), String>,
) {
    let taken = if order.terminal { terminal::control() } else { Ok(()) };
    let limited = taken.and_then(|()| rights::limit(&order.rlimits));
    let become_it = || user.map_or(Ok(()), |user| rights::become_user(user, order));
    if let Err(text) = limited.and_then(|()| become_it()).and_then(|()| last()) {
        say(&text);
        exit(NOT_EXECUTABLE);
    }
    signals::reset();
    let errno = sys::execute(command, &order.env);
    let name: &CStr = &command[0];
    say(&format!("cannot execute {}: {}", name.to_string_lossy(), errno.desc()));
    exit(if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Reaps and forwards until `command` has ended.
pub(crate) fn supervise(command: Pid) -> Ended {
    loop {
        match signals::next() {
            Some(libc::SIGCHLD) => {
                if let Some(ended) = reap(command) {
                    return ended;
                }
            }
            Some(number) => signals::send(command, number),
            None => {}
        }
    }
}

/// Reaps every child that has ended; tells when the command was among them.
fn reap(command: Pid) -> Option<Ended> {
    let mut ended = None;
    while let Some((pid, how)) = signals::reap() {
        ended = ended.or((pid == command).then_some(how));
    }
    ended
}

/// Nothing was started. Who reads the record, after the agent's death perhaps, must not take it for a killed command.
fn give_up() -> ! {
    record("unstarted");
    exit(1)
}

/// Writes the exit record and makes it durable: it must be there when an agent comes back after a crash.
fn record(how: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let fd = sys::borrow(RECORD);
    let _ = write(fd, format!("{how}\nunix_ns {now}\n").as_bytes());
    let _ = fsync(fd);
}
