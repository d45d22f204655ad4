//! Memory that comes and goes at random, and cpu that is burnt in turns.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::{MIB, PAGE, sys};

#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// Seed of the random sizes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The least that is held, in MiB.
    #[arg(long, default_value_t = 16)]
    low: usize,
    /// The most that is held, in MiB.
    #[arg(long, default_value_t = 192)]
    high: usize,
    /// The longest pause between two changes.
    #[arg(long, default_value_t = 200)]
    pause_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Swell {
    /// How much, in MiB.
    mib: usize,
    /// How often.
    #[arg(long, default_value_t = 2)]
    times: usize,
    /// How long to hold it.
    #[arg(long, default_value_t = 200)]
    hold_ms: u64,
    /// How long to rest without it.
    #[arg(long, default_value_t = 1000)]
    rest_ms: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Burn {
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads that burn.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Time to burn, in each turn; without it, always.
    #[arg(long, default_value_t = 0)]
    on_ms: u64,
    /// Time to rest, in each turn.
    #[arg(long, default_value_t = 0)]
    off_ms: u64,
    /// Time to rest before the first turn.
    #[arg(long, default_value_t = 0)]
    wait_ms: u64,
}

/// Numbers that look random and come again with the seed: Steele, Lea and Flood's SplitMix64 (2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

/// Holds memory in pieces of a MiB; each change takes it to another random size, at full speed.
pub(crate) fn churn(churn: &Churn) {
    let end = Instant::now() + Duration::from_secs(churn.seconds);
    let mut random = Random(churn.seed);
    let mut held = Vec::new();
    let (mut changes, mut faulted) = (0_u64, 0_u64);
    while Instant::now() < end {
        let span = churn.high.saturating_sub(churn.low) as u64;
        let target = churn.low + usize::try_from(random.below(span + 1)).unwrap_or(0);
        held.truncate(target);
        faulted += fill(&mut held, target);
        changes += 1;
        thread::sleep(Duration::from_millis(random.below(churn.pause_ms + 1)));
    }
    println!("changed its size {changes} times, {faulted} MiB touched");
}

/// Takes memory, gives it back, and takes it again.
pub(crate) fn swell(swell: &Swell) {
    let mut held = Vec::new();
    for _ in 0..swell.times {
        fill(&mut held, swell.mib);
        thread::sleep(Duration::from_millis(swell.hold_ms));
        held.clear();
        thread::sleep(Duration::from_millis(swell.rest_ms));
    }
    println!("swelled to {} MiB {} times", swell.mib, swell.times);
}

/// Touches pieces of a MiB until `target` are held; returns how many were new.
pub(crate) fn fill(held: &mut Vec<sys::Mapping>, target: usize) -> u64 {
    let before = held.len();
    while held.len() < target {
        let Ok(mut piece) = sys::Mapping::new(MIB, false) else { break };
        for at in (0..MIB).step_by(PAGE) {
            piece.touch(at);
        }
        held.push(piece);
    }
    held.len().saturating_sub(before) as u64
}

/// Burns cpu in each thread, in turns.
pub(crate) fn burn(burn: &Burn) {
    thread::sleep(Duration::from_millis(burn.wait_ms));
    let end = Instant::now() + Duration::from_secs(burn.seconds);
    let (on, off) = (Duration::from_millis(burn.on_ms), Duration::from_millis(burn.off_ms));
    let workers: Vec<_> = (0..burn.threads)
        .map(|_| {
            thread::spawn(move || {
                let mut rounds = 0_u64;
                while Instant::now() < end {
                    let rest_at = if off.is_zero() { end } else { (Instant::now() + on).min(end) };
                    while Instant::now() < rest_at {
                        rounds = std::hint::black_box(rounds + 1);
                    }
                    thread::sleep(off.min(end.saturating_duration_since(Instant::now())));
                }
                rounds
            })
        })
        .collect();
    let rounds: u64 = workers.into_iter().map(|w| w.join().unwrap_or(0)).sum();
    println!("burnt {rounds} rounds");
}
