//! Out of a container's view of the cgroups. In a cgroup namespace the kernel takes no process into a cgroup elsewhere (`nsdelegate`), and
//! what an agent in a container governs is elsewhere: in its own pod, workloads would end with it.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};
use nix::unistd::getpid;

/// Has this process see the cgroups as the host's first process does. For a process that has one thread still.
pub fn join_host_cgroups() -> io::Result<()> {
    const HOST: &str = "/proc/1/ns/cgroup";
    if getpid().as_raw() == 1 {
        return Err(io::Error::other(
            "the container has pids of its own, and workloads would end with it: hostPID: true",
        ));
    }
    let hint = "(capabilities SYS_ADMIN and SYS_PTRACE, no AppArmor profile)";
    File::open(HOST)
        .and_then(|host| Ok(setns(host, CloneFlags::CLONE_NEWCGROUP)?))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot join {HOST}: {error} {hint}")))
}
