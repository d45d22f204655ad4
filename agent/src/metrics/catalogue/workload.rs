//! What is told of each workload, by tier. Its counters stay for some minutes when it has ended, its gauges do not.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Kind::{Counter, Gauge};
use super::Scale::{Millionths, Whole};
use super::Tier::{Core, Full};
use super::{ABSENT, Group, Kind, Metric, Scale, Series, Tier, Unit};
use crate::metrics::Published;

const LABELS: &[&str] = &["tenant", "workload"];

/// What a workload is; its labels are written by the snapshot.
pub(in crate::metrics) const INFO: Metric = Metric::new(
    Gauge,
    Group::Workload,
    "bellows_workload_info",
    Unit::None,
    &["tenant", "workload", "class", "mode", "policy"],
    "Always 1: its class, mode (enforce, observe) and what assigned the class (a rule, asked, tenant, default), as labels.",
)
.of_tier(Core);

const fn series(
    tier: Tier,
    kind: Kind,
    name: &'static str,
    unit: Unit,
    scale: Scale,
    help: &'static str,
    get: fn(&Published) -> u64,
) -> Series<Published> {
    Series { metric: Metric::new(kind, Group::Workload, name, unit, LABELS, help).of_tier(tier), scale, get }
}

const fn bytes(
    tier: Tier,
    name: &'static str,
    help: &'static str,
    get: fn(&Published) -> u64,
) -> Series<Published> {
    series(tier, Gauge, name, Unit::Bytes, Whole, help, get)
}

const fn count(
    tier: Tier,
    name: &'static str,
    help: &'static str,
    get: fn(&Published) -> u64,
) -> Series<Published> {
    series(tier, Counter, name, Unit::None, Whole, help, get)
}

const fn seconds(
    tier: Tier,
    name: &'static str,
    help: &'static str,
    get: fn(&Published) -> u64,
) -> Series<Published> {
    series(tier, Counter, name, Unit::Seconds, Millionths, help, get)
}

const fn cores(
    tier: Tier,
    name: &'static str,
    help: &'static str,
    get: fn(&Published) -> u64,
) -> Series<Published> {
    series(tier, Gauge, name, Unit::Cores, Millionths, help, get)
}

