//! Stage 1: new namespaces of a workload that begin in a state of no use, and how they are set up.
//!
//! Loopback is switched on, and clocks are set, by whoever has the capability for it in the user namespace that theirs belongs to. A service
//! manager may have taken these from the agent, and so from all of us, for good. But whoever makes a user namespace has all of them inside.
//! So another process makes one, makes and sets up these namespaces in it, hands them over, and ends. What they belong to can do nothing
//! else: nobody lives there.

use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socket, socketpair,
};
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_gettime};

use crate::order::{CLONE_NEWTIME, Order, Whose};
use crate::tree::Step;
use crate::{keeper, say, sys};

/// What it takes to switch loopback on: `CAP_NET_ADMIN`.
const NETWORKS: u8 = 12;
/// What it takes to set the clocks: `CAP_SYS_TIME`.
const CLOCKS: u8 = 25;

/// The kernel's name in `/proc/self/ns`, what it is to setns(2), and how it is made.
type Kind = (&'static str, CloneFlags, fn() -> Result<(), String>);
const NETWORK: Kind = ("net", CloneFlags::CLONE_NEWNET, new_network);
const TIME: Kind = ("time_for_children", CLONE_NEWTIME, new_time);

/// Makes those that cannot wait for the clone: the clocks must be set before anybody lives by them. What is made is crossed off.
pub(crate) fn make(order: &mut Order) -> Result<(), String> {
    let mut others = Vec::new();
    // With users of its own it sets up its network itself.
    if order.is_new(CloneFlags::CLONE_NEWNET) && order.users.is_none() && !sys::is_in_bounds(NETWORKS) {
        cross_off(order, CloneFlags::CLONE_NEWNET);
        others.push(NETWORK);
    }
    if order.is_new(CLONE_NEWTIME) {
        cross_off(order, CLONE_NEWTIME);
        if sys::is_in_bounds(CLOCKS) {
            new_time()?;
        } else {
            others.push(TIME);
        }
    }
    if others.is_empty() { Ok(()) } else { have_made(&others) }
}

/// It is there by now, and nobody makes it any more.
fn cross_off(order: &mut Order, kind: CloneFlags) {
    order.namespaces.retain(|(of, _)| *of != kind);
    order.namespaces.push((kind, Whose::Host));
}

/// Switches the loopback device of this network namespace on.
pub(crate) fn raise_loopback() -> Result<(), String> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    socket.and_then(|socket| sys::raise_loopback(socket.as_fd())).step("switch loopback on")
}

fn have_made(kinds: &[Kind]) -> Result<(), String> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .step("make a socket")?;
    // The other end is the child's alone: its end is the end of file.
    let child = sys::fork_child(move || {
        if let Err(text) = unshare(CloneFlags::CLONE_NEWUSER)
            .step("make a user namespace")
            .and_then(|()| kinds.iter().try_for_each(|kind| hand_over(*kind, &theirs)))
        {
            say(&text);
        }
    })
    .step("fork")?;
    for (name, flag, _) in kinds {
        let made = keeper::receive(ours.as_fd()).step(&format!("receive a namespace ({name})"))?;
        let made = made.ok_or_else(|| format!("no namespace was made ({name})"))?;
        setns(made, *flag).step(&format!("enter a namespace ({name})"))?;
    }
    waitpid(child, None).map(drop).step("wait for who made the namespaces")
}

fn hand_over((name, _, make): Kind, socket: &OwnedFd) -> Result<(), String> {
    make()?;
    let file =
        File::open(format!("/proc/self/ns/{name}")).map_err(|e| format!("cannot open a namespace: {e}"))?;
    let numbers = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"n")], &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .step("hand a namespace over")
}

fn new_network() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).step("make a network namespace")?;
    raise_loopback()
}

/// Has the next child live in a time namespace whose clocks begin about now.
fn new_time() -> Result<(), String> {
    unshare(CLONE_NEWTIME).step("make a time namespace")?;
    let lines: Vec<String> = [("monotonic", ClockId::CLOCK_MONOTONIC), ("boottime", ClockId::CLOCK_BOOTTIME)]
        .into_iter()
        .map(|(name, clock)| Ok(format!("{name} -{} 0\n", clock_gettime(clock)?.tv_sec())))
        .collect::<nix::Result<_>>()
        .step("read the clocks")?;
    std::fs::write("/proc/self/timens_offsets", lines.concat())
        .map_err(|e| format!("cannot set the clocks of a time namespace: {e}"))
}
