//! The node: its clock, its cgroups, and what its kernel does when their files are read and written. Time moves in ticks of
//! 100 us for memory and of 1 ms for the cpu.

use std::collections::BTreeMap;

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::{
    Bounds, Bytes, CpuBounds, CpuSample, Cpus, Detail, Instant, Limits, MemoryEvents, Sample,
};

use crate::chance::Chance;
use crate::check;
use crate::cpu_plant::TICK_US;
use crate::cpu_plant::group::Group;
use crate::faults::{Faults, MS};
use crate::load::{Cpu, Memory, SECOND};
use crate::plant::{Demand, Plant, TICK_NS};
use crate::trace::{Errno, NODE, Trace, What};

/// What a limit file says when there is no limit.
pub(crate) const OPEN: Bytes = Bytes(u64::MAX);
/// Ticks of memory in one of the cpu.
const CPU_TICKS: u64 = TICK_US * 1000 / TICK_NS;

/// What a workload is told apart by, as in its identity on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its owner, by number.
    pub(crate) tenant: usize,
    pub(crate) class: bellows_policies::Base,
    pub(crate) memory: Bounds,
    pub(crate) cpu: CpuBounds,
    pub(crate) law: bellows_policies::CpuLaw,
    pub(crate) threads: u64,
}

/// A workload's cgroup and what runs in it.
pub(crate) struct Cgroup {
    pub(crate) spec: Spec,
    pub(crate) memory: Plant,
    pub(crate) cpu: Group,
    /// Limits noted by whoever opened them: the tripwire, and the quota.
    pub(crate) lease: Option<(Bytes, Cpus)>,
    /// What the watchdog opens `memory.max` to.
    pub(crate) failsafe: Bytes,
    /// An event is heard at this instant.
    pub(crate) heard_at: Option<u64>,
    /// The first process has ended, which is heard at this instant.
    pub(crate) ended_at: Option<u64>,
    pub(crate) seen: check::Seen,
    uses: Memory,
    runs: Cpu,
    demand: Demand,
    chance: Chance,
    ends_at: u64,
    told: (MemoryEvents, u64),
}

/// The node.
pub(crate) struct Node {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) now: u64,
    pub(crate) cpus: u64,
    pub(crate) groups: BTreeMap<u64, Cgroup>,
    pub(crate) faults: Faults,
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    /// Cpu time used by all cgroups that were, microseconds.
    pub(crate) used_us: u64,
    /// Time in which the machine slept. The kernel's periods go on where they were.
    slept: u64,
}

impl Cgroup {
    pub(crate) fn new(
        spec: Spec,
        limits: Limits,
        failsafe: Bytes,
        load: (Memory, Cpu),
        life: u64,
        node: &mut Node,
    ) -> Self {
        let mut chance = node.chance.fork();
        let phase_us = chance.below(PERIOD_US);
        Self {
            spec,
            memory: Plant::new(limits),
            // A launch runs at the ceiling: what init does is not the workload's use.
            cpu: Group::new(spec.cpu.ceiling, spec.cpu.floor, phase_us),
            lease: None,
            failsafe,
            heard_at: None,
            ended_at: None,
            seen: check::Seen::new(node.now),
            uses: load.0,
            runs: load.1,
            demand: Demand::default(),
            chance,
            ends_at: node.now.saturating_add(life),
            told: (MemoryEvents::default(), 0),
        }
    }

    pub(crate) fn current(&self) -> Bytes {
        Bytes(self.memory.usage())
    }

    /// Whether its process lives.
    pub(crate) fn runs(&self) -> bool {
        self.ended_at.is_none()
    }

    fn is_due(&self, now: u64) -> bool {
        now >= self.ends_at && self.runs()
    }
}

impl Node {
    pub(crate) fn new(cpus: u64, faults: Faults, chance: Chance) -> Self {
        // A machine has run for a while when an agent starts.
        let (groups, trace) = (BTreeMap::new(), Trace::new());
        Self { now: SECOND, cpus, groups, faults, chance, trace, used_us: 0, slept: 0 }
    }