const fn flag(name: &'static str, help: &'static str, get: fn(&Published) -> u64) -> Series<Published> {
    series(Full, Gauge, name, Unit::None, Whole, help, get)
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

fn if_observed(w: &Published, cell: &AtomicU64) -> u64 {
    if w.would_be().is_some() { read(cell) } else { ABSENT }
}

fn if_quota(w: &Published, cell: &AtomicU64) -> u64 {
    if w.facts.cpu.is_some() { read(cell) } else { ABSENT }
}

pub(in crate::metrics) const WORKLOAD: &[Series<Published>] = &[
    bytes(Core, "bellows_workload_memory_current_bytes", "memory.current at the last look.", |w| {
        read(&w.current)
    }),
    bytes(Core, "bellows_workload_memory_high_bytes", "memory.high: what is granted.", |w| read(&w.high)),
    bytes(Core, "bellows_workload_memory_max_bytes", "memory.max: a band above memory.high.", |w| {
        read(&w.max)
    }),
    bytes(Full, "bellows_workload_memory_floor_bytes", "The floor that policy gives it.", |w| {
        w.memory().floor.0
    }),
    bytes(Core, "bellows_workload_memory_ceiling_bytes", "The ceiling that policy gives it.", |w| {
        w.memory().ceiling.0
    }),
    bytes(
        Full,
        "bellows_workload_memory_need_bytes",
        "Memory that does not reclaim cheaply, at the last look into memory.stat.",
        |w| read(&w.need),
    ),
    bytes(
        Full,
        "bellows_workload_memory_cache_bytes",
        "Clean page cache, at the last look into memory.stat.",
        |w| read(&w.cache),
    ),
    bytes(
        Full,
        "bellows_workload_memory_anon_bytes",
        "Anonymous memory, at the last look into memory.stat.",
        |w| read(&w.anon),
    ),
    bytes(
        Full,
        "bellows_workload_memory_file_bytes",
        "Page cache with tmpfs and shared memory, at the last look into memory.stat.",
        |w| read(&w.file),
    ),
    count(
        Full,
        "bellows_workload_memory_events_low_total",
        "Times that it was reclaimed below memory.low, of memory.events.local.",
        |w| read(&w.events[0]),
    ),
    count(
        Core,
        "bellows_workload_memory_events_high_total",
        "Charges that crossed memory.high, of memory.events.local.",
        |w| read(&w.events[1]),
    ),
    count(
        Full,
        "bellows_workload_memory_events_max_total",
        "Charges that met memory.max, of memory.events.local.",
        |w| read(&w.events[2]),
    ),
    count(
        Full,
        "bellows_workload_memory_events_oom_total",
        "Times that the OOM killer was about to be called, of memory.events.local.",
        |w| read(&w.events[3]),
    ),
    count(
        Core,
        "bellows_workload_memory_events_oom_kill_total",
        "Processes that any OOM killer ended, of memory.events.local; at the end of memory.events, unless only limits that were set inside were met.",
        |w| read(&w.events[4]),
    ),
    count(Core, "bellows_workload_limit_moves_total", "Moves of its memory limits.", |w| read(&w.moves)),
    seconds(
        Core,
        "bellows_workload_pressure_memory_waiting_seconds_total",
        "Time in which some task of it waited for memory, at the last look: four a second while it is held at a limit.",
        |w| read(&w.pressure[0]),
    ),
    seconds(
        Full,
        "bellows_workload_pressure_memory_stalled_seconds_total",
        "Time in which all its tasks waited for memory, at that look.",
        |w| read(&w.pressure[1]),
    ),
    seconds(
        Full,
        "bellows_workload_pressure_io_waiting_seconds_total",
        "Time in which some task of it waited for I/O, at that look.",
        |w| read(&w.pressure[2]),
    ),
    seconds(
        Full,
        "bellows_workload_pressure_io_stalled_seconds_total",
        "Time in which all its tasks waited for I/O, at that look.",
        |w| read(&w.pressure[3]),
    ),
    seconds(
        Full,
        "bellows_workload_pressure_cpu_waiting_seconds_total",
        "Time in which some task of it waited for a cpu or for its quota, as it was right after the scrape before.",
        |w| read(&w.cpu_pressure[0]),
    ),
    seconds(
        Full,
        "bellows_workload_pressure_cpu_stalled_seconds_total",
        "Time in which all its tasks that wanted a cpu waited for it, at that reading.",
        |w| read(&w.cpu_pressure[1]),
    ),
    flag("bellows_workload_pinned", "1 while an operator has pinned its limits, else 0.", |w| {
        u64::from(w.read_terms(|terms| terms.pin.is_some()))
    }),
    flag("bellows_workload_frozen", "1 while it is frozen for somebody more important, else 0.", |w| {
        u64::from(w.view().is_frozen)
    }),
    cores(
        Core,
        "bellows_workload_cpu_max_cores",
        "cpu.max as a share of time, where a quota is governed.",
        |w| if_quota(w, &w.quota),
    ),
    cores(Full, "bellows_workload_cpu_floor_cores", "The floor of its quota.", |w| {
        w.cpu_bounds().map_or(ABSENT, |bounds| bounds.floor.0)
    }),
    cores(Core, "bellows_workload_cpu_ceiling_cores", "The ceiling of its quota.", |w| {
        w.cpu_bounds().map_or(ABSENT, |bounds| bounds.ceiling.0)
    }),
    seconds(
        Core,
        "bellows_workload_cpu_usage_seconds_total",
        "Cpu time used, at the last look into cpu.stat; without a quota as it was right after the scrape before.",
        |w| Some(read(&w.cpu[0])).filter(|used| *used > 0 || w.facts.cpu.is_some()).unwrap_or(ABSENT),
    ),
    count(
        Core,
        "bellows_workload_cpu_periods_total",
        "Periods of the quota in which it ran, at that look.",
        |w| if_quota(w, &w.cpu[1]),
    ),
    count(
        Core,
        "bellows_workload_cpu_throttled_periods_total",
        "Periods in which it was throttled, at that look.",
        |w| if_quota(w, &w.cpu[2]),
    ),
    seconds(
        Full,
        "bellows_workload_cpu_throttled_seconds_total",
        "Time that its cpus were throttled, at that look.",
        |w| if_quota(w, &w.cpu[3]),
    ),
    count(Full, "bellows_workload_cpu_quota_moves_total", "Moves of its quota.", |w| {
        if_quota(w, &w.quota_moves)
    }),
    bytes(
        Full,
        "bellows_workload_memory_would_high_bytes",
        "memory.high as it would be, while it is only observed.",
        |w| if_observed(w, &w.would[0]),
    ),
    bytes(
        Full,
        "bellows_workload_memory_would_max_bytes",
        "memory.max as it would be, while it is only observed.",
        |w| if_observed(w, &w.would[1]),
    ),
    count(
        Full,
        "bellows_workload_limit_moves_observed_total",
        "Moves of its memory limits that would have been made, while it is only observed.",
        |w| if_observed(w, &w.would_moves),
    ),
];
