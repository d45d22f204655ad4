//! Metrics: the agent's own through the `prometheus` crate, those of tenants and workloads through a streaming writer.
//!
//! ```text
//! control  --(atomics)-->  Metrics, Published, PublishedTenant  --(read at scrape)-->  Exposition  -->  /metrics
//! ```
//! A scrape never touches the control thread.
//!
//! | file | holds |
//! |---|---|
//! | `catalogue` | every metric there is: what is exposed, documented, shown and alerted on comes from it |
//! | `agent`, `reloads`, `squeezes` | the agent's own, registered by `register` |
//! | `published`, `watched` | one workload |
//! | `tenant` | one tenant, with counters that outlive its workloads |
//! | `table` | lists of these, and of those who have ended not long ago |
//! | `snapshot`, `page`, `exposition` | what a scrape writes: columns, lines, pieces |

mod agent;
pub mod catalogue;
mod exposition;
mod page;
mod published;
mod register;
mod reloads;
mod snapshot;
mod squeezes;
mod table;
mod tenant;
mod watched;

pub use agent::{Metrics, Outcome, Resource};
pub use exposition::{Exposition, MOST_WORKLOADS, Outside};
pub use page::{Exemplar, Format};
pub use published::{Facts, Published, Terms};
pub use reloads::Reloads;
pub use squeezes::Squeezes;
pub use table::{Table, TenantTable};
pub use tenant::{PublishedTenant, Sum, TenantView};
pub use watched::{Sizing, Watched};
