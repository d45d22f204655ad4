//! Beginnings and ends, as in `agent/src/control/{life,takeover,foreign}.rs`.

use bellows_policies::{Bytes, CpuWorkload, Limits, Workload, settle};

use super::ladder::Way;
use super::{Agent, Answer, CLEAR_AGAIN, Entry, State};
use crate::cgroup::{Cgroup, Spec};
use crate::check;
use crate::faults::MS;
use crate::host::Setup;
use crate::load::{Cpu, Memory, SECOND};
use crate::log::{Errno, NODE, What};
use crate::node::{Node, OPEN};

/// Time between two comparisons of one workload's limits with the kernel's.
const COMPARE_EVERY: u64 = 5 * SECOND;

impl Agent {
    /// Launches a workload, if its floor is admitted: whether it is. `life` is how long it runs, nanoseconds.
    pub(crate) fn launch(
        &mut self,
        node: &mut Node,
        id: u64,
        spec: &Spec,
        load: (Memory, Cpu),
        life: u64,
    ) -> bool {
        let seat = self.budget.join(self.tenants[spec.tenant], spec.class, spec.weight);
        let law = Workload::new(spec.memory, spec.memory_law).seated(seat);
        let Ok(plan) = bellows_policies::launch(&law, &mut self.budget) else {
            self.budget.leave(seat);
            return false;
        };
        self.entries.insert(id, Entry::new(&law, spec, State::Starting));
        if node.chance.one_in(node.faults.write_fails) {
            // It could not be started.
            node.log.record(node.now, id, What::Fault("launch failed"));
            self.budget.leave(seat);
            self.entries.remove(&id);
            return false;
        }
        settle(&plan, &mut self.budget);
        self.answer_in(node, 30 * MS, Answer::Launched(id, Box::new((*spec, load.0, load.1, life))));
        self.count(node, id);
        true
    }

    pub(super) fn launch_done(&mut self, node: &mut Node, id: u64, what: (Spec, Memory, Cpu, u64)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (spec, memory, cpu, life) = what;
        let limits = entry.law.limits();
        let group = Cgroup::new(&spec, limits, entry.law.released_max(), (memory, cpu), life, node);
        node.add(id, group);
        node.log.record(node.now, id, What::Launched(limits));
        entry.state = State::Running;
        if let Some(bounds) = spec.cpu {
            self.quotas.govern(node, id, &CpuWorkload::new(bounds, spec.law));
        }
        self.count(node, id);
        self.look(node, id, node.now);
    }

    /// Its first process has ended, or its files answer ENODEV: what is left is cleared away.
    pub(super) fn ended(&mut self, node: &mut Node, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.state != State::Running {
            return;
        }
        entry.state = State::Stopping;
        entry.due = None;
        self.quotas.forget(id);
        self.forget_way(id);
        self.clear(node, id);
        self.count(node, id);
    }

