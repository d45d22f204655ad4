//! The agent's own metrics. Every label value that the control loop uses is resolved at the start, so that counting is one
//! atomic addition.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Reloads, Squeezes};
use bellows_policies::budget::Budget;
use bellows_policies::decision::{Reason, Verb};
use bellows_policies::units::Bytes;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, Opts, Registry};

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
/// 50 us to 1 s.
const REACTION_BUCKETS: [f64; 14] =
    [50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 100e-3, 0.5, 1.0];

/// The agent's own metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// From the loop's wake-up to the return of the limit write, seconds.
    pub reaction: Histogram,
    /// One turn of the loop, from wake-up to the next wait, seconds.
    pub turn: Histogram,
    /// One turn of the cpu loop, from its tick to the next wait, seconds.
    pub cpu_turn: Histogram,
    /// From admission to execution, seconds.
    pub launch: Histogram,
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
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let options = HistogramOpts::new(name, help).buckets(REACTION_BUCKETS.to_vec());
            let histogram = Histogram::with_opts(options)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            reaction: histogram(
                "bellows_reaction_seconds",
                "From the loop's wake-up to the return of the limit write.",
            )?,
            turn: histogram(
                "bellows_turn_seconds",
                "One turn of the control loop, from wake-up to the next wait.",
            )?,
            cpu_turn: histogram(
                "bellows_cpu_turn_seconds",
                "One turn of the cpu loop, from its tick to the next wait.",
            )?,
            launch: histogram(
                "bellows_launch_seconds",
                "From a launch's admission to the execution of its command.",
            )?,
            decisions: (0..DECISIONS).map(|_| AtomicU64::new(0)).collect(),
            deferred: counter(
                "bellows_grants_deferred_total",
                "Grows that the budget could not serve at the time.",
            )?,
            infeasible: counter("bellows_grants_infeasible_total", "Grows that the budget can never serve.")?,
            overflows: counter(
                "bellows_event_queue_overflows_total",
                "Overflows of the kernel's event queue.",
            )?,
            commands_refused: counter(
                "bellows_commands_refused_total",
                "Commands refused because the control queue was full.",
            )?,
            api_refused: counter(
                "bellows_api_refused_total",
                "Requests refused because of who asked, or how much.",
            )?,
            details_dropped: counter(
                "bellows_detail_reads_dropped_total",
                "Looks into memory.stat skipped because their queue was full.",
            )?,
            incidents_dropped: counter(
                "bellows_incidents_dropped_total",
                "Incidents that are not recorded because their queue was full.",
            )?,
            launches_failed: counter(
                "bellows_launches_failed_total",
                "Launches that were refused or failed.",
            )?,
            ended: counter("bellows_workloads_ended_total", "Workloads that ended.")?,
            restarts: counter(
                "bellows_restarts_total",
                "Detached workloads that were started again by their restart rule.",
            )?,
            oom_kills: counter(
                "bellows_oom_kills_total",
                "Processes that the kernel's OOM killer ended in workloads, gone ones included.",
            )?,
            gaps: counter(
                "bellows_agent_gaps_total",
                "Times that the agent was held up so long that its watchdog opened the limits.",
            )?,
            watchdogs: counter(
                "bellows_watchdog_restarts_total",
                "Watchdogs that were found gone and replaced.",
            )?,
            node_cpu: gauge("bellows_node_cpu_used_cpus", "The node's use of its cpus, by /proc/stat.")?,
            taken_over: counter(
                "bellows_workloads_taken_over_total",
                "Workloads of an earlier agent that are governed again.",
            )?,
            adopted: counter("bellows_workloads_adopted_total", "Cgroups of others that were adopted.")?,
            foreign_writes: counter(
                "bellows_foreign_writes_total",
                "Limits that somebody else had written and that were put back.",
            )?,
            takeover: gauge(
                "bellows_takeover_seconds",
                "From the agent's start to the last workload that it took over.",
            )?,
            budget: register_budget(&registry)?,
            policies: Reloads::register(&registry)?,
            squeezes: Squeezes::register(&registry)?,
            registry,
        })
    }

    /// Counts a decision.
    pub fn decided(&self, resource: Resource, verb: Verb, reason: Reason, outcome: Outcome) {
        let what = resource as usize * Verb::ALL.len() + verb as usize;
        let index = (what * Reason::ALL.len() + reason as usize) * OUTCOMES.len() + outcome as usize;
        self.decisions[index].fetch_add(1, Ordering::Relaxed);
    }

    /// The decisions that have happened, in the text format: a family of the `prometheus` crate would expose the others too,
    /// some thousand lines of zeroes.
    pub(super) fn encode_decisions(&self, text: &mut String) {
        let labels = RESOURCES.iter().flat_map(|resource| {
            Verb::ALL.iter().flat_map(move |verb| {
                Reason::ALL
                    .iter()
                    .flat_map(move |reason| OUTCOMES.iter().map(move |o| (resource, verb, reason, o)))
            })
        });
        for ((resource, verb, reason, outcome), cell) in labels.zip(&self.decisions) {
            let count = cell.load(Ordering::Relaxed);
            if count > 0 {
                let (verb, reason) = (verb.as_str(), reason.as_str());
                let _ = writeln!(
                    text,
                    "bellows_decisions_total{{resource=\"{resource}\",verb=\"{verb}\",reason=\"{reason}\",outcome=\"{outcome}\"}} {count}"
                );
            }
        }
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
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

fn register_budget(registry: &Registry) -> prometheus::Result<[Gauge; 4]> {
    let budget = GaugeVec::new(
        Opts::new(
            "bellows_budget_bytes",
            "The node's memory budget: what is granted adds up values of memory.high.",
        ),
        &["state"],
    )?;
    registry.register(Box::new(budget.clone()))?;
    let state = |name: &str| budget.get_metric_with_label_values(&[name]);
    Ok([state("capacity")?, state("reserve")?, state("granted")?, state("free")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_counted_under_its_own_labels() {
        let metrics = Metrics::new().unwrap();
        let last = *Reason::ALL.last().unwrap();
        metrics.decided(Resource::Cpu, Verb::Fail, last, Outcome::Failed);
        metrics.decided(Resource::Memory, Verb::Grow, Reason::TripwireHit, Outcome::Applied);
        let text = crate::metrics::encode(&metrics, &[], &[], 0, 0);
        let line = |resource: &str, verb: &str, reason: &str, outcome: &str| {
            format!(
                "bellows_decisions_total{{resource=\"{resource}\",verb=\"{verb}\",reason=\"{reason}\",outcome=\"{outcome}\"}} 1\n"
            )
        };
        assert!(text.contains(&line("cpu", "fail", last.as_str(), "failed")), "{text}");
        assert!(text.contains(&line("memory", "grow", "tripwire_hit", "applied")), "{text}");
    }
}
