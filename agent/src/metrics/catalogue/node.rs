//! What the agent tells of its node: the budget, and what was decided.

use super::Kind::{Counter, Gauge};
use super::{Group, Kind, Metric, Unit};

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric::new(kind, Group::Node, name, unit, labels, help)
}

pub(super) const NODE: &[Metric] = &[
    metric(
        Gauge,
        "bellows_budget_bytes",
        Unit::Bytes,
        &["state"],
        "The node's memory budget, by state: capacity, reserve, granted (the sum of memory.high) and free.",
    ),
    metric(
        Gauge,
        "bellows_node_cpu_used_cores",
        Unit::Cores,
        &[],
        "The node's use of its cpus, by /proc/stat.",
    ),
    metric(
        Gauge,
        "bellows_node_memory_missing_bytes",
        Unit::Bytes,
        &[],
        "What the node itself lacks of available memory; NaN when that is not known.",
    ),
    metric(
        Counter,
        "bellows_node_memory_unknown_total",
        Unit::None,
        &[],
        "Times that it became unknown whether the node is short of memory.",
    ),
    metric(
        Counter,
        "bellows_decisions_total",
        Unit::None,
        &["resource", "verb", "reason", "outcome"],
        "Decisions by resource, verb, reason and outcome (applied, nothing, failed, observed: only told), as far as there were any.",
    ),
    metric(
        Counter,
        "bellows_grants_deferred_total",
        Unit::None,
        &[],
        "Grows that node or tenant could not be granted at the time.",
    ),
    metric(
        Counter,
        "bellows_grants_infeasible_total",
        Unit::None,
        &[],
        "Grows that node or tenant can never be granted whole.",
    ),
    metric(
        Counter,
        "bellows_squeeze_acts_total",
        Unit::None,
        &["rung"],
        "Times that something was taken from a workload for another one, or for the node, by rung: slack, reclaim, cpu, freeze, kill.",
    ),
    metric(
        Counter,
        "bellows_squeeze_bytes_total",
        Unit::Bytes,
        &["rung"],
        "Memory that was asked of workloads by that, by rung: slack, reclaim.",
    ),
    metric(
        Gauge,
        "bellows_squeeze_leases",
        Unit::None,
        &["rung"],
        "Workloads that give way now, by rung: cpu (part of the quota is lent), freeze.",
    ),
    metric(Gauge, "bellows_workloads", Unit::None, &[], "Workloads that exist."),
    metric(Counter, "bellows_workloads_ended_total", Unit::None, &[], "Workloads that ended."),
    metric(
        Counter,
        "bellows_workloads_taken_over_total",
        Unit::None,
        &[],
        "Workloads of an earlier agent that are governed again.",
    ),
    metric(
        Counter,
        "bellows_workloads_adopted_total",
        Unit::None,
        &[],
        "Cgroups made by somebody else in a tenant's that were adopted.",
    ),
    metric(
        Counter,
        "bellows_launches_failed_total",
        Unit::None,
        &[],
        "Launches that were refused or failed.",
    ),
    metric(
        Counter,
        "bellows_restarts_total",
        Unit::None,
        &[],
        "Detached workloads that were started again by their restart rule.",
    ),
    metric(
        Counter,
        "bellows_oom_kills_total",
        Unit::None,
        &[],
        "Processes that the kernel's OOM killer ended in workloads, gone ones included.",
    ),
    metric(
        Counter,
        "bellows_foreign_writes_total",
        Unit::None,
        &[],
        "Limits that somebody else had written and that were put back.",
    ),
];
