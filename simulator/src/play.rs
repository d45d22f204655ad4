//! A trace on a node: whoever it names is launched when its time comes, wants what its rows say, is started again after a
//! kill, and ends. Once a second it is written down how everybody fares.
//!
//! Governed by the simulated agent, or by one of the simpler ways to set limits that it is compared with (`baseline`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bellows_policies::ladder::Grip;
use bellows_policies::squeeze::Rung;
use bellows_policies::{Bounds, Budget, Bytes, Class, CpuBounds, Cpus, Limits, Ruleset};

use crate::baseline::Governor;
use crate::cgroup::Spec;
use crate::chance::Chance;
use crate::faults::{Faults, MS};
use crate::host::{Host, Setup};
use crate::load::{Cpu, Memory, SECOND};
use crate::log::Killer;
use crate::node::{Node, Ticks};
use crate::outcome::{Outcome, Point, Seen, Story};
use crate::trace::{Life, Trace};

/// Time from a kill until the workload is started again, and from a refused launch until it is tried again.
const AGAIN: u64 = 5 * SECOND;
/// A launch that has led to nothing for so long is lost: a hung agent comes back sooner.
const LOST: u64 = 10 * SECOND;
/// Threads that are assumed, which the band of a limit depends on.
const THREADS: u64 = 8;
/// Ticks of a trace: coarse enough for hours, fine enough for laws that look every 2 ms.
const TICKS: Ticks = Ticks { memory_ns: MS, cpu_us: 10_000 };

/// The node of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// What there is to grant from.
    pub capacity: Bytes,
    /// What of it is never granted.
    pub reserve: Bytes,
    /// Its cpus.
    pub cpus: u64,
}

/// How a trace is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What goes wrong is drawn from this seed; nothing goes wrong without one.
    pub failures: Option<u64>,
    /// All records are kept, not only the last of each workload.
    pub keep_records: bool,
    /// The rules are checked after each step.
    pub check: bool,
    /// Time between two points of a story, milliseconds; a second without.
    pub points_ms: Option<u64>,
}

/// A workload of the trace that its class cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{workload}: {problem}")]
pub struct Misfit {
    /// `tenant/workload`.
    pub workload: String,
    /// Why.
    pub problem: String,
}

/// A life under way.
struct Actor {
    spec: Spec,
    /// Its number, while it is there or about to be.
    id: Option<u64>,
    /// When it was launched last.
    launched_at: u64,
    starts_at: u64,
    ends_at: u64,
    story: Story,
}

/// A run of a trace.
pub(crate) struct Play<'t> {
    pub(crate) host: Host,
    trace: &'t Trace,
    actors: Vec<Actor>,
    /// Which life a number belongs to.
    lives: BTreeMap<u64, usize>,
    born: u64,
    /// The virtual time at which the trace begins.
    begun: u64,
    /// The first instant at which somebody is to be launched.
    next_start: u64,
    next_point: u64,
    /// Time between two points, nanoseconds.
    each: u64,
}

/// Plays a trace under a rule set.
pub fn play(trace: &Trace, rules: &Ruleset, place: Place, options: Options) -> Result<Outcome, Misfit> {
    let mut play = Play::new(trace, rules, place, options)?;
    play.drive(&mut None);
    Ok(play.finish())
}

