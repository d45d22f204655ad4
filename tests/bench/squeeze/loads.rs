//! What runs inside: a neighbour that has something to spare, and the grower.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bellows::kernel::{clock, discover, parse};
use bellows_policies::sample::Pressure;

use crate::generator::{each_order, join};
use crate::sys::{HUGE, Region};

/// What a neighbour takes and frees: with what it holds anyway it comes so near to its ceiling that it is granted all of it.
const STOCK: usize = 188 << 20;
/// Of that, what one that has cache reads.
const FILE: usize = 168 << 20;
const CHUNK: usize = 4 << 20;
const THREADS: usize = 4;
/// The least time from page to page of one thread: together they grow by 1 GiB/s at most, and never make up for lost time.
const PACE: Duration = Duration::from_micros((HUGE * THREADS) as u64 * 1_000_000 / (1 << 30));

/// A file to be read; a hole is page cache like any other.
pub(super) fn file(path: &Path) -> anyhow::Result<String> {
    File::create(path)?.set_len(FILE as u64)?;
    Ok(path.display().to_string())
}

/// Takes memory, frees it, and reads `file`, if it has one, once per byte on standard input.
pub(crate) fn stock(file: &str) -> anyhow::Result<()> {
    each_order(|| {
        let mut region = Region::map(STOCK)?;
        for offset in (0..STOCK).step_by(CHUNK) {
            region.populate(offset, CHUNK)?;
        }
        drop(region);
        if !file.is_empty() {
            let mut buffer = vec![0; 1 << 20];
            let mut file = File::open(file)?;
            while file.read(&mut buffer)? > 0 {}
        }
        let mut answers = std::io::stdout().lock();
        answers.write_all(b"r")?;
        Ok(answers.flush()?)
    })
}

/// Grows by `mib` in huge pages at 1 GiB/s, from some threads at once, when a byte comes on standard input or it ends; then says how long
/// that took, the longest time without a page, the longest of one thread without one, and what was waited for meanwhile.
pub(crate) fn spurt(mib: &str, cgroup: Option<&str>) -> anyhow::Result<()> {
    cgroup.map_or(Ok(()), join)?;
    let share = (mib.parse::<usize>()? / THREADS) << 20;
    nix::unistd::read(std::io::stdin(), &mut [0])?;
    let before = pressure()?;
    let together = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let together = Arc::clone(&together);
            thread::spawn(move || fill(share, &together))
        })
        .collect();
    let joined = threads.into_iter().map(|t| t.join().map_err(|_| anyhow!("a thread panicked"))?);
    let pages = joined.collect::<anyhow::Result<Vec<_>>>()?;
    let after = pressure()?;
    let longest = |times: &[u64]| times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let thread = pages.iter().map(|times| longest(times)).max().unwrap_or(0);
    let mut all = pages.concat();
    all.sort_unstable();
    let took = all.last().context("no page")? - all.first().context("no page")?;
    let full_us = after.full_us - before.full_us;
    println!("{took} {} {thread} {full_us}", longest(&all));
    Ok(())
}

/// Populates huge pages, and keeps them until all threads have theirs; the times, in nanoseconds, of the beginning and of each page.
fn fill(length: usize, together: &Barrier) -> anyhow::Result<Vec<u64>> {
    let mut region = Region::map(length + HUGE)?;
    region.use_huge_pages()?;
    let (start, mut times) = (region.first_aligned(HUGE), Vec::with_capacity(length / HUGE + 1));
    together.wait();
    times.push(clock::now().0);
    for offset in (start..start + length).step_by(HUGE) {
        let began = Instant::now();
        region.populate(offset, HUGE)?;
        times.push(clock::now().0);
        thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
    together.wait();
    Ok(times)
}

/// Of the cgroup that this process is in.
fn pressure() -> anyhow::Result<Pressure> {
    Ok(parse::pressure(&std::fs::read(discover::own_cgroup()?.join("memory.pressure"))?))
}
