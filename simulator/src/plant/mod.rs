//! The kernel's part of the simulation: small models of a cgroup's memory and of its cpu quota, the same for the tests of
//! the policies, for random runs, and for traces. Deterministic; time is an argument or a counter of ticks.
//!
//! | file | holds |
//! |---|---|
//! | `memory` | use under `memory.high` and `memory.max`: reclaim, throttling, the kill |
//! | `cpu` | use under `cpu.max`: periods, burst, throttling, refills by writes |

pub mod cpu;
pub mod memory;
