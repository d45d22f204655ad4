//! The node: its clock, its cgroups, and what its kernel does when their files are read and written.
//!
//! Time moves in ticks, of 100 us for memory and of 1 ms for the cpu where nothing else is asked for. A cgroup in which a
//! tick would change nothing is left out until something may: so a node of many that rest costs little, and comes to
//! the very same as one whose every tick is run.

use std::collections::BTreeMap;

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::ladder::NodeMemory;
use bellows_policies::{Bytes, CpuSample, Cpus, Detail, Instant, Limits, Sample};

use crate::cgroup::Cgroup;
use crate::chance::Chance;
use crate::check;
use crate::faults::{Faults, MS};
use crate::load::SECOND;
use crate::log::{Errno, Log, NODE, What};
use crate::plant::cpu::TICK_US;
use crate::plant::memory::{Demand, Plant, TICK_NS};

/// What a limit file says when there is no limit.
pub(crate) const OPEN: Bytes = Bytes(u64::MAX);

/// How finely time is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    /// Of memory, nanoseconds: they divide a millisecond.
    pub(crate) memory_ns: u64,
    /// Of the cpu, microseconds: they divide a period.
    pub(crate) cpu_us: u64,
}

impl Ticks {
    pub(crate) const FINE: Self = Self { memory_ns: TICK_NS, cpu_us: TICK_US };
}

/// The node.
pub(crate) struct Node {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) now: u64,
    pub(crate) cpus: u64,
    /// The machine's memory.
    pub(crate) memory: Bytes,
    pub(crate) groups: BTreeMap<u64, Cgroup>,
    pub(crate) faults: Faults,
    pub(crate) chance: Chance,
    pub(crate) log: Log,
    /// Cpu time used by all cgroups that were, microseconds.
    pub(crate) used_us: u64,
    /// Time in which the machine slept. The kernel's periods go on where they were.
    slept: u64,
    pub(crate) ticks: Ticks,
    /// The first instant at which something changes in a cgroup, at the earliest; and at which there is an event to tell of.
    next: u64,
    tell_at: u64,
    /// The first instant at which the agent hears of an event or an end.
    pub(crate) hears_at: u64,
    /// Ticks of cgroups that were run.
    pub(crate) ran: u64,
    /// The rules are checked after each step.
    pub(crate) is_checked: bool,
}

impl Node {
    pub(crate) fn new((cpus, memory): (u64, Bytes), ticks: Ticks, faults: Faults, chance: Chance) -> Self {
        Self {
            // A machine has run for a while when an agent starts.
            now: SECOND,
            cpus,
            memory,
            groups: BTreeMap::new(),
            faults,
            chance,
            log: Log::new(),
            used_us: 0,
            slept: 0,
            ticks,
            next: 0,
            tell_at: 0,
            hears_at: u64::MAX,
            ran: 0,
            is_checked: true,
        }
    }

    /// A cgroup is there.
    pub(crate) fn add(&mut self, id: u64, group: Cgroup) {
        self.groups.insert(id, group);
        self.next = 0;
    }

