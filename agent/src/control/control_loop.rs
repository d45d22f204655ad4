//! The loop itself: wait, look, act, and now and then the slow pass.
//!
//! A loop that finds itself held up for long (a debugger, SIGSTOP, a starved machine) knows that
//! its watchdog has opened the limits meanwhile, and takes them back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellows_policies::cpu::NodeLaw;
use bellows_policies::units::{Bytes, Instant};
use bellows_policies::{Budget, Ruleset};
use crossbeam_queue::ArrayQueue;

use super::cpu_loop::{CpuLane, CpuParts};
use super::grips::GripLane;
use super::handle::{Command, Handle, QUEUE};
use super::keeping::Keep;
use super::ladder::Climb;
use super::lanes::Lanes;
use super::node::NodeMemoryWatch;
use super::pass::Pass;
use super::policies::Rewrites;
use super::registry::Registry;
use super::tenants::{ROOT, Tenants};
use super::timers::Timers;
use super::versions::Versions;
use crate::journal::{Journal, What, Writer};
use crate::kernel::cpu::{NodeUse, SubtreeUse};
use crate::kernel::watch::{Hearing, Key, Signal, Waker, Watcher};
use crate::kernel::{clock, thread};
use crate::metrics::{Metrics, Table};
use crate::watchdog::Heartbeat;
use crate::workload::lifecycle::State;
use crate::workload::shelf::Shelf;
use crate::workload::supervisor::Ground;

/// Pause before a teardown that failed is tried again.
pub(super) const CLEAR_AGAIN: Duration = Duration::from_millis(200);
/// How long the end of all workloads may take at a shutdown that ends them.
const END_DEADLINE: Duration = Duration::from_secs(30);

/// What a control loop is built from.
#[derive(Debug)]
pub struct Parts {
    /// The governed tree.
    pub ground: Arc<Ground>,
    /// Capacity, reserve and overcommit.
    pub budget: Budget,
    /// The policies.
    pub rules: Arc<Ruleset>,
    /// Where detached workloads are kept.
    pub shelf: Shelf,
    /// Whether this kernel has `memory.reclaim`.
    pub can_reclaim: bool,
    /// The constants of the node's cpu guard.
    pub node_law: NodeLaw,
    /// How events are heard.
    pub hearing: Hearing,
    /// The journal's end for the loop.
    pub journal: Writer,
    /// The journal's end for readers.
    pub readers: Journal,
    /// The agent's own metrics.
    pub metrics: Arc<Metrics>,
    /// The watchdog's heartbeat; without one nobody watches.
    pub heartbeat: Option<Heartbeat>,
}

/// The control loop's state: all of it, owned by one thread.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has been ordered, one by one, and what the kernel can"
)]
pub struct Control {
    pub(super) watcher: Watcher,
    pub(super) registry: Registry,
    pub(super) budget: Budget,
    pub(super) rules: Arc<Ruleset>,
    pub(super) versions: Versions,
    pub(super) rewrites: Rewrites,
    pub(super) can_reclaim: bool,
    pub(super) lanes: Lanes,
    pub(super) keep: Keep,
    pub(super) cpu: CpuLane,
    pub(super) timers: Timers,
    pub(super) journal: Writer,
    pub(super) metrics: Arc<Metrics>,
    pub(super) table: Table,
    /// The name of records that are about the node.
    pub(super) node: Arc<str>,
    pub(super) released: bool,
    pub(super) stopping: bool,
    pub(super) ends_workloads: bool,
    pub(super) ground: Arc<Ground>,
    commands: Arc<ArrayQueue<Command>>,
    pub(super) heartbeat: Option<Heartbeat>,
    signals: Vec<Signal>,
    pub(super) tenants: Tenants,
    pub(super) pass: Pass,
    /// The wake-up of the last look.
    pub(super) looked: Instant,
    /// The last round of a squeeze.
    pub(super) squeezed: Instant,
    pub(super) climb: Climb,
    pub(super) node_memory: NodeMemoryWatch,
    stop_by: Option<Instant>,
    /// When limits are to be compared with the kernel's once more.
    pub(super) recheck: Option<Instant>,
    /// When the first pin ends.
    pub(super) pin_ends: Option<Instant>,
    turned: Arc<AtomicU64>,
}

