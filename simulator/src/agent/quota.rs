//! The grid of quotas, as in `agent/src/control/cpu_loop.rs`: a tick each period, looks at those that are due, and at the
//! idle ones whose quota hidden use may have used up.

use std::time::Duration;

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::cpu::{plan, step};
use bellows_policies::ladder;
use bellows_policies::{CpuPlan, CpuSample, CpuWorkload, Cpus, Instant, NodeGuard, NodeLaw};

use super::plus;
use crate::check;
use crate::faults::MS;
use crate::log::What;
use crate::node::Node;

const TICK: Duration = Duration::from_micros(PERIOD_US);
const TICK_NS: u64 = PERIOD_US * 1000;
/// Every quota is compared with the kernel's within so many ticks.
const VERIFY_TICKS: usize = 50;
/// After a silence this long the watchdog may have opened the quotas.
const GAP: u64 = 1500 * MS;

/// A sign that the cpus are short counts for so long.
const FRESH: u64 = 300 * MS;

/// A workload whose quota is governed.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) id: u64,
    pub(crate) law: CpuWorkload,
    due: u64,
    /// The cpu time used at its last look, and the sum of hidden use at that time: microseconds.
    seen: Option<(u64, u64)>,
    tick: u64,
    looked: u64,
}

/// The cpu loop.
#[derive(Debug)]
pub(crate) struct Quotas {
    pub(crate) governed: Vec<Governed>,
    guard: NodeGuard,
    ticks: u64,
    next_tick: u64,
    last_tick: u64,
    used_us: u64,
    hidden_us: u64,
    next_scan: usize,
    next_verify: usize,
    /// A workload that is short of cpu, and when that was seen; and when the node was.
    starved: Option<(u64, u64)>,
    overloaded: Option<u64>,
}

impl Quotas {
    pub(super) fn new(node: &Node) -> Self {
        Self {
            governed: Vec::new(),
            guard: NodeGuard::new(Cpus(node.cpus * Cpus::ONE.0), NodeLaw::default()),
            ticks: 0,
            next_tick: node.now + TICK_NS,
            last_tick: node.now,
            used_us: node.used_us,
            hidden_us: 0,
            next_scan: 0,
            next_verify: 0,
            starved: None,
            overloaded: None,
        }
    }

    /// Writes the first quota of a workload, and looks at it with the next tick.
    pub(super) fn govern(&mut self, node: &mut Node, id: u64, law: &CpuWorkload) {
        let quota = law.quota();
        if node.quota(id) != Some(quota)
            && let Err(errno) = write(node, id, quota)
        {
            node.log.record(node.now, id, What::QuotaFailed(errno));
            check::tampered(node, id);
        }
        if let Some(group) = node.groups.get_mut(&id) {
            group.lends_of = None;
        }
        self.governed.push(Governed { id, law: *law, due: 0, seen: None, tick: 0, looked: 0 });
    }

    /// The law of a workload's quota, if it is governed.
    pub(super) fn law(&self, id: u64) -> Option<&CpuWorkload> {
        self.governed.iter().find(|governed| governed.id == id).map(|governed| &governed.law)
    }

    /// Who is short of cpu: a workload of a class that the guard spares, or the node.
    pub(super) fn who_is_short(&self, now: u64) -> Option<u64> {
        let is_fresh = |at: u64| now <= at + FRESH;
        let starved = self.starved.filter(|(_, at)| is_fresh(*at)).map(|(id, _)| id);
        starved.or_else(|| self.overloaded.filter(|at| is_fresh(*at)).map(|_| ladder::NODE))
    }

