//! What runs in a cgroup, by size: for a snapshot that people read, not for decisions.

use std::fs;
use std::os::fd::AsFd;

use bellows_policies::units::{Bytes, PAGE};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::cgroup::{Cgroup, CgroupError};
use super::{parse, sys};

/// Processes that are looked at: a fork bomb must not hold up who takes the snapshot.
const LOOKED_AT: usize = 1024;

/// A process as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// Its resident memory.
    pub rss: Bytes,
}

/// The `most` largest processes of a cgroup and below, the largest first, and how many there are. One that ends meanwhile is left out.
pub fn largest(cgroup: &Cgroup, most: usize) -> Result<(Vec<Process>, usize), CgroupError> {
    let mut pids = Vec::new();
    gather(cgroup, &mut pids)?;
    let mut found: Vec<Process> = pids.iter().take(LOOKED_AT).filter_map(|&pid| look(pid)).collect();
    found.sort_by_key(|process| std::cmp::Reverse(process.rss));
    found.truncate(most);
    Ok((found, pids.len()))
}

/// Those below, too: a nested workload's are there.
fn gather(cgroup: &Cgroup, pids: &mut Vec<i32>) -> Result<(), CgroupError> {
    pids.extend(cgroup.processes()?);
    for child in cgroup.below()? {
        if pids.len() >= LOOKED_AT {
            break;
        }
        // One that is gone, or is one of threads, has nothing to tell.
        let _ = child.and_then(|child| gather(&child, pids));
    }
    Ok(())
}

/// The name of a process, which it chooses itself: nothing of it may steer a terminal.
#[must_use]
pub fn name(pid: i32) -> Option<String> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end().replace(char::is_control, "?"))
}

/// Cpu time that this process has used, in seconds, and its resident memory.
#[must_use]
pub fn own_use() -> (f64, Bytes) {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()));
    (cpu, resident("self").unwrap_or_default())
}

/// The supplementary groups of whoever has connected to a Unix socket; none where the kernel does not tell.
#[must_use]
pub fn peer_groups(stream: impl AsFd) -> Vec<u32> {
    sys::peer_groups(stream.as_fd()).unwrap_or_default()
}

/// The namespaces of a process by kind, and whether they are others than this process has. What cannot be seen is left out.
#[must_use]
pub fn namespaces(pid: i32) -> Vec<(String, bool)> {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let of = |who: &str, kind: &str| fs::read_link(format!("/proc/{who}/ns/{kind}")).ok();
    let look = |kind: &&str| Some(((*kind).to_owned(), of(&pid.to_string(), kind)? != of("self", kind)?));
    KINDS.iter().filter_map(look).collect()
}

fn look(pid: i32) -> Option<Process> {
    let comm = name(pid)?;
    let rss = resident(&pid.to_string())?;
    Some(Process { pid, comm, rss })
}

fn resident(pid: &str) -> Option<Bytes> {
    let statm = fs::read(format!("/proc/{pid}/statm")).ok()?;
    // Size and resident size, in pages. The kernel's page is ours on every machine that has been tried.
    let resident = statm.split(|&byte| byte == b' ').nth(1)?;
    Some(Bytes(parse::number(resident)?.saturating_mul(PAGE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = look(std::process::id().cast_signed()).unwrap();
        assert!(own.rss > Bytes::MIB && !own.comm.is_empty(), "{own:?}");
        assert_eq!(look(-1), None);
    }
}
