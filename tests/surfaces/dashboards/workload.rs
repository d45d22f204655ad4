//! One workload: the band of its limits around its use, and what hurts.

use super::tenants;
use crate::surfaces::model::{Annotation, Dashboard, Panel, Row, Variable, expression, lines, stat, trouble};

pub(super) fn dashboard() -> Dashboard {
    let mark = |name, text: &str, colour| Annotation {
        name,
        expression: expression(text),
        keys: "{{tenant}}/{{workload}}",
        colour,
    };
    Dashboard {
        name: "workload",
        title: "bellows / Workload",
        description: "A workload: its use between floor and ceiling, the limits that follow it, and what hurts. `bellows explain` tells why.",
        variables: vec![
            tenants(),
            Variable { name: "workload", label: "Workload", series: expression("bellows_workload_info{&}") },
        ],
        annotations: vec![
            mark(
                "Limit moved",
                "sum by (tenant, workload) (increase(bellows_workload_limit_moves_total{%}[#])) > 0",
                "blue",
            ),
            mark(
                "OOM kill",
                "sum by (tenant, workload) (increase(bellows_workload_memory_events_oom_kill_total{%}[#])) > 0",
                "red",
            ),
        ],
        rows: vec![well(), memory(), pressure(), cpu(), observed()],
    }
}

fn well() -> Row {
    Row {
        title: "Is it well?",
        panels: vec![
            trouble(
                "OOM kills",
                "Processes that the OOM killer ended in it, in the time shown.",
                "round(sum(increase(bellows_workload_memory_events_oom_kill_total{%}[$__range])))",
            ),
            stat(
                "At its ceiling",
                "percentunit",
                "What it is granted of the most that it may have. At 1 it cannot grow any more.",
                "max(bellows_workload_memory_high_bytes{%} < Inf) / max(bellows_workload_memory_ceiling_bytes{%})",
            ),
            stat(
                "Waits for memory",
                "percentunit",
                "The share of time in which some task of it waited for memory.",
                "max(workload:bellows_memory_pressure:ratio5m{%})",
            ),
            trouble(
                "Frozen",
                "It stands still for somebody more important.",
                "sum(bellows_workload_frozen{%})",
            ),
            stat(
                "Pinned",
                "short",
                "An operator has pinned its limits: no law moves them.",
                "sum(bellows_workload_pinned{%})",
            ),
            stat(
                "Workloads shown",
                "short",
                "How many are chosen, by class.",
                "count(bellows_workload_info{%})",
            ),
        ],
    }
}

fn memory() -> Row {
    Row {
        title: "Memory",
        panels: vec![
            lines(
                "Use within its limits",
                "bytes",
                "memory.high follows use between floor and ceiling, memory.max a band above. Limits that stand open have no line.",
                &[
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_current_bytes{%})",
                        "{{workload}} used",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_high_bytes{%} < Inf)",
                        "{{workload}} high",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_max_bytes{%} < Inf)",
                        "{{workload}} max",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_floor_bytes{%})",
                        "{{workload}} floor",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_ceiling_bytes{%})",
                        "{{workload}} ceiling",
                    ),
                ],
            ),
            lines(
                "What it holds",
                "bytes",
                "What it needs does not reclaim cheaply; clean page cache does. As of the last look into memory.stat.",
                &[
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_need_bytes{%})",
                        "{{workload}} need",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_cache_bytes{%})",
                        "{{workload}} clean cache",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_anon_bytes{%})",
                        "{{workload}} anonymous",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_file_bytes{%})",
                        "{{workload}} files",
                    ),
                ],
            ),
        ],
    }
}

