//! Shared helpers of the tests.

pub mod guest;
pub mod manifests;
pub mod plant;
pub mod programs;
pub mod socket;
pub mod surfaces;
