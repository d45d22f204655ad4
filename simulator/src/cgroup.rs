//! A workload's cgroup, and what runs in it.

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::ladder::Grip;
use bellows_policies::squeeze::Rung;
use bellows_policies::{Base, Bounds, Bytes, CpuBounds, CpuLaw, Cpus, Law, Limits, MemoryEvents};

use crate::chance::Chance;
use crate::check;
use crate::faults::MS;
use crate::load::{Cpu, Memory};
use crate::node::{Node, Ticks, ceil};
use crate::plant::cpu::Group;
use crate::plant::memory::{Demand, Plant};

/// What a workload is told apart by, as in its identity on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    /// Its owner, by number.
    pub(crate) tenant: usize,
    pub(crate) class: Base,
    /// Whom to take from first when there is not enough, the lowest first.
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    /// On which rungs of a squeeze it is asked.
    pub(crate) gives: [bool; Rung::ALL.len()],
    /// By which grips of the ladder it may be held.
    pub(crate) yields: [bool; Grip::ALL.len()],
    pub(crate) memory: Bounds,
    pub(crate) memory_law: Law,
    /// None where the weight alone decides.
    pub(crate) cpu: Option<CpuBounds>,
    pub(crate) law: CpuLaw,
    pub(crate) threads: u64,
}

/// A workload's cgroup and what runs in it.
pub(crate) struct Cgroup {
    pub(crate) spec: Spec,
    pub(crate) memory: Plant,
    pub(crate) cpu: Group,
    /// What its quota allowed since it is there, microseconds of cpu time.
    pub(crate) allowed_us: u64,
    /// Limits noted by whoever opened them: the tripwire, and the quota.
    pub(crate) lease: Option<(Bytes, Cpus)>,
    /// What the watchdog opens `memory.max` to.
    pub(crate) failsafe: Bytes,
    /// `cgroup.freeze`: nothing in it runs.
    pub(crate) is_frozen: bool,
    /// The agent's note that it has frozen it.
    pub(crate) is_noted: bool,
    /// The quota before a part of it was lent, for as long as it is.
    pub(crate) lends_of: Option<Cpus>,
    /// An event is heard at this instant.
    pub(crate) heard_at: Option<u64>,
    /// The first process has ended, which is heard at this instant.
    pub(crate) ended_at: Option<u64>,
    pub(crate) seen: check::Seen,
    pub(crate) uses: Memory,
    pub(crate) runs: Cpu,
    pub(crate) demand: Demand,
    /// Up to when what it wants stays the same.
    pub(crate) wants_until: u64,
    /// Nothing changes in it before this instant.
    pub(crate) next: u64,
    pub(crate) chance: Chance,
    ends_at: u64,
    pub(crate) told: (MemoryEvents, u64),
}

impl Spec {
    /// The quota that holds nobody back, and the burst: on a node of so many cpus.
    fn open_quota(&self, cpus: u64) -> (Cpus, Cpus) {
        self.cpu.map_or((Cpus(cpus * Cpus::ONE.0), Cpus::ZERO), |bounds| (bounds.ceiling, bounds.floor))
    }
}

impl Cgroup {
    pub(crate) fn new(
        spec: &Spec,
        limits: Limits,
        failsafe: Bytes,
        load: (Memory, Cpu),
        life: u64,
        node: &mut Node,
    ) -> Self {
        let mut chance = node.chance.fork();
        let phase_us = chance.below(PERIOD_US);
        let (quota, burst) = spec.open_quota(node.cpus);
        let mut memory = Plant::with_tick(limits, node.ticks.memory_ns);
        memory.now = node.now;
        Self {
            spec: *spec,
            memory,
            // A launch runs at the ceiling: what init does is not the workload's use.
            cpu: Group::with_tick(quota, burst, phase_us, node.ticks.cpu_us),
            allowed_us: 0,
            lease: None,
            failsafe,
            is_frozen: false,
            is_noted: false,
            lends_of: None,
            heard_at: None,
            ended_at: None,
            seen: check::Seen::new(node.now, &spec.memory_law),
            uses: load.0,
            runs: load.1,
            demand: Demand::default(),
            wants_until: 0,
            next: 0,
            chance,
            ends_at: node.now.saturating_add(life),
            told: (MemoryEvents::default(), 0),
        }
    }

    pub(crate) fn current(&self) -> Bytes {
        Bytes(self.memory.usage())
    }

    /// Whether it does anything: it lives, and is not frozen.
    pub(crate) fn moves(&self) -> bool {
        self.runs() && !self.is_frozen
    }

    /// Part of its quota that is lent.
    pub(crate) fn lent(&self) -> Cpus {
        let stands = Cpus::from_quota(self.cpu.quota_us, PERIOD_US);
        self.lends_of.map_or(Cpus::ZERO, |before| before.saturating_sub(stands))
    }

    /// Whether its process lives.
    pub(crate) fn runs(&self) -> bool {
        self.ended_at.is_none()
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.ends_at && self.runs()
    }

    /// Makes up for what was left out up to `now`.
    pub(crate) fn catch_up(&mut self, now: u64, tick_ns: u64) {
        let from = self.memory.now;
        if from < now {
            self.memory.catch_up(now);
            self.seen.passed(from, now, self.memory.asleep_until > now && !self.memory.is_dead, tick_ns);
        }
    }

    /// When the next tick may change something.
    pub(crate) fn next_after(&self, now: u64, ticks: Ticks) -> u64 {
        let quiet = ceil(self.memory.quiet_until(self.demand), ticks.memory_ns).max(now + ticks.memory_ns);
        if !self.runs() {
            return quiet;
        }
        if self.is_frozen {
            return quiet.min(ceil(self.ends_at, ticks.memory_ns));
        }
        quiet.min(ceil(self.wants_until, MS)).min(ceil(self.ends_at, ticks.memory_ns))
    }
}
