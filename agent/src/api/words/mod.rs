//! Records and workloads in words, the same in a terminal and in a browser.
//!
//! | file | holds |
//! |---|---|
//! | `text` | tables, ages, a record as a sentence |
//! | `record` | why: a record with its evidence |
//! | `workload` | how a workload fares |
//! | `describe` | everything about one |
//! | `checks` | the evidence as a table: values against thresholds |
//! | `grip` | why a workload gives way as a whole |
//! | `advice` | for each reason: what it means, what would prevent it, what to try next |

mod advice;
mod checks;
pub(crate) mod describe;
mod grip;
pub(crate) mod record;
#[cfg(test)]
mod tests;
pub(crate) mod text;
pub(crate) mod workload;

#[cfg(test)]
pub(crate) use advice::{Advice, advice};
