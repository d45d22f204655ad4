//! The memory law: when `memory.high` and `memory.max` of one workload move up, and when they stay.
//!
//! ```text
//!             hit                    need                 quiet 20 ms
//!   Calm ------------> Hot(pending) ------> Hot(need) --------------------> Calm
//!                        | cache              | cache
//!                        v                    v          need, or use above the limit
//!                       Held <----------------+--------------------> Hot
//!                        | quiet 10 s
//!                        v
//!                       Calm
//! ```
//!
//! Beside the phases runs the stall clock, whenever a limit was met that cannot be raised.
//!
//! | file | holds |
//! |---|---|
//! | `law` | every constant, each with its default |
//! | `workload` | the state of one workload, and what changes it |
//! | `target` | which limits a grow asks for |
//! | `verdict` | need or cache? |
//! | `grow` | one look: the phases |
//! | `stall` | the stall clock: relieve or fail, never leave parked |

pub(crate) mod grow;
mod law;
mod stall;
pub(crate) mod target;
mod verdict;
mod workload;

pub use law::Law;
pub use verdict::Verdict;
pub use workload::Workload;
