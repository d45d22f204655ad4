//! What runs inside the measured cgroups: this very program in another mode.
//!
//! A generator of breaches waits for an order on its standard input, touches pages one by one until the `high` counter of
//! its cgroup has risen, and answers with the time just before that last touch. The kernel counts the crossing before the
//! touching instruction is over, so the last touch is the crossing one, and no guess is needed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, bail};
use bellows::kernel::{clock, parse};

use crate::cpu;
use crate::squeeze;
use crate::sys::{HUGE, PAGE, Region};

/// The most that one generator of breaches touches in its life.
const MOST: usize = 1 << 30;
/// What a grower holds before its time is taken, and at the end.
const GROW: (usize, usize) = (32 << 20, 512 << 20);
/// A populating grower's step.
const CHUNK: usize = 4 << 20;
/// What a breather takes: four huge pages, as much as its first limit, which are charged at once and cleared fast.
const BREATH: usize = 4 * HUGE;

/// Runs the generator that `mode` names.
pub(crate) fn run(mode: &str, arguments: &[String]) -> anyhow::Result<()> {
    let argument = |n: usize| arguments.get(n).map(String::as_str).context("an argument is missing");
    match mode {
        "idle" => loop {
            nix::unistd::pause();
        },
        "spin" => {
            if let Ok(cgroup) = argument(0) {
                join(cgroup)?;
            }
            spin()
        }
        "hog" => {
            std::thread::spawn(|| spin());
            spin()
        }
        "burn" => burn(Duration::from_millis(argument(0)?.parse()?)),
        "stock" => squeeze::stock(argument(0)?),
        "spurt" => squeeze::spurt(argument(0)?, argument(1).ok()),
        "swell" => swell(),
        "breathe" => breathe(),
        "breach" => {
            if let Ok(cgroup) = argument(1) {
                join(cgroup)?;
            }
            breach(argument(0)?)
        }
        "grow" => {
            if let Ok(cgroup) = argument(1) {
                join(cgroup)?;
            }
            grow(argument(0)? == "populate")
        }
        _ => bail!("{mode} is not a mode; without one everything is measured"),
    }
}

/// Moves this process to the cgroup at `path`. A workload of the agent is born in its own.
pub(crate) fn join(path: &str) -> anyhow::Result<()> {
    std::fs::write(format!("{path}/cgroup.procs"), "0").with_context(|| format!("cannot move to {path}"))
}

/// Crosses the tripwire once per byte on standard input, until its end.
fn breach(events: &str) -> anyhow::Result<()> {
    cpu::pin_this_thread()?;
    let events = File::open(events).with_context(|| format!("cannot open {events}"))?;
    let mut region = Region::map(MOST)?;
    region.use_small_pages()?;
    let (mut orders, mut answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut offset = 0;
    let mut order = [0];
    while orders.read(&mut order)? == 1 {
        let before = highs(&events)?;
        let crossed = loop {
            if offset >= MOST {
                bail!("{MOST} bytes did not cross the tripwire");
            }
            let touched = clock::now();
            region.touch(offset);
            offset += PAGE;
            if highs(&events)? > before {
                break touched;
            }
        };
        answers.write_all(&crossed.0.to_le_bytes())?;
        answers.flush()?;
    }
    Ok(())
}

fn highs(events: &File) -> std::io::Result<u64> {
    let mut text = [0; 256];
    let length = events.read_at(&mut text, 0)?;
    Ok(parse::memory_events(&text[..length]).high)
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Takes all cpu time that it gets for `time`, once per byte on standard input.
fn burn(time: Duration) -> anyhow::Result<()> {
    each_order(|| {
        let start = clock::now();
        while clock::now().since(start) < time {
            std::hint::spin_loop();
        }
        Ok(())
    })
}

/// Holds 256 MiB and 56 MiB in turns: changes over once per byte on standard input, and answers with when it had.
fn swell() -> anyhow::Result<()> {
    const KEPT: usize = 56 << 20;
    const FREED: usize = 200 << 20;
    let mut kept = Region::map(KEPT)?;
    kept.populate(0, KEPT)?;
    let mut more = None;
    each_order(|| {
        if more.take().is_none() {
            let mut region = Region::map(FREED)?;
            for offset in (0..FREED).step_by(CHUNK) {
                region.populate(offset, CHUNK)?;
            }
            more = Some(region);
        }
        let mut answers = std::io::stdout().lock();
        answers.write_all(&clock::now().0.to_le_bytes())?;
        Ok(answers.flush()?)
    })
}

/// Takes two huge pages for a moment, once per byte on standard input.
fn breathe() -> anyhow::Result<()> {
    const HELD: Duration = Duration::from_millis(60);
    each_order(|| {
        let mut region = Region::map(2 * BREATH)?;
        region.use_huge_pages()?;
        let start = region.first_aligned(HUGE);
        for offset in (start..start + BREATH).step_by(HUGE) {
            region.populate(offset, HUGE)?;
        }
        std::thread::sleep(HELD);
        Ok(())
    })
}

pub(crate) fn each_order(mut obey: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (orders, mut order) = (std::io::stdin(), [0]);
    // Not buffered: others may read from the same pipe.
    while nix::unistd::read(&orders, &mut order)? == 1 {
        obey()?;
    }
    Ok(())
}

/// Grows as fast as the kernel gives memory, and prints how many nanoseconds it took.
fn grow(populates: bool) -> anyhow::Result<()> {
    let (from, to) = GROW;
    let mut region = Region::map(to)?;
    let mut fill = |from: usize, to: usize| -> std::io::Result<()> {
        let step = if populates { CHUNK } else { PAGE };
        for offset in (from..to).step_by(step) {
            if populates {
                region.populate(offset, step)?;
            } else {
                region.touch(offset);
            }
        }
        Ok(())
    };
    fill(0, from)?;
    let start = clock::now();
    fill(from, to)?;
    println!("{}", clock::now().since(start).as_nanos());
    Ok(())
}

/// MiB that a grower's time is taken over.
pub(crate) fn grown_mib() -> f64 {
    (GROW.1 - GROW.0) as f64 / f64::from(1 << 20)
}
