//! The agent: the loops of `agent/src/control` with virtual time and without a kernel. What decides is `bellows_policies`,
//! the very crate; what carries out is written after the agent's files, function by function, and shares their names.
//!
//! | here | there |
//! |---|---|
//! | this file | `control_loop.rs`, `vigil.rs`: waking up, timers, the slow pass, the heartbeat |
//! | `turn` | `turn.rs`, `actuator.rs`: a look, and its writes |
//! | `lanes` | `lanes.rs`, `shrinker.rs`: details, the slow lane |
//! | `squeeze` | `squeeze.rs`: who gives for whom |
//! | `ladder`, `leases` | `ladder.rs`, `leases.rs`, `grips.rs`, `node.rs`: who is slowed down, frozen or killed for whom, and let go |
//! | `life` | `life.rs`, `takeover.rs`, `foreign.rs`, `tenants.rs`: launch, end, adoption, foreign writes, who is served |
//! | `quota` | `cpu_loop.rs`: the grid of quotas |
//! | `watchdog` | `watchdog.rs`: what opens the limits of a dead or hung agent |
//!
//! Left out: launches that hang, lanes that are full, tenants that are made on the way, and the journal.

mod ladder;
mod lanes;
mod leases;
mod life;
mod quota;
mod squeeze;
mod turn;
pub(crate) mod watchdog;

pub(crate) use ladder::Standing;

use std::collections::BTreeMap;

use bellows_policies::{Budget, Bytes, Detail, Limits, TenantId, Workload};

use crate::cgroup::Spec;
use crate::faults::MS;
use crate::host::Setup;
use crate::log::{Errno, NODE, What};
use crate::node::Node;
use ladder::{Climb, Way};
use lanes::Lanes;
use quota::Quotas;

/// Time between two slices of the slow pass, and the longest wait.
const SLICE_EVERY: u64 = 100 * MS;
/// Slices of a whole pass.
const SLICES: usize = 10;
/// Workloads looked at in one slice of an urgent pass.
const SLICE: usize = 64;
/// Time between heartbeats.
const BEAT: u64 = 400 * MS;
/// After a silence this long the watchdog has opened the limits, or was about to.
const GAP: u64 = 1500 * MS;
/// Pause before a teardown that failed is tried again.
const CLEAR_AGAIN: u64 = 200 * MS;

/// A workload as the agent knows it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) spec: Spec,
    pub(crate) law: Workload,
    /// A write of ours failed, and none has succeeded since.
    pub(crate) is_unsure: bool,
    /// The number of the shrink that is under way.
    pub(crate) shrink: Option<u64>,
    pub(crate) way: Way,
    due: Option<u64>,
    looked: u64,
    sampled: u64,
    compare_at: u64,
    detail_pending: bool,
}

/// Where a workload is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Running,
    Stopping,
}

/// What the lanes answer, and what the workers do.
#[derive(Clone, Debug)]
enum Answer {
    Launched(u64, Box<(Spec, crate::load::Memory, crate::load::Cpu, u64)>),
    Cleared(u64),
    Detail(u64, Option<Detail>),
    Gripped(u64, ladder::Order),
    Shrink(u64, u64, Result<Option<lanes::Reclaimed>, Errno>),
}

/// The process.
pub(crate) struct Agent {
    pub(crate) entries: BTreeMap<u64, Entry>,
    pub(crate) budget: Budget,
    pub(crate) tenants: Vec<TenantId>,
    pub(crate) lanes: Lanes,
    pub(crate) quotas: Quotas,
    pub(crate) climb: Climb,
    /// Events handled.
    pub(crate) steps: u64,
    /// The last heartbeat.
    pub(crate) beat: u64,
    /// What was granted at the last step, in all and to each tenant: more than pool and cap only after a takeover, and then
    /// it does not rise.
    pub(crate) excess: Bytes,
    pub(crate) excess_of: Vec<Bytes>,
    /// The last round of a squeeze.
    squeezed: u64,
    /// What comes back, and when; in order of arrival.
    answers: Vec<(u64, Answer)>,
    recheck: Option<u64>,
    next_slice: u64,
    next_in_pass: u64,
    urgent: usize,
    /// There is nothing to wake up for before, but for what the node tells of and what the lanes do.
    wakes_at: u64,
}

impl Agent {
    /// A new process on `node`, with nothing to govern yet.
    pub(crate) fn new(setup: Setup, node: &Node) -> Self {
        let climb = Climb::new(&setup);
        let Setup { budget, tenants, .. } = setup;
        Self {
            entries: BTreeMap::new(),
            budget,
            excess_of: vec![Bytes::ZERO; tenants.len()],
            tenants,
            lanes: Lanes::default(),
            quotas: Quotas::new(node),
            climb,
            steps: 0,
            beat: node.now,
            excess: Bytes::ZERO,
            squeezed: 0,
            answers: Vec::new(),
            recheck: None,
            next_slice: 0,
            next_in_pass: 0,
            urgent: 0,
            wakes_at: 0,
        }
    }

    /// Wakes up if there is a reason to, and handles all of them.
    pub(crate) fn run(&mut self, node: &mut Node) {
        self.lanes.run(node, &mut self.answers);
        if self.is_woken(node) {
            let woke = node.now;
            self.keep_beating(node, woke);
            self.hear(node, woke);
            self.obey(node);
            self.run_timers(node, woke);
            self.slow_pass(node, woke);
            self.serve_waiting(node);
            let due = self.entries.values().filter_map(|entry| entry.due).min().unwrap_or(u64::MAX);
            self.wakes_at = due.min(self.next_slice);
        }
        self.steps += self.quotas.run(node);
    }

