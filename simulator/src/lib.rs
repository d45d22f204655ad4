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
//! | `node`, `cgroup` | the clock, the cgroups, the kernel's files |
//! | `faults` | what goes wrong, and how often |
//! | `agent` | the loops of the agent, after its files |
//! | `check`, `sums`, `replay` | the rules |
//! | `log` | the records, and their hash |
//! | `host` | a node and its agent, and what goes wrong with both |
//! | `run` | a random run of a seed |
//! | `trace`, `generate` | what workloads want over time, as a trace says or a seed |
//! | `play`, `outcome`, `deed` | a trace on a node, and what came of it |
//! | `scenario` | a drawn trace under drawn policies, every rule checked |
//! | `baseline` | simpler ways to set limits, to compare with |

mod agent;
mod baseline;
mod cgroup;
mod chance;
mod check;
mod deed;
mod faults;
mod generate;
mod host;
mod load;
mod log;
mod node;
mod outcome;
pub mod plant;
mod play;
mod replay;
mod run;
mod scenario;
mod sums;
#[cfg(test)]
mod tests;
pub mod trace;

pub use baseline::Baseline;
pub use deed::{Deed, Told};
pub use generate::{Kind, generate};
pub use log::Broken;
pub use outcome::{Outcome, Part, Point, Report as TraceReport, Slack, Story};
pub use play::{Misfit, Options, Place, play};
pub use run::{Report, Run};
pub use scenario::Scenario;
pub use trace::Trace;