    /// Something was done to a cgroup from outside.
    pub(crate) fn stir(&mut self, id: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.next = 0;
            self.next = 0;
        }
    }

    /// Makes up for what was left out of a cgroup, and then it is there to be changed.
    pub(crate) fn caught_up(&mut self, id: u64) -> Option<&mut Cgroup> {
        let (now, tick_ns) = (self.now, self.ticks.memory_ns);
        let group = self.groups.get_mut(&id)?;
        group.catch_up(now, tick_ns);
        Some(group)
    }

    /// Leaves out the time in which nothing happens here, so that the next tick ends at `until` or before.
    pub(crate) fn leap(&mut self, until: u64) {
        let Ticks { memory_ns, cpu_us } = self.ticks;
        let cpu = (self.now / (cpu_us * 1000) + 1) * (cpu_us * 1000);
        let next = until.min(cpu).min(self.next).min(self.tell_at);
        self.now = self.now.max(ceil(next, memory_ns).saturating_sub(memory_ns));
    }

    /// Lets time pass, at least one tick.
    pub(crate) fn pass(&mut self, ns: u64) {
        for _ in 0..ns.div_ceil(self.ticks.memory_ns).max(1) {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.now += self.ticks.memory_ns;
        let now = self.now;
        if now >= self.next {
            self.run_memory();
        }
        if now.is_multiple_of(self.ticks.cpu_us * 1000) {
            self.run_cpus();
        }
        if now >= self.tell_at && now.is_multiple_of(MS) {
            self.tell();
        }
    }

    fn run_memory(&mut self) {
        let (now, ticks, is_whole) = (self.now, self.ticks, self.now.is_multiple_of(MS));
        let mut ends = Vec::new();
        self.next = u64::MAX;
        for (&id, group) in &mut self.groups {
            if group.next > now {
                self.next = self.next.min(group.next);
                continue;
            }
            self.ran += 1;
            group.catch_up(now - ticks.memory_ns, ticks.memory_ns);
            if is_whole && group.moves() && group.wants_until <= now {
                group.demand = group.uses.demand(now, &mut group.chance);
                group.wants_until = group.uses.holds_until(now);
            }
            if !group.moves() {
                (group.demand, group.wants_until) = (Demand::default(), 0);
            }
            let was_alive = !group.memory.is_dead;
            group.memory.tick(group.demand);
            if was_alive && group.memory.is_dead {
                check::kill(&mut self.log, now, id, group);
            }
            check::tick(&mut self.log, now, id, group, ticks.memory_ns);
            if group.runs() && (group.memory.is_dead || group.is_due(now)) {
                ends.push(id);
            }
            if group.told.0 != group.memory.events {
                self.tell_at = self.tell_at.min(now);
            }
            group.next = group.next_after(now, ticks);
            self.next = self.next.min(group.next);
        }
        for id in ends {
            self.end(id);
        }
    }

    /// Shares the cpus by want, as the plant of the policies' tests does: weights are the scheduler's business.
    fn run_cpus(&mut self) {
        let now_us = (self.now - self.slept) / 1000;
        let wants: Vec<u64> = self
            .groups
            .values_mut()
            .filter(|group| group.moves())
            .map(|group| {
                let demand = group.runs.demand(&group.cpu, self.now, &mut group.chance);
                group.cpu.begin(now_us, demand)
            })
            .collect();
        let (most, all) = (self.cpus * self.ticks.cpu_us, wants.iter().sum::<u64>());
        let groups = self.groups.values_mut().filter(|group| group.moves());
        for (group, want) in groups.zip(wants) {
            let given = if all > most { want * most / all } else { want };
            group.allowed_us += group.cpu.quota_us * self.ticks.cpu_us / PERIOD_US;
            group.cpu.run(given);
            self.used_us += given;
        }
    }

    /// The kernel tells of events: the first after a quiet spell at once, further ones 10 to 20 ms apart.
    fn tell(&mut self) {
        self.tell_at = u64::MAX;
        for (&id, group) in &mut self.groups {
            if group.told.0 == group.memory.events {
                continue;
            }
            if self.now < group.told.1 {
                self.tell_at = self.tell_at.min(group.told.1);
                continue;
            }
            group.told = (group.memory.events, self.now + self.chance.between(10 * MS, 20 * MS));
            let mut wakes_in = self.chance.below(MS);
            if self.chance.one_in(self.faults.event_lost) {
                self.log.record(self.now, id, What::Fault("event lost"));
                continue;
            }
            if self.chance.one_in(self.faults.event_late) {
                self.log.record(self.now, id, What::Fault("event late"));
                wakes_in = self.chance.below(2 * SECOND);
            }
            let at = self.now + wakes_in;
            group.heard_at = Some(group.heard_at.map_or(at, |before| before.min(at)));
            self.hears_at = self.hears_at.min(at);
        }
    }

    /// The first process ends; the agent hears of it a little later.
    pub(crate) fn end(&mut self, id: u64) {
        let heard = self.now + self.chance.below(2 * MS);
        if let Some(group) = self.groups.get_mut(&id) {
            group.ended_at = Some(heard);
            group.memory.is_dead = true;
            (group.next, self.next) = (0, 0);
            self.hears_at = self.hears_at.min(heard);
            self.log.record(self.now, id, What::Ended);
        }
    }

    /// The machine sleeps: only the clock moves.
    pub(crate) fn suspend(&mut self, ns: u64) {
        self.log.record(self.now, NODE, What::Fault("suspended"));
        let ns = ns / MS * MS;
        for group in self.groups.values_mut() {
            group.catch_up(self.now, self.ticks.memory_ns);
            group.memory.now += ns;
            group.next = 0;
            group.seen.sleep(ns);
            group.memory.asleep_until = group.memory.asleep_until.saturating_add(ns);
        }
        self.now += ns;
        self.slept += ns;
        self.next = 0;
    }

    /// Whether a write may be carried out at all.
    fn enter(&mut self, id: u64) -> Result<&mut Cgroup, Errno> {
        if self.groups.contains_key(&id) && self.chance.one_in(self.faults.write_fails) {
            self.log.record(self.now, id, What::Fault("write failed"));
            return Err(self.chance.of(&[Errno::Interrupted, Errno::Busy]));
        }
        self.groups.get_mut(&id).ok_or(Errno::Gone)
    }

    pub(crate) fn write_high(&mut self, id: u64, high: Bytes) -> Result<(), Errno> {
        self.enter(id)?.memory.limits.high = high;
        self.stir(id);
        Ok(())
    }

    pub(crate) fn write_max(&mut self, id: u64, max: Bytes) -> Result<(), Errno> {
        self.enter(id)?.memory.limits.max = max;
        self.stir(id);
        Ok(())
    }

    pub(crate) fn write_quota(&mut self, id: u64, quota: Cpus) -> Result<(), Errno> {
        self.enter(id)?.cpu.write(quota);
        Ok(())
    }

    /// Freezes, under a note of the agent's, or thaws and removes it.
    pub(crate) fn write_freeze(&mut self, id: u64, is_frozen: bool) -> Result<(), Errno> {
        self.enter(id)?;
        let group = self.caught_up(id).ok_or(Errno::Gone)?;
        (group.is_frozen, group.is_noted) = (is_frozen, is_frozen);
        self.stir(id);
        Ok(())
    }

    /// `cgroup.kill`; its end is the caller's to tell.
    pub(crate) fn write_kill(&mut self, id: u64) -> Result<(), Errno> {
        self.enter(id).map(|_| ())
    }

    /// What `/proc/meminfo` says of the machine: all but clean cache is in use, and there is no swap.
    pub(crate) fn meminfo(&self) -> NodeMemory {
        let used = self.groups.values().map(|group| group.memory.usage() - group.memory.stat.file.0).sum();
        let available = self.memory.saturating_sub(Bytes(used));
        NodeMemory { total: self.memory, available, ..NodeMemory::default() }
    }

    /// Whether somebody waits for memory right now.
    pub(crate) fn stalls(&self) -> bool {
        self.groups.values().any(|group| group.memory.asleep_until > self.now && group.moves())
    }

    pub(crate) fn limits(&self, id: u64) -> Option<Limits> {
        self.groups.get(&id).map(|group| group.memory.limits)
    }

    pub(crate) fn sample(&self, id: u64, at: u64) -> Option<Sample> {
        let sample = self.groups.get(&id)?.memory.sample();
        Some(Sample { at: Instant(at), ..sample })
    }

    pub(crate) fn detail(&mut self, id: u64) -> Option<Detail> {
        let now = self.now;
        let group = self.caught_up(id)?;
        let Plant { stat, pressure, io, .. } = group.memory;
        Some(Detail {
            at: Instant(now),
            stat,
            pressure,
            io,
            threads: group.spec.threads,
            ..Detail::default()
        })
    }

    /// The quota that stands, in millionths of a cpu.
    pub(crate) fn quota(&self, id: u64) -> Option<Cpus> {
        self.groups.get(&id).map(|group| Cpus::from_quota(group.cpu.quota_us, PERIOD_US))
    }

    pub(crate) fn cpu_sample(&self, id: u64, at: u64) -> Option<CpuSample> {
        Some(CpuSample { at: Instant(at), ..self.groups.get(&id)?.cpu.stat })
    }
}

/// The first multiple of `step` that is not before `at`.
pub(crate) fn ceil(at: u64, step: u64) -> u64 {
    at.div_ceil(step).saturating_mul(step)
}
