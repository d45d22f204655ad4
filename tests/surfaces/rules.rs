//! Recording and alerting rules. Alerts are about symptoms: throttled *and* short *and* at the ceiling, not throttled alone, which is
//! how an elastic limit works.
//!
//! An alert is made of conditions, so that a test can ask for the value of each: the whole has none while all is well.

use std::fmt::Write;

use serde_json::Value;

/// A series that is computed ahead, since several dashboards or alerts need it.
#[derive(Debug)]
pub struct Recorded {
    /// Its name: level, metric, operations.
    pub name: &'static str,
    /// What it is.
    pub expression: &'static str,
}

/// An alert.
#[derive(Debug)]
pub struct Alert {
    /// Its name, and that of its runbook.
    pub name: &'static str,
    /// Expressions with what they are compared with; all have to hold, for the same labels.
    pub conditions: &'static [(&'static str, &'static str)],
    /// For how long they have to.
    pub hold: &'static str,
    /// `critical`: somebody is to look now; `warning`: today.
    pub severity: &'static str,
    /// What is wrong, with labels.
    pub summary: &'static str,
}

/// Where runbooks are, from the root of the repository.
pub const RUNBOOKS: &str = "docs/runbooks";

/// All recorded series.
pub const RECORDED: &[Recorded] = &[
    Recorded {
        name: "instance:bellows_budget_granted:ratio",
        expression: "sum by (job, instance) (bellows_budget_bytes{state=\"granted\"}) / sum by (job, instance) (bellows_budget_bytes{state=~\"granted|free\"})",
    },
    Recorded {
        name: "instance:bellows_decisions:rate5m",
        expression: "sum by (job, instance, resource, verb) (rate(bellows_decisions_total[5m]))",
    },
    Recorded {
        name: "instance:bellows_reaction_seconds:p99_5m",
        expression: "histogram_quantile(0.99, sum by (job, instance, le) (rate(bellows_reaction_seconds_bucket[5m])))",
    },
    Recorded {
        name: "workload:bellows_memory_pressure:ratio5m",
        expression: "sum by (job, instance, tenant, workload) (rate(bellows_workload_pressure_memory_waiting_seconds_total[5m]))",
    },
    Recorded {
        name: "workload:bellows_memory_granted_of_ceiling:ratio",
        expression: "sum by (job, instance, tenant, workload) (bellows_workload_memory_high_bytes < Inf) / sum by (job, instance, tenant, workload) (bellows_workload_memory_ceiling_bytes)",
    },
    Recorded {
        name: "workload:bellows_cpu_throttled:ratio5m",
        expression: "sum by (job, instance, tenant, workload) (rate(bellows_workload_cpu_throttled_periods_total[5m])) / (sum by (job, instance, tenant, workload) (rate(bellows_workload_cpu_periods_total[5m])) > 0)",
    },
    Recorded {
        name: "workload:bellows_cpu_quota_of_ceiling:ratio",
        expression: "sum by (job, instance, tenant, workload) (bellows_workload_cpu_max_cores < Inf) / sum by (job, instance, tenant, workload) (bellows_workload_cpu_ceiling_cores)",
    },
    Recorded {
        name: "workload:bellows_cpu_used_of_ceiling:ratio5m",
        expression: "sum by (job, instance, tenant, workload) (rate(bellows_workload_cpu_usage_seconds_total[5m])) / sum by (job, instance, tenant, workload) (bellows_workload_cpu_ceiling_cores)",
    },
];

