//! bellows: a node agent that owns a delegated cgroup v2 subtree, starts workloads in it, hears from the kernel that one of
//! them hits a limit, and moves that limit within milliseconds, by policy.
//!
//! From an event to a write, reading downwards: [`kernel::watch`], [`control`], `bellows_policies::step`, `control::actuator`.

pub mod access;
pub mod agent;
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod control;
pub mod journal;
pub mod kernel;
pub mod metrics;
pub mod notify;
pub mod policy;
pub mod reload;
pub mod simulate;
pub mod watchdog;
pub mod workload;
