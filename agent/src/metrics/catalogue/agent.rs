//! What the agent tells of itself.

use super::Kind::{Counter, Gauge, Histogram};
use super::{Group, Kind, Metric, Unit};

const fn metric(kind: Kind, name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric::new(kind, Group::Agent, name, unit, &[], help)
}

pub(super) const AGENT: &[Metric] = &[
    Metric::new(
        Gauge,
        Group::Agent,
        "bellows_build_info",
        Unit::None,
        &["version"],
        "Always 1: the version that runs, as a label.",
    ),
    metric(
        Histogram,
        "bellows_reaction_seconds",
        Unit::Seconds,
        "From the loop's wake-up to the return of the limit write.",
    ),
    metric(
        Histogram,
        "bellows_turn_seconds",
        Unit::Seconds,
        "One turn of the control loop, from wake-up to the next wait.",
    ),
    metric(
        Histogram,
        "bellows_cpu_turn_seconds",
        Unit::Seconds,
        "One turn of the cpu loop, from its tick to the next wait.",
    ),
    metric(
        Histogram,
        "bellows_launch_seconds",
        Unit::Seconds,
        "From a launch's admission to the execution of its command.",
    ),
    metric(
        Histogram,
        "bellows_scrape_seconds",
        Unit::Seconds,
        "Time that the agent took to write the metrics for a scrape, without the waits for who reads them.",
    ),
    metric(
        Histogram,
        "bellows_pressure_read_seconds",
        Unit::Seconds,
        "One reading of cpu.pressure of all workloads, and of cpu.stat of those without a quota, behind a scrape and for the next one, five seconds after the last one at least.",
    ),
    metric(
        Counter,
        "bellows_event_queue_overflows_total",
        Unit::None,
        "Overflows of the kernel's event queue; each is healed by a full pass.",
    ),
    metric(
        Counter,
        "bellows_commands_refused_total",
        Unit::None,
        "Commands refused because the control queue was full.",
    ),
    metric(
        Counter,
        "bellows_api_refused_total",
        Unit::None,
        "Requests refused because of who asked, or how much.",
    ),
    metric(
        Counter,
        "bellows_detail_reads_dropped_total",
        Unit::None,
        "Looks into memory.stat skipped because their queue was full.",
    ),
    metric(
        Counter,
        "bellows_pressure_unread_total",
        Unit::None,
        "Workloads whose cpu.pressure could not be read for a scrape; they have no series of it until it can.",
    ),
    metric(
        Counter,
        "bellows_incidents_dropped_total",
        Unit::None,
        "Incidents that are not recorded because their queue was full.",
    ),
    metric(
        Counter,
        "bellows_journal_records_lost_total",
        Unit::None,
        "Records lost because the journal's queue was full.",
    ),
    metric(
        Counter,
        "bellows_journal_records_unwritten_total",
        Unit::None,
        "Records that are not on disk because it did not take them.",
    ),
    metric(
        Counter,
        "bellows_agent_gaps_total",
        Unit::None,
        "Times that the agent was held up so long that its watchdog opened the limits.",
    ),
    metric(
        Counter,
        "bellows_watchdog_restarts_total",
        Unit::None,
        "Watchdogs that were found gone and replaced.",
    ),
    metric(
        Gauge,
        "bellows_takeover_seconds",
        Unit::Seconds,
        "From the agent's start to the last workload that it took over.",
    ),
    Metric::new(
        Counter,
        Group::Agent,
        "bellows_policy_reload_total",
        Unit::None,
        &["result"],
        "Reloads of the policies, by result: success or failure.",
    ),
    metric(
        Gauge,
        "bellows_policy_last_reload_successful",
        Unit::None,
        "1 when the last reading of the policies succeeded, 0 when the old ones stayed.",
    ),
    metric(
        Gauge,
        "bellows_policy_last_reload_success_timestamp_seconds",
        Unit::Seconds,
        "When the policies were last read with success, in seconds since the Unix epoch.",
    ),
    metric(
        Gauge,
        "bellows_workloads_unexposed",
        Unit::None,
        "Workloads that have no series of their own because 20000 others have.",
    ),
    metric(Counter, "process_cpu_seconds_total", Unit::Seconds, "Cpu time that the agent has used."),
    metric(Gauge, "process_resident_memory_bytes", Unit::Bytes, "Memory of the agent that is resident."),
    metric(
        Gauge,
        "process_start_time_seconds",
        Unit::Seconds,
        "When the agent was started, in seconds since the Unix epoch.",
    ),
];
