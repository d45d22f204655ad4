//! What `bellows policy` does with the simulator: traces and policy tests as files, and what comes of a trace as a picture. The
//! simulation itself is the crate `bellows_simulator`.
//!
//! | file | holds |
//! |---|---|
//! | `csv` | a trace from a file, or all that is wrong with it |
//! | `plot` | limit against use |
//! | `expect` | policy tests: what a policy is to decide |

mod csv;
mod expect;
mod plot;

pub use csv::read_trace;
pub use expect::{Case, Suite, read_suite};
pub use plot::plot;
