//! A process that another agent started, found by the number that was noted then.
//!
//! A pid is only a number, and may be somebody else's by now. So a descriptor is taken first, and then it is made certain
//! that the number is in the workload's cgroup and PID 1 of a namespace just below our own, or, where it shares one with others, that
//! it began when that one did; if the process behind the
//! descriptor is not reaped even after that, its number was never free, and all of it was said of this very process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::unistd::Pid;

use super::cgroup::{Cgroup, CgroupError, read_whole};
use super::spawn::Process;
use super::sys;

/// How many pid namespaces deep this process lives; 0 when that cannot be found out, and then no init is certain.
#[must_use]
pub fn depth() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    namespace_pids(&status).map_or(0, |pids| pids.len())
}

/// The init with this pid of the workload in `cgroup`; `None` when there is none that is certain. `depth` is [`depth`]; `noted` is what
/// [`began`] has said of one that is no PID 1.
pub fn init(
    cgroup: &Cgroup,
    pid: i32,
    depth: usize,
    noted: Option<u64>,
) -> Result<Option<Process>, CgroupError> {
    // Whatever the refusal: there is no such process that could be listened to.
    let Ok(pidfd) = sys::pidfd_open(Pid::from_raw(pid)) else { return Ok(None) };
    let is_it = || noted.map_or_else(|| is_first(pidfd.as_fd(), depth), |noted| began(pid) == Some(noted));
    let is_init = place(cgroup, pid)?.is_some() && is_it();
    let is_unreaped = sys::pidfd_send_signal(pidfd.as_fd(), 0).is_ok();
    Ok((is_init && is_unreaped).then_some(Process { pid, pidfd }))
}

/// The cgroup that a process is in: this one, or one below it, where a workload may have moved itself; `None` when it is in neither.
pub fn place(cgroup: &Cgroup, pid: i32) -> Result<Option<Cgroup>, CgroupError> {
    if cgroup.processes()?.contains(&pid) {
        return Ok(Some(cgroup.clone()));
    }
    for child in cgroup.below()? {
        match child.and_then(|child| place(&child, pid)) {
            Ok(None) => {}
            Err(e) if e.is_gone() || e.is_unsupported() => {}
            found => return found,
        }
    }
    Ok(None)
}

/// When a process began, in the kernel's ticks since the boot.
#[must_use]
pub fn began(pid: i32) -> Option<u64> {
    began_by(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `starttime` of proc_pid_stat(5), the 22nd field. The name before it is in parentheses, and may have anything in it.
fn began_by(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether a process has begun to exit, or is to be killed before it runs again: with much memory, or under a quota, that takes its time.
#[must_use]
pub fn is_dying(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => is_dying_by(&stat).unwrap_or(false),
        // Gone before or while it was read. None there is 0, which stands for those that are not seen from here.
        Err(error) => matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) && pid > 0,
    }
}

/// `flags` of proc_pid_stat(5), the 9th field, of which `PF_EXITING` is one (linux/sched.h); and the 31st, the signals that are pending.
fn is_dying_by(stat: &str) -> Option<bool> {
    const PF_EXITING: u64 = 0x4;
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let flags: u64 = fields.nth(6)?.parse().ok()?;
    let pending: u64 = fields.nth(21)?.parse().ok()?;
    Some(flags & PF_EXITING != 0 || pending & KILL != 0)
}

/// Whether a process is `bellows-init`, as an init or as what writes a log: by its image in memory, whose name `spawn` gives.
#[must_use]
pub fn is_of_init(pid: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.as_os_str() == "/memfd:bellows-init (deleted)"
}

fn is_first(pidfd: BorrowedFd<'_>, depth: usize) -> bool {
    pids_of(pidfd).is_some_and(|pids| depth > 0 && pids.len() == depth + 1 && pids.last() == Some(&1))
}

/// The pids of the process behind a descriptor, by what the kernel says of that one: it costs a fraction of `/proc/PID/status`, which sums
/// up the memory of all threads.
fn pids_of(pidfd: BorrowedFd<'_>) -> Option<Vec<i32>> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    namespace_pids(&File::open(path).and_then(|mut file| read_whole(&mut file)).ok()?)
}

/// `NSpid`: the pid in each namespace, outermost first.
fn namespace_pids(status: &str) -> Option<Vec<i32>> {
    let list = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_of_all_namespaces() {
        let status = "Name:\tbellows-init\nPid:\t77\nNSpid:\t77\t1\nNSsid:\t77\t1\n";
        assert_eq!(namespace_pids(status), Some(vec![77, 1]));
        assert_eq!(namespace_pids("Name:\tx\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 9 0 0 0 0 0 0 0 20 0 1 0 12345 999 9 18446744073709551615";
        assert_eq!((began_by(stat), began_by("7")), (Some(12345), None));
        assert!(began(i32::try_from(std::process::id()).unwrap()).is_some_and(|ticks| ticks > 0));
        let stat = |flags: u64, pending: u64| {
            format!(
                "7 (a) b) S 1 7 7 0 -1 {flags} 9 0 0 0 0 0 0 0 20 0 1 0 12345 999 9 1 2 3 4 5 6 {pending} 0 0 0"
            )
        };
        assert_eq!(is_dying_by(&stat(4_194_560, 0)), Some(false));
        assert_eq!(is_dying_by(&stat(4_194_564, 0)), Some(true), "it exits");
        assert_eq!(is_dying_by(&stat(4_194_560, 0x100)), Some(true), "it is killed");
        assert_eq!(is_dying_by("7 (a)"), None);
        assert!(!is_dying(i32::try_from(std::process::id()).unwrap()) && !is_dying(0));
        assert!(depth() >= 1);
        let own = sys::pidfd_open(Pid::this()).unwrap();
        assert!(!is_first(own.as_fd(), depth()), "nobody's first");
        let pids = pids_of(own.as_fd()).unwrap();
        assert_eq!((pids.len(), pids.last()), (depth(), Some(&Pid::this().as_raw())));
    }
}
