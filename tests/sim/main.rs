//! `bellows-sim`: the laws against a node that goes wrong, and drawn policies under drawn traces, in virtual time, from one
//! seed: `bellows_simulator` says how.

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use bellows_simulator::{Run, Scenario};
use clap::Parser;

/// Runs the laws against a node that goes wrong, until a rule is broken or the steps are done.
#[derive(Debug, Parser)]
struct Arguments {
    /// The first seed; a random one if none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Scenarios instead of runs, from this seed on.
    #[arg(long, value_name = "SEED", conflicts_with = "seed")]
    scenario: Option<u64>,
    /// Steps in sum.
    #[arg(long, default_value_t = 1_000_000)]
    steps: u64,
}

fn main() -> ExitCode {
    let Arguments { seed, scenario, steps } = Arguments::parse();
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first = scenario.or(seed).unwrap_or(u64::from(since_epoch.subsec_nanos()));
    println!("seeds from {first}");
    let (started, mut done) = (Instant::now(), 0);
    for seed in first.. {
        let (text, fresh, is_whole) = if scenario.is_some() { play(seed) } else { run(seed) };
        println!("{text}");
        if !is_whole {
            return ExitCode::FAILURE;
        }
        done += fresh;
        if done >= steps {
            break;
        }
    }
    println!("{done} steps in {:.1} s, no rule broken", started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// What came of a seed, how many steps it took, and whether no rule was broken.
fn run(seed: u64) -> (String, u64, bool) {
    let report = Run::new(seed).play(seed);
    (report.to_string(), report.steps, report.broken.is_none())
}

fn play(seed: u64) -> (String, u64, bool) {
    match Scenario::play(seed) {
        Ok(scenario) => {
            (scenario.to_string(), scenario.outcome.report.steps, scenario.outcome.broken.is_none())
        }
        Err(misfit) => (format!("scenario {seed} cannot be played: {misfit}"), 0, false),
    }
}
