//! The cpu law: when the quota (`cpu.max`) of one workload moves within its bounds.
//!
//! ```text
//! cpu.stat -> CpuSample --step--> CpuStep { CpuDecision } --plan--> CpuPlan --(written elsewhere)--> commit
//!                                                            ^
//!                                node use --observe--> NodeGuard
//! ```
//!
//! Quotas move in periods (100 ms), not in milliseconds: the kernel does not tell of throttling, so it is sampled, each
//! period where it may happen and up to a second apart where it may not. The first line of defence is no write at all:
//! `cpu.max.burst`, which is [`CpuWorkload::burst`], and `cpu.weight`.
//!
//! | file | holds |
//! |---|---|
//! | `units` | cpus and bounds |
//! | `law` | every constant, each with its default, and by class |
//! | `window` | the raw sample, and what a run of them says |
//! | `workload` | the state of one workload, and what changes it |
//! | `evidence` | what a decision was made from, and its last step |
//! | `look` | one look: grow, shrink or hold |
//! | `squeeze` | what of a quota is lent to somebody more important |
//! | `node` | the guard of the node's cpus: growth in sum, shedding, the plan |

mod evidence;
mod law;
mod look;
mod node;
mod squeeze;
pub mod units;
mod window;
mod workload;

pub use evidence::{CpuEvidence, CpuRule};
pub use law::{CpuLaw, NodeLaw};
pub use look::{CpuDecision, CpuStep, step};
pub use node::{CpuPlan, NodeGuard, plan};
pub use units::{CpuBounds, CpuUnitError, Cpus};
pub use window::CpuSample;
pub use workload::CpuWorkload;