/// All alerts.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "BellowsAgentDown",
        conditions: &[("up{job=\"bellows\"}", "== 0")],
        hold: "2m",
        severity: "critical",
        summary: "The agent of {{ $labels.instance }} does not answer: nothing moves limits there.",
    },
    Alert {
        name: "BellowsAgentHeldUp",
        conditions: &[("sum by (job, instance) (increase(bellows_agent_gaps_total[15m]))", "> 0")],
        hold: "0m",
        severity: "warning",
        summary: "The agent of {{ $labels.instance }} was held up so long that its watchdog opened all limits.",
    },
    Alert {
        name: "BellowsWatchdogGone",
        conditions: &[("sum by (job, instance) (increase(bellows_watchdog_restarts_total[15m]))", "> 0")],
        hold: "0m",
        severity: "warning",
        summary: "Somebody ends the watchdog of {{ $labels.instance }}.",
    },
    Alert {
        name: "BellowsSlowReaction",
        conditions: &[("instance:bellows_reaction_seconds:p99_5m", "> 0.1")],
        hold: "10m",
        severity: "warning",
        summary: "Limits of {{ $labels.instance }} are moved more than 100 ms after the kernel asked.",
    },
    Alert {
        name: "BellowsOomKills",
        conditions: &[(
            "sum by (job, instance, tenant) (increase(bellows_tenant_oom_kills_total[10m]))",
            "> 0",
        )],
        hold: "0m",
        severity: "warning",
        summary: "The OOM killer ended processes of {{ $labels.tenant }} on {{ $labels.instance }}.",
    },
    Alert {
        name: "BellowsMemoryCeilingTooLow",
        conditions: &[
            ("workload:bellows_memory_granted_of_ceiling:ratio", ">= 0.99"),
            ("workload:bellows_memory_pressure:ratio5m", "> 0.1"),
        ],
        hold: "10m",
        severity: "warning",
        summary: "{{ $labels.tenant }}/{{ $labels.workload }} on {{ $labels.instance }} stands at its memory ceiling and waits for memory.",
    },
    Alert {
        name: "BellowsCpuCeilingTooLow",
        conditions: &[
            ("workload:bellows_cpu_throttled:ratio5m", "> 0.25"),
            ("workload:bellows_cpu_used_of_ceiling:ratio5m", "> 0.8"),
            ("workload:bellows_cpu_quota_of_ceiling:ratio", ">= 0.99"),
        ],
        hold: "15m",
        severity: "warning",
        summary: "{{ $labels.tenant }}/{{ $labels.workload }} on {{ $labels.instance }} stands at its cpu ceiling, uses it up and is throttled.",
    },
    Alert {
        name: "BellowsGuaranteeNotServed",
        conditions: &[
            (
                "sum by (job, instance, tenant) (bellows_tenant_memory_guarantee_bytes) - sum by (job, instance, tenant) (bellows_tenant_memory_granted_bytes)",
                "> 0",
            ),
            ("sum by (job, instance, tenant) (bellows_tenant_waiting)", "> 0"),
        ],
        hold: "5m",
        severity: "critical",
        summary: "{{ $labels.tenant }} on {{ $labels.instance }} waits although it has less than it is promised.",
    },
    Alert {
        name: "BellowsBudgetExhausted",
        conditions: &[
            ("instance:bellows_budget_granted:ratio", "> 0.95"),
            ("sum by (job, instance) (bellows_tenant_waiting)", "> 0"),
        ],
        hold: "15m",
        severity: "warning",
        summary: "Workloads of {{ $labels.instance }} have waited for memory for 15 minutes, and next to nothing is free.",
    },
    Alert {
        name: "BellowsNodeShortOfMemory",
        conditions: &[("sum by (job, instance) (bellows_node_memory_missing_bytes)", "> 0")],
        hold: "5m",
        severity: "critical",
        summary: "{{ $labels.instance }} itself lacks available memory.",
    },
    Alert {
        name: "BellowsFrozenForLong",
        conditions: &[("sum by (job, instance) (bellows_squeeze_leases{rung=\"freeze\"})", "> 0")],
        hold: "30m",
        severity: "warning",
        summary: "Workloads of {{ $labels.instance }} have stood still for half an hour for more important ones.",
    },
    Alert {
        name: "BellowsPolicyReloadFailed",
        conditions: &[("sum by (job, instance) (bellows_policy_last_reload_successful)", "== 0")],
        hold: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }} governs by old policies: the new ones were refused.",
    },
    Alert {
        name: "BellowsJournalLosesRecords",
        conditions: &[(
            "sum by (job, instance) (increase(bellows_journal_records_lost_total[15m])) + sum by (job, instance) (increase(bellows_journal_records_unwritten_total[15m]))",
            "> 0",
        )],
        hold: "0m",
        severity: "warning",
        summary: "The journal of {{ $labels.instance }} has lost records, or cannot write them to disk.",
    },
    Alert {
        name: "BellowsQueuesOverflow",
        conditions: &[(
            "sum by (job, instance) (increase(bellows_event_queue_overflows_total[15m])) + sum by (job, instance) (increase(bellows_commands_refused_total[15m])) + sum by (job, instance) (increase(bellows_detail_reads_dropped_total[15m])) + sum by (job, instance) (increase(bellows_incidents_dropped_total[15m]))",
            "> 0",
        )],
        hold: "5m",
        severity: "warning",
        summary: "Queues of the agent of {{ $labels.instance }} overflow: it has more to do than it can.",
    },
    Alert {
        name: "BellowsForeignWrites",
        conditions: &[("sum by (job, instance) (increase(bellows_foreign_writes_total[15m]))", "> 3")],
        hold: "0m",
        severity: "warning",
        summary: "Somebody else keeps writing limits on {{ $labels.instance }}.",
    },
    Alert {
        name: "BellowsLaunchesFail",
        conditions: &[("sum by (job, instance) (increase(bellows_launches_failed_total[15m]))", "> 5")],
        hold: "5m",
        severity: "warning",
        summary: "Launches on {{ $labels.instance }} are refused or fail.",
    },
    Alert {
        name: "BellowsRestartLoop",
        conditions: &[("sum by (job, instance) (increase(bellows_restarts_total[15m]))", "> 5")],
        hold: "5m",
        severity: "warning",
        summary: "Detached workloads of {{ $labels.instance }} fail again and again.",
    },
];