fn pressure() -> Row {
    let events: Panel = lines(
        "Limits met",
        "ops",
        "high: crossed memory.high, and was answered by a grow or a refusal. max, oom: the band was not enough. low: reclaimed below its protection.",
        &[
            ("sum(rate(bellows_workload_memory_events_low_total{%}[#]))", "low"),
            ("sum(rate(bellows_workload_memory_events_high_total{%}[#]))", "high"),
            ("sum(rate(bellows_workload_memory_events_max_total{%}[#]))", "max"),
            ("sum(rate(bellows_workload_memory_events_oom_total{%}[#]))", "oom"),
            ("sum(rate(bellows_workload_memory_events_oom_kill_total{%}[#]))", "oom_kill"),
            ("sum(rate(bellows_workload_limit_moves_total{%}[#]))", "limit moves"),
        ],
    );
    Row {
        title: "What hurts",
        panels: vec![
            events,
            lines(
                "Pressure",
                "percentunit",
                "The share of time in which some task (waiting) or all of them (stalled) stood for memory, I/O or a cpu, at looks into the pressure files.",
                &[
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_memory_waiting_seconds_total{%}[#]))",
                        "{{workload}} memory, waiting",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_memory_stalled_seconds_total{%}[#]))",
                        "{{workload}} memory, stalled",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_io_waiting_seconds_total{%}[#]))",
                        "{{workload}} I/O, waiting",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_io_stalled_seconds_total{%}[#]))",
                        "{{workload}} I/O, stalled",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_cpu_waiting_seconds_total{%}[#]))",
                        "{{workload}} cpu, waiting",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_pressure_cpu_stalled_seconds_total{%}[#]))",
                        "{{workload}} cpu, stalled",
                    ),
                ],
            ),
        ],
    }
}

fn cpu() -> Row {
    Row {
        title: "Cpu, where a quota is governed",
        panels: vec![
            lines(
                "Use within its quota",
                "short",
                "The quota follows use between floor and ceiling. One of max has no line.",
                &[
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_cpu_usage_seconds_total{%}[#]))",
                        "{{workload}} used",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_cpu_max_cores{%} < Inf)",
                        "{{workload}} quota",
                    ),
                    ("sum by (tenant, workload) (bellows_workload_cpu_floor_cores{%})", "{{workload}} floor"),
                    (
                        "sum by (tenant, workload) (bellows_workload_cpu_ceiling_cores{%} < Inf)",
                        "{{workload}} ceiling",
                    ),
                ],
            ),
            lines(
                "Throttled",
                "percentunit",
                "The share of periods in which it was throttled. Quotas follow within a period or two: it hurts where it stays, at the ceiling.",
                &[(
                    "sum by (tenant, workload) (rate(bellows_workload_cpu_throttled_periods_total{%}[#])) / (sum by (tenant, workload) (rate(bellows_workload_cpu_periods_total{%}[#])) > 0)",
                    "{{workload}}",
                )],
            ),
            lines(
                "Quota moves and throttled time",
                "short",
                "Moves of the quota, and seconds that its cpus were throttled, per second.",
                &[
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_cpu_quota_moves_total{%}[#]))",
                        "{{workload}} moves",
                    ),
                    (
                        "sum by (tenant, workload) (rate(bellows_workload_cpu_throttled_seconds_total{%}[#]))",
                        "{{workload}} throttled",
                    ),
                ],
            ),
        ],
    }
}

fn observed() -> Row {
    Row {
        title: "While it is only observed",
        panels: vec![
            lines(
                "Limits as they would be",
                "bytes",
                "What would be written if its class were enforced. `bellows explain` advises a floor and a ceiling.",
                &[
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_would_high_bytes{%} < Inf)",
                        "{{workload}} would be high",
                    ),
                    (
                        "sum by (tenant, workload) (bellows_workload_memory_would_max_bytes{%} < Inf)",
                        "{{workload}} would be max",
                    ),
                ],
            ),
            lines(
                "Moves that would have been made",
                "ops",
                "How often limits would have moved.",
                &[(
                    "sum by (tenant, workload) (rate(bellows_workload_limit_moves_observed_total{%}[#]))",
                    "{{workload}}",
                )],
            ),
        ],
    }
}
