//! Runs: a node, its agent, and whoever makes workloads, ends them and breaks things.

use std::fmt;

use bellows_policies::ladder::{Grip, LadderLaw, PressureLaw};
use bellows_policies::ruleset::Defaults;
use bellows_policies::squeeze::Rung;
use bellows_policies::{
    Base, Bounds, Budget, Bytes, Class, CpuBounds, CpuLaw, Cpus, Law, Overcommit, TenantBounds,
};

use crate::cgroup::Spec;
use crate::chance::Chance;
use crate::check;
use crate::faults::{Faults, MS};
use crate::host::{Host, Setup};
use crate::load::{Cpu, Memory, SECOND};
use crate::log::Broken;
use crate::node::{Node, Ticks};
use crate::plant::memory::mib;

/// Steps of one seed; the next seed follows. It is part of what a seed means: what is left over at its end is cleared away.
const EACH: u64 = 10_000;
/// How long a run may take to end all workloads, nanoseconds.
const END_WITHIN: u64 = 60 * SECOND;

/// A node under way, and whoever makes workloads.
pub struct Run {
    pub(crate) host: Host,
    chance: Chance,
    born: u64,
    next_birth: u64,
    most: usize,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it was drawn from.
    pub seed: u64,
    /// Events that the agent handled.
    pub steps: u64,
    /// Virtual time.
    pub seconds: u64,
    /// Workloads that were launched.
    pub workloads: u64,
    /// Writes of memory limits.
    pub writes: u64,
    /// Writes of cpu quotas.
    pub quotas: u64,
    /// Workloads that the kernel killed.
    pub kills: u64,
    /// Workloads that the ladder froze, and that it killed.
    pub held: [u64; 2],
    /// Things that went wrong.
    pub faults: u64,
    /// Of all that happened.
    pub hash: u64,
    /// The first rule that was broken, with what happened before.
    pub broken: Option<(Broken, String)>,
}

impl Run {
    /// A node of a seed: its size, how much goes wrong, and all that happens on it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let faults = Faults::drawn(&mut chance);
        let pool = chance.between(mib(512), mib(6144));
        let cpus = chance.of(&[2, 4, 16]);
        let most = chance.between(1, 12);
        let setup = setup(&mut chance, pool);
        Self::with(chance, faults, setup, (cpus, Bytes(pool)), usize::try_from(most).unwrap_or(1))
    }

    /// A node on which nothing goes wrong, with room for all, and without births.
    #[cfg(test)]
    pub(crate) fn quiet(seed: u64) -> Self {
        let mut budget = Budget::new(Bytes::mib(64 << 10), Bytes::ZERO);
        let tenants = vec![budget.open()];
        let setup = Setup { budget, tenants, ladder: LadderLaw::default(), pressure: PressureLaw::default() };
        let size = (64, Bytes::mib(64 << 10));
        Self { next_birth: u64::MAX, ..Self::with(Chance::new(seed), Faults::default(), setup, size, 12) }
    }

    fn with(mut chance: Chance, faults: Faults, setup: Setup, size: (u64, Bytes), most: usize) -> Self {
        let node = Node::new(size, Ticks::FINE, faults, chance.fork());
        let host = Host::new(node, setup, chance.fork());
        Self { host, chance, born: 0, next_birth: 0, most }
    }

    /// Runs until so many events were handled, and then until all workloads have ended and nothing is left.
    #[must_use]
    pub fn play(mut self, seed: u64) -> Report {
        let _named = Named(seed);
        while self.host.steps() < EACH && self.host.is_whole() {
            self.advance();
        }
        self.wind_down();
        self.report(seed)
    }

    /// Lets `ns` pass.
    #[cfg(test)]
    pub(crate) fn pass(&mut self, ns: u64) {
        let end = self.host.node.now + ns;
        while self.host.node.now < end && self.host.is_whole() {
            self.advance();
        }
    }

    /// A workload of this kind, for as long as the run lasts.
    pub(crate) fn launch(&mut self, spec: &Spec, memory: Memory, cpu: Cpu, life: u64) -> u64 {
        self.born += 1;
        if let Some(agent) = &mut self.host.agent {
            agent.launch(&mut self.host.node, self.born, spec, (memory, cpu), life);
        }
        self.born
    }

    /// Ends everything, and sees that nothing is left.
    pub(crate) fn wind_down(&mut self) {
        self.next_birth = u64::MAX;
        let host = &mut self.host;
        (host.faults, host.node.faults) = Default::default();
        let end = host.node.now + END_WITHIN;
        let is_left = |host: &Host| {
            !host.node.groups.is_empty() || host.agent.as_ref().is_none_or(|agent| !agent.is_idle())
        };
        while is_left(&self.host) && self.host.node.now < end && self.host.is_whole() {
            let groups = &self.host.node.groups;
            let living: Vec<u64> =
                groups.iter().filter(|(_, group)| group.runs()).map(|(id, _)| *id).collect();
            for id in living {
                self.host.node.end(id);
            }
            self.advance();
        }
        if self.host.is_whole()
            && let Some(agent) = &self.host.agent
        {
            check::end(agent, &mut self.host.node);
        }
    }

    pub(crate) fn report(&self, seed: u64) -> Report {
        let log = &self.host.node.log;
        Report {
            seed,
            steps: self.host.steps(),
            seconds: self.host.node.now / SECOND,
            workloads: self.born,
            writes: log.writes,
            quotas: log.quotas,
            kills: log.kills,
            held: [log.frozen, log.sacrificed],
            faults: log.faults.values().sum(),
            hash: log.hash(),
            broken: log.broken.clone().map(|broken| {
                let last = log.last(broken.id);
                (broken, last)
            }),
        }
    }

    fn advance(&mut self) {
        self.host.advance(u64::MAX);
        if self.host.node.now.is_multiple_of(MS) {
            self.give_birth();
        }
        self.host.govern();
    }

    fn give_birth(&mut self) {
        let Node { now, groups, .. } = &self.host.node;
        if self.host.is_hung() || *now < self.next_birth || groups.len() >= self.most {
            return;
        }
        self.next_birth = now + self.chance.below(8 * SECOND);
        let chance = &mut self.chance;
        let spec = Spec {
            tenant: usize::try_from(chance.below(self.host.setup.tenants.len() as u64)).unwrap_or(0),
            ..spec(chance)
        };
        let life = chance.between(SECOND / 10, 180 * SECOND);
        let (memory, cpu) = (Memory::drawn(chance, spec.memory.ceiling.0), Cpu::drawn(chance));
        self.launch(&spec, memory, cpu, life);
    }
}

