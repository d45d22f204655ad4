//! The agent's own metrics. Every label value that the control loop uses is resolved at the start, so that counting is one
//! atomic addition.

use std::sync::atomic::{AtomicU64, Ordering};

use bellows_policies::budget::Budget;
use bellows_policies::decision::{Reason, Verb};
use bellows_policies::units::Bytes;
use prometheus::{Gauge, Histogram, IntCounter, Registry};

use super::catalogue::Tier;
use super::register::Register;
use super::{Reloads, Squeezes};

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written, or handed to the lane that writes.
    Applied,
    /// There was nothing to write.
    Nothing,
    /// The kernel refused.
    Failed,
    /// Only told: the workload is observed.
    Observed,
}

/// What a decision was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `memory.high` and `memory.max`.
    Memory,
    /// `cpu.max`.
    Cpu,
}

const RESOURCES: [&str; 2] = ["memory", "cpu"];
const OUTCOMES: [&str; 4] = ["applied", "nothing", "failed", "observed"];
/// Combinations of the above with verbs and reasons. Most never happen.
const DECISIONS: usize = RESOURCES.len() * Verb::ALL.len() * Reason::ALL.len() * OUTCOMES.len();
/// The agent's own metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// How much is told of each workload.
    pub tier: Tier,
    /// When the agent was started, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// From the loop's wake-up to the return of the limit write, seconds.
    pub reaction: Histogram,
    /// One turn of the loop, from wake-up to the next wait, seconds.
    pub turn: Histogram,
    /// One turn of the cpu loop, from its tick to the next wait, seconds.
    pub cpu_turn: Histogram,
    /// From admission to execution, seconds.
    pub launch: Histogram,
    /// What a scrape takes of the agent's time, seconds.
    pub scrape: Histogram,
    /// What one reading of `cpu.pressure` of all workloads, and what belongs to it, takes, seconds.
    pub pressure_read: Histogram,
    decisions: Box<[AtomicU64]>,
    /// Grows that the budget could not serve now.
    pub deferred: IntCounter,
    /// Grows that the budget can never serve.
    pub infeasible: IntCounter,
    /// Overflows of the kernel's event queue.
    pub overflows: IntCounter,
    /// Commands refused because the control queue was full.
    pub commands_refused: IntCounter,
    /// Requests that were refused because of who asked, or how much.
    pub api_refused: IntCounter,
    /// Detail reads that were asked for while the reader's queue was full.
    pub details_dropped: IntCounter,
    /// Workloads whose `cpu.pressure` could not be read.
    pub pressure_unread: IntCounter,
    /// Incidents that nobody looked at because the looker's queue was full.
    pub incidents_dropped: IntCounter,
    /// Launches that failed.
    pub launches_failed: IntCounter,
    /// Workloads that ended.
    pub ended: IntCounter,
    /// Detached workloads that were started again by their rule.
    pub restarts: IntCounter,
    /// OOM kills in workloads, also of those that are gone.
    pub oom_kills: IntCounter,
    /// Times that the agent found itself held up and its limits opened by the watchdog.
    pub gaps: IntCounter,
    /// Watchdogs that were gone and replaced.
    pub watchdogs: IntCounter,
    /// The node's use of its cpus, in cpus.
    pub node_cpu: Gauge,
    /// Workloads of an earlier agent that are governed again.
    pub taken_over: IntCounter,
    /// Cgroups made by somebody else that were adopted.
    pub adopted: IntCounter,
    /// Limits found to be written by somebody else.
    pub foreign_writes: IntCounter,
    /// From this agent's start to the last workload taken over, seconds.
    pub takeover: Gauge,
    budget: [Gauge; 4],
    /// Reloads of the policies.
    pub policies: Reloads,
    /// What is taken from workloads for others.
    pub squeezes: Squeezes,
}

