//! The budget: how much may be granted in sum, to whom, and who comes first when there is too little.
//!
//! Problem: grants are given on the fast path, thousands of workloads may ask, and neither the node nor a tenant may ever
//! be granted more than its share. Who is refused must not have to win a race against those who ask more often.
//!
//! Approach: three levels, node -> tenant -> workload, each a sum that is kept while grants come and go, so that a request
//! costs the same whether there are ten workloads or ten thousand. A grant is charged *before* its write and given back
//! after a failed one; what a shrink frees is given back only *after* its write succeeded. So no sum is ever below what
//! the kernel was told, but for a squeeze of room: its writes come after those of who waited, in the same turn. Who is
//! refused waits in line, and when room comes it is shared among those in line.
//!
//! ```text
//! bounds   what a tenant is promised and allowed; classes and their pools
//! answer   grants and refusals, and the level at which they were refused
//! accounts tenants and the seats of their workloads
//! node     the sums: launches, requests, what is given back                     -> guard
//! share    room that has come, poured out among those who wait
//! line     first come, first served: lists without allocation
//! ```
//!
//! # What is promised
//! - Pool: capacity less reserve. The pool of a class is that times its overcommit ratio. A grant to the class has to leave
//!   all grants, and all that is still guaranteed to other tenants, within the class's pool. So a ratio bounds what the
//!   *node* may have promised when that class is given more, not what the class has: while another class has been granted
//!   more than this one's pool, this one is given nothing but its tenant's guarantee. With 1.0 everywhere nothing is
//!   promised twice.
//! - Guarantee: a tenant below it is served, whatever others hold and whatever its class: what is still owed is kept free
//!   from all others. Guarantees add up to no more than the pool at ratio 1.0, or they are no bounds
//!   ([`BoundsError`]). Only a takeover of more than the pool holds can make one wait.
//! - Cap: the grants of a tenant's workloads never exceed it.
//! - Line: room is shared by weighted max-min among tenants, then among the workloads of each, clipped at what each wants
//!   and at caps. Nobody is given less than [`LEAST_PART`] at a time, unless it wants less: so where there is too little
//!   for all, those who have waited longest are served, and the others next time. Nobody starves.
//!
//! A workload without a [`Seat`] is charged to the node alone, and never waits: it has to ask again.

mod accounts;
mod answer;
mod bounds;
mod line;
mod node;
mod share;

pub use accounts::{Seat, Tenant, TenantId};
pub use answer::{Grant, Level, Refusal};
pub use bounds::{BoundsError, Overcommit, TenantBounds};
pub use node::Budget;

use crate::units::Bytes;

/// A part of a grow that is smaller than this is not worth its write; it is deferred instead.
pub const LEAST_PART: Bytes = Bytes::MIB;
