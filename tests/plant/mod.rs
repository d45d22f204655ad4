//! The simulator's plant is held against a kernel: small scenarios, written down once as a trace, are played by both, and what
//! came of them is compared. `tests/kernel/plant.rs` plays the kernel's part; docs/simulate.md shows the figures.
//!
//! | file | holds |
//! |---|---|
//! | `scenarios` | what is wanted, which figures matter, and how far apart they may be |
//! | `course` | what came of a scenario, sampled, in either world |
//! | `figures` | figures of two courses, and whether they agree |

pub mod course;
pub mod figures;
pub mod scenarios;
