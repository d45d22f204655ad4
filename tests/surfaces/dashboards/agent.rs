//! The agent itself: is it fast, cheap, and has it lost anything?

use super::oom_kills;
use crate::surfaces::model::{Dashboard, Row, Shape, lines, panel, stat, trouble};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "agent",
        title: "bellows / Agent",
        description: "The agent itself: how fast it reacts, what it costs, and whether it has lost anything.",
        variables: vec![],
        annotations: vec![oom_kills("@")],
        rows: vec![well(), speed(), turns(), cost(), lost()],
    }
}

fn well() -> Row {
    Row {
        title: "Is it well?",
        panels: vec![
            trouble("Down", "Agents that Prometheus cannot scrape.", "count(up{@}) - sum(up{@})"),
            trouble(
                "Held up",
                "Times that it was held up so long that its watchdog opened the limits, in the time shown.",
                "round(sum(increase(bellows_agent_gaps_total{@}[$__range])))",
            ),
            trouble(
                "Watchdogs replaced",
                "Watchdogs that were found gone, in the time shown. Find out who ends them.",
                "round(sum(increase(bellows_watchdog_restarts_total{@}[$__range])))",
            ),
            trouble(
                "Old policies",
                "1 when the last reading was refused: `bellows policy check` says why.",
                "sum(bellows_policy_last_reload_successful{@} == bool 0)",
            ),
            trouble(
                "Workloads without series",
                "Beyond the bound of the exposition.",
                "sum(bellows_workloads_unexposed{@})",
            ),
            stat(
                "Reaction, 99th percentile",
                "s",
                "From the wake-up to the written limit.",
                "histogram_quantile(0.99, sum by (le) (rate(bellows_reaction_seconds_bucket{@}[$__range]))) >= 0",
            ),
            stat(
                "Takeover",
                "s",
                "From its start to the last workload that it took over.",
                "max(bellows_takeover_seconds{@})",
            ),
            stat("Up", "s", "Since it was started.", "time() - max(process_start_time_seconds{@})"),
        ],
    }
}

fn speed() -> Row {
    Row {
        title: "Speed",
        panels: vec![
            lines(
                "Reaction",
                "s",
                "From the loop's wake-up to the return of the limit write. The marks on the lines are decisions: `bellows explain ID`.",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(bellows_reaction_seconds_bucket{@}[#]))) >= 0",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(bellows_reaction_seconds_bucket{@}[#]))) >= 0",
                        "p99",
                    ),
                ],
            ),
            lines(
                "Limit writes",
                "ops",
                "Grows that were written.",
                &[("sum(rate(bellows_reaction_seconds_count{@}[#]))", "grows")],
            ),
            lines(
                "Launches",
                "s",
                "From a launch's admission to the execution of its command.",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(bellows_launch_seconds_bucket{@}[#]))) >= 0",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(bellows_launch_seconds_bucket{@}[#]))) >= 0",
                        "p99",
                    ),
                ],
            ),
        ],
    }
}

fn turns() -> Row {
    Row {
        title: "Turns",
        panels: vec![
            lines(
                "Turn of the control loop",
                "s",
                "From wake-up to the next wait.",
                &[
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(bellows_turn_seconds_bucket{@}[#]))) >= 0",
                        "p99",
                    ),
                    (
                        "sum(rate(bellows_turn_seconds_sum{@}[#])) / (sum(rate(bellows_turn_seconds_count{@}[#])) > 0)",
                        "mean",
                    ),
                ],
            ),
            lines(
                "Turn of the cpu loop",
                "s",
                "From its tick to the next wait.",
                &[
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(bellows_cpu_turn_seconds_bucket{@}[#]))) >= 0",
                        "p99",
                    ),
                    (
                        "sum(rate(bellows_cpu_turn_seconds_sum{@}[#])) / (sum(rate(bellows_cpu_turn_seconds_count{@}[#])) > 0)",
                        "mean",
                    ),
                ],
            ),
            lines(
                "Scrapes",
                "s",
                "Time that it takes to write the metrics.",
                &[
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(bellows_scrape_seconds_bucket{@}[#]))) >= 0",
                        "p99",
                    ),
                    (
                        "sum(rate(bellows_scrape_seconds_sum{@}[#])) / (sum(rate(bellows_scrape_seconds_count{@}[#])) > 0)",
                        "mean",
                    ),
                    (
                        "sum(rate(bellows_pressure_read_seconds_sum{@}[#])) / (sum(rate(bellows_pressure_read_seconds_count{@}[#])) > 0)",
                        "cpu.pressure of all, mean",
                    ),
                ],
            ),
        ],
    }
}

fn cost() -> Row {
    Row {
        title: "Cost",
        panels: vec![
            lines(
                "Cpu",
                "percentunit",
                "Of one cpu.",
                &[("sum by (instance) (rate(process_cpu_seconds_total{@}[#]))", "{{instance}}")],
            ),
            lines(
                "Resident memory",
                "bytes",
                "Of the agent.",
                &[("sum by (instance) (process_resident_memory_bytes{@})", "{{instance}}")],
            ),
            panel(
                Shape::Table("node"),
                "Versions",
                "short",
                "Who runs what.",
                &[("sum by (instance, version) (bellows_build_info{@})", "agents")],
            ),
        ],
    }
}

fn lost() -> Row {
    Row {
        title: "Lost, refused, reloaded",
        panels: vec![
            lines(
                "Lost",
                "ops",
                "Whatever met the bound of a queue or a disk. An overflow of events is healed by a full pass.",
                &[
                    ("sum(rate(bellows_event_queue_overflows_total{@}[#]))", "event queue overflows"),
                    ("sum(rate(bellows_journal_records_lost_total{@}[#]))", "records lost"),
                    ("sum(rate(bellows_journal_records_unwritten_total{@}[#]))", "records not on disk"),
                    ("sum(rate(bellows_detail_reads_dropped_total{@}[#]))", "looks skipped"),
                    ("sum(rate(bellows_pressure_unread_total{@}[#]))", "cpu.pressure not read"),
                    ("sum(rate(bellows_incidents_dropped_total{@}[#]))", "incidents not recorded"),
                ],
            ),
            lines(
                "Refused",
                "ops",
                "Requests refused because of who asked, and commands because the queue was full.",
                &[
                    ("sum(rate(bellows_api_refused_total{@}[#]))", "requests"),
                    ("sum(rate(bellows_commands_refused_total{@}[#]))", "commands"),
                ],
            ),
            lines(
                "Policies",
                "short",
                "Reloads, by result.",
                &[("sum by (result) (increase(bellows_policy_reload_total{@}[#]))", "{{result}}")],
            ),
            stat(
                "Age of the policies",
                "s",
                "Since they were last read with success.",
                "time() - min(bellows_policy_last_reload_success_timestamp_seconds{@})",
            ),
        ],
    }
}