impl Alert {
    /// All conditions together.
    #[must_use]
    pub fn expression(&self) -> String {
        let all = self.conditions.iter().map(|(value, bound)| {
            // `a + b > 0` is as it is read.
            format!("{value} {bound}")
        });
        all.collect::<Vec<_>>().join(" and ")
    }

    /// Where its runbook is, from the root of the repository.
    #[must_use]
    pub fn runbook(&self) -> String {
        format!("{RUNBOOKS}/{}.md", self.name)
    }
}

/// The same rules as the Prometheus operator wants them.
pub(super) fn custom_resource() -> String {
    let head = "# Generated by `make surfaces`; do not edit. The rules are those of dashboards/prometheus/rules.yml.\n\
                apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: bellows\n  namespace: bellows\n  \
                labels:\n    app.kubernetes.io/name: bellows\nspec:\n";
    // All but the comment, two columns further in.
    yaml().lines().skip(1).fold(head.to_owned(), |text, line| text + "  " + line + "\n")
}

/// All rules as Prometheus reads them: its YAML has JSON's strings.
pub(super) fn yaml() -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = "# Generated by `make surfaces`; do not edit. rules_test.yml beside it tests them: promtool test rules.\n\
                    groups:\n  - name: bellows.recorded\n    rules:\n"
        .to_owned();
    for recorded in RECORDED {
        let _ = writeln!(
            text,
            "      - record: {}\n        expr: {}",
            recorded.name,
            quoted(recorded.expression)
        );
    }
    text.push_str("  - name: bellows.alerts\n    rules:\n");
    for alert in ALERTS {
        let _ = writeln!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        \
             annotations:\n          summary: {}\n          runbook: {}",
            alert.name,
            quoted(&alert.expression()),
            alert.hold,
            alert.severity,
            quoted(alert.summary),
            alert.runbook(),
        );
    }
    text
}
