//! What came of a trace: how each workload fared, once a second, and what it comes to.

use std::collections::BTreeMap;

use bellows_policies::{Bytes, CpuSample, Cpus};
use serde::Serialize;

use crate::deed::{Deed, Told};
use crate::host::Host;
use crate::load::SECOND;
use crate::log::Broken;
use crate::trace::Trace;

/// How a workload fares at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Nanoseconds since the trace began.
    pub at: u64,
    /// Use of memory.
    pub current: Bytes,
    /// What it would use if nothing held it back: need and cache.
    pub want: Bytes,
    /// `memory.high`.
    pub high: Bytes,
    /// `memory.max`.
    pub max: Bytes,
    /// `cpu.max`, where it has a quota.
    pub quota: Option<Cpus>,
    /// Periods of its life in which that ran out.
    pub throttled: u64,
    /// Cpu time used in its life, microseconds.
    pub used_us: u64,
    /// It stands still.
    pub is_frozen: bool,
}

/// How one life of a workload went.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// `tenant/workload`.
    pub name: String,
    /// Its class.
    pub class: String,
    /// How often it was started: once, and again after each kill.
    pub starts: u64,
    /// How often the kernel killed it.
    pub kills: u64,
    /// How often the ladder killed it.
    pub policy_kills: u64,
    /// Seconds in which it was frozen.
    pub frozen_s: f64,
    /// Of its quota lent to others, cpu seconds.
    pub lent_cpu_s: f64,
    /// Launches that were refused.
    pub refused_launches: u64,
    /// Time in which it should have run and did not, nanoseconds.
    pub waited_ns: u64,
    /// Once a second, or as often as was asked for.
    pub points: Vec<Point>,
    asleep_ns: u64,
    periods: u64,
    throttled: u64,
    /// The least quota, where it has one.
    floor: Option<Cpus>,
    /// Cpu time used, what the quota allowed in the same time, and the more of use and floor in each second of it: microseconds.
    used_us: u64,
    quota_us: u64,
    due_us: u64,
    cpu_slacks: Vec<f32>,
    seen: Option<(u64, Seen)>,
}

/// Counters of its cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) asleep_ns: u64,
    pub(crate) cpu: CpuSample,
    /// What the quota allowed, microseconds.
    pub(crate) allowed_us: u64,
}

/// All that came of a trace.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How each life went, in the order of the trace.
    pub stories: Vec<Story>,
    /// All deeds in the order of time, where they were asked for.
    pub told: Vec<Told>,
    /// What it comes to.
    pub report: Report,
    /// The first rule that was broken, with what happened before.
    pub broken: Option<(Broken, String)>,
}

/// Room over use: what was allocated over what was used, less one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Slack {
    /// Of all that was allocated, over time.
    pub mean: f64,
    /// What 99 of 100 seconds of a workload did not exceed.
    pub p99: f64,
}

/// What a class, or all, come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// Lives of workloads.
    pub lives: usize,
    /// Kills by the kernel.
    pub kills: u64,
    /// Kills by the ladder, of whoever's class allows it.
    pub policy_kills: u64,
    /// Seconds in which workloads were frozen, in sum.
    pub frozen_s: f64,
    /// Quota that was lent to others, cpu seconds in sum.
    pub lent_cpu_s: f64,
    /// Seconds in which a workload was held below what it needs, in sum.
    pub stalled_s: f64,
    /// Seconds in which a workload should have run and did not, in sum.
    pub waited_s: u64,
    /// Launches that were refused; each is tried again after 5 s.
    pub refused_launches: u64,
    /// `memory.high` over use.
    pub memory_slack: Slack,
    /// The quota over use, of whoever has one.
    pub cpu_slack: Option<Slack>,
    /// The same over the more of use and floor in each second: what the law left, and not the floors.
    pub cpu_slack_above_floors: Option<f64>,
    /// Throttled periods of all in which it ran.
    pub throttled: f64,
    /// Jain's index of what each was granted of what it wanted, among equals: 1 where all had the same share.
    pub fairness: f64,
}

