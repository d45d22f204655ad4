//! `bellows-init`: PID 1 of a workload.
//!
//! Stage 1 is started by the agent inside the workload's cgroup, makes stage 2 in new namespaces as the agent's own child,
//! reports its pid and ends. Stage 2 waits for the word to go, sets the namespaces up, starts the command, and stays:
//! it reaps orphans, forwards signals, and writes how the command ended to the exit record. It needs no agent to live.
//!
//! `bellows-init --hostname=NAME --cwd=DIR [--files=N] [--cgroup=DIR]... [--hide=DIR]... -- COMMAND [ARG]...`
//!
//! With `--log` it is something else: what writes the log of a detached workload, see `log`; and with `--enter`, what starts
//! a command beside a workload, see `enter`.
//!
//! Descriptors: 0-2 stdio, 3 the channel to the agent (SOCK_SEQPACKET, a message each way), 4 the exit record.

mod enter;
mod log;
mod mounts;
mod pid1;
#[expect(unsafe_code, reason = "clone, fork and exec; see the file's head")]
mod sys;

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::exit;

use nix::sched::CloneFlags;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::setsid;

/// The channel to the agent.
const CHANNEL: i32 = 3;
/// The exit record, opened by the agent.
const RECORD: i32 = 4;

/// What the agent asked for.
#[derive(Debug, Default)]
struct Order {
    hostname: String,
    cwd: String,
    /// The soft limit of open files.
    files: Option<u64>,
    /// Where the workload gets its own view of the cgroup tree.
    cgroups: Vec<String>,
    /// Mounts that the workload must not see.
    hidden: Vec<String>,
    command: Vec<CString>,
}

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(OsStringExt::into_vec).peekable();
    if arguments.next_if(|first| first == b"--log").is_some() {
        exit(i32::from(log::run(arguments).is_err()));
    }
    let is_beside = arguments.next_if(|first| first == b"--enter").is_some();
    let order = match parse(arguments) {
        Ok(order) => order,
        Err(text) => {
            eprintln!("bellows-init: {text} (it is started by the bellows agent, not by hand)");
            exit(2);
        }
    };
    if is_beside {
        enter::run(&order);
    }
    sys::close_from_on_exec(3);
    // Fails only for a group leader, which a fresh clone is not.
    let _ = setsid();
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    match sys::clone_sibling(namespaces, || pid1::run(&order)) {
        Ok(pid) => say(&format!("pid {pid}")),
        Err(errno) => {
            say(&format!("cannot make the workload's namespaces: {errno}"));
            exit(1);
        }
    }
}

/// Sends one message to the agent. Nothing is to be done when the agent is gone.
fn say(text: &str) {
    let _ = send(CHANNEL, text.as_bytes(), MsgFlags::MSG_NOSIGNAL);
}

fn parse(arguments: impl Iterator<Item = Vec<u8>>) -> Result<Order, String> {
    let mut order = Order::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        if argument == b"--" {
            order.command =
                arguments.map(CString::new).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
            return if order.command.is_empty() { Err("no command".to_owned()) } else { Ok(order) };
        }
        let text = String::from_utf8(argument).map_err(|e| e.to_string())?;
        match text.split_once('=') {
            Some(("--hostname", value)) => value.clone_into(&mut order.hostname),
            Some(("--cwd", value)) => value.clone_into(&mut order.cwd),
            Some(("--files", value)) => {
                order.files = Some(value.parse().map_err(|_| format!("{value:?} is no number"))?);
            }
            Some(("--cgroup", value)) => order.cgroups.push(value.to_owned()),
            Some(("--hide", value)) => order.hidden.push(value.to_owned()),
            _ => return Err(format!("unknown argument {text:?}")),
        }
    }
    Err("no command".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Order, String> {
        parse(arguments.iter().map(|a| a.as_bytes().to_vec()))
    }

    #[test]
    fn an_order_is_read_whole() {
        let order =
            parsed(&["--hostname=web", "--cwd=/", "--cgroup=/a", "--hide=/b", "--", "sh", "--", "x=y"])
                .unwrap();
        assert_eq!((order.hostname.as_str(), order.cwd.as_str()), ("web", "/"));
        assert_eq!((order.cgroups, order.hidden), (vec!["/a".to_owned()], vec!["/b".to_owned()]));
        assert_eq!(order.command, [c"sh".to_owned(), c"--".to_owned(), c"x=y".to_owned()]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parsed(&["--bogus=1", "--", "sh"]).is_err());
        assert!(parsed(&["--cwd=/"]).is_err());
        assert!(parsed(&["--"]).is_err());
    }
}
