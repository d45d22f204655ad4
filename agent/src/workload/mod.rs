//! A workload: what is asked for, how it lives, and the work of starting and clearing it away.
//!
//! ```text
//! change      what an operator changes of a running one
//! spec        names, class, bounds, command: validated where it enters
//! isolation   ... its box: root file system, mounts, namespaces, capabilities
//! ids         which users of the host a tenant's users are
//! lifecycle   state x event -> state, pure
//! tree        the delegated subtree: taken, locked, laid out
//! supervisor  launch and teardown on their own threads; results come back to the control loop
//! records     how workloads ended, on disk
//! frozen      who is frozen, and for whom
//! adoption    cgroups that somebody else made in a tenant's
//! lease       the limits to go back to after they were opened
//! pins        the operator's word, on the cgroup
//! takeover    what an earlier agent left in the tree
//! ```

pub mod adoption;
pub mod capability;
pub mod change;
pub mod frozen;
pub mod ids;
pub mod isolation;
pub mod lease;
pub mod lifecycle;
pub mod pins;
pub mod records;
pub mod rewrite;
pub mod spec;
pub mod supervisor;
pub mod takeover;
pub mod tree;