/// What a trace comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Virtual time.
    pub seconds: u64,
    /// All workloads. Their fairness is that of the least fair class.
    pub all: Part,
    /// By class.
    pub classes: BTreeMap<String, Part>,
    /// The most that limits at the peaks of all would have taken, over the most that was granted.
    pub density: f64,
    /// The most that was granted at one time, bytes.
    pub granted_most: Bytes,
    /// Writes of memory limits a minute.
    pub limit_writes_per_minute: f64,
    /// Writes of quotas a minute.
    pub quota_writes_per_minute: f64,
    /// Grows that were refused for now.
    pub deferred: u64,
    /// Grows that were refused for ever.
    pub infeasible: u64,
    /// Events that the agent handled.
    pub steps: u64,
    /// Ticks of cgroups that were run.
    pub ticks: u64,
    /// Faults that were injected.
    pub faults: u64,
}

impl Story {
    pub(crate) fn new(name: String, class: String, floor: Option<Cpus>) -> Self {
        Self { name, class, floor, ..Self::default() }
    }

    /// Takes in how it fares, with the counters of its cgroup.
    pub(crate) fn take(&mut self, point: Point, seen: Seen) {
        let (at, before) = self.seen.unwrap_or_default();
        self.asleep_ns += seen.asleep_ns.saturating_sub(before.asleep_ns);
        self.periods += seen.cpu.nr_periods.saturating_sub(before.cpu.nr_periods);
        self.throttled += seen.cpu.nr_throttled.saturating_sub(before.cpu.nr_throttled);
        // Before the first point a launch stands at its ceiling: what init does is not the workload's use.
        if let (Some(floor), Some(_)) = (self.floor, self.seen) {
            let used_us = seen.cpu.usage_us.saturating_sub(before.cpu.usage_us);
            let quota_us = seen.allowed_us.saturating_sub(before.allowed_us);
            let floor_us = floor.0.saturating_mul((point.at - at) / 1000) / 1_000_000;
            self.used_us += used_us;
            self.quota_us += quota_us;
            self.due_us += used_us.max(floor_us);
            if used_us > 0 {
                self.cpu_slacks.push(quota_us as f32 / used_us as f32 - 1.0);
            }
        }
        self.seen = Some((point.at, seen));
        self.points.push(point);
    }

    /// Its cgroup is gone, and with it the counters.
    pub(crate) fn leave(&mut self) {
        self.seen = None;
    }

    /// The most that it wanted at one time.
    fn peak(&self) -> u64 {
        self.points.iter().map(|point| point.want.0).max().unwrap_or_default()
    }

    /// What it was granted of what it wanted, over time.
    fn satisfied(&self) -> Option<f64> {
        let want: f64 = self.points.iter().map(|point| point.want.0 as f64).sum();
        let have: f64 = self.points.iter().map(|point| point.granted().min(point.want.0) as f64).sum();
        (want > 0.0).then(|| have / want)
    }
}

impl Point {
    /// What is allocated to it, bytes.
    #[must_use]
    pub fn granted(&self) -> u64 {
        self.high.0.min(self.max.0)
    }
}

impl Outcome {
    pub(crate) fn new(stories: Vec<Story>, trace: &Trace, host: &Host, lives: &BTreeMap<u64, usize>) -> Self {
        let log = &host.node.log;
        let seconds = trace.ends / SECOND;
        let minutes = (trace.ends as f64 / SECOND as f64 / 60.0).max(1e-9);
        let mut classes: BTreeMap<String, Vec<&Story>> = BTreeMap::new();
        for story in &stories {
            classes.entry(story.class.clone()).or_default().push(story);
        }
        let classes: BTreeMap<String, Part> =
            classes.into_iter().map(|(class, stories)| (class, part(&stories))).collect();
        let fairness = classes.values().map(|part| part.fairness).fold(1.0, f64::min);
        let all = Part { fairness, ..part(&stories.iter().collect::<Vec<_>>()) };
        let (granted_most, density) = density(&stories, seconds);
        let report = Report {
            seconds,
            all,
            classes,
            density,
            granted_most,
            limit_writes_per_minute: log.writes as f64 / minutes,
            quota_writes_per_minute: log.quotas as f64 / minutes,
            deferred: log.deferred,
            infeasible: log.infeasible,
            steps: host.steps(),
            ticks: host.node.ran,
            faults: log.faults.values().sum(),
        };
        let told = log.all().filter_map(|(at, id, what)| {
            let deed = Deed::of(what)?;
            Some(Told { at: at.saturating_sub(SECOND), life: *lives.get(&id)?, deed })
        });
        let told = told.collect();
        let broken = log.broken.clone().map(|broken| {
            let last = log.last(broken.id);
            (broken, last)
        });
        Self { stories, told, report, broken }
    }
}