/// Names the seed also when something panics: an overflow in a law is a rule broken, too.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BROKEN by the panic above; again: make sim SEED={} STEPS={EACH}", self.0);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, seconds, workloads, writes, quotas, kills, held, faults, hash, broken } =
            self;
        let [frozen, sacrificed] = held;
        write!(
            f,
            "seed {seed}: {steps} steps, {seconds} s, {workloads} workloads, {writes} limits and {quotas} quotas \
             written, {kills} kills, {frozen} frozen and {sacrificed} killed by the ladder, {faults} faults, hash \
             {hash:016x}"
        )?;
        if let Some((Broken { at, id, text }, last)) = broken {
            let ms = *at as f64 / 1e6;
            write!(f, "\nBROKEN at step {steps}, {ms:.1} ms, workload #{id}: {text}\n{last}")?;
            write!(f, "again: make sim SEED={seed} STEPS={EACH}")?;
        }
        Ok(())
    }
}

/// A budget of `pool` bytes, sold more than once now and then, and tenants: half of them with a guarantee, half with a cap. The
/// ladder's laws are a little in a hurry now and then.
fn setup(chance: &mut Chance, pool: u64) -> Setup {
    let mut ratio = || chance.of(&[1.0, 1.0, 1.0, 1.5]);
    let overcommit = Overcommit { latency: 1.0, standard: ratio(), batch: ratio() };
    let mut budget = Budget::new(Bytes(pool), Bytes::ZERO).with_overcommit(overcommit);
    let count = chance.between(1, 4);
    let tenants = (0..count).map(|_| {
        let guarantee = Bytes(chance.below(2) * chance.below(pool / count)).page_floor();
        let room = Bytes(chance.between(pool / 8, pool)).page_floor();
        let cap = (chance.below(2) > 0).then(|| guarantee.saturating_add(room));
        let bounds =
            TenantBounds { guarantee, cap, weight: u32::try_from(chance.between(1, 400)).unwrap_or(1) };
        let tenant = budget.open();
        budget.set_bounds(tenant, bounds).expect("together they are less than the pool");
        tenant
    });
    let tenants = tenants.collect();
    let hold_ms = chance.of(&[1000, LadderLaw::default().hold_ms]);
    let ladder = LadderLaw { hold_ms, ..LadderLaw::default() };
    Setup { budget, tenants, ladder, pressure: PressureLaw::default() }
}

/// Bounds, class and threads of a workload of the first tenant.
pub(crate) fn spec(chance: &mut Chance) -> Spec {
    let floor = Bytes(chance.between(mib(2), mib(128))).page_floor();
    let ceiling = floor.saturating_add(Bytes(chance.below(mib(2048)))).page_floor();
    let least = Cpus::milli(chance.between(20, 500));
    let most = least.saturating_add(Cpus::milli(chance.below(3500)));
    let laws = [CpuLaw::latency(), CpuLaw::standard(), CpuLaw::batch()];
    let (class, law) = chance.of(&[0, 1, 2].map(|class: usize| (Base::ALL[class], laws[class])));
    Spec {
        tenant: 0,
        class,
        priority: Class::built_in(class, Defaults::default()).priority,
        weight: law.weight,
        gives: Rung::ALL.map(|_| true),
        yields: Grip::ALL.map(|_| chance.one_in(2)),
        memory: Bounds { floor, ceiling },
        memory_law: Law::default(),
        cpu: Some(CpuBounds { floor: least, ceiling: most }),
        law,
        threads: chance.between(1, 40),
    }
}
