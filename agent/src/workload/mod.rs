//! A workload: what is asked for, how it lives, and the work of starting and clearing it away.
//!
//! ```text
//! change      what an operator changes of a running one
//! spec        names, class, bounds, command: validated where it enters
//! isolation   ... its box: root file system, mounts, namespaces, capabilities
//! walls       ... and what of it a command meets that enters later, on the cgroup
//! parts       cpus, huge pages, I/O that it is given by the piece: controllers, and what the kernel made of it
//! namespaces  ... whose namespaces it is in
//! whose       ... new ones, the host's, or ones that are there already
//! unpack      ... a root file system out of a tar
//! rlimit      ... limits of its processes
//! ids         which users of the host a tenant's users are
//! lifecycle   state x event -> state, pure
//! life        how it is told to end, when it is started again, how large its log may be
//! restart     whether and when that is, pure
//! apply       what a file asks for against what there is, pure
//! shelf       detached workloads on disk
//! logs        the output of a detached one
//! said        ... and how it is read
//! stops       an order to end, on the cgroup
//! tree        the delegated subtree: taken, locked, laid out
//! supervisor  launch and teardown on their own threads; results come back to the control loop
//! blame       why a launch failed
//! truth       how one ended, from three witnesses, pure
//! nest        the cgroups of a workload that makes more of its own
//! records     how workloads ended, on disk
//! rootless    what an agent without the machine's root cannot give
//! frozen      who is frozen, and for whom or by whose order
//! adoption    cgroups that somebody else made in a tenant's
//! lease       the limits to go back to after they were opened
//! pins        the operator's word, on the cgroup
//! takeover    what an earlier agent left in the tree
//! yielded     whose limits are left to somebody else
//! ```

pub mod adoption;
pub mod apply;
pub mod blame;
pub mod capability;
pub mod change;
pub mod frozen;
pub mod ids;
pub mod isolation;
pub mod lease;
pub mod life;
pub mod lifecycle;
pub mod logs;
pub mod namespaces;
mod nest;
pub mod parts;
pub mod pins;
pub mod records;
pub mod restart;
pub mod rewrite;
pub mod rlimit;
pub mod rootless;
pub mod said;
pub mod shelf;
pub mod spec;
pub mod stated;
pub mod stops;
pub mod supervisor;
pub mod takeover;
pub mod tree;
mod truth;
pub mod unpack;
pub mod walls;
pub mod whose;
pub mod yielded;
