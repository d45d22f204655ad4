//! The cpu of a workload: its quota (`cpu.max`) within bounds.

pub mod units;

pub use units::{CpuBounds, CpuUnitError, Cpus};