impl<'t> Play<'t> {
    pub(crate) fn new(
        trace: &'t Trace,
        rules: &Ruleset,
        place: Place,
        options: Options,
    ) -> Result<Self, Misfit> {
        let mut chance = Chance::new(options.failures.unwrap_or(1));
        // A machine that sleeps, or somebody who removes cgroups, would make another trace of it.
        let faults = options.failures.map_or_else(Faults::default, |_| Faults {
            vanish: 0,
            suspend: 0,
            ..Faults::drawn(&mut chance)
        });
        let mut budget = Budget::new(place.capacity, place.reserve).with_overcommit(rules.node.overcommit);
        let mut tenants = BTreeMap::new();
        for life in &trace.lives {
            tenants.entry(life.tenant.as_str()).or_insert_with(|| {
                let bounds = rules.tenants.get(&life.tenant).map(|tenant| tenant.bounds(place.capacity));
                (budget.open(), bounds.unwrap_or_default())
            });
        }
        let mut ids = Vec::new();
        for (name, (id, bounds)) in &tenants {
            budget
                .set_bounds(*id, *bounds)
                .map_err(|problem| Misfit { workload: (*name).to_owned(), problem: problem.to_string() })?;
            ids.push(*id);
        }
        let number = |tenant: &str| tenants.keys().position(|name| *name == tenant).unwrap_or_default();
        let node = Node::new((place.cpus, place.capacity), TICKS, faults, chance.fork());
        let (ladder, pressure) = (rules.node.ladder, rules.node.pressure);
        let mut host = Host::new(node, Setup { budget, tenants: ids, ladder, pressure }, chance);
        host.node.is_checked = options.check || options.failures.is_some();
        host.node.log.keep(options.keep_records);
        let begun = host.node.now;
        let actors = trace.lives.iter().map(|life| {
            let misfit = |problem| Misfit { workload: life.full_name(), problem };
            let assignment = rules
                .assign(&life.tenant, &life.name, life.class.as_deref())
                .map_err(|unknown| misfit(unknown.to_string()))?;
            let spec = spec(life, &assignment.class, number(&life.tenant), place).map_err(misfit)?;
            Ok(Actor {
                spec,
                id: None,
                launched_at: 0,
                starts_at: begun + life.begins(),
                ends_at: begun + life.ends.unwrap_or(trace.ends),
                story: Story::new(
                    life.full_name(),
                    assignment.class.name.clone(),
                    spec.cpu.map(|bounds| bounds.floor),
                ),
            })
        });
        let actors = actors.collect::<Result<Vec<_>, Misfit>>()?;
        let each = options.points_ms.map_or(SECOND, |points| points.max(1) * MS);
        let (lives, next_point) = (BTreeMap::new(), begun + each);
        Ok(Self { host, trace, actors, lives, born: 0, begun, next_start: 0, next_point, each })
    }

    /// Plays it to its end. `governor`: who sets the limits instead of the agent.
    pub(crate) fn drive(&mut self, governor: &mut Option<&mut Governor>) {
        if governor.is_some() {
            self.host.disown();
        }
        let end = self.begun + self.trace.ends;
        while self.host.node.now < end && self.host.is_whole() {
            if self.host.node.now >= self.next_start {
                self.start(governor);
            }
            let awaited = self.next_start.min(self.next_point).min(end);
            if let Some(governor) = governor {
                self.host.advance(awaited.min(governor.wakes_at(&self.host.node)));
                governor.govern(&mut self.host.node);
            } else {
                self.host.advance(awaited);
                self.host.govern();
            }
            if !self.host.node.log.killed.is_empty() {
                self.mourn(governor);
            }
            if self.host.node.now >= self.next_point {
                self.write_down();
            }
        }
    }

    /// What came of it.
    pub(crate) fn finish(self) -> Outcome {
        let stories = self.actors.into_iter().map(|actor| actor.story).collect();
        Outcome::new(stories, self.trace, &self.host, &self.lives)
    }

    /// Launches whoever's time has come.
    fn start(&mut self, governor: &mut Option<&mut Governor>) {
        let now = self.host.node.now;
        for index in 0..self.actors.len() {
            let actor = &mut self.actors[index];
            if actor.id.is_some() || now < actor.starts_at || now + MS >= actor.ends_at || self.host.is_hung()
            {
                continue;
            }
            let id = self.born + 1;
            let life = &self.trace.lives[index];
            let load = (
                Memory::Rows { rows: Arc::clone(&life.rows), from: self.begun, next: 0 },
                Cpu::Rows { rows: Arc::clone(&life.rows), from: self.begun, next: 0, tick_us: TICKS.cpu_us },
            );
            let lasts = actor.ends_at - now;
            let is_launched = match (governor.as_mut(), &mut self.host.agent) {
                (Some(governor), _) => {
                    governor.launch(&mut self.host.node, id, index, &actor.spec, load, lasts);
                    true
                }
                (None, Some(agent)) => agent.launch(&mut self.host.node, id, &actor.spec, load, lasts),
                (None, None) => false,
            };
            if is_launched {
                self.born = id;
                self.lives.insert(id, index);
                (actor.id, actor.launched_at) = (Some(id), now);
                actor.story.starts += 1;
            } else {
                actor.story.refused_launches += u64::from(self.host.agent.is_some());
                actor.starts_at = now + AGAIN;
            }
        }
        let waiting = self.actors.iter().filter(|actor| actor.id.is_none() && now + MS < actor.ends_at);
        let next = waiting.map(|actor| actor.starts_at).min().unwrap_or(u64::MAX);
        self.next_start = next.max(now + MS);
    }

