//! The kernel interface: the only part that opens files under cgroupfs or `/proc`.
//!
//! ```text
//! discover   where is cgroup2 mounted, which cgroup are we in
//! support    what this kernel and this delegation can do      -> `bellows doctor`
//! feature    ... of which: what came with which release
//! machine    ... and what the machine around has to have
//! container  out of the view of the cgroups that a container has
//! mounts     those that workloads begin with, where they are not the agent's
//! cgroup     a directory handle: create, read, write, kill, remove
//! watch      epoll over POLLPRI files, inotify, pidfds         -> `control`
//! cpu        cpu.stat, cpu.max, the node's use      -> the cpu loop
//! parse      kernel text -> types, pure
//! limit      typed writes of limits, without allocation
//! pressure   when tasks stall for memory, and what is available
//! privilege  the machine's root, or a delegated cgroup only
//! process    what runs in a cgroup, by size
//! spawn      a process started inside a cgroup
//! enter      ... and one beside it, in its namespaces
//! users      whose the users of a user namespace are
//! adopt      a process that another agent started: found by pid, and made certain
//! terminal   who sits at one, and the way to that of a workload
//! tell       a line for the operator, that cannot fail
//! sys        the one file with `unsafe`
//! ```

pub mod adopt;
pub mod cgroup;
pub mod clock;
pub mod container;
pub mod cpu;
pub mod discover;
pub mod enter;
pub mod feature;
pub mod journald;
pub mod limit;
pub mod machine;
pub mod mounts;
pub mod parse;
pub mod pressure;
pub mod privilege;
pub mod process;
pub mod spawn;
pub mod support;
pub mod swap;
#[expect(unsafe_code, reason = "system calls that neither std nor nix offers; see the file's head")]
mod sys;
mod tell;
pub mod terminal;
pub mod thread;
mod users;
pub mod watch;

pub use cgroup::{Cgroup, CgroupError};
pub use tell::tell;
