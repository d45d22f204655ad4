//! The memory law: when `memory.high` and `memory.max` of one workload move up, when they stay, and when they come down.
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
//! Beside the phases runs the stall clock, whenever a limit was met that cannot be raised. In calm, slack and cold memory
//! are taken back; of a held workload only the band.
//!
//! | file | holds |
//! |---|---|
//! | `law` | every constant, each with its default |
//! | `workload` | the state of one workload, and what changes it |
//! | `formula` | the last step of each decision, from its evidence alone |
//! | `target` | which limits a grow asks for |
//! | `verdict` | need or cache? |
//! | `grow` | one look: the phases |
//! | `stall` | the stall clock: relieve or fail, never leave parked |
//! | `shrink` | slack: room that use has left is taken back |
//! | `swap` | what of the anonymous memory can leave, and what of it stays in RAM all the same |
//! | `reclaim` | cold memory: taken a little at a time, while nobody waits |
//! | `squeeze` | what is given at once because another one waits |
//! | `pinned` | what an operator's pin changes |
//! | `backoff` | the hold of both, which grows on relapse |
//! | `problem` | whether a law can work at all |

mod backoff;
mod formula;
pub(crate) mod grow;
mod law;
mod pinned;
mod problem;
mod reclaim;
mod shrink;
mod squeeze;
mod stall;
mod swap;
pub(crate) mod target;
mod verdict;
mod workload;

pub use law::Law;
pub(crate) use law::ms;
pub use shrink::Room;
pub use squeeze::Spare;
pub use verdict::Verdict;
pub use workload::Workload;
