//! A node and its agent, and what goes wrong with both: what random runs and traces have in common.

use bellows_policies::ladder::{LadderLaw, PressureLaw};
use bellows_policies::{Budget, Bytes, Cpus, TenantId};

use crate::agent::{Agent, watchdog};
use crate::chance::Chance;
use crate::check;
use crate::faults::{Faults, MS};
use crate::load::SECOND;
use crate::log::{NODE, What};
use crate::node::{Node, OPEN};
use crate::plant::memory::mib;

/// What every new agent finds configured.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) budget: Budget,
    /// By number.
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) ladder: LadderLaw,
    pub(crate) pressure: PressureLaw,
}

/// A node under way.
pub(crate) struct Host {
    pub(crate) node: Node,
    /// None while it is dead.
    pub(crate) agent: Option<Agent>,
    pub(crate) faults: Faults,
    pub(crate) setup: Setup,
    /// Steps of agents that were killed.
    past: u64,
    chance: Chance,
    hangs_until: u64,
    starts_at: u64,
    opens_at: Option<u64>,
}

impl Host {
    pub(crate) fn new(node: Node, setup: Setup, chance: Chance) -> Self {
        let agent = Some(Agent::new(setup.clone(), &node));
        let faults = node.faults.clone();
        Self { node, agent, faults, setup, past: 0, chance, hangs_until: 0, starts_at: 0, opens_at: None }
    }

    /// A node that somebody else governs.
    pub(crate) fn disown(&mut self) {
        (self.agent, self.starts_at) = (None, u64::MAX);
        self.node.log.forgives = true;
    }

    /// Events handled so far.
    pub(crate) fn steps(&self) -> u64 {
        self.past + self.agent.as_ref().map_or(0, |agent| agent.steps)
    }

    /// No rule is broken yet.
    pub(crate) fn is_whole(&self) -> bool {
        self.node.log.broken.is_none()
    }

    pub(crate) fn is_hung(&self) -> bool {
        self.node.now < self.hangs_until
    }

    /// Lets a tick pass, after as much time as nothing happens in, but none from `until` on.
    pub(crate) fn advance(&mut self, until: u64) {
        if self.faults.is_none() {
            let wakes = self.agent.as_ref().map_or(u64::MAX, |agent| agent.wakes_at(&self.node));
            self.node.leap(wakes.min(until));
        }
        self.node.pass(1);
        self.watch();
        if self.node.now.is_multiple_of(MS) && !self.faults.is_none() {
            self.go_wrong();
        }
    }

    /// Lets the agent have its turn, if it can.
    pub(crate) fn govern(&mut self) {
        if self.is_hung() {
            return;
        }
        if let Some(agent) = &mut self.agent {
            agent.run(&mut self.node);
        } else if self.node.now >= self.starts_at {
            self.agent = Some(Agent::take_over(self.setup.clone(), &mut self.node));
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
        match (chance.below(4), group.spec.cpu) {
            (0, _) => group.memory.limits.high = OPEN,
            (1, _) => group.memory.limits.high = size,
            (2, _) | (_, None) => group.memory.limits.max = size,
            (_, Some(bounds)) => {
                group.cpu.write(Cpus(chance.between(bounds.floor.0, bounds.ceiling.0)));
                group.seen.refills += 1;
            }
        }
        self.node.log.record(now, id, What::Fault("foreign write"));
        check::half_done(&mut self.node, id);
    }
}