    pub(super) fn clear(&mut self, node: &mut Node, id: u64) {
        if node.chance.one_in(node.faults.write_fails) {
            // The directory is busy.
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.due = Some(node.now + CLEAR_AGAIN);
            }
            return;
        }
        self.answer_in(node, 20 * MS, Answer::Cleared(id));
    }

    pub(super) fn clear_done(&mut self, node: &mut Node, id: u64) {
        node.groups.remove(&id);
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(seat) = entry.law.seat() {
            self.budget.leave(seat);
        }
        if let Some(number) = entry.shrink {
            // Nobody is left to take its answer in.
            self.lanes.cancel(number, node);
            self.lanes.abandon(number);
        }
        node.log.record(node.now, id, What::Cleared);
        self.count(node, id);
    }

    /// Looks at those whose turn it is, since room has come.
    pub(super) fn serve_waiting(&mut self, node: &mut Node) {
        while let Some(seat) = self.budget.serve() {
            let entry = self.entries.iter_mut().find(|(_, entry)| entry.law.seat() == Some(seat));
            if let Some((&id, entry)) = entry {
                entry.law.ask_again();
                // Time has gone by since the last look, if only a little.
                entry.looked = 0;
                self.look(node, id, node.now);
            }
            self.budget.served(seat);
        }
    }

    /// A new process takes over what an earlier one left.
    pub(crate) fn take_over(setup: Setup, node: &mut Node) -> Self {
        let mut agent = Self::new(setup, node);
        let ids: Vec<u64> = node.groups.keys().copied().collect();
        for id in ids {
            agent.adopt(node, id);
        }
        agent.urgent = agent.entries.len();
        agent.count(node, NODE);
        agent
    }

    fn adopt(&mut self, node: &mut Node, id: u64) {
        let Some(sample) = node.sample(id, node.now) else { return };
        let Some(group) = node.groups.get(&id) else { return };
        let (spec, lease, found, is_running) = (group.spec, group.lease, group.memory.limits, group.runs());
        let is_noted = group.is_noted;
        // A lease counts only where the tripwire is found open.
        let lease = lease.filter(|_| found.high == OPEN);
        let back_to = lease.map_or(found, |(high, _)| Limits { high, max: found.max });
        let mut law = Workload::adopt(spec.memory, spec.memory_law, back_to, sample);
        let governed = law.limits();
        if governed != found && put_back(node, id, &mut law, found, sample.current).is_err() {
            // The agent leaves such a workload alone; here it is governed all the same, or nothing would be left to check.
            check::tampered(node, id);
        }
        // It is counted, whether it fits or not.
        let law = law.seated(self.budget.join(self.tenants[spec.tenant], spec.class, spec.weight));
        self.budget.adopt(law.seat(), spec.memory.floor, law.granted());
        self.excess = self.budget.granted();
        self.excess_of[spec.tenant] = self.budget.tenant(self.tenants[spec.tenant]).granted;
        node.log.record(node.now, id, What::Adopted { found, governed });
        let mut entry = Entry::new(&law, &spec, State::Running);
        entry.sampled = sample.at.0;
        self.entries.insert(id, entry);
        let quota = lease.map(|(_, quota)| quota).or_else(|| node.quota(id));
        if let (Some(bounds), Some(sample)) = (spec.cpu, node.cpu_sample(id, node.now)) {
            // A new agent counts from nothing.
            check::refilled(node, id);
            self.quotas.govern(node, id, &CpuWorkload::adopt(bounds, spec.law, quota, sample));
        }
        if is_noted {
            self.take_over_frozen(node, id);
        }
        if !is_running {
            self.ended(node, id);
        }
    }

    /// Compares a workload's limits with the kernel's, if it is time and nothing of ours is on its way.
    pub(super) fn compare(&mut self, node: &mut Node, id: u64, woke: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if woke < entry.compare_at || entry.state != State::Running {
            return;
        }
        entry.compare_at = woke + COMPARE_EVERY;
        if entry.shrink.is_some() {
            return;
        }
        let (Some(found), governed, is_failed) = (node.limits(id), entry.law.limits(), entry.law.is_failed())
        else {
            return;
        };
        if entry.law.is_released() {
            if found.high < governed.max {
                node.log.record(node.now, id, What::ForeignSeen);
                let most = found.max.max(governed.max);
                let _ = node.write_max(id, most).and_then(|()| node.write_high(id, OPEN));
            }
            return;
        }
        let most = found.max.max(governed.max);
        let expected = if is_failed { Limits { high: most, max: most } } else { governed };
        if found == expected {
            return;
        }
        node.log.record(node.now, id, What::ForeignSeen);
        let current = entry.law.current();
        let put_back = if is_failed {
            node.write_max(id, most).and_then(|()| node.write_high(id, most))
        } else {
            put_back(node, id, &mut entry.law, found, current)
        };
        if put_back.is_err() {
            entry.is_unsure = true;
        }
        self.look(node, id, node.now);
    }
}

impl Entry {
    fn new(law: &Workload, spec: &Spec, state: State) -> Self {
        Self {
            state,
            spec: *spec,
            law: *law,
            is_unsure: false,
            shrink: None,
            way: Way::default(),
            due: None,
            looked: 0,
            sampled: 0,
            compare_at: 0,
            detail_pending: false,
        }
    }

    /// Whether what stands in the kernel is what is governed, as far as the agent knows.
    pub(crate) fn is_settled(&self) -> bool {
        let is_ours = self.state == State::Running && !self.is_unsure && self.shrink.is_none();
        is_ours && !self.law.is_released() && !self.law.is_failed()
    }
}

/// Puts limits back that do not stand as they should, or has the law do so at its next look.
fn put_back(
    node: &mut Node,
    id: u64,
    law: &mut Workload,
    found: Limits,
    current: Bytes,
) -> Result<(), Errno> {
    let governed = law.limits();
    let room = law.law().band_min.max(current.scale(0.1));
    let has_room = |most: Bytes| current.saturating_add(room) <= most;
    let is_easy = found.high <= governed.high && (found.max <= governed.max || has_room(governed.max));
    if is_easy && node.write_max(id, governed.max).and_then(|()| node.write_high(id, governed.high)).is_ok() {
        return Ok(());
    }
    law.release();
    let most = law.limits().max;
    let is_due = found.max < most || (found.max > most && has_room(most));
    let written = if is_due { node.write_max(id, most) } else { Ok(()) };
    let written = written.and_then(|()| if found.high == OPEN { Ok(()) } else { node.write_high(id, OPEN) });
    // Whether it was written or not: a law that stays released governs nothing any more.
    law.rearm();
    written
}
