//! Runs: a node, its agent, and whoever makes workloads, ends them and breaks things.

use std::fmt;

use bellows_policies::{
    Base, Bounds, Budget, Bytes, CpuBounds, CpuLaw, Cpus, Overcommit, TenantBounds, TenantId,
};

use crate::agent::{Agent, watchdog};
use crate::chance::Chance;
use crate::check;
use crate::faults::{Faults, MS};
use crate::load::{Cpu, Memory, SECOND};
use crate::log::{Broken, Log, NODE, What};
use crate::node::{Node, OPEN, Spec, Ticks};
use crate::plant::memory::mib;

/// Steps of one seed; the next seed follows. It is part of what a seed means: what is left over at its end is cleared away.
const EACH: u64 = 10_000;
/// How long a run may take to end all workloads, nanoseconds.
const END_WITHIN: u64 = 60 * SECOND;

/// A node under way.
pub struct Run {
    pub(crate) node: Node,
    /// None while it is dead.
    pub(crate) agent: Option<Agent>,
    /// As every new agent finds it configured.
    budget: Budget,
    tenants: Vec<TenantId>,
    /// Steps of agents that were killed.
    past: u64,
    chance: Chance,
    faults: Faults,
    hangs_until: u64,
    starts_at: u64,
    opens_at: Option<u64>,
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
        let (budget, tenants) = budget(&mut chance, pool);
        Self::with(chance, faults, (budget, tenants), cpus, usize::try_from(most).unwrap_or(1))
    }

    /// A node on which nothing goes wrong, with room for all, and without births.
    #[cfg(test)]
    pub(crate) fn quiet(seed: u64) -> Self {
        let mut budget = Budget::new(Bytes::mib(64 << 10), Bytes::ZERO);
        let tenants = vec![budget.open()];
        Self {
            next_birth: u64::MAX,
            ..Self::with(Chance::new(seed), Faults::default(), (budget, tenants), 64, 12)
        }
    }

    fn with(
        mut chance: Chance,
        faults: Faults,
        (budget, tenants): (Budget, Vec<TenantId>),
        cpus: u64,
        most: usize,
    ) -> Self {
        let node = Node::new(cpus, Ticks::FINE, faults.clone(), chance.fork());
        let agent = Some(Agent::new(budget.clone(), tenants.clone(), &node));
        Self {
            node,
            agent,
            budget,
            tenants,
            past: 0,
            chance,
            faults,
            hangs_until: 0,
            starts_at: 0,
            opens_at: None,
            born: 0,
            next_birth: 0,
            most,
        }
    }

    /// Events handled so far.
    pub(crate) fn steps(&self) -> u64 {
        self.past + self.agent.as_ref().map_or(0, |agent| agent.steps)
    }

    /// Runs until so many events were handled, and then until all workloads have ended and nothing is left.
    #[must_use]
    pub fn play(mut self, seed: u64) -> Report {
        let _named = Named(seed);
        while self.steps() < EACH && self.is_whole() {
            self.advance();
        }
        self.wind_down();
        self.report(seed)
    }

    /// Lets `ns` pass.
    #[cfg(test)]
    pub(crate) fn pass(&mut self, ns: u64) {
        let end = self.node.now + ns;
        while self.node.now < end && self.is_whole() {
            self.advance();
        }
    }

    /// A workload of this kind, for as long as the run lasts.
    pub(crate) fn launch(&mut self, spec: Spec, memory: Memory, cpu: Cpu, life: u64) -> u64 {
        self.born += 1;
        if let Some(agent) = &mut self.agent {
            agent.launch(&mut self.node, self.born, spec, (memory, cpu), life);
        }
        self.born
    }

    /// Ends everything, and sees that nothing is left.
    pub(crate) fn wind_down(&mut self) {
        self.next_birth = u64::MAX;
        (self.faults, self.node.faults) = Default::default();
        let end = self.node.now + END_WITHIN;
        let is_left = |run: &Self| {
            !run.node.groups.is_empty() || run.agent.as_ref().is_none_or(|agent| !agent.is_idle())
        };
        while is_left(self) && self.node.now < end && self.is_whole() {
            let living: Vec<u64> =
                self.node.groups.iter().filter(|(_, group)| group.runs()).map(|(id, _)| *id).collect();
            for id in living {
                self.node.end(id);
            }
            self.advance();
        }
        if self.is_whole()
            && let Some(agent) = &self.agent
        {
            check::end(agent, &mut self.node);
        }
    }

    fn is_whole(&self) -> bool {
        self.node.log.broken.is_none()
    }

    pub(crate) fn report(&self, seed: u64) -> Report {
        let log: &Log = &self.node.log;
        Report {
            seed,
            steps: self.steps(),
            seconds: self.node.now / SECOND,
            workloads: self.born,
            writes: log.writes,
            quotas: log.quotas,
            kills: log.kills,
            faults: log.faults.values().sum(),
            hash: log.hash(),
            broken: log.broken.clone().map(|broken| {
                let last = log.last(broken.id);
                (broken, last)
            }),
        }
    }

    fn advance(&mut self) {
        self.node.pass(1);
        self.watch();
        if self.node.now.is_multiple_of(MS) {
            self.go_wrong();
            self.give_birth();
        }
        if self.node.now < self.hangs_until {
            return;
        }
        if let Some(agent) = &mut self.agent {
            agent.run(&mut self.node);
        } else if self.node.now >= self.starts_at {
            self.agent = Some(Agent::take_over(self.budget.clone(), self.tenants.clone(), &mut self.node));
        }
    }

    /// The watchdog: opens the limits of a dead agent at once, those of a hung one after a while, again and again.
    fn watch(&mut self) {
        let now = self.node.now;
        if let Some(agent) = &self.agent
            && now >= agent.beat + watchdog::PATIENCE
            && self.opens_at.is_none_or(|at| at <= agent.beat)
        {
            self.opens_at = Some(now);
        }
        if self.opens_at.take_if(|at| *at <= now).is_some() {
            watchdog::open_limits(&mut self.node);
        }
    }

    fn go_wrong(&mut self) {
        let (now, chance) = (self.node.now, &mut self.chance);
        let mut strikes = |mean| Faults::strikes(mean, MS, chance);
        let Faults { vanish, foreign, hang, kill, suspend, .. } = self.faults;
        let (vanishes, tampers, hangs) = (strikes(vanish), strikes(foreign), strikes(hang));
        let (dies, sleeps) = (strikes(kill), strikes(suspend));
        if vanishes && let Some(id) = self.victim() {
            self.node.log.record(now, id, What::Fault("vanished"));
            self.node.groups.remove(&id);
        }
        if tampers && let Some(id) = self.victim() {
            self.tamper(id);
        }
        if hangs && now >= self.hangs_until {
            self.node.log.record(now, NODE, What::Fault("agent hangs"));
            let time = self.chance.below(6 * SECOND);
            self.hangs_until = now + time;
            check::unattended(&mut self.node, time.min(watchdog::PATIENCE));
        }
        if dies && let Some(agent) = self.agent.take() {
            self.node.log.record(now, NODE, What::Fault("agent killed"));
            self.past += agent.steps;
            self.opens_at = Some(now + self.chance.below(50 * MS));
            self.starts_at = now + self.chance.between(60 * MS, 5 * SECOND);
            self.hangs_until = 0;
            check::unattended(&mut self.node, SECOND);
        }
        if sleeps {
            let time = self.chance.below(3600 * SECOND);
            self.node.suspend(time);
        }
    }

    fn victim(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.node.groups.iter().filter(|(_, g)| g.runs()).map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| self.chance.of(&ids))
    }

    /// Somebody else writes one limit.
    fn tamper(&mut self, id: u64) {
        let (now, chance) = (self.node.now, &mut self.chance);
        self.node.stir(id);
        let Some(group) = self.node.groups.get_mut(&id) else { return };
        let ceiling = group.spec.memory.ceiling.0;
        let size = Bytes(chance.between(mib(1), ceiling * 2)).page_floor();
        match chance.below(4) {
            0 => group.memory.limits.high = OPEN,
            1 => group.memory.limits.high = size,
            2 => group.memory.limits.max = size,
            _ => {
                let bounds = group.spec.cpu;
                group.cpu.write(Cpus(chance.between(bounds.floor.0, bounds.ceiling.0)));
                group.seen.refills += 1;
            }
        }
        self.node.log.record(now, id, What::Fault("foreign write"));
        check::half_done(&mut self.node, id);
    }

    fn give_birth(&mut self) {
        let is_hung = self.node.now < self.hangs_until;
        if is_hung || self.node.now < self.next_birth || self.node.groups.len() >= self.most {
            return;
        }
        self.next_birth = self.node.now + self.chance.below(8 * SECOND);
        let chance = &mut self.chance;
        let spec = Spec {
            tenant: usize::try_from(chance.below(self.tenants.len() as u64)).unwrap_or(0),
            ..spec(chance)
        };
        let life = chance.between(SECOND / 10, 180 * SECOND);
        let (memory, cpu) = (Memory::drawn(chance, spec.memory.ceiling.0), Cpu::drawn(chance));
        self.launch(spec, memory, cpu, life);
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
        let Self { seed, steps, seconds, workloads, writes, quotas, kills, faults, hash, broken } = self;
        write!(
            f,
            "seed {seed}: {steps} steps, {seconds} s, {workloads} workloads, {writes} limits and {quotas} quotas \
             written, {kills} kills, {faults} faults, hash {hash:016x}"
        )?;
        if let Some((Broken { at, id, text }, last)) = broken {
            let ms = *at as f64 / 1e6;
            write!(f, "\nBROKEN at step {steps}, {ms:.1} ms, workload #{id}: {text}\n{last}")?;
            write!(f, "again: make sim SEED={seed} STEPS={EACH}")?;
        }
        Ok(())
    }
}

/// A budget of `pool` bytes, sold more than once now and then, and tenants: half of them with a guarantee, half with a cap.
fn budget(chance: &mut Chance, pool: u64) -> (Budget, Vec<TenantId>) {
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
    (budget, tenants)
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
        memory: Bounds { floor, ceiling },
        cpu: CpuBounds { floor: least, ceiling: most },
        law,
        threads: chance.between(1, 40),
    }
}