fn part(stories: &[&Story]) -> Part {
    let sum = |of: fn(&Story) -> u64| stories.iter().map(|story| of(story)).sum::<u64>();
    let points = || stories.iter().flat_map(|story| &story.points);
    let used: f64 = points().map(|point| point.current.0 as f64).sum();
    let granted: f64 = points().map(|point| point.granted() as f64).sum();
    let mut slacks: Vec<f32> = points()
        .filter(|point| point.current > Bytes::ZERO)
        .map(|point| point.granted() as f32 / point.current.0 as f32 - 1.0)
        .collect();
    let mut cpu_slacks: Vec<f32> =
        stories.iter().flat_map(|story| story.cpu_slacks.iter().copied()).collect();
    let (used_us, quota_us, due_us) = (sum(|s| s.used_us), sum(|s| s.quota_us), sum(|s| s.due_us));
    let cpu = Slack { mean: over(quota_us as f64, used_us as f64), p99: p99(&mut cpu_slacks) };
    Part {
        lives: stories.len(),
        kills: sum(|s| s.kills),
        policy_kills: sum(|s| s.policy_kills),
        frozen_s: stories.iter().map(|story| story.frozen_s).sum(),
        lent_cpu_s: stories.iter().map(|story| story.lent_cpu_s).sum(),
        stalled_s: sum(|s| s.asleep_ns) as f64 / SECOND as f64,
        waited_s: sum(|s| s.waited_ns) / SECOND,
        refused_launches: sum(|s| s.refused_launches),
        memory_slack: Slack { mean: over(granted, used), p99: p99(&mut slacks) },
        cpu_slack: (used_us > 0).then_some(cpu),
        cpu_slack_above_floors: (used_us > 0).then_some(over(quota_us as f64, due_us as f64)),
        throttled: sum(|s| s.throttled) as f64 / (sum(|s| s.periods) as f64).max(1.0),
        fairness: jain(stories.iter().filter_map(|story| story.satisfied())),
    }
}

fn over(allocated: f64, used: f64) -> f64 {
    if used > 0.0 { allocated / used - 1.0 } else { 0.0 }
}

fn p99(values: &mut [f32]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let at = (values.len() - 1) * 99 / 100;
    f64::from(*values.select_nth_unstable_by(at, f32::total_cmp).1)
}

/// (sum x)^2 / (n sum x^2).
fn jain(shares: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares {
        count += 1.0;
        sum += share;
        squares += share * share;
    }
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

/// The most that was granted at one time, and how often that would have gone into limits at the peaks.
fn density(stories: &[Story], seconds: u64) -> (Bytes, f64) {
    let count = usize::try_from(seconds).unwrap_or_default() + 2;
    let (mut granted, mut fixed) = (vec![0_u64; count], vec![0_u64; count]);
    for story in stories {
        let peak = story.peak();
        for point in &story.points {
            let second = usize::try_from(point.at / SECOND).unwrap_or_default().min(count - 1);
            granted[second] = granted[second].saturating_add(point.granted());
            fixed[second] += peak;
        }
    }
    let most = |sums: &[u64]| sums.iter().copied().max().unwrap_or_default();
    let density = most(&fixed) as f64 / (most(&granted) as f64).max(1.0);
    (Bytes(most(&granted)), density)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_are_equal_are_fair() {
        assert!((jain([0.5, 0.5, 0.5].into_iter()) - 1.0).abs() < 1e-9);
        assert!((jain([1.0, 0.0, 0.0, 0.0].into_iter()) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn the_99th_of_a_hundred() {
        let mut values: Vec<f32> = (1..=100).rev().map(|n| n as f32).collect();
        assert!((p99(&mut values) - 99.0).abs() < 1e-6);
    }
}