impl Control {
    /// Builds the loop, its lanes, and the way in.
    pub fn new(parts: Parts) -> io::Result<(Self, Handle)> {
        let mut watcher = Watcher::new(parts.hearing)?;
        watcher.add_directory(ROOT, &parts.ground.workloads)?;
        let commands = Arc::new(ArrayQueue::new(QUEUE));
        let table = Table::default();
        let turned = Arc::new(AtomicU64::new(clock::now().0));
        let mut budget = parts.budget;
        let tenants = Tenants::new(&parts.rules, &mut budget, &parts.ground, &parts.metrics)
            .map_err(io::Error::other)?;
        let handle = Handle {
            turned: Arc::clone(&turned),
            queue: Arc::clone(&commands),
            waker: watcher.waker(),
            metrics: Arc::clone(&parts.metrics),
            table: table.clone(),
            tenants: tenants.table(),
            kept: Table::default(),
            journal: parts.readers,
            teller: parts.journal.clone(),
        };
        let climb = Climb::new(parts.rules.node.ladder, GripLane::start(&handle, &parts.journal)?);
        let node_memory = NodeMemoryWatch::new(parts.rules.node.pressure, &parts.ground.root, &mut watcher);
        let pass = Pass::new(&parts.ground.workloads).map_err(io::Error::other)?;
        let lanes = Lanes::start(&handle, &parts.ground, &parts.journal)?;
        let keep = Keep::start(parts.shelf, &lanes, &handle, &parts.journal)?;
        let cpu = CpuLane::start(CpuParts {
            subtree: SubtreeUse::open(&parts.ground.workloads).map_err(io::Error::other)?,
            node: NodeUse::open()?,
            law: parts.node_law,
            journal: parts.journal.clone(),
            metrics: Arc::clone(&parts.metrics),
        })?;
        let control = Self {
            watcher,
            registry: Registry::default(),
            budget,
            versions: Versions::new(&parts.rules.version),
            rewrites: Rewrites::default(),
            rules: parts.rules,
            can_reclaim: parts.can_reclaim,
            lanes,
            keep,
            cpu,
            timers: Timers::default(),
            journal: parts.journal,
            metrics: parts.metrics,
            table,
            node: "".into(),
            released: false,
            stopping: false,
            ground: parts.ground,
            commands,
            heartbeat: parts.heartbeat,
            signals: Vec::with_capacity(4096),
            tenants,
            pass,
            looked: Instant(0),
            squeezed: Instant(0),
            climb,
            node_memory,
            stop_by: None,
            recheck: None,
            ends_workloads: false,
            pin_ends: None,
            turned,
        };
        Ok((control, handle))
    }

