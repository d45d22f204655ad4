//! How many copies of a mixed workload fit into one budget, before one is killed, loses work, or answers late.
//!
//! ```text
//! copy     one tenant: redis, nginx, a compression job, and a report (stress-ng) that comes and goes
//! way      what the copies live under: nothing, static limits, the kernel alone, bellows
//! load     clients of the servers; requests are due at fixed times
//! reports  the reports: each once at some time, and all of them on the hour
//! run      so many copies under one of the ways, and what became of their work
//! ```
//!
//! A copy is small most of the time, and each one's report is large for some seconds. Static limits have to hold everybody's
//! peak all the time; the kernel alone lets everybody in and kills when the reports meet; bellows grants what is needed, takes
//! back what is not, and makes a report wait whose floor does not fit yet.
//!
//! How late is late depends on the cpus too, and they are emulated here: so each run is held against the same number of copies
//! with memory to spare. Ten answers decide about a percentile of a thousand, and one run is not like another: what seems late
//! is run again, on both sides, and all runs are taken together.

mod copy;
mod load;
mod reports;
mod run;
mod way;

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use bellows_policies::units::Bytes;

use crate::cell::Cell;
use crate::stats::Samples;
use crate::tree::Place;
use copy::{Part, Programs};
use run::Outcome;
use way::{Limits, Way};

/// What all copies have together.
const BUDGET: Bytes = Bytes::mib(1024);
/// The 99th percentile of the servers' latency may be so many times that of the same copies with memory to spare.
const LATE: f64 = 1.2;
/// How often that is measured at most before it is believed.
const RUNS: usize = 3;
/// What tuned static limits stand above need at first, and by how much each one grows that has killed: as the recommender of
/// Kubernetes (VPA) does by default.
const MARGIN: f64 = 1.15;
const BUMP: f64 = 1.2;
/// How often that is done at most.
const BUMPS: usize = 12;
/// Copies that are tried, in halves of what static limits at peak admit.
const HALVES: [usize; 6] = [2, 3, 4, 5, 6, 8];
/// What is asked for: copies under bellows for one under static limits at peak.
const WANTED: f64 = 2.0;

/// Measures all ways.
pub(crate) fn measure(place: &Place, cell: &mut Cell) -> anyhow::Result<()> {
    let bench = Bench { place, programs: Programs::find()?, spare: BTreeMap::new() };
    bench.measure(cell)
}

/// What is measured with, and what is known by now.
struct Bench<'a> {
    place: &'a Place,
    programs: Programs,
    /// Latencies with memory to spare of each run, by the number of copies.
    spare: BTreeMap<usize, Vec<Samples>>,
}

/// The most copies that fit.
#[derive(Debug, Default)]
struct Fit {
    /// Without a kill and without lost work.
    whole: usize,
    /// And in time.
    in_time: usize,
    /// The latency of the largest of the former, against memory to spare.
    late: f64,
    /// What stopped it one step further.
    stopped_by: Option<(usize, u64, u64)>,
}

