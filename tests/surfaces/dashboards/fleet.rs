//! All nodes: which of them is not well?

use super::oom_kills;
use crate::surfaces::model::{Dashboard, Row, Shape, lines, panel, stat, trouble};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "fleet",
        title: "bellows / Fleet",
        description: "All nodes: which of them is not well, and where there is room.",
        variables: vec![],
        annotations: vec![oom_kills("@")],
        rows: vec![well(), room(), nodes()],
    }
}

fn well() -> Row {
    Row {
        title: "Is it well?",
        panels: vec![
            trouble(
                "Agents down",
                "Agents that Prometheus knows of and cannot scrape. Their workloads run on, with limits opened by the watchdog.",
                "count(up{@}) - sum(up{@})",
            ),
            trouble(
                "OOM kills",
                "Processes that the OOM killer ended in workloads, in the time shown. The tenant's dashboard says whose.",
                "round(sum(increase(bellows_oom_kills_total{@}[$__range])))",
            ),
            trouble(
                "Nodes short of memory",
                "Nodes that lack available memory themselves, whatever the budget says.",
                "sum(bellows_node_memory_missing_bytes{@} > bool 0)",
            ),
            trouble(
                "Workloads waiting",
                "Workloads that want more than node or tenant can grant now.",
                "sum(bellows_tenant_waiting{@})",
            ),
            trouble(
                "Stale policies",
                "Agents that govern by old policies since the new ones were refused: `bellows policy check` there.",
                "sum(bellows_policy_last_reload_successful{@} == bool 0)",
            ),
            stat("Agents", "short", "Agents that are scraped.", "count(bellows_build_info{@})"),
            stat("Workloads", "short", "Workloads on all nodes.", "sum(bellows_workloads{@})"),
            stat(
                "Budget granted",
                "percentunit",
                "What is granted of all that can be.",
                "sum(bellows_budget_bytes{@,state=\"granted\"}) / (sum(bellows_budget_bytes{@,state=\"granted\"}) + sum(bellows_budget_bytes{@,state=\"free\"}))",
            ),
        ],
    }
}

fn room() -> Row {
    Row {
        title: "Room and work",
        panels: vec![
            lines(
                "Budget granted, by node",
                "percentunit",
                "The share of the budget that is granted. At 1 whoever grows has to wait for others.",
                &[("topk(10, instance:bellows_budget_granted:ratio{@})", "{{instance}}")],
            ),
            lines(
                "Decisions",
                "ops",
                "What the agents decide: a rising line of grows without shrinks fills the budget.",
                &[(
                    "sum by (resource, verb) (instance:bellows_decisions:rate5m{@})",
                    "{{resource}} {{verb}}",
                )],
            ),
            lines(
                "Reaction, 99th percentile",
                "s",
                "From the wake-up to the written limit, by node; the slowest ten.",
                &[("topk(10, instance:bellows_reaction_seconds:p99_5m{@} >= 0)", "{{instance}}")],
            ),
        ],
    }
}

fn nodes() -> Row {
    Row {
        title: "Nodes",
        panels: vec![panel(
            Shape::Table("node"),
            "Fullest nodes",
            "short",
            "The twenty with the least room; each row opens the node.",
            &[
                (
                    "topk(20, sum by (instance) (instance:bellows_budget_granted:ratio{@}))",
                    "granted of budget",
                ),
                ("sum by (instance) (bellows_workloads{@})", "workloads"),
                ("sum by (instance) (bellows_tenant_waiting{@})", "waiting"),
            ],
        )],
    }
}