    fn is_woken(&self, node: &Node) -> bool {
        let now = node.now;
        now >= self.wakes_at || now >= node.hears_at || self.answers.iter().any(|(at, _)| *at <= now)
    }

    /// Before this instant there is nothing for it to do.
    pub(crate) fn wakes_at(&self, node: &Node) -> u64 {
        if self.lanes.is_busy() {
            return node.now;
        }
        let answers = self.answers.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
        self.wakes_at.min(answers).min(node.hears_at).min(self.quotas.wakes_at())
    }

    /// Nothing is governed and nothing under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.answers.is_empty() && self.lanes.jobs.is_empty()
    }

    /// Beats, and notices a silence that was too long.
    fn keep_beating(&mut self, node: &mut Node, woke: u64) {
        let silence = woke - self.beat;
        if silence >= BEAT {
            self.beat = woke;
        }
        if silence > GAP {
            self.recheck = Some(woke + watchdog::PATIENCE);
            self.held_up(node);
        } else if self.recheck.is_some_and(|due| woke >= due) {
            self.recheck = None;
            self.held_up(node);
        }
    }

    /// The loop did not run for a while: the watchdog has opened the limits, or would have.
    fn held_up(&mut self, node: &mut Node) {
        for (&id, entry) in &mut self.entries {
            let Some(found) = node.limits(id) else { continue };
            if found.high == crate::node::OPEN && !entry.law.is_failed() && !entry.law.is_released() {
                if let Some(shrink) = entry.shrink {
                    self.lanes.cancel(shrink, node);
                }
                entry.law.release();
                entry.law.rearm();
                node.log.record(node.now, id, What::TakenBack);
            }
        }
        self.urgent = self.entries.len();
        self.count(node, NODE);
    }

    fn hear(&mut self, node: &mut Node, woke: u64) {
        if node.hears_at > woke {
            return;
        }
        let is_told = |at: Option<u64>| at.is_some_and(|at| at <= woke);
        let groups = node.groups.iter().filter(|(_, g)| is_told(g.heard_at) || is_told(g.ended_at));
        let told: Vec<u64> = groups.map(|(id, _)| *id).collect();
        for id in told {
            let Some(group) = node.groups.get_mut(&id) else { continue };
            if group.heard_at.take_if(|at| *at <= woke).is_some() {
                node.log.record(node.now, id, What::Heard);
                self.look(node, id, woke);
            }
            if node.groups.get(&id).and_then(|group| group.ended_at).is_some_and(|at| at <= woke) {
                self.ended(node, id);
            }
        }
        let told = node.groups.values().flat_map(|group| [group.heard_at, group.ended_at]).flatten();
        node.hears_at = told.min().unwrap_or(u64::MAX);
    }

    fn obey(&mut self, node: &mut Node) {
        while let Some(index) = self.answers.iter().position(|(at, _)| *at <= node.now) {
            let (_, answer) = self.answers.remove(index);
            match answer {
                Answer::Launched(id, what) => self.launch_done(node, id, *what),
                Answer::Cleared(id) => self.clear_done(node, id),
                Answer::Detail(id, detail) => self.detail_read(node, id, detail),
                Answer::Gripped(id, order) => self.gripped(node, id, order),
                Answer::Shrink(id, number, result) => self.shrink_done(node, id, number, result),
            }
        }
    }

    fn run_timers(&mut self, node: &mut Node, woke: u64) {
        let due: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, e)| e.due.is_some_and(|due| due <= woke))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            // Looked at meanwhile, and scheduled anew.
            if entry.due.take_if(|due| *due <= woke).is_none() {
                continue;
            }
            if entry.state == State::Stopping {
                self.clear(node, id);
            } else {
                self.look(node, id, woke);
            }
        }
    }

    /// Re-reads every workload within a second, so that any lost event heals.
    fn slow_pass(&mut self, node: &mut Node, woke: u64) {
        if self.urgent == 0 && woke < self.next_slice {
            return;
        }
        let total = self.entries.len();
        let count = if self.urgent > 0 { SLICE.min(total) } else { total.div_ceil(SLICES) };
        for _ in 0..count {
            let next = self.entries.range(self.next_in_pass..).next().or_else(|| self.entries.iter().next());
            let Some((&id, _)) = next else { break };
            self.next_in_pass = id + 1;
            self.look(node, id, woke);
            self.compare(node, id, woke);
        }
        self.urgent = self.urgent.saturating_sub(count);
        if woke >= self.next_slice {
            self.tend_ladder(node);
        }
        self.next_slice = woke + SLICE_EVERY;
    }

    /// Counts an event that was handled, and checks the rules.
    fn count(&mut self, node: &mut Node, id: u64) {
        self.steps += 1;
        if node.is_checked {
            crate::check::agent(self, node, id);
        }
    }

    fn answer_in(&mut self, node: &mut Node, most: u64, answer: Answer) {
        let at = node.now + node.chance.between(MS / 10, most);
        self.answers.push((at, answer));
    }
}

/// The time from now until a plan of the law's is due, at the earliest a tick ahead.
fn plus(now: u64, after: std::time::Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)).max(now + 1)
}

/// `high` = `max` or above: the tripwire does not stand.
pub(crate) fn is_open(limits: Limits) -> bool {
    limits.high >= limits.max
}
