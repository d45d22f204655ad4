//! The loop that governs the groups of a node: it wakes on a grid of periods, up to 2 ms late, looks at those that are due,
//! and early at those that unexplained use of the subtree may have exhausted.

use std::fmt::Write;

use bellows_policies::cpu::{self, CpuBounds};
use bellows_policies::{
    CpuLaw, CpuPlan, CpuSample, CpuWorkload, Cpus, Instant, NodeGuard, NodeLaw, Reason, Verb,
};

use super::Rng;
use super::group::{Demand, Group, TICK_US};

const GRID_US: u64 = 100_000;

/// What a tenant does next. It sees its own group, as it would in `cpu.max` and `cpu.stat`, the time and some chance.
pub(crate) type Load = Box<dyn FnMut(&Group, u64, &mut Rng) -> Demand>;

pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) workload: CpuWorkload,
    pub(crate) writes: Vec<Written>,
    pub(crate) looks: u64,
    load: Load,
    due_us: u64,
    /// The sample of the last look, and the wake it was taken in.
    seen: (CpuSample, u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) at_us: u64,
    pub(crate) from: Cpus,
    pub(crate) to: Cpus,
    pub(crate) reason: Reason,
}

pub(crate) struct Rig {
    pub(crate) now_us: u64,
    pub(crate) members: Vec<Member>,
    /// Use of the node at the last wake.
    pub(crate) used: Cpus,
    cpus: u64,
    guard: NodeGuard,
    rng: Rng,
    wake_us: u64,
    wakes: u64,
    woke_us: u64,
    usage_us: u64,
}

impl Rig {
    /// A node of `cpus` without groups.
    pub(crate) fn new(cpus: u64, seed: u64) -> Self {
        Self {
            now_us: 0,
            members: Vec::new(),
            used: Cpus::ZERO,
            cpus,
            guard: NodeGuard::new(Cpus(cpus * Cpus::ONE.0), NodeLaw::default()),
            rng: Rng::new(seed),
            wake_us: GRID_US,
            wakes: 0,
            woke_us: 0,
            usage_us: 0,
        }
    }

    /// Launches a workload at its floor.
    pub(crate) fn launch(
        &mut self,
        bounds: &str,
        law: CpuLaw,
        load: impl FnMut(&Group, u64, &mut Rng) -> Demand + 'static,
    ) {
        let bounds: CpuBounds = bounds.parse().expect("bounds");
        let workload = CpuWorkload::new(bounds, law);
        let group = Group::new(workload.quota(), workload.burst(), self.rng.below(GRID_US));
        let seen = (CpuSample::default(), 0);
        let load = Box::new(load);
        self.members.push(Member { group, workload, writes: vec![], looks: 0, load, due_us: 0, seen });
    }

    /// Runs for `ms`.
    pub(crate) fn run(&mut self, ms: u64) {
        for _ in 0..ms * 1000 / TICK_US {
            self.now_us += TICK_US;
            self.tick();
            if self.now_us >= self.wake_us {
                self.wake();
                self.wakes += 1;
                self.wake_us = (self.now_us / GRID_US + 1) * GRID_US + self.rng.below(3) * TICK_US;
            }
        }
    }

    /// The cpu time that was used, microseconds.
    pub(crate) fn usage_us(&self) -> u64 {
        self.members.iter().map(|member| member.group.stat.usage_us).sum()
    }

    /// The writes to the only group, for a message.
    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        for Written { at_us, from, to, reason } in self.members.iter().flat_map(|member| &member.writes) {
            let ms = at_us / 1000;
            writeln!(log, "{ms:>8} ms  {from:>9} -> {to:<9} {}", reason.as_str()).expect("a string");
        }
        log
    }

    fn tick(&mut self) {
        let (now, rng) = (self.now_us, &mut self.rng);
        let wants: Vec<u64> = self
            .members
            .iter_mut()
            .map(|member| {
                let demand = (member.load)(&member.group, now, rng);
                member.group.begin(now, demand)
            })
            .collect();
        // The node's cpus are shared by want: weights are the scheduler's business, and it is not modelled.
        let (most, all) = (self.cpus * TICK_US, wants.iter().sum::<u64>());
        for (member, want) in self.members.iter_mut().zip(wants) {
            member.group.run(if all > most { want * most / all } else { want });
        }
    }

    fn wake(&mut self) {
        let (now, usage) = (self.now_us, self.usage_us());
        let time = std::time::Duration::from_micros(now - self.woke_us);
        let fresh_us = usage - self.usage_us;
        self.used = Cpus::used(fresh_us, time);
        (self.usage_us, self.woke_us) = (usage, now);
        self.guard.observe(Instant(now * 1000), self.used);
        if self.guard.is_shedding() {
            self.guard.share_out(self.members.iter().map(|member| &member.workload));
        }
        let mut explained_us = 0;
        for index in 0..self.members.len() {
            let member = &self.members[index];
            let (seen, wake) = member.seen;
            if member.due_us <= now {
                if wake + 1 == self.wakes {
                    explained_us += member.group.stat.usage_us - seen.usage_us;
                }
                self.look(index);
            }
        }
        let unexplained = Cpus::used(fresh_us.saturating_sub(explained_us), time);
        for index in 0..self.members.len() {
            let member = &self.members[index];
            if member.seen.1 < self.wakes && member.workload.least_exhausting_use() <= unexplained {
                self.look(index);
            }
        }
    }

    fn look(&mut self, index: usize) {
        let (now, member) = (self.now_us, &mut self.members[index]);
        let sample = member.group.sample(now);
        member.seen = (sample, self.wakes);
        member.looks += 1;
        let step = cpu::step(&mut member.workload, &sample);
        // To the grid: a look due within half a tick of it is due at it.
        member.due_us =
            now + u64::try_from(step.look_again.as_micros()).unwrap_or(u64::MAX).saturating_sub(GRID_US / 2);
        let CpuPlan::Write { verb, from, to, reason, evidence } =
            cpu::plan(&member.workload, step.decision, &mut self.guard)
        else {
            return;
        };
        assert!(if verb == Verb::Grow { to > from } else { to < from }, "{verb} from {from} to {to}");
        assert_eq!(super::replayed(&evidence, member.workload.law()), to, "{evidence:?}");
        member.group.write(to);
        member.workload.commit(to, reason, sample.at);
        member.writes.push(Written { at_us: now, from, to, reason });
    }
}
