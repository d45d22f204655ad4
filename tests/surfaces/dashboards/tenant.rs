//! One tenant: what it is promised, has, and wants.

use super::{oom_kills, tenants};
use crate::surfaces::model::{Dashboard, Row, Shape, lines, panel, stat, trouble};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "tenant",
        title: "bellows / Tenant",
        description: "A tenant: what it is promised and allowed, what it has and uses, and what happened to it.",
        variables: vec![tenants()],
        annotations: vec![oom_kills("&")],
        rows: vec![well(), memory(), cpu(), workloads()],
    }
}

fn well() -> Row {
    Row {
        title: "Is it well?",
        panels: vec![
            trouble(
                "OOM kills",
                "Processes that the OOM killer ended, in the time shown; also in workloads that are gone.",
                "round(sum(increase(bellows_tenant_oom_kills_total{&}[$__range])))",
            ),
            trouble(
                "Workloads waiting",
                "Workloads that want more than node or tenant can grant now.",
                "sum(bellows_tenant_waiting{&})",
            ),
            trouble(
                "Below its guarantee, and waiting",
                "Tenants that wait although they have less than they are promised: the node is overcommitted.",
                "sum((bellows_tenant_memory_granted_bytes{&} < bool bellows_tenant_memory_guarantee_bytes{&}) * (bellows_tenant_waiting{&} > bool 0))",
            ),
            stat("Workloads", "short", "Its workloads.", "sum(bellows_tenant_workloads{&})"),
            stat(
                "Used",
                "bytes",
                "Memory that its workloads use.",
                "sum(bellows_tenant_memory_current_bytes{&})",
            ),
            stat(
                "Granted",
                "bytes",
                "Memory that they are granted.",
                "sum(bellows_tenant_memory_granted_bytes{&})",
            ),
        ],
    }
}

fn memory() -> Row {
    Row {
        title: "Memory",
        panels: vec![
            lines(
                "Granted between promise and cap",
                "bytes",
                "What is granted moves between the guarantee, which is kept, and the cap, which is never exceeded. No line of a cap: none is set.",
                &[
                    ("sum by (tenant) (bellows_tenant_memory_current_bytes{&})", "{{tenant}} used"),
                    ("sum by (tenant) (bellows_tenant_memory_granted_bytes{&})", "{{tenant}} granted"),
                    ("sum by (tenant) (bellows_tenant_memory_guarantee_bytes{&})", "{{tenant}} guarantee"),
                    ("sum by (tenant) (bellows_tenant_memory_floor_bytes{&})", "{{tenant}} floors"),
                    ("sum by (tenant) (bellows_tenant_memory_cap_bytes{&} < Inf)", "{{tenant}} cap"),
                ],
            ),
            lines(
                "Limits met and moved",
                "ops",
                "Charges that crossed memory.high, and moves of limits that answered.",
                &[
                    (
                        "sum by (tenant) (rate(bellows_tenant_memory_events_high_total{&}[#]))",
                        "{{tenant}} crossings",
                    ),
                    ("sum by (tenant) (rate(bellows_tenant_limit_moves_total{&}[#]))", "{{tenant}} moves"),
                ],
            ),
        ],
    }
}

fn cpu() -> Row {
    Row {
        title: "Cpu and ends",
        panels: vec![
            lines(
                "Cpus used",
                "short",
                "Of workloads whose quota is governed.",
                &[("sum by (tenant) (rate(bellows_tenant_cpu_usage_seconds_total{&}[#]))", "{{tenant}}")],
            ),
            lines(
                "Cpus throttled",
                "short",
                "Time that cpus were throttled, per second. A burst is normal: quotas follow within a period or two.",
                &[("sum by (tenant) (rate(bellows_tenant_cpu_throttled_seconds_total{&}[#]))", "{{tenant}}")],
            ),
            lines(
                "Ends",
                "ops",
                "Workloads that ended.",
                &[("sum by (tenant) (rate(bellows_tenant_workloads_ended_total{&}[#]))", "{{tenant}}")],
            ),
        ],
    }
}

fn workloads() -> Row {
    Row {
        title: "Its workloads",
        panels: vec![
            panel(
                Shape::Table("workload"),
                "Largest",
                "bytes",
                "The twenty that use most; a row opens it. Needs the tier core.",
                &[
                    (
                        "topk(20, sum by (instance, tenant, workload) (bellows_workload_memory_current_bytes{&}))",
                        "used",
                    ),
                    (
                        "sum by (instance, tenant, workload) (bellows_workload_memory_ceiling_bytes{&})",
                        "ceiling",
                    ),
                ],
            ),
            panel(
                Shape::Table("workload"),
                "Most held up",
                "percentunit",
                "The share of time in which some task waited for memory, or in which its periods were throttled.",
                &[
                    ("topk(20, workload:bellows_memory_pressure:ratio5m{&})", "waits for memory"),
                    ("topk(20, workload:bellows_cpu_throttled:ratio5m{&})", "throttled"),
                ],
            ),
        ],
    }
}
