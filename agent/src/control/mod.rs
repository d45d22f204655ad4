//! The control loop: one thread that owns all workload state, hears, decides, and moves limits.
//!
//! ```text
//! watcher signals, timers, commands         control_loop   waits, in one place
//!   -> a look at one workload               turn           two reads, policies::step, policies::plan
//!   -> the plan's writes                    actuator       grow here and now, shrink on the slow lane
//!   -> record, metrics, published values
//! lost events, and what moves without any  pass         some workloads, ten times a second
//! launches, ends                            life
//! letting go                                release
//! what an operator orders: signals, pins   operate, pins; settings  what is set of one, by the kernel's leave
//! ... to end, to stand still               stops, pauses
//! detached ones: remembered, restarted     keeping; apply   what a file asks for
//! commands beside a workload               exec
//! tenants: seats in the budget, their cgroups' files, who is served when room comes   tenants
//! what others give for who waits            squeeze
//! ... and who gives way as a whole          ladder, leases; grips  on a thread of its own
//! when the node itself is short             node
//! heartbeat, silence, watchdog             vigil
//! what an earlier agent left               takeover
//! limits that somebody else wrote          foreign
//! decisions that are only told             observe
//! cgroups that somebody else made          adoption
//! what came of a move                       outcomes
//! what it looks like inside                 incidents  on a thread of its own
//! a change of policies                      policies
//! cpu.stat, cpu.max: a thread of its own   cpu_loop, hidden
//! slow work on other threads                lanes, shrinker  results come back as commands
//! what the rest of the agent may ask        handle
//! ```
//!
//! The loop waits in `epoll_wait` itself instead of in an async runtime: a runtime adds a second wait, a waker and a timer
//! wheel between the kernel's word and the write, and this thread has nothing to gain from them.

mod actuator;
mod adoption;
mod apply;
mod control_loop;
mod cpu_loop;
mod exec;
mod foreign;
mod grips;
mod handle;
mod hidden;
mod incidents;
mod keeping;
mod ladder;
mod lanes;
mod leases;
mod life;
mod node;
mod observe;
mod operate;
mod outcomes;
mod pass;
mod pauses;
mod pins;
mod policies;
mod registry;
mod release;
mod settings;
mod shrinker;
mod squeeze;
mod stops;
mod takeover;
mod tenants;
mod timers;
mod turn;
mod versions;
mod vigil;

pub use self::exec::Attended;
pub use control_loop::{Control, Parts, default_reserve};
pub use handle::{Command, Ended, Handle, Launched, Refused};
pub use operate::Order;
pub(crate) use pins::LONGEST_PIN;
pub use pins::Wanted;
pub use stops::Telling;
pub use takeover::Takeover;