impl Bench<'_> {
    fn measure(mut self, cell: &mut Cell) -> anyhow::Result<()> {
        let alone = self.run(Way::Spare, 1)?;
        ensure!(alone.lost == 0, "one copy with memory to spare lost {} pieces of work", alone.lost);
        let peaks = Limits(alone.peaks);
        let needs = self.tune(Limits(alone.needs.map(|need| need.scale(MARGIN))))?;
        cell.figure("peak_mib", "a copy at its peak, MiB", mib(peaks.sum()));
        cell.figure("tuned_mib", "  limits tuned until one runs, MiB", mib(needs.sum()));
        let admitted = |limits: &Limits| usize::try_from(BUDGET.0 / limits.sum().0.max(1));
        let base = admitted(&peaks)?.max(1);

        let numbers = HALVES.map(|halves| halves * base / 2);
        // The answer first: whoever ends this early has it.
        let fixed = self.count(Way::Static(peaks), &[base])?;
        let bellows = self.count(Way::Bellows, &numbers)?;
        let kernel = self.count(Way::Kernel, &numbers)?;
        let tuned = self.count(Way::Static(needs), &[admitted(&needs)?.max(1)])?;
        for (key, text, fit) in [
            ("static_at_peak", "static limits at peak", &fixed),
            ("static_tuned", "static limits, tuned", &tuned),
            ("kernel", "the kernel alone", &kernel),
            ("bellows", "bellows", &bellows),
        ] {
            cell.figure(
                &format!("{key}_copies"),
                &format!("{text}: copies, none killed or lost"),
                fit.whole as f64,
            );
            cell.figure(&format!("{key}_in_time"), "  copies, and answers in time", fit.in_time as f64);
            cell.figure(&format!("{key}_late"), "  p99 against memory to spare", fit.late);
            if let Some((copies, kills, lost)) = fit.stopped_by {
                cell.figure(&format!("{key}_stopped_at"), "  ended with copies", copies as f64);
                cell.figure(&format!("{key}_kills"), "    kills there", kills as f64);
                cell.figure(&format!("{key}_lost"), "    pieces of work lost there", lost as f64);
            }
        }
        let times = |copies: usize, of: usize| copies as f64 / of.max(1) as f64;
        cell.least("density", "bellows against static at peak", times(bellows.whole, fixed.whole), WANTED);
        cell.least(
            "against_kernel",
            "  and against the kernel alone",
            times(bellows.whole, kernel.whole),
            1.0,
        );
        let in_time = times(bellows.in_time, fixed.whole);
        cell.least("density_in_time", "  bellows in time against static at peak", in_time, WANTED);
        Ok(())
    }

    /// The largest of these numbers of copies that fits, by halving: one that fits where a smaller one did not is never found.
    fn count(&mut self, way: Way, numbers: &[usize]) -> anyhow::Result<Fit> {
        let mut fit = Fit::default();
        let (mut low, mut high) = (0, numbers.len());
        while low < high {
            let middle = low.midpoint(high);
            let copies = numbers[middle];
            let (kills, lost, late) = self.try_out(way, copies)?;
            if kills == 0 && lost == 0 {
                low = middle + 1;
                fit.whole = copies;
                fit.late = late;
                if late <= LATE {
                    fit.in_time = copies;
                }
            } else {
                high = middle;
                fit.stopped_by = Some((copies, kills, lost));
            }
        }
        Ok(fit)
    }

    /// Kills, pieces of work lost, and the p99 against that with memory to spare.
    fn try_out(&mut self, way: Way, copies: usize) -> anyhow::Result<(u64, u64, f64)> {
        let (mut latencies, mut late) = (Samples::default(), f64::NAN);
        for runs in 1..=RUNS {
            let outcome = self.run(way, copies)?;
            latencies.extend(&outcome.latencies);
            late = latencies.p99_us() / self.spare(copies, runs)?;
            eprintln!(
                "bellows-bench: density: {way}, {copies} copies: {outcome}; so far p99 {late:.2} of that with memory \
                 to spare"
            );
            if outcome.kills > 0 || outcome.lost > 0 {
                return Ok((outcome.kills, outcome.lost, late));
            }
            if late <= LATE {
                break;
            }
        }
        Ok((0, 0, late))
    }

    /// Raises limits until one copy loses nothing under them.
    fn tune(&self, mut limits: Limits) -> anyhow::Result<Limits> {
        for _ in 0..BUMPS {
            let outcome = self.run(Way::Static(limits), 1)?;
            eprintln!("bellows-bench: density: tuning {}: {outcome}", Way::Static(limits));
            if outcome.kills == 0 && outcome.lost == 0 {
                return Ok(limits);
            }
            // Late without a kill: whose fault that is nobody says.
            let is_anyone = outcome.killed.contains(&true);
            for (limit, killed) in limits.0.iter_mut().zip(outcome.killed) {
                if killed || !is_anyone {
                    *limit = limit.scale(BUMP).page_floor();
                }
            }
        }
        bail!("one copy does not run in {} MiB", limits.sum().0 >> 20)
    }

    /// The p99 of so many copies with memory to spare, over so many runs, microseconds.
    fn spare(&mut self, copies: usize, runs: usize) -> anyhow::Result<f64> {
        let known = self.spare.get(&copies).map_or(0, Vec::len);
        for _ in known..runs {
            let outcome = self.run(Way::Spare, copies)?;
            eprintln!("bellows-bench: density: {}, {copies} copies: {outcome}", Way::Spare);
            self.spare.entry(copies).or_default().push(outcome.latencies);
        }
        let mut latencies = Samples::default();
        self.spare.get(&copies).into_iter().flatten().take(runs).for_each(|run| latencies.extend(run));
        Ok(latencies.p99_us())
    }

    fn run(&self, way: Way, copies: usize) -> anyhow::Result<Outcome> {
        run::run(self.place, &self.programs, way, copies)
    }
}

/// By part.
type ByPart<T> = [T; Part::ALL.len()];

fn mib(bytes: Bytes) -> f64 {
    bytes.0 as f64 / Bytes::MIB.0 as f64
}
