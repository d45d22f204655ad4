//! A node in virtual time: the kernel's part as a model ([`plant`]), the agent's loops rewritten after `agent/src/control`, and
//! the very policies. No I/O, no clock; all chance comes from a seed.
//!
//! A random run ([`Run`]) is a node that goes wrong: events are lost, details late, writes fail, cgroups vanish, the agent
//! hangs and dies. After every step the rules are checked. A step is one event that the agent handles: a look at a
//! workload, an answer of a lane, a launch or an end, a takeover, or a look at a quota. The same seed gives the same run.
//!
//! | part | holds |
//! |---|---|
//! | `plant` | the kernel's part |
//! | `chance` | the one source of it |
//! | `load` | what workloads do |
//! | `node` | the clock, the cgroups, the kernel's files |
//! | `faults` | what goes wrong, and how often |
//! | `agent` | the loops of the agent, after its files |
//! | `check`, `sums`, `replay` | the rules |
//! | `log` | the records, and their hash |
//! | `run` | a random run of a seed |

mod agent;
mod chance;
mod check;
mod faults;
mod load;
mod log;
mod node;
pub mod plant;
mod replay;
mod run;
mod sums;
#[cfg(test)]
mod tests;

pub use log::Broken;
pub use run::{Report, Run};