impl Metrics {
    /// Registers everything, at zero.
    pub fn new(tier: Tier, started_unix_ns: u64) -> prometheus::Result<Self> {
        let register = Register::default();
        let (counter, gauge) = (|name| register.counter(name), |name| register.gauge(name));
        let (histogram, budget) =
            (|name| register.histogram(name), |state| register.gauge_of("bellows_budget_bytes", state));
        Ok(Self {
            tier,
            started_unix_ns,
            reaction: histogram("bellows_reaction_seconds")?,
            turn: histogram("bellows_turn_seconds")?,
            cpu_turn: histogram("bellows_cpu_turn_seconds")?,
            launch: histogram("bellows_launch_seconds")?,
            scrape: histogram("bellows_scrape_seconds")?,
            pressure_read: histogram("bellows_pressure_read_seconds")?,
            decisions: (0..DECISIONS).map(|_| AtomicU64::new(0)).collect(),
            deferred: counter("bellows_grants_deferred_total")?,
            infeasible: counter("bellows_grants_infeasible_total")?,
            overflows: counter("bellows_event_queue_overflows_total")?,
            commands_refused: counter("bellows_commands_refused_total")?,
            api_refused: counter("bellows_api_refused_total")?,
            details_dropped: counter("bellows_detail_reads_dropped_total")?,
            pressure_unread: counter("bellows_pressure_unread_total")?,
            incidents_dropped: counter("bellows_incidents_dropped_total")?,
            launches_failed: counter("bellows_launches_failed_total")?,
            ended: counter("bellows_workloads_ended_total")?,
            restarts: counter("bellows_restarts_total")?,
            oom_kills: counter("bellows_oom_kills_total")?,
            gaps: counter("bellows_agent_gaps_total")?,
            watchdogs: counter("bellows_watchdog_restarts_total")?,
            node_cpu: gauge("bellows_node_cpu_used_cores")?,
            taken_over: counter("bellows_workloads_taken_over_total")?,
            adopted: counter("bellows_workloads_adopted_total")?,
            foreign_writes: counter("bellows_foreign_writes_total")?,
            takeover: gauge("bellows_takeover_seconds")?,
            budget: [budget("capacity")?, budget("reserve")?, budget("granted")?, budget("free")?],
            policies: Reloads::register(&register)?,
            squeezes: Squeezes::register(&register)?,
            registry: register.registry,
        })
    }

    /// Counts a decision.
    pub fn decided(&self, resource: Resource, verb: Verb, reason: Reason, outcome: Outcome) {
        let what = resource as usize * Verb::ALL.len() + verb as usize;
        let index = (what * Reason::ALL.len() + reason as usize) * OUTCOMES.len() + outcome as usize;
        self.decisions[index].fetch_add(1, Ordering::Relaxed);
    }

    /// The decisions that have happened, by their labels: a family of the `prometheus` crate would expose the others too, some
    /// thousand lines of zeroes.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (String, u64)> {
        let labels = RESOURCES.iter().flat_map(|resource| {
            Verb::ALL.iter().flat_map(move |verb| {
                Reason::ALL
                    .iter()
                    .flat_map(move |reason| OUTCOMES.iter().map(move |o| (resource, verb, reason, o)))
            })
        });
        let counted =
            labels.zip(&self.decisions).map(|(labels, cell)| (labels, cell.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).map(|((resource, verb, reason, outcome), count)| {
            let (verb, reason) = (verb.as_str(), reason.as_str());
            let labels =
                format!("resource=\"{resource}\",verb=\"{verb}\",reason=\"{reason}\",outcome=\"{outcome}\"");
            (labels, count)
        })
    }

    /// Publishes the node's budget.
    pub fn budget(&self, budget: &Budget) {
        let values = [budget.capacity, budget.reserve, budget.granted(), budget.free()];
        for (gauge, value) in self.budget.iter().zip(values) {
            gauge.set(value.0 as f64);
        }
    }

    /// Capacity, reserve, what is granted and what is free, as published last.
    #[must_use]
    pub fn budget_view(&self) -> [Bytes; 4] {
        // Whole numbers below 2^53, or near enough.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes in bytes")]
        self.budget.each_ref().map(|gauge| Bytes(gauge.get() as u64))
    }

    /// Everything registered, for encoding.
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_counted_under_its_own_labels() {
        let metrics = Metrics::new(Tier::Full, 0).unwrap();
        let last = *Reason::ALL.last().unwrap();
        metrics.decided(Resource::Cpu, Verb::Fail, last, Outcome::Failed);
        metrics.decided(Resource::Memory, Verb::Grow, Reason::TripwireHit, Outcome::Applied);
        let counted: Vec<(String, u64)> = metrics.decisions().collect();
        let line = |resource: &str, verb: &str, reason: &str, outcome: &str| {
            let labels =
                format!("resource=\"{resource}\",verb=\"{verb}\",reason=\"{reason}\",outcome=\"{outcome}\"");
            (labels, 1)
        };
        assert!(counted.contains(&line("cpu", "fail", last.as_str(), "failed")), "{counted:?}");
        assert!(counted.contains(&line("memory", "grow", "tripwire_hit", "applied")), "{counted:?}");
        assert_eq!(counted.len(), 2);
    }
}
