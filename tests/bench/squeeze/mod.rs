//! A fast grower and an empty pool: what it needs is squeezed out of its neighbours.
//!
//! Six neighbours stand at their ceilings, and these are the whole pool. Half of them have freed what they were granted (slack),
//! half have filled it with the pages of a file that nobody looks at any more (cold cache). A grower that starts from its floor
//! populates huge pages from several threads, at 1 GiB/s where it is let. Together the neighbours can spare more than it takes, so
//! whatever it waits for is there to be had. It measures itself: how long its use stood still, the longest time between two pages
//! of any of its threads, and what it did while they waited. The same without limits says what the machine can do, and the same
//! under an agent whose pool is large enough what of the waiting is not the squeeze's: who crosses a small limit at full speed
//! sleeps for up to 2 s when the kernel computes that before the limit has been raised.

mod loads;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use bellows::journal::What;
use bellows::workload::records::Exit;
use bellows_policies::units::Bytes;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

pub(crate) use loads::{spurt, stock};

use crate::agent::{Agent, Range, Setup};
use crate::cell::Cell;
use crate::stats::{Samples, median};
use crate::tree::{self, Place};

/// Nothing is taken from the neighbours but by squeezing.
const CONFIG: &str = "[memory]\nslack_hold_ms = 600000\nreclaim_factor = 0.0\n";
/// The pool holds the neighbours' ceilings and the grower's floor, and nothing else.
const SETUP: Setup =
    Setup { name: "squeeze", config: CONFIG, flags: &["--capacity", "1296M", "--reserve", "64M"] };
/// A pool that nobody has to give anything to.
const AMPLE: Setup =
    Setup { name: "ample", config: CONFIG, flags: &["--capacity", "2048M", "--reserve", "64M"] };
const NEIGHBOURS: [&str; 6] = ["slack", "cache", "slack", "cache", "slack", "cache"];
const NEIGHBOUR: (Bytes, Bytes) = (Bytes::mib(16), Bytes::mib(200));
const GROWER: (Bytes, Bytes) = (Bytes::mib(32), Bytes::mib(1024));
/// What the grower takes, MiB.
const TAKEN: &str = "768";
const ROUNDS: usize = 20;
/// Runs without limits.
const UNLIMITED_RUNS: usize = 5;
const UNLIMITED: &str = "unlimited";
/// Longer than a workload is spared after a raise (`squeeze_gap_ms`), and than a detail is fresh.
const SETTLE: Duration = Duration::from_millis(1500);
/// The bar: use may not stand still for longer, while there is anything to squeeze.
const STILL_MS: f64 = 500.0;

/// What a grower says of itself, in nanoseconds and, of the pressure, microseconds.
#[derive(Debug, Clone, Copy)]
struct Said {
    took: u64,
    still: u64,
    thread: u64,
    full_us: u64,
}

