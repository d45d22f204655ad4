//! `bellows-load`: what the kernel tests run as workloads. Each verb does one thing to memory and says what it did.

mod churn;
mod follow;
#[expect(unsafe_code, reason = "anonymous mappings and advice; see the file's head")]
mod sys;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Allocates anonymous memory at full speed, prints the rate, and holds it.
    Grow(Grow),
    /// Reads a file again and again.
    Read { file: PathBuf, seconds: u64 },
    /// Writes a file of zeroes (on a tmpfs: shared memory).
    Write { file: PathBuf, mib: usize },
    /// Allocates and frees anonymous memory at random.
    Churn(churn::Churn),
    /// Allocates, holds and frees the same amount again and again.
    Swell(churn::Swell),
    /// Burns cpu.
    Burn(churn::Burn),
    /// Does what a trace says of one workload.
    Follow(follow::Follow),
    /// Answers each byte of its standard input by one, after some work in as much memory: a neighbour that is asked.
    Serve { kib: usize },
    /// Sleeps.
    Idle { seconds: u64 },
}

#[derive(Debug, Args)]
struct Grow {
    /// How much, in MiB.
    mib: usize,
    /// Threads that share the work.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Ask for transparent huge pages.
    #[arg(long)]
    huge: bool,
    /// Fault whole chunks of this many MiB by MADV_POPULATE_WRITE instead of touching pages: faster than 1 GiB/s where the
    /// machine can.
    #[arg(long, value_name = "MIB")]
    populate: Option<usize>,
    /// Pause after each MiB.
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// How long to hold it.
    #[arg(long, default_value_t = 0)]
    hold_ms: u64,
}

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Grow(grow) => return run_grow(&grow),
        Verb::Read { file, seconds } => read(&file, seconds),
        Verb::Write { file, mib } => write(&file, mib),
        Verb::Churn(churn) => churn::churn(&churn),
        Verb::Swell(swell) => churn::swell(&swell),
        Verb::Burn(burn) => churn::burn(&burn),
        Verb::Follow(follow) => {
            if let Err(error) = follow::follow(&follow) {
                eprintln!("bellows-load: {error:#}");
                return ExitCode::FAILURE;
            }
        }
        Verb::Serve { kib } => serve(kib),
        Verb::Idle { seconds } => thread::sleep(Duration::from_secs(seconds)),
    }
    ExitCode::SUCCESS
}

fn run_grow(grow: &Grow) -> ExitCode {
    let started = Instant::now();
    let share = grow.mib / grow.threads.max(1) * MIB;
    // All memory is held until the slowest thread is done: what counts is the sum.
    let release = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..grow.threads)
        .map(|_| {
            let (huge, populate, pause) = (grow.huge, grow.populate, Duration::from_millis(grow.pause_ms));
            let release = Arc::clone(&release);
            let (done, ready) = std::sync::mpsc::channel();
            let worker = thread::spawn(move || {
                let mapping = sys::Mapping::new(share, huge);
                let filled = mapping.map(|mut m| {
                    fill(&mut m, populate, pause);
                    m
                });
                let _ = done.send(filled.is_ok());
                while filled.is_ok() && !release.load(Ordering::Acquire) {
                    thread::park_timeout(Duration::from_millis(5));
                }
            });
            (worker, ready)
        })
        .collect();
    let all = workers.iter().all(|(_, ready)| ready.recv().unwrap_or(false));
    let took = started.elapsed();
    println!(
        "grew {} MiB in {:.3} s: {:.0} MiB/s",
        grow.mib,
        took.as_secs_f64(),
        grow.mib as f64 / took.as_secs_f64()
    );
    thread::sleep(Duration::from_millis(grow.hold_ms));
    release.store(true, Ordering::Release);
    for (worker, _) in workers {
        let _ = worker.join();
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fill(mapping: &mut sys::Mapping, populate: Option<usize>, pause: Duration) {
    let chunk = populate.unwrap_or(1) * MIB;
    for start in (0..mapping.len()).step_by(chunk) {
        let end = (start + chunk).min(mapping.len());
        if populate.is_none() || mapping.populate(start, end).is_err() {
            for at in (start..end).step_by(PAGE) {
                mapping.touch(at);
            }
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

fn serve(kib: usize) {
    let mut memory = vec![0_u8; kib * 1024];
    let (mut asked, mut out) = ([0_u8; 1], std::io::stdout().lock());
    while let Ok(1) = std::io::stdin().read(&mut asked) {
        for place in memory.chunks_mut(64) {
            place[0] = place[0].wrapping_add(asked[0]);
        }
        if out.write_all(&asked).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn read(file: &PathBuf, seconds: u64) {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut buffer = vec![0_u8; MIB];
    let (mut passes, mut total) = (0_u64, 0_u64);
    while Instant::now() < end {
        let Ok(mut file) = File::open(file) else { return };
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            total += count as u64;
            if Instant::now() >= end {
                break;
            }
        }
        passes += 1;
    }
    println!("read {} MiB in {passes} passes", total / MIB as u64);
}

fn write(file: &PathBuf, mib: usize) {
    let buffer = vec![0_u8; MIB];
    if let Ok(mut file) = File::create(file) {
        for _ in 0..mib {
            if let Err(error) = file.write_all(&buffer) {
                eprintln!("write: {error}");
                return;
            }
        }
    }
    println!("wrote {mib} MiB");
}