    /// Wakes the loop from a signal handler's thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.watcher.waker()
    }

    /// Runs until it is told to stop.
    ///
    /// The thread becomes real-time where that is allowed: a workload that takes every cpu must not delay the write that
    /// it is waiting for.
    pub fn run(mut self) -> io::Result<()> {
        if let Err(error) = thread::set_realtime() {
            let text = format!("the control loop runs without real-time priority: {error}");
            self.journal.record(clock::unix_nanoseconds(), &self.node, What::Trouble { text });
        }
        self.metrics.budget(&self.budget);
        while !self.is_done() {
            let timeout = self.time_to_wait();
            self.signals.clear();
            let mut signals = std::mem::take(&mut self.signals);
            self.watcher.wait(timeout, &mut signals)?;
            let woke = clock::now();
            self.turned.store(woke.0, Ordering::Relaxed);
            self.beat(woke);
            self.hear(&mut signals, woke);
            self.watcher.read_inotify(&mut signals)?;
            self.hear(&mut signals, woke);
            self.signals = signals;
            self.run_timers(woke);
            self.end_pins(woke);
            self.restart_due(woke);
            self.slow_pass(woke);
            self.serve_waiting();
            self.metrics.budget(&self.budget);
            self.metrics.turn.observe(clock::now().since(woke).as_secs_f64());
        }
        if self.registry.len() > 0 && !self.released {
            // Out of time to end them: then they live, and nobody will govern them.
            self.release_all(None);
        }
        // Who was released runs, and quotas stand open, before the watchdog is told that all is well.
        drop(self.cpu);
        drop(self.climb);
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.farewell();
        }
        self.keep.finish();
        Ok(())
    }

    fn hear(&mut self, signals: &mut Vec<Signal>, woke: Instant) {
        for signal in signals.drain(..) {
            match signal {
                Signal::Memory(key) | Signal::Cpu(key) => self.look(key, woke),
                // The end of the first process is told by its pidfd; `populated` only repeats it.
                Signal::Cgroup(_) => {}
                Signal::Process(key) => self.process_ended(key),
                Signal::Created(directory, name) => self.created(directory, &name),
                Signal::Deleted(directory, name) => self.deleted(directory, &name, woke),
                Signal::Overflowed => {
                    self.metrics.overflows.inc();
                    self.journal.record(clock::unix_nanoseconds(), &self.node, What::QueueOverflowed {});
                    self.pass.urgent = self.registry.len();
                    // What was made meanwhile.
                    self.furnish_tenants();
                }
                Signal::Stalled => self.node_stalled(woke),
                Signal::Woken => self.obey(),
            }
        }
    }

    fn obey(&mut self) {
        while let Some(command) = self.commands.pop() {
            match command {
                Command::Launch { spec, stdio, by, reply } => self.launch(*spec, stdio, by, reply),
                Command::Furnished { tenant, result } => self.furnished(&tenant, result),
                Command::Adopted { tenant, name, result } => self.adopted(&tenant, &name, result),
                Command::LaunchDone { key, result } => self.launch_done(key, result),
                Command::ClearDone { key, result } => self.clear_done(key, result),
                Command::DetailRead { key, detail } => self.detail_read(key, detail),
                Command::ShrinkDone { key, result } => self.shrink_done(key, result),
                Command::Gripped { key, result } => self.gripped(key, result),
                Command::Paused { key, is_freeze, result } => self.paused(key, is_freeze, result),
                Command::Wait { id, whose, reply } => self.wait_for_end(id, whose.as_deref(), reply),
                Command::Operate { tenant, name, order, by, reply } => {
                    self.operate(&tenant, &name, order, &by, reply);
                }
                Command::Exec { tenant, name, command, only_boxed, by, reply } => {
                    self.exec((&tenant, &name), *command, only_boxed, &by, reply);
                }
                Command::Plan { spec, reply } => {
                    let _ = reply.send(self.plan_apply(&spec));
                }
                Command::Adjust { spec, differences, by, reply } => {
                    let _ = reply.send(self.adjust(*spec, differences, &by));
                }
                Command::Release { by, reply } => {
                    let _ = reply.send(self.release_all(Some(&by)));
                }
                Command::Policies { rules } => self.take_policies(rules),
                Command::PoliciesRefused { error, problems } => self.policies_refused(error, problems),
                Command::Rewritten { troubles } => self.rewritten(troubles),
                Command::Given { key, result } => self.given(key, result),
                Command::Shutdown { end_workloads } => self.begin_stopping(end_workloads),
            }
        }
    }

    fn run_timers(&mut self, woke: Instant) {
        while let Some((due, key)) = self.timers.pop_due(woke) {
            let Some(entry) = self.registry.get(key) else { continue };
            if entry.stop.is_some() {
                self.end_grace(key, due);
            }
            let Some(entry) = self.registry.get(key) else { continue };
            // Scheduled anew since: that one counts.
            if entry.due != Some(due) {
                continue;
            }
            entry.due = None;
            if entry.is_clearing {
                self.clear(key);
            } else {
                self.look(key, woke);
            }
        }
    }

    fn time_to_wait(&self) -> Duration {
        if !self.commands.is_empty() || self.budget.is_sharing() {
            return Duration::ZERO;
        }
        let now = clock::now();
        let slice = self.pass.wait(now);
        let slice = self.keep.next().map_or(slice, |again| again.since(now).min(slice));
        self.timers.next().map_or(slice, |due| due.since(now).min(slice))
    }

    fn begin_stopping(&mut self, end_workloads: bool) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let what = What::AgentStopping { workloads_end: end_workloads };
        self.journal.record(clock::unix_nanoseconds(), &self.node, what);
        self.stop_by = Some(clock::now().plus(END_DEADLINE));
        if !end_workloads {
            self.release_all(None);
            return;
        }
        self.ends_workloads = true;
        let keys: Vec<Key> = self.registry.iter_mut().map(|e| e.key).collect();
        for key in keys {
            self.kill(key);
        }
    }

    /// Workloads that are to be ended have ended, or those that go on have been opened: launches under way included.
    fn is_done(&mut self) -> bool {
        let Some(deadline) = self.stop_by else { return false };
        let left = if self.ends_workloads {
            // What somebody else made is not ended.
            self.registry.iter_mut().filter(|e| e.adopted.is_none()).count()
        } else {
            self.registry.iter_mut().filter(|e| e.state == State::Starting).count()
        };
        left == 0 || clock::now() >= deadline
    }
}

/// Bytes of the whole machine that are not granted by default: bands and emergencies live there.
#[must_use]
pub fn default_reserve(capacity: Bytes) -> Bytes {
    capacity.scale(0.1)
}
