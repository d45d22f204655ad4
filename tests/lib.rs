//! Shared helpers of the tests.

pub mod guest;
pub mod programs;
