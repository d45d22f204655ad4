//! `bellows-init --enter`: a command beside a workload, in its namespaces, for `bellows exec`.
//!
//! The agent starts it in its own cgroup. There it makes another one in the workload's, as the agent's child, says which, and ends. A pid
//! namespace is that of children only, so the one that enters stays outside of it, waits for the command, passes signals on, and ends as it
//! did. Its end takes the command with it. It ends with the client, too, whose line it has, and by which it says how the command ended: the
//! agent may be gone by then.
//!
//! It is a part of the workload by then, and whoever is in there can take it over: so it gives up all that the workload's own command
//! has given up. Where that is not known, since an earlier agent started it, a box is not entered.
//!
//! `bellows-init --enter -- COMMAND [ARG]...`
//!
//! Descriptors: 0-2 stdio, 3 the channel to the agent (a pid, the word to go, and closed when the command is executed, or a message why not), 4 a pidfd of
//! the workload's PID 1, 5 its root directory: the root of its mount namespace may be another one, 6 the order, 7 the line to the client
//! (a socket; `/dev/null` where there is none), 8 the cgroup.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::exit;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{chroot, close, fchdir, pipe2, setsid, write};

use crate::order::{CLONE_NEWTIME, Order};
use crate::tree::Step;
use crate::user::User;
use crate::{CHANNEL, be_killable, pid1, rights, say, sys};

/// The workload's PID 1.
const WORKLOAD: i32 = 4;
/// Its root directory.
const ROOT: i32 = 5;
/// The order.
pub(crate) const ORDER: i32 = 6;
/// The line to the client.
const LINE: i32 = 7;
/// The cgroup that it is to be in.
const PLACE: i32 = 8;

/// Enters, starts the command, and ends as it does. Never returns.
pub(crate) fn run(order: &Order, command: &[CString]) -> ! {
    // Out of the agent's process group; the one that enters is in ours.
    let _ = setsid();
    // Here are only the descriptors that are meant for it, and little memory: whatever becomes of it there, nobody else is held up by it.
    let started = sys::close_from_on_exec(3)
        .step("keep the agent's descriptors from the command")
        .and_then(|()| be_killable())
        .and_then(|()| sys::fork_sibling_into(sys::borrow(PLACE)).step("start it in its cgroup"));
    match started {
        Ok(Some(pid)) => {
            say(&format!("pid {pid}"));
            exit(0);
        }
        Ok(None) if pid1::may_go() => drop(close(PLACE)),
        Ok(None) => exit(1),
        Err(text) => {
            say(&text);
            exit(1);
        }
    }
    let user = match prepare(order) {
        Ok(user) => user,
        Err(text) => {
            say(&text);
            exit(1);
        }
    };
    // Blocked, not ignored: they queue up for `supervise`, from before the command exists.
    let _ = SigSet::all().thread_set_mask();
    let command = pipe2(OFlag::O_CLOEXEC).and_then(|(pipe, kept)| {
        let tie = || {
            // What it sends to its own group is not for this process; at a terminal it has a session already.
            let apart = if order.terminal { Ok(()) } else { setsid().map(drop) };
            apart.and_then(|()| end_with_parent(&pipe, &kept)).step("tie the command to its client")
        };
        let command = sys::fork_child(|| pid1::execute(order, command, user.as_ref(), tie))?;
        Ok((command, kept))
    });
    match command {
        Ok((command, _kept)) => {
            let _ = close(CHANNEL);
            let code = pid1::supervise(command).code();
            // Who does not listen hears of it from the agent.
            let _ = write(sys::borrow(LINE), &[u8::try_from(code).unwrap_or(u8::MAX)]);
            exit(code)
        }
        Err(errno) => {
            say(&format!("cannot fork the command: {errno}"));
            exit(1)
        }
    }
}

fn prepare(order: &Order) -> Result<Option<User>, String> {
    let listen =
        || end_with_client().map_err(|errno| format!("cannot listen for the end of the client: {errno}"));
    listen()?;
    rights::make_room(&order.rlimits)?;
    pid1::reset(order)?;
    enter(order)?;
    // Once more: the kernel judges who may be sent that signal by who has asked for it, and that may be another one now.
    listen()?;
    // From here on whoever is in there could look into this process, and take its descriptors.
    set_dumpable(false).map_err(|errno| format!("cannot hide init's memory: {errno}"))?;
    pid1::go_to(&order.cwd)?;
    let user = pid1::user(order)?;
    rights::give_up(order)?;
    Ok(user)
}

fn end_with_client() -> nix::Result<()> {
    let line = sys::borrow(LINE);
    sys::end_with(line)?;
    // It may have gone before that.
    is_open(line)
}

/// Has this process killed when its parent dies, which keeps the other end of a pipe. The kernel forgets that when the user changes.
fn end_with_parent(pipe: &OwnedFd, kept: &OwnedFd) -> nix::Result<()> {
    close(kept.as_raw_fd())?;
    set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before that: whoever dies closes what it has, and only then are its children sent their signal.
    is_open(pipe.as_fd())
}

fn is_open(end: BorrowedFd<'_>) -> nix::Result<()> {
    let mut ends = [PollFd::new(end, PollFlags::empty())];
    poll(&mut ends, PollTimeout::ZERO)?;
    let is_closed = ends[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLHUP));
    if is_closed { Err(Errno::EPIPE) } else { Ok(()) }
}

/// Joins all namespaces of the workload, its user namespace too where that is not the host's.
fn enter(order: &Order) -> Result<(), String> {
    let mut common = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    // Not every kernel has any.
    if order.is_new(CLONE_NEWTIME) || order.joins(CLONE_NEWTIME) {
        common |= CLONE_NEWTIME;
    }
    let workload = sys::borrow(WORKLOAD);
    let failed = |errno: Errno| format!("cannot enter the workload's namespaces: {errno}");
    match setns(workload, common | CloneFlags::CLONE_NEWUSER) {
        Ok(()) if order.users.is_none() => {
            return Err("it has users of its own, and was started by an earlier agent: what else its box is made of is \
                        not known, so it is not entered"
                .to_owned());
        }
        Ok(()) => {
            pid1::become_root().map_err(|errno| format!("cannot become root in the workload: {errno}"))?;
        }
        // Its users are the host's: nobody joins the user namespace that he is in.
        Err(Errno::EINVAL) => setns(workload, common).map_err(failed)?,
        Err(errno) => return Err(failed(errno)),
    }
    fchdir(sys::borrow(ROOT))
        .and_then(|()| chroot("."))
        .map_err(|errno| format!("cannot enter the workload's root directory: {errno}"))
}