    /// Lends `share` of a quota, or ends the loan.
    pub(super) fn loan(&mut self, node: &mut Node, id: u64, share: Option<f64>) {
        let now = node.now;
        let Some(governed) = self.governed.iter_mut().find(|governed| governed.id == id) else { return };
        let law = &mut governed.law;
        let plan = share.map_or_else(|| law.take_back(), |share| law.squeeze(share));
        governed.due = now;
        if carry_out(node, id, law, plan)
            && let (CpuPlan::Write { from, .. }, Some(group)) = (plan, node.groups.get_mut(&id))
        {
            // A write that comes out of turn is a refill.
            group.seen.refills += 1;
            group.lends_of.get_or_insert(from);
        }
        if share.is_none() {
            law.end_loan();
            if let Some(group) = node.groups.get_mut(&id) {
                group.lends_of = None;
            }
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        self.governed.retain(|governed| governed.id != id);
    }

    /// When it ticks next.
    pub(super) fn wakes_at(&self) -> u64 {
        if self.governed.is_empty() { u64::MAX } else { self.next_tick }
    }

    /// Ticks, if it is time; the number of looks.
    pub(super) fn run(&mut self, node: &mut Node) -> u64 {
        if node.now < self.next_tick {
            return 0;
        }
        let mut late = node.chance.below(2 * MS);
        if node.chance.one_in(node.faults.tick_late) {
            late = node.chance.below(900 * MS);
        }
        // A loop that was held up does not make up for the ticks that it missed.
        self.next_tick = (node.now / TICK_NS + 1) * TICK_NS + late;
        self.tick(node)
    }

    fn tick(&mut self, node: &mut Node) -> u64 {
        let now = node.now;
        self.ticks += 1;
        let gap = now - self.last_tick;
        self.last_tick = now;
        let fresh_us = node.used_us - self.used_us;
        self.used_us = node.used_us;
        self.guard.observe(Instant(now), Cpus::used(fresh_us, Duration::from_nanos(gap)));
        if self.guard.is_shedding() {
            self.guard.share_out(self.governed.iter().map(|governed| &governed.law));
            self.overloaded = Some(now);
        }
        let count = self.governed.len();
        self.verify(node, if gap > GAP { count } else { count.div_ceil(VERIFY_TICKS) });
        let (mut explained_us, mut looks) = (0, 0);
        for index in (0..self.governed.len()).rev() {
            if self.governed[index].due <= now {
                looks += 1;
                explained_us += self.look(node, index);
            }
        }
        self.hidden_us += fresh_us.saturating_sub(explained_us);
        looks + self.scan(node)
    }

    /// Looks at the idle groups whose quota hidden use may have used up.
    fn scan(&mut self, node: &mut Node) -> u64 {
        let mut looks = 0;
        for step in 0..self.governed.len() {
            if self.governed.is_empty() {
                break;
            }
            let index = (self.next_scan + step) % self.governed.len();
            let governed = &self.governed[index];
            let hidden_us = governed.seen.map_or(0, |(_, mark)| self.hidden_us.saturating_sub(mark));
            if governed.tick < self.ticks && hidden_us >= governed.law.least_exhausting_use().quota_us() {
                looks += 1;
                self.next_scan = index + 1;
                self.look(node, index);
            }
        }
        looks
    }

    /// One turn of one workload. Returns the cpu time that it used since the last tick, if it was looked at then.
    fn look(&mut self, node: &mut Node, index: usize) -> u64 {
        let (now, governed) = (node.now, &mut self.governed[index]);
        let id = governed.id;
        let Some(sample) = node.cpu_sample(id, now) else {
            self.governed.swap_remove(index);
            return 0;
        };
        if governed.looked > 0 && node.chance.one_in(node.faults.overtaken) {
            node.log.record(now, id, What::Fault("cpu sample overtaken"));
            let at = Instant(governed.looked - 1);
            let old = step(&mut governed.law, &CpuSample { at, ..sample });
            check::stale_quota(node, id, old.decision);
            // The law counts anew from there.
            check::refilled(node, id);
        }
        governed.looked = now;
        let before = governed.seen.replace((sample.usage_us, self.hidden_us));
        let used_us = before.map_or(0, |(usage, _)| sample.usage_us.saturating_sub(usage));
        let explained_us = if governed.tick + 1 == self.ticks { used_us } else { 0 };
        governed.tick = self.ticks;
        let look = step(&mut governed.law, &sample);
        let plan = plan(&governed.law, look.decision, &mut self.guard);
        // The grid decides when exactly: half a tick early is on time.
        governed.due = plus(now, look.look_again.saturating_sub(TICK / 2));
        // On a node with cpus to spare it is its own ceiling that throttles it, and nobody could lend it anything.
        if !governed.law.law().is_guarded && governed.law.is_starved() && self.guard.is_busy() {
            self.starved = Some((id, now));
        }
        let _ = carry_out(node, id, &mut governed.law, plan);
        check::governed(node, id, &self.governed[index].law);
        explained_us
    }

    /// Compares the next `count` quotas with the kernel's, and writes over what somebody else wrote.
    fn verify(&mut self, node: &mut Node, count: usize) {
        for _ in 0..count {
            self.next_verify = (self.next_verify + 1) % self.governed.len().max(1);
            let Some(governed) = self.governed.get(self.next_verify) else { return };
            let (id, expected) = (governed.id, governed.law.quota());
            let Some(found) = node.quota(id) else { continue };
            if found.quota_us() != expected.quota_us() {
                node.log.record(node.now, id, What::ForeignSeen);
                let _ = write(node, id, expected);
            }
        }
    }
}

/// Writes what is planned, if anything; whether it was written.
fn carry_out(node: &mut Node, id: u64, law: &mut CpuWorkload, plan: CpuPlan) -> bool {
    let (CpuPlan::Write { verb, from, to, reason, .. }, now) = (plan, node.now) else { return false };
    check::quota(node, id, law, plan);
    if let Err(errno) = node.write_quota(id, to) {
        node.log.record(now, id, What::QuotaFailed(errno));
        return false;
    }
    law.commit(to, reason, Instant(now));
    node.log.record(now, id, What::QuotaWrote { verb, reason, from, to });
    check::wrote_quota(node, id);
    true
}

/// A write that is none of the law's is a refill that the law does not know of.
fn write(node: &mut Node, id: u64, quota: Cpus) -> Result<(), crate::log::Errno> {
    node.write_quota(id, quota)?;
    check::refilled(node, id);
    Ok(())
}
