//! `bellows-init`: PID 1 of a workload.
//!
//! Stage 1 is started by the agent inside the workload's cgroup. It builds the workload's root file system, if that is to have one of
//! its own, makes stage 2 in new namespaces as the agent's own child, reports its pid and ends. Stage 2 waits for the word to go,
//! sets the namespaces up, starts the command, and stays: it reaps orphans, forwards signals, and writes how the command ended to
//! the exit record. It needs no agent to live.
//!
//! ```text
//! order    what the agent asked for
//! apart    stage 1: new namespaces that have to be set up before anybody lives in them
//! namespaces  stage 1: the others that are new, and those that are joined
//! tree     mounts by descriptor
//! root     stage 1: a root file system of the workload's own, built with the host's rights
//! mounts   stage 2: what of it needs the new namespaces; and the host's root, where that is kept
//! pid1     stage 2: the order of things, and what PID 1 does
//! enter    a command beside a workload's own
//! log      what writes the log of a detached one
//! terminal a terminal for the command, made inside
//! keeper   ... of a detached one: who is attached to it
//! user     who the command is
//! accounts ... by the names of a root file system
//! rights   capabilities, no_new_privs
//! seccomp  the system calls that are refused
//! ```
//!
//! `bellows-init -- COMMAND [ARG]...`
//!
//! With `--log` it is something else: what writes the log of a detached workload, see `log`; and with `--enter`, what starts
//! a command beside a workload, see `enter`.
//!
//! Descriptors: 0-2 stdio, 3 the channel to the agent (SOCK_SEQPACKET, a message each way), 4 the exit record, 5 the order.
//!
//! The C library calls us without what std does before a `main`: handlers for overflows of the stack, for which it reads
//! `/proc/self/maps`, and for closed pipes. Nobody here needs them, and each launch would wait for them.

#![cfg_attr(not(test), no_main)]

mod accounts;
mod apart;
mod enter;
mod keeper;
mod log;
mod mounts;
mod namespaces;
mod order;
mod pid1;
mod rights;
mod root;
mod seccomp;
#[expect(unsafe_code, reason = "calls by number, where nix has only names; see the file's head")]
mod signals;
#[expect(unsafe_code, reason = "clone, fork, exec, and calls that nix lacks; see the file's head")]
mod sys;
mod terminal;
mod tree;
mod user;

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::process::exit;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::setsid;

use order::Order;
use tree::Step;

/// The channel to the agent.
const CHANNEL: i32 = 3;
/// The exit record, opened by the agent.
const RECORD: i32 = 4;
/// The order.
const ORDER: i32 = 5;
/// An order cannot be longer: 64 mounts with two paths of a KiB are 128 KiB, and the kernel takes no environment of this size.
const LONGEST_ORDER: usize = 8 << 20;

/// All of it. Returns when nothing is left to be done.
#[cfg_attr(test, expect(dead_code, reason = "tests have a main of their own"))]
fn run() {
    let mut arguments = std::env::args_os().skip(1).map(OsStringExt::into_vec).peekable();
    if arguments.next_if(|first| first == b"--log").is_some() {
        exit(i32::from(log::run(arguments).is_err()));
    }
    let is_beside = arguments.next_if(|first| first == b"--enter").is_some();
    let (mut order, command) = match read(arguments, if is_beside { enter::ORDER } else { ORDER }) {
        Ok(read) => read,
        Err(text) => {
            say(&text);
            eprintln!("bellows-init: {text} (it is started by the bellows agent, not by hand)");
            exit(2);
        }
    };
    if is_beside {
        enter::run(&order, &command);
    }
    // Fails only for a group leader, which a fresh clone is not.
    let _ = setsid();
    let view = prepare(&mut order).unwrap_or_else(|text| {
        say(&text);
        exit(1);
    });
    match sys::clone_sibling(namespaces::made(&order), || pid1::run(&order, &command, view.as_ref())) {
        Ok(pid) => say(&format!("pid {pid}")),
        Err(Errno::ENOMEM) if order.joins(CloneFlags::CLONE_NEWPID) => {
            say(
                "cannot start it in the joined pid namespace: its first process has ended, or there is no memory",
            );
            exit(1);
        }
        Err(errno) => {
            say(&format!("cannot make the workload's namespaces: {errno}"));
            exit(1);
        }
    }
}

/// What is done with the host's rights, before there are namespaces. A view of joined cgroups waits for stage 2.
fn prepare(order: &mut Order) -> Result<Option<OwnedFd>, String> {
    sys::close_from_on_exec(3).step("keep the agent's descriptors from the command")?;
    be_killable()?;
    rights::make_room(&order.rlimits)?;
    apart::make(order)?;
    let joined = namespaces::open(order)?;
    order.users = order.users.or(namespaces::root_of_users(&joined)?);
    namespaces::join(&joined, |kind| !namespaces::LAST.contains(&kind))?;
    let view = order.root.as_ref().map_or(Ok(None), |root| root::build(root, order))?;
    // An ordinary user is who it acts as already, and is root in there.
    if let Some(owner) = order.users.filter(|owner| *owner != 0) {
        rights::act_as(owner).map_err(|errno| format!("cannot act as user {owner}: {errno}"))?;
    }
    namespaces::LAST.iter().try_for_each(|last| namespaces::join(&joined, |kind| kind == *last))?;
    Ok(view)
}

/// The agent protects itself from the OOM killer; what runs in its workloads does not inherit that.
fn be_killable() -> Result<(), String> {
    let file = "/proc/self/oom_score_adj";
    // A user's processes may be more of a victim than others, and cannot change that.
    if fs::read_to_string(file).is_ok_and(|text| !text.starts_with('-')) {
        return Ok(());
    }
    fs::write(file, "0").map_err(|e| format!("cannot reset oom_score_adj: {e}"))
}

/// Sends one message to the agent. Nothing is to be done when the agent is gone.
fn say(text: &str) {
    let _ = send(CHANNEL, text.as_bytes(), MsgFlags::MSG_NOSIGNAL);
}

/// The command, which is in the arguments, and the order, which is in that descriptor.
fn read(mut arguments: impl Iterator<Item = Vec<u8>>, order: i32) -> Result<(Order, Vec<CString>), String> {
    if arguments.next().as_deref() != Some(b"--") {
        return Err("no command".to_owned());
    }
    let command: Vec<CString> =
        arguments.map(CString::new).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    if command.is_empty() {
        return Err("no command".to_owned());
    }
    // A descriptor of its own: the number stays open, and is closed at the execution.
    let file = sys::borrow(order).try_clone_to_owned().map(File::from);
    let file = file.map_err(|e| format!("no order: {e}"))?;
    let mut text = vec![0; LONGEST_ORDER.min(usize::try_from(length(&file)?).unwrap_or(LONGEST_ORDER))];
    file.read_exact_at(&mut text, 0).map_err(|e| format!("cannot read the order: {e}"))?;
    Ok((Order::parse(&text)?, command))
}

fn length(file: &File) -> Result<u64, String> {
    file.metadata().map(|m| m.len()).map_err(|e| format!("cannot read the order: {e}"))
}
