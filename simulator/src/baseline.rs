//! Simpler ways to set limits, on the same node under the same trace, to compare with. None of them refuses anybody, and none
//! knows of tenants.
//!
//! | baseline | memory | cpu |
//! |---|---|---|
//! | static at peak | the peak of an unlimited run of the same trace, known in advance | likewise, of a tenth of a second |
//! | p90 recommender | 90 % of peaks a minute, and 15 %; raised by 20 % or 100 MiB after a kill. After the Vertical Pod Autoscaler's recommender: once a minute, from the ceiling on, never below use | 90 % of use a second, and 15 % |
//! | senpai | `memory.high` probes downwards once a second while little is waited for, and backs off when more is. After Meta's Senpai | none |

use std::collections::BTreeMap;

use bellows_policies::ruleset::Ruleset;
use bellows_policies::{Bytes, Cpus, Limits, Reason, Verb};

use crate::cgroup::{Cgroup, Spec};
use crate::faults::MS;
use crate::load::{Cpu, Memory, SECOND};
use crate::log::What;
use crate::node::{Node, OPEN};
use crate::outcome::Outcome;
use crate::play::{Misfit, Options, Place, Play};
use crate::trace::{Life, Trace};

/// A way to set limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Each at its own peak, for good.
    StaticAtPeak,
    /// By what was used before.
    Recommender,
    /// By what waiting there is.
    Senpai,
}

/// Time between two turns: a period.
const TURN: u64 = 100 * MS;
/// What a recommender adds.
const MARGIN: f64 = 1.15;
/// Waiting for memory in a second that senpai bears: 10 ms of each 6 s.
const BORNE_US: u64 = 1700;
/// Samples that are remembered: of seconds for the cpu, of minutes for memory.
const KEPT: usize = 3600;

impl Baseline {
    /// All.
    pub const ALL: [Self; 3] = [Self::StaticAtPeak, Self::Recommender, Self::Senpai];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StaticAtPeak => "static at peak",
            Self::Recommender => "p90 recommender",
            Self::Senpai => "senpai",
        }
    }

    /// Plays a trace under it. Of the rules only bounds and classes count.
    pub fn play(self, trace: &Trace, rules: &Ruleset, place: Place) -> Result<Outcome, Misfit> {
        let new = || Play::new(trace, rules, place, Options::default());
        let names = trace.lives.iter().map(Life::full_name).collect();
        let mut governor = Governor { kind: Some(self), names, ..Governor::default() };
        if self == Self::StaticAtPeak {
            let mut play = new()?;
            let mut measure = Governor::default();
            play.drive(&mut Some(&mut measure));
            governor.peaks = measure.peaks;
        }
        let mut play = new()?;
        play.drive(&mut Some(&mut governor));
        Ok(play.finish())
    }
}

/// Who sets the limits instead of the agent. Without a kind there are none, and peaks are measured.
#[derive(Default)]
pub(crate) struct Governor {
    kind: Option<Baseline>,
    /// The peak of memory, and of the cpu in a period, by life.
    peaks: BTreeMap<usize, (Bytes, Cpus)>,
    members: BTreeMap<u64, Member>,
    /// By name: a workload may live more than once.
    histories: BTreeMap<String, History>,
    names: Vec<String>,
    next: u64,
}

struct Member {
    life: usize,
    spec: Spec,
    used_us: u64,
    second: (u64, u64),
    waited_us: u64,
    minute_peak: Bytes,
}

#[derive(Clone, Debug, Default)]
struct History {
    /// Peaks of minutes, and use of seconds.
    memory: Vec<u64>,
    cpu: Vec<u64>,
}

impl Governor {
    pub(crate) fn launch(
        &mut self,
        node: &mut Node,
        id: u64,
        life: usize,
        spec: &Spec,
        load: (Memory, Cpu),
        lasts: u64,
    ) {
        let (ceiling, whole) = (spec.memory.ceiling, Cpus(node.cpus * Cpus::ONE.0));
        let (high, quota) = match self.kind {
            None => (OPEN, whole),
            Some(Baseline::StaticAtPeak) => self.peaks.get(&life).copied().unwrap_or((ceiling, whole)),
            Some(Baseline::Recommender | Baseline::Senpai) => {
                let most = (ceiling, spec.cpu.map_or(whole, |bounds| bounds.ceiling));
                let known = self.names.get(life).and_then(|name| self.histories.get(name));
                known.filter(|known| !known.memory.is_empty()).map_or(most, History::recommended)
            }
        };
        // A quota without a burst: none of them sets one.
        let spec = Spec { cpu: None, ..*spec };
        let limits = Limits { high, max: high };
        let mut group = Cgroup::new(&spec, limits, OPEN, load, lasts, node);
        group.cpu.write(quota);
        node.add(id, group);
        let member =
            Member { life, spec, used_us: 0, second: (node.now, 0), waited_us: 0, minute_peak: Bytes::ZERO };
        self.members.insert(id, member);
        self.apply(node, id, high, high);
    }

