//! `bellows-bench`: how fast the agent moves a limit, beside the smallest loop that does the same on this kernel.
//!
//! ```text
//! machine      where the figures come from
//! tree         cgroups of our own, made and removed
//! generator    workloads: crosses its tripwire on order (breach), grows at full speed (grow), sleeps, spins
//! sys          the memory that they touch
//! cpu          the one cpu that the measured path is kept on
//! crew         the generators of one side, from the outside: orders, answers, replacement
//! floor        the smallest loop: wait, read the counter, write two limits
//! agent        a real `bellows agent` process, its API and its journal
//! governed     an agent with its crew, and what it did about each breach
//! reaction     floor and agent in turns, breach by breach
//! hearing      the ways of hearing an event, against each other
//! density      copies of a mixed workload in one budget: static limits, the kernel alone, bellows
//! isolation    reaction while a shrink is stuck, and while none is
//! idle         what an agent costs that has nothing to do
//! spinners     what keeps cpus busy
//! threads      what the threads of the agent cost
//! growth       full-speed growth under the agent and without limits
//! shrink       what was freed is taken back, and what that costs those who grow
//! squeeze      a fast grower that is fed by its neighbours, out of an empty pool
//! quota        relief of throttling, and a hog at its ceiling
//! scale        an agent with 1, 100 and 1000 workloads: idle, and these two:
//! tick         what a tick of the cpu loop costs
//! takeover     a killed agent, and the one that comes after it
//! scraped      reaction while the agent is scraped, and while it is not
//! stormed      reaction while a tenant storms, and in the calm beside
//! scrape       a scrape of 10 000 workloads; by itself and anywhere, `bellows-bench scrape`
//! launch       a launch beside crun, runc, bubblewrap and unshare; what a box costs who lives in it
//! cell         figures that go into both the table and bench.json
//! stats        percentiles of sorted samples
//! report       bench.json, and a table with the bars
//! ```
//!
//! Runs as root in `$BELLOWS_CGROUP` and writes `$BELLOWS_OUT/bench.json`. It exits with 0 when everything was measured,
//! whatever the figures are. `BELLOWS_BENCH_ONLY` measures only the parts that it lists, of
//! 1,1000,growth,hearing,idle,isolation,scraped,stormed,shrink,squeeze,cpu,takeover,launch,density. `BELLOWS_BENCH_SAMPLES=N` takes fewer or more samples.

mod agent;
mod cell;
mod cpu;
mod crew;
mod density;
mod floor;
mod generator;
mod governed;
mod growth;
mod hearing;
mod idle;
mod isolation;
mod launch;
mod machine;
mod quota;
mod reaction;
mod report;
mod scale;
mod scrape;
mod scraped;
mod shrink;
mod spinners;
mod squeeze;
mod stats;
mod stormed;
#[expect(unsafe_code, reason = "memory that is touched page by page; see the file's head")]
mod sys;
mod takeover;
mod threads;
mod tick;
mod tree;

use std::process::ExitCode;

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, setrlimit};

use crate::report::Report;

/// Samples of a reaction, for each side and condition.
const SAMPLES: usize = 2000;
/// Open files of this process and of those that it starts.
const OPEN_FILES: u64 = 65_536;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first() {
        None => measure(),
        Some(mode) if mode == "scrape" => scrape::run(),
        Some(mode) => generator::run(mode, &arguments[1..]),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bellows-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    let directory =
        |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: see bellows-kernel"));
    let (root, scratch, out) =
        (directory("BELLOWS_CGROUP")?, directory("BELLOWS_SCRATCH")?, directory("BELLOWS_OUT")?);
    let only = std::env::var("BELLOWS_BENCH_ONLY").ok();
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == part));

    let samples = match std::env::var("BELLOWS_BENCH_SAMPLES") {
        Ok(text) => text.parse().with_context(|| format!("BELLOWS_BENCH_SAMPLES={text} is not a number"))?,
        Err(_) => SAMPLES,
    };

    // For the agents, that have a dozen files open for each workload; where a manager starts them, it grants that.
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        .context("cannot raise the number of open files")?;
    let place = tree::Place::new(root.as_ref(), scratch.as_ref())?;
    let mut report = Report::new(machine::describe());
    let measured = measure_into(&mut report, &place, samples, is_wanted);
    // Also what was measured before something failed.
    let path = std::path::Path::new(&out).join("bench.json");
    let text = serde_json::to_string_pretty(&report.json())?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    print!("{}", report.table());
    measured
}

/// Measures what is wanted. A part that fails does not cost the others.
fn measure_into(
    report: &mut Report,
    place: &tree::Place,
    samples: usize,
    is_wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut note = |what: &'static str, result: anyhow::Result<()>| {
        if let Err(error) = result {
            eprintln!("bellows-bench: {what}: {error:#}");
            failed.push(what);
        }
    };
    if is_wanted("1") {
        note(
            "reaction of 1 workload",
            keep(&mut report.one, reaction::measure(place, &reaction::ONE, samples)),
        );
    }
    if is_wanted("1000") {
        let result = reaction::measure(place, &reaction::THOUSAND, samples);
        note("reaction of 1000 workloads", keep(&mut report.thousand, result));
    }
    if is_wanted("growth") {
        note("growth", keep(&mut report.growth, growth::measure(place)));
    }
    // Ratios within a cell, not bars of a tail: fewer samples will do.
    let fewer = samples.div_ceil(3);
    if is_wanted("hearing") {
        let measure = |condition| hearing::measure(place, condition, fewer);
        note("ways of hearing 1 workload", keep(&mut report.hearing_one, measure(&hearing::ONE)));
        note("ways of hearing 1000", keep(&mut report.hearing_thousand, measure(&hearing::THOUSAND)));
    }
    let wanted =
        scale::Wanted { idle: is_wanted("idle"), cpu: is_wanted("cpu"), takeover: is_wanted("takeover") };
    if is_wanted("shrink") {
        note("shrinks", shrink::measure(place, fewer, &mut report.shrink));
    }
    if is_wanted("squeeze") {
        note("squeezing", squeeze::measure(place, &mut report.squeeze));
    }
    if wanted.cpu {
        note("quotas", quota::measure(place, &mut report.cpu));
    }
    if wanted.idle || wanted.cpu || wanted.takeover {
        note("idle workloads", scale::measure(place, wanted, report));
    }
    if is_wanted("launch") {
        note("launches", launch::measure(place, &mut report.launch));
    }
    if is_wanted("scraped") {
        note("scraped", keep(&mut report.scraped, scraped::measure(place, fewer)));
    }
    if is_wanted("stormed") {
        note("stormed", stormed::measure(place, fewer, &mut report.stormed));
    }
    if is_wanted("isolation") {
        note("isolation", keep(&mut report.isolation, isolation::measure(place, fewer)));
    }
    if is_wanted("density") {
        note("density", density::measure(place, &mut report.density));
    }
    ensure!(failed.is_empty(), "not measured to the end: {}", failed.join(", "));
    Ok(())
}

fn keep<T>(slot: &mut Option<T>, result: anyhow::Result<T>) -> anyhow::Result<()> {
    *slot = Some(result?);
    Ok(())
}
