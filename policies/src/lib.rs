//! The decisions of bellows: pure functions from samples to plans.
//!
//! ```text
//! Sample --step--> Step { Decision } --plan--> Plan --(written elsewhere)--> settle + commit
//!            ^                          ^
//! Detail --observe                    Budget
//! ```
//!
//! No I/O, no clock (`now` is the instant of a sample), no allocation in [`step`] and [`plan`], no global state: the same
//! inputs give the same decisions, here and in a simulator. A turn of the loop:
//!
//! ```
//! use bellows_policies::{Budget, Bytes, Instant, Law, MemoryEvents, Plan, Sample, Workload};
//! use bellows_policies::{launch, plan, settle, step};
//!
//! let mut budget = Budget::new(Bytes::GIB, Bytes::mib(100));
//! let mut workload = Workload::new("64M..512M".parse()?, Law::default());
//! let first = launch(&workload, &mut budget)?;
//! settle(&first, &mut budget);
//!
//! let events = MemoryEvents { high: 1, ..MemoryEvents::default() };
//! let sample = Sample { at: Instant(1_000_000), current: Bytes::mib(64), events };
//! let look = step(&mut workload, &sample);
//! let decided = plan(&workload, look.decision, &mut budget);
//! if let Plan::Write { to, .. } = decided {
//!     // ... write memory.max, then memory.high ...
//!     settle(&decided, &mut budget);
//!     workload.commit(to, sample.at);
//! }
//! assert_eq!(workload.limits().high, Bytes::mib(80));
//! assert_eq!(budget.granted(), Bytes::mib(80));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod budget;
pub mod cpu;
pub mod decision;
pub mod evidence;
pub mod field;
pub mod guard;
pub mod ladder;
pub mod memory;
pub mod pin;
pub mod resources;
pub mod ruleset;
pub mod sample;
pub mod shadow;
pub mod signals;
pub mod squeeze;
pub mod units;
pub mod window;

pub use budget::{Budget, Grant, Level, Overcommit, Refusal, Seat, TenantBounds, TenantId};
pub use cpu::{CpuBounds, CpuEvidence, CpuLaw, CpuPlan, CpuSample, CpuWorkload, Cpus, NodeGuard, NodeLaw};
pub use decision::{Decision, Limits, Reason, Step, Verb};
pub use evidence::{Evidence, MemoryLaw};
pub use guard::{Outcome, Plan, launch, met, plan, replay, settle, undo, unsettle};
pub use memory::{Law, Room, Verdict, Workload};
pub use pin::Pin;
pub use resources::Resources;
pub use ruleset::{AssignedBy, Assignment, Base, Class, Ruleset};
pub use sample::{Detail, MemoryEvents, MemoryStat, Pressure, Sample, Swap};
pub use shadow::Shadow;
pub use signals::Signals;
pub use units::{Bounds, Bytes, Instant, Limit, UnitError};
pub use window::Window;

/// Looks at a workload: takes in `sample` and decides. `now` is `sample.at`.
///
/// Decides only: the limits are as they were until [`Workload::commit`]. Does not allocate.
pub fn step(workload: &mut Workload, sample: &Sample) -> Step {
    memory::grow::step(workload, sample)
}
