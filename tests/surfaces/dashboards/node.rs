//! One node: what is granted, to whom, and who gives way.

use super::oom_kills;
use crate::surfaces::model::{Dashboard, Row, Shape, lines, panel, stat, trouble};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "node",
        title: "bellows / Node",
        description: "One node: its budget, what is decided, and who gives way for whom.",
        variables: vec![],
        annotations: vec![oom_kills("@")],
        rows: vec![well(), budget(), decisions(), life(), who()],
    }
}

fn well() -> Row {
    Row {
        title: "Is it well?",
        panels: vec![
            trouble(
                "OOM kills",
                "Processes that the OOM killer ended in workloads, in the time shown.",
                "round(sum(increase(bellows_oom_kills_total{@}[$__range])))",
            ),
            trouble(
                "Workloads waiting",
                "Workloads that want more than node or tenant can grant now.",
                "sum(bellows_tenant_waiting{@})",
            ),
            trouble(
                "Frozen",
                "Workloads that stand still for somebody more important.",
                "sum(bellows_squeeze_leases{@,rung=\"freeze\"})",
            ),
            trouble(
                "Failed launches",
                "Launches that were refused or failed in the time shown: most often the floor does not fit.",
                "round(sum(increase(bellows_launches_failed_total{@}[$__range])))",
            ),
            stat(
                "Memory missing",
                "bytes",
                "What the node itself lacks of available memory.",
                "sum(bellows_node_memory_missing_bytes{@})",
            ),
            stat("Workloads", "short", "Workloads that exist.", "sum(bellows_workloads{@})"),
        ],
    }
}

fn budget() -> Row {
    Row {
        title: "Budget",
        panels: vec![
            lines(
                "Memory budget",
                "bytes",
                "What is granted, free and kept in reserve; together, the capacity.",
                &[("sum by (state) (bellows_budget_bytes{@})", "{{state}}")],
            ),
            lines(
                "Grants refused",
                "ops",
                "Grows that could not be served at the time, and those that never can.",
                &[
                    ("sum(rate(bellows_grants_deferred_total{@}[#]))", "deferred"),
                    ("sum(rate(bellows_grants_infeasible_total{@}[#]))", "infeasible"),
                ],
            ),
            lines(
                "Cpus in use",
                "short",
                "The node's cpus that are in use. Above four fifths, quotas shrink.",
                &[("sum by (instance) (bellows_node_cpu_used_cores{@})", "{{instance}}")],
            ),
        ],
    }
}

fn decisions() -> Row {
    Row {
        title: "Decisions",
        panels: vec![
            lines(
                "Decisions by reason",
                "ops",
                "Why limits moved or stayed; `bellows events` has each of them.",
                &[(
                    "topk(10, sum by (resource, verb, reason) (rate(bellows_decisions_total{@}[#])))",
                    "{{resource}} {{verb}}: {{reason}}",
                )],
            ),
            lines(
                "Taken for others",
                "ops",
                "Times that something was taken from a workload for another one, by rung.",
                &[("sum by (rung) (rate(bellows_squeeze_acts_total{@}[#]))", "{{rung}}")],
            ),
            lines(
                "Memory taken for others",
                "Bps",
                "Memory that was asked of workloads by that.",
                &[("sum by (rung) (rate(bellows_squeeze_bytes_total{@}[#]))", "{{rung}}")],
            ),
            lines(
                "Giving way now",
                "short",
                "Workloads whose quota is lent, or that are frozen.",
                &[("sum by (rung) (bellows_squeeze_leases{@})", "{{rung}}")],
            ),
        ],
    }
}

fn life() -> Row {
    Row {
        title: "Comings and goings",
        panels: vec![
            lines(
                "Ends and restarts",
                "ops",
                "Workloads that ended, and detached ones that were started again.",
                &[
                    ("sum(rate(bellows_workloads_ended_total{@}[#]))", "ended"),
                    ("sum(rate(bellows_restarts_total{@}[#]))", "restarted"),
                    ("sum(rate(bellows_launches_failed_total{@}[#]))", "launch failed"),
                ],
            ),
            lines(
                "Taken over, adopted",
                "short",
                "Workloads of an earlier agent, and cgroups that others made, that this agent governs.",
                &[
                    ("sum(increase(bellows_workloads_taken_over_total{@}[#]))", "taken over"),
                    ("sum(increase(bellows_workloads_adopted_total{@}[#]))", "adopted"),
                ],
            ),
            lines(
                "Written by others",
                "ops",
                "Limits that somebody else wrote and that were put back: find out who, two owners fight.",
                &[("sum(rate(bellows_foreign_writes_total{@}[#]))", "foreign writes")],
            ),
            lines(
                "Memory state unknown",
                "ops",
                "Times that it became unknown whether the node is short.",
                &[("sum(rate(bellows_node_memory_unknown_total{@}[#]))", "unknown")],
            ),
        ],
    }
}

fn who() -> Row {
    Row {
        title: "Who",
        panels: vec![
            panel(
                Shape::Table("tenant"),
                "Tenants",
                "bytes",
                "What each tenant is granted and uses; a row opens it.",
                &[
                    (
                        "topk(20, sum by (instance, tenant) (bellows_tenant_memory_granted_bytes{@}))",
                        "granted",
                    ),
                    ("sum by (instance, tenant) (bellows_tenant_memory_current_bytes{@})", "used"),
                ],
            ),
            panel(
                Shape::Table("workload"),
                "Largest workloads",
                "bytes",
                "The twenty that use most; a row opens it. Needs the tier core.",
                &[
                    (
                        "topk(20, sum by (instance, tenant, workload) (bellows_workload_memory_current_bytes{@}))",
                        "used",
                    ),
                    (
                        "sum by (instance, tenant, workload) (bellows_workload_memory_high_bytes{@} < Inf)",
                        "granted",
                    ),
                ],
            ),
        ],
    }
}
