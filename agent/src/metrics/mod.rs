//! Metrics: the agent's own through the `prometheus` crate, one series set per workload through a streaming writer.
//!
//! ```text
//! control  --(atomics)-->  Metrics, Published, PublishedTenant  --(read at scrape)-->  encode  -->  /metrics
//! ```
//! A scrape never touches the control thread.

mod agent;
mod encode;
mod published;
mod reloads;
mod squeezes;
mod table;
mod tenant;
mod watched;

pub use agent::{Metrics, Outcome, Resource};
pub use encode::encode;
pub use published::{Facts, Published, Terms};
pub use reloads::Reloads;
pub use squeezes::Squeezes;
pub use table::{Table, TenantTable};
pub use tenant::{PublishedTenant, TenantView};
pub use watched::{Sizing, Watched};