    /// Lets time pass, at least one tick.
    pub(crate) fn pass(&mut self, ns: u64) {
        for _ in 0..ns.div_ceil(TICK_NS).max(1) {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.now += TICK_NS;
        let (now, is_whole) = (self.now, self.now.is_multiple_of(CPU_TICKS * TICK_NS));
        let mut ends = Vec::new();
        for (&id, group) in &mut self.groups {
            if is_whole && group.runs() {
                group.demand = group.uses.demand(now, &mut group.chance);
            }
            group.memory.now = now - TICK_NS;
            let was_alive = !group.memory.is_dead;
            let demand = if group.runs() { group.demand } else { Demand::default() };
            group.memory.tick(demand);
            if was_alive && group.memory.is_dead {
                check::kill(&mut self.trace, now, id, group);
            }
            check::tick(&mut self.trace, now, id, group);
            if group.runs() && (group.memory.is_dead || group.is_due(now)) {
                ends.push(id);
            }
        }
        for id in ends {
            self.end(id);
        }
        if is_whole {
            self.run_cpus();
            self.tell();
        }
    }

    /// Shares the cpus by want, as the plant of the policies' tests does: weights are the scheduler's business.
    fn run_cpus(&mut self) {
        let now_us = (self.now - self.slept) / 1000;
        let wants: Vec<u64> = self
            .groups
            .values_mut()
            .filter(|group| group.runs())
            .map(|group| {
                let demand = group.runs.demand(&group.cpu, self.now, &mut group.chance);
                group.cpu.begin(now_us, demand)
            })
            .collect();
        let (most, all) = (self.cpus * TICK_US, wants.iter().sum::<u64>());
        let groups = self.groups.values_mut().filter(|group| group.runs());
        for (group, want) in groups.zip(wants) {
            let given = if all > most { want * most / all } else { want };
            group.cpu.run(given);
            self.used_us += given;
        }
    }

    /// The kernel tells of events: the first after a quiet spell at once, further ones 10 to 20 ms apart.
    fn tell(&mut self) {
        for (&id, group) in &mut self.groups {
            if group.told.0 == group.memory.events || self.now < group.told.1 {
                continue;
            }
            group.told = (group.memory.events, self.now + self.chance.between(10 * MS, 20 * MS));
            let mut wakes_in = self.chance.below(MS);
            if self.chance.one_in(self.faults.event_lost) {
                self.trace.record(self.now, id, What::Fault("event lost"));
                continue;
            }
            if self.chance.one_in(self.faults.event_late) {
                self.trace.record(self.now, id, What::Fault("event late"));
                wakes_in = self.chance.below(2 * SECOND);
            }
            let at = self.now + wakes_in;
            group.heard_at = Some(group.heard_at.map_or(at, |before| before.min(at)));
        }
    }

    /// The first process ends; the agent hears of it a little later.
    pub(crate) fn end(&mut self, id: u64) {
        let heard = self.now + self.chance.below(2 * MS);
        if let Some(group) = self.groups.get_mut(&id) {
            group.ended_at = Some(heard);
            group.memory.is_dead = true;
            self.trace.record(self.now, id, What::Ended);
        }
    }

    /// The machine sleeps: only the clock moves.
    pub(crate) fn suspend(&mut self, ns: u64) {
        self.trace.record(self.now, NODE, What::Fault("suspended"));
        let ns = ns / MS * MS;
        self.now += ns;
        self.slept += ns;
        for group in self.groups.values_mut() {
            group.seen.sleep(ns);
            group.memory.asleep_until = group.memory.asleep_until.saturating_add(ns);
        }
    }

    /// Whether a write may be carried out at all.
    fn enter(&mut self, id: u64) -> Result<&mut Cgroup, Errno> {
        if self.groups.contains_key(&id) && self.chance.one_in(self.faults.write_fails) {
            self.trace.record(self.now, id, What::Fault("write failed"));
            return Err(self.chance.of(&[Errno::Interrupted, Errno::Busy]));
        }
        self.groups.get_mut(&id).ok_or(Errno::Gone)
    }

    pub(crate) fn write_high(&mut self, id: u64, high: Bytes) -> Result<(), Errno> {
        self.enter(id)?.memory.limits.high = high;
        Ok(())
    }

    pub(crate) fn write_max(&mut self, id: u64, max: Bytes) -> Result<(), Errno> {
        self.enter(id)?.memory.limits.max = max;
        Ok(())
    }

    pub(crate) fn write_quota(&mut self, id: u64, quota: Cpus) -> Result<(), Errno> {
        self.enter(id)?.cpu.write(quota);
        Ok(())
    }

    pub(crate) fn limits(&self, id: u64) -> Option<Limits> {
        self.groups.get(&id).map(|group| group.memory.limits)
    }

    pub(crate) fn sample(&self, id: u64, at: u64) -> Option<Sample> {
        let sample = self.groups.get(&id)?.memory.sample();
        Some(Sample { at: Instant(at), ..sample })
    }

    pub(crate) fn detail(&self, id: u64) -> Option<Detail> {
        let group = self.groups.get(&id)?;
        let Plant { stat, pressure, io, .. } = group.memory;
        Some(Detail { at: Instant(self.now), stat, pressure, io, threads: group.spec.threads })
    }

    /// The quota that stands, in millionths of a cpu.
    pub(crate) fn quota(&self, id: u64) -> Option<Cpus> {
        self.groups.get(&id).map(|group| Cpus::from_quota(group.cpu.quota_us, PERIOD_US))
    }

    pub(crate) fn cpu_sample(&self, id: u64, at: u64) -> Option<CpuSample> {
        Some(CpuSample { at: Instant(at), ..self.groups.get(&id)?.cpu.stat })
    }
}
