//! `bellows-sim`: the laws against a node that goes wrong, in virtual time, from one seed.
//!
//! A node has a budget, cpus and up to twelve workloads; an agent governs it with the laws of `bellows_policies`; events are
//! lost, details late, writes fail, cgroups vanish, the agent hangs and dies. After every step the rules are checked. A step
//! is one event that the agent handles: a look at a workload, an answer of a lane, a launch or an end, a takeover, or a look
//! at a quota. The same seed gives the same run.
//!
//! | file | holds |
//! |---|---|
//! | `chance` | the one source of it |
//! | `load` | what workloads do |
//! | `node` | the clock, the cgroups, the kernel's files |
//! | `faults` | what goes wrong, and how often |
//! | `agent` | the loops of the agent, after its files |
//! | `check`, `sums` | the rules |
//! | `trace` | the records, and their hash |
//! | `run` | a run of a seed |
//! | `tests` | many seeds; constant and periodic loads; the simulator itself |
//!
//! The kernel's part under it is that of the policies' own tests, taken from where it is, so that there is one model.

mod agent;
mod chance;
mod check;
#[path = "../../policies/tests/cpu_plant/mod.rs"]
mod cpu_plant;
mod faults;
mod load;
mod node;
#[path = "../../policies/tests/plant/mod.rs"]
mod plant;
mod replay;
mod run;
mod sums;
#[cfg(test)]
mod tests;
mod trace;

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Parser;

/// Runs the laws against a node that goes wrong, until a rule is broken or the steps are done.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed; a random one if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps in sum.
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
}

fn main() -> ExitCode {
    let Arguments { seed, steps } = Arguments::parse();
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first = seed.unwrap_or(u64::from(since_epoch.subsec_nanos()));
    println!("seeds from {first}");
    let (started, mut done) = (Instant::now(), 0);
    for seed in first.. {
        let report = run::Run::new(seed).play(seed);
        println!("{report}");
        if report.broken.is_some() {
            return ExitCode::FAILURE;
        }
        done += report.steps;
        if done >= steps {
            break;
        }
    }
    println!("{done} steps in {:.1} s, no rule broken", started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