/// What was taken so far, bytes.
const TAKEN_SO_FAR: [&str; 2] =
    [r#"bellows_squeeze_bytes_total{rung="slack"} "#, r#"bellows_squeeze_bytes_total{rung="reclaim"} "#];
const FREE: [&str; 1] = [r#"bellows_budget_bytes{state="free"} "#];

/// A neighbour's orders and answers.
struct Neighbour {
    orders: File,
    answers: File,
}

/// Measures it.
pub(crate) fn measure(place: &Place, cell: &mut Cell) -> anyhow::Result<()> {
    let unlimited = without_limits(place)?;
    let ample = with_room(place)?;
    let mut agent = Agent::start(place, &SETUP)?;
    let mut neighbours = launch_neighbours(place, &mut agent)?;
    let (mut still, mut thread, mut full) = (Samples::default(), Samples::default(), Samples::default());
    let (mut seconds, mut taken, mut free, mut kills, mut grips) = (Vec::new(), [0.0; 2], 0.0_f64, 0, 0);
    for round in 0..ROUNDS {
        for neighbour in &mut neighbours {
            neighbour.restock()?;
        }
        let before = agent.metrics(TAKEN_SO_FAR)?;
        let mut is_late = false;
        match grow(&mut agent, &mut free)? {
            Some(said) => {
                seconds.push(said.took as f64 / 1e9);
                still.push(said.still);
                thread.push(said.thread);
                full.push(said.full_us * 1000);
                is_late = said.still as f64 / 1e6 > STILL_MS;
                eprintln!("bellows-bench: squeeze: round {}: {said:?}", round + 1);
            }
            None => kills += 1,
        }
        for (sum, (after, before)) in
            taken.iter_mut().zip(agent.metrics(TAKEN_SO_FAR)?.into_iter().zip(before))
        {
            *sum += after - before;
        }
        let records = agent.records()?;
        if is_late {
            // What was decided meanwhile, to find out why.
            for record in &records {
                eprintln!("{}", serde_json::to_string(record)?);
            }
        }
        grips += records.iter().filter(|record| matches!(record.what, What::Squeezed { .. })).count();
    }
    agent.stop()?;
    let mib = TAKEN.parse::<f64>()?;
    let rate = |seconds: Vec<f64>| mib / median(seconds);
    cell.figure("unlimited_mib_per_s", "a grower without limits, MiB/s", rate(unlimited));
    cell.figure("mib_per_s", "  squeezing for all it takes, MiB/s", rate(seconds));
    cell.figure("free_mib", "free when it began, at most, MiB", free / MIB);
    cell.samples("still", "its use stood still for at most, ms", &still);
    cell.bar("still_max_ms", "  the most of that, ms", still.percentile_us(1.0) / 1e3, STILL_MS);
    cell.figure("late_rounds", "  rounds above that", still.above_ms(STILL_MS) as f64);
    cell.samples("ample_still", "  the same with room in the pool, ms", &ample);
    cell.figure("ample_late_rounds", "  rounds above that", ample.above_ms(STILL_MS) as f64);
    cell.samples("thread", "  one of its threads for at most, ms", &thread);
    cell.samples("full", "  all of it waited in all, ms", &full);
    cell.figure("slack_mib", "slack squeezed, MiB a round", taken[0] / MIB / ROUNDS as f64);
    cell.figure("cache_mib", "cold cache squeezed, MiB a round", taken[1] / MIB / ROUNDS as f64);
    cell.figure("grips", "harder rungs", grips as f64);
    cell.bar("kills", "killed", f64::from(kills), 0.0);
    Ok(())
}

const MIB: f64 = (1 << 20) as f64;

fn launch_neighbours(place: &Place, agent: &mut Agent<'_>) -> anyhow::Result<Vec<Neighbour>> {
    let range = Range::of_memory(NEIGHBOUR.0, NEIGHBOUR.1)?;
    let mut neighbours = Vec::new();
    for (number, kind) in NEIGHBOURS.into_iter().enumerate() {
        let file = if kind == "cache" {
            loads::file(&place.scratch.join(format!("cold{number}")))?
        } else {
            String::new()
        };
        let ((stdin, orders), (answers, stdout)) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
        let stderr = std::io::stderr();
        agent.launch(range, &["stock", &file], [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        neighbours.push(Neighbour { orders: orders.into(), answers: answers.into() });
    }
    Ok(neighbours)
}

impl Neighbour {
    /// Grows to its ceiling, frees that, and fills it with what its kind has.
    fn restock(&mut self) -> anyhow::Result<()> {
        self.orders.write_all(b"r")?;
        self.answers.read_exact(&mut [0]).context("a neighbour has ended")
    }
}

/// One growth; `None` when it was killed.
fn grow(agent: &mut Agent<'_>, free: &mut f64) -> anyhow::Result<Option<Said>> {
    let ((stdin, orders), (answers, stdout)) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
    let stderr = std::io::stderr();
    let range = Range::of_memory(GROWER.0, GROWER.1)?;
    let (name, id) =
        agent.launch(range, &["spurt", TAKEN], [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    drop(stdout);
    sleep(SETTLE);
    let [left] = agent.metrics(FREE)?;
    *free = free.max(left);
    File::from(orders).write_all(b"g")?;
    let ended = agent.wait(id)?;
    if ended.exit != (Exit::Exited { code: 0 }) {
        eprintln!("bellows-bench: {name}: {}", ended.text);
        return Ok(None);
    }
    let mut text = String::new();
    File::from(answers).read_to_string(&mut text)?;
    Said::parse(&text).map(Some)
}

impl Said {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
        let numbers = numbers.with_context(|| format!("a grower said {text:?}"))?;
        let [took, still, thread, full_us] = numbers[..] else {
            anyhow::bail!("a grower said {text:?}");
        };
        Ok(Self { took, still, thread, full_us })
    }
}

/// How long use stood still at most, where the pool has room for all of it.
fn with_room(place: &Place) -> anyhow::Result<Samples> {
    let mut agent = Agent::start(place, &AMPLE)?;
    let mut still = Samples::default();
    for _ in 0..ROUNDS {
        if let Some(said) = grow(&mut agent, &mut 0.0)? {
            still.push(said.still);
        }
    }
    agent.stop()?;
    Ok(still)
}

fn without_limits(place: &Place) -> anyhow::Result<Vec<f64>> {
    let path = place.cgroup.create_child(UNLIMITED)?.path().display().to_string();
    let mut seconds = Vec::new();
    // Not counted: the first one reads the program.
    for run in 0..=UNLIMITED_RUNS {
        let output = Command::new(&place.program)
            .args(["spurt", TAKEN, &path])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "a grower without limits: {}", output.status);
        let said = Said::parse(&String::from_utf8_lossy(&output.stdout))?;
        if run > 0 {
            seconds.push(said.took as f64 / 1e9);
        }
    }
    tree::clear(&place.cgroup, UNLIMITED)?;
    Ok(seconds)
}