    /// Once in a tenth of a second.
    pub(crate) fn govern(&mut self, node: &mut Node) {
        let now = node.now;
        if node.hears_at <= now {
            let ended = node.groups.iter().filter(|(_, group)| !group.runs()).map(|(id, _)| *id);
            for id in ended.collect::<Vec<_>>() {
                node.groups.remove(&id);
                self.members.remove(&id);
            }
            node.hears_at = u64::MAX;
        }
        if now < self.next {
            return;
        }
        self.next = now + TURN;
        let ids: Vec<u64> = self.members.keys().copied().collect();
        for id in ids {
            self.turn(node, id);
        }
    }

    /// When it has something to do next.
    pub(crate) fn wakes_at(&self, node: &Node) -> u64 {
        self.next.min(node.hears_at)
    }

    fn turn(&mut self, node: &mut Node, id: u64) {
        let now = node.now;
        let (Some(group), Some(member)) = (node.caught_up(id), self.members.get_mut(&id)) else { return };
        let (current, used_us) = (group.current(), group.cpu.stat.usage_us);
        let waited_us = group.memory.pressure.some_us;
        let peak = self.peaks.entry(member.life).or_default();
        let period = Cpus((used_us - member.used_us) * (SECOND / TURN));
        member.used_us = used_us;
        if self.kind != Some(Baseline::StaticAtPeak) {
            // A MiB for what comes and goes between two looks.
            *peak = (peak.0.max(current.saturating_add(Bytes::MIB)), peak.1.max(period).max(Cpus::milli(20)));
        }
        member.minute_peak = member.minute_peak.max(current);
        let (began, used) = member.second;
        if now < began + SECOND {
            return;
        }
        member.second = (now, used_us);
        let waited = waited_us - std::mem::replace(&mut member.waited_us, waited_us);
        match self.kind {
            None | Some(Baseline::StaticAtPeak) => {}
            Some(Baseline::Recommender) => {
                let history = self.histories.entry(self.names[member.life].clone()).or_default();
                remember(&mut history.cpu, used_us - used);
                if (now / SECOND).is_multiple_of(60) {
                    let peak = std::mem::replace(&mut member.minute_peak, current);
                    remember(&mut history.memory, peak.0);
                    let (memory, cpu) = history.recommended();
                    let limit = memory.max(current.saturating_add(Bytes::mib(4))).page_ceil();
                    self.apply(node, id, limit, limit);
                    quota(node, id, cpu);
                }
            }
            Some(Baseline::Senpai) => {
                let limit = group.memory.limits.high;
                let to = if waited > BORNE_US {
                    let over = waited as f64 / BORNE_US as f64;
                    limit.saturating_add(limit.scale((over / 20.0).min(0.1)))
                } else {
                    let under = 1.0 - waited as f64 / BORNE_US as f64;
                    limit.min(current).scale(1.0 - (under * under / 10.0).min(0.01))
                };
                let (ceiling, floor) = (member.spec.memory.ceiling, member.spec.memory.floor);
                let max = ceiling.saturating_add(Bytes::mib(8));
                self.apply(node, id, to.page_floor().max(floor).min(ceiling), max);
            }
        }
    }

    /// Writes limits.
    fn apply(&mut self, node: &mut Node, id: u64, high: Bytes, max: Bytes) {
        let from = node.limits(id).unwrap_or_default();
        let to = Limits { high, max };
        if self.kind.is_none() || from == to {
            return;
        }
        if node.write_max(id, max).and_then(|()| node.write_high(id, high)).is_ok() {
            let verb = if high > from.high { Verb::Grow } else { Verb::Shrink };
            let current = node.groups.get(&id).map(Cgroup::current).unwrap_or_default();
            node.log.record(
                node.now,
                id,
                What::Wrote { verb, reason: Reason::PolicyChanged, from, to, current },
            );
        }
    }

    /// What a workload that was killed is to have the next time.
    pub(crate) fn mourn(&mut self, life: usize, limits: Limits) {
        if self.kind == Some(Baseline::Recommender) {
            let more = limits.max.scale(0.2).max(Bytes::mib(100));
            let history = self.histories.entry(self.names[life].clone()).or_default();
            remember(&mut history.memory, limits.max.saturating_add(more).0);
        }
    }
}

impl History {
    fn recommended(&self) -> (Bytes, Cpus) {
        let cpu = Cpus(p90(&self.cpu)).scale(MARGIN).max(Cpus::milli(20));
        (Bytes(p90(&self.memory)).scale(MARGIN).page_ceil(), cpu)
    }
}

fn quota(node: &mut Node, id: u64, to: Cpus) {
    let Some(from) = node.quota(id).filter(|from| *from != to) else { return };
    if node.write_quota(id, to).is_ok() {
        let verb = if to > from { Verb::Grow } else { Verb::Shrink };
        node.log.record(node.now, id, What::QuotaWrote { verb, reason: Reason::PolicyChanged, from, to });
    }
}

fn remember(samples: &mut Vec<u64>, sample: u64) {
    if samples.len() >= KEPT {
        samples.remove(0);
    }
    samples.push(sample);
}

fn p90(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() * 9 / 10).copied().unwrap_or_default()
}
