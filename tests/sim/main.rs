//! `bellows-sim`: the laws against a node that goes wrong, in virtual time, from one seed: `bellows_simulator` says how.

use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use bellows_simulator::Run;
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
        let report = Run::new(seed).play(seed);
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
