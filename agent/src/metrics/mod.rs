//! Metrics: the agent's own through the `prometheus` crate, one series set per workload through a streaming writer.
//!
//! ```text
//! control  --(atomics)-->  Metrics, Published  --(read at scrape)-->  encode  -->  /metrics
//! ```
//! A scrape never touches the control thread.

mod agent;
mod encode;
mod published;
mod reloads;

pub use agent::{Metrics, Outcome, Resource};
pub use encode::encode;
pub use published::{Facts, Published, Table};
pub use reloads::Reloads;