    /// Whoever was killed is started again a while later.
    fn mourn(&mut self, governor: &mut Option<&mut Governor>) {
        let killed = std::mem::take(&mut self.host.node.log.killed);
        for (id, by) in killed {
            let Some(&index) = self.lives.get(&id) else { continue };
            if let (Some(governor), Some(limits)) = (governor.as_mut(), self.host.node.limits(id)) {
                governor.mourn(index, limits);
            }
            let actor = &mut self.actors[index];
            match by {
                Killer::Kernel => actor.story.kills += 1,
                Killer::Policy => actor.story.policy_kills += 1,
            }
            actor.story.leave();
            actor.id = None;
            actor.starts_at = self.host.node.now + AGAIN;
            self.next_start = self.next_start.min(actor.starts_at);
        }
    }

    fn write_down(&mut self) {
        for index in 0..self.actors.len() {
            self.look_at(index);
        }
        self.next_point += self.each;
    }

    /// How a workload fares now.
    fn look_at(&mut self, index: usize) {
        let now = self.host.node.now;
        let actor = &mut self.actors[index];
        let Some(id) = actor.id else {
            // The time that a launch takes is none that it waits.
            let begins = self.begun + self.trace.lives[index].begins();
            if now >= begins + SECOND && now < actor.ends_at {
                actor.story.waited_ns += self.each;
            }
            return;
        };
        let Some(group) = self.host.node.caught_up(id) else {
            // It has ended; or the agent died over its launch.
            if now >= actor.ends_at || now > actor.launched_at + LOST {
                actor.story.leave();
                actor.id = None;
                self.next_start = self.next_start.min(now);
            }
            return;
        };
        if !group.runs() {
            return;
        }
        let row = self.trace.lives[index].row(now - self.begun);
        let Limits { high, max } = group.memory.limits;
        let point = Point {
            at: now - self.begun,
            current: group.current(),
            want: row.need.saturating_add(row.cache),
            high,
            max,
            quota: actor.spec.cpu.map(|_| Cpus(group.cpu.quota_us * 10)),
            throttled: group.cpu.stat.nr_throttled,
            used_us: group.cpu.stat.usage_us,
            is_frozen: group.is_frozen,
        };
        let each_s = self.each as f64 / SECOND as f64;
        actor.story.frozen_s += if group.is_frozen { each_s } else { 0.0 };
        actor.story.lent_cpu_s += group.lent().as_f64() * each_s;
        let seen =
            Seen { asleep_ns: group.memory.asleep_ns, cpu: group.cpu.stat, allowed_us: group.allowed_us };
        actor.story.take(point, seen);
    }
}

/// What a class makes of a workload of the trace.
fn spec(life: &Life, class: &Class, tenant: usize, place: Place) -> Result<Spec, String> {
    let own = class.memory.floor.zip(class.memory.ceiling);
    let memory = class.memory_bounds(if own.is_some() { None } else { life.memory }, place.capacity);
    let memory: Bounds = memory.map_err(|text| {
        if own.is_none() && life.memory.is_none() {
            format!(
                "the class {} sets no floor and ceiling of memory: give them in the policy, or in the \
                 column `memory`",
                class.name
            )
        } else {
            text
        }
    })?;
    let has_bounds = class.cpu.floor.is_some() && class.cpu.ceiling.is_some();
    let is_quota = class.cpu.control == bellows_policies::ruleset::CpuControl::Quota;
    let asked = life.cpu.filter(|_| is_quota && !has_bounds);
    let cpu: Option<CpuBounds> = class.cpu_bounds(asked)?;
    let allows = |name: &str| class.rungs.iter().any(|allowed| allowed == name);
    Ok(Spec {
        tenant,
        class: class.base,
        priority: class.priority,
        weight: class.cpu.law.weight,
        gives: Rung::ALL.map(|rung| allows(rung.as_str())),
        yields: Grip::ALL.map(|grip| allows(grip.as_str())),
        memory,
        memory_law: class.memory.law,
        cpu,
        law: class.cpu.law,
        threads: THREADS,
    })
}
