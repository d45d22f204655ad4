//! What came of a scenario: samples at the same instants, and counts.

use std::collections::BTreeMap;

use bellows_policies::ruleset::Defaults;
use bellows_policies::{Bytes, Ruleset, Verb};
use bellows_simulator::trace::Trace;
use bellows_simulator::{Deed, Options, Outcome, Place, play};

/// Time between two samples, milliseconds.
pub const EACH_MS: u64 = 250;
/// What the node grants from, in both worlds, and what of it is never granted.
pub const CAPACITY: Bytes = Bytes::mib(1500);
/// A tenth, as by default.
pub const RESERVE: Bytes = Bytes::mib(150);
/// The node's cpus: those of the guest.
pub const CPUS: u64 = 2;

/// How a workload stands at an instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Use of memory, bytes.
    pub current: u64,
    /// `memory.high`, bytes.
    pub high: u64,
    /// The cpu quota, millionths of a cpu.
    pub quota: u64,
    /// Periods in which that ran out, so far.
    pub throttled: u64,
    /// Cpu time used so far, microseconds.
    pub used_us: u64,
}

/// The course of one workload.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// By their number: one is due each [`EACH_MS`] from the trace's beginning. Only while it lives.
    pub samples: BTreeMap<u64, Sample>,
    /// Kills by the kernel.
    pub kills: u64,
    /// Raises of the memory limits.
    pub grows: u64,
}

impl Course {
    /// The last sample.
    #[must_use]
    pub fn last(&self) -> Sample {
        self.samples.values().next_back().copied().unwrap_or_default()
    }

    /// The sample at an instant, or the next one.
    #[must_use]
    pub fn at(&self, at_s: f64) -> Option<Sample> {
        self.since(at_s).next()
    }

    /// The samples from an instant on.
    pub fn since(&self, at_s: f64) -> impl Iterator<Item = Sample> {
        let at = |number: u64| (number * EACH_MS) as f64 / 1000.0;
        self.samples.iter().filter(move |(number, _)| at(**number) >= at_s).map(|(_, sample)| *sample)
    }

    /// When it was seen last, seconds.
    #[must_use]
    pub fn ends(&self) -> Option<f64> {
        self.samples.keys().next_back().map(|number| (number * EACH_MS) as f64 / 1000.0)
    }

    /// Seconds from `since` until a sample shows what is looked for.
    #[must_use]
    pub fn until(&self, since_s: f64, shows: impl Fn(&Sample) -> bool) -> Option<f64> {
        let at = |number: u64| (number * EACH_MS) as f64 / 1000.0 - since_s;
        self.samples.iter().find(|(number, sample)| at(**number) > 0.0 && shows(sample)).map(|(n, _)| at(*n))
    }
}

/// The courses in the simulator, by name.
///
/// # Panics
/// When the built-in classes do not allow the trace.
#[must_use]
pub fn in_the_plant(trace: &Trace) -> BTreeMap<String, Course> {
    let rules = Ruleset::built_in(Defaults::default());
    let place = Place { capacity: CAPACITY, reserve: RESERVE, cpus: CPUS };
    let options = Options { keep_records: true, check: true, points_ms: Some(EACH_MS), ..Options::default() };
    let outcome = play(trace, &rules, place, options).expect("the classes allow it");
    assert!(outcome.broken.is_none(), "{:?}", outcome.broken);
    let names = trace.lives.iter().map(|life| life.name.clone());
    names.enumerate().map(|(life, name)| (name, course(&outcome, life))).collect()
}

fn course(outcome: &Outcome, life: usize) -> Course {
    let story = &outcome.stories[life];
    let samples = story.points.iter().map(|point| {
        let sample = Sample {
            current: point.current.0,
            high: point.high.0,
            quota: point.quota.map_or(0, |quota| quota.0),
            throttled: point.throttled,
            used_us: point.used_us,
        };
        ((point.at + EACH_MS * 500_000) / (EACH_MS * 1_000_000), sample)
    });
    let count = |is_such: fn(&Deed) -> bool| {
        outcome.told.iter().filter(|told| told.life == life && is_such(&told.deed)).count() as u64
    };
    Course {
        samples: samples.collect(),
        kills: story.kills,
        grows: count(|deed| matches!(deed, Deed::Memory { verb: Verb::Grow, .. })),
    }
}
