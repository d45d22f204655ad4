//! What is told of each tenant, whatever the tier. Its counters go on when its workloads end.

use super::Kind::{Counter, Gauge};
use super::Scale::{Millionths, Whole};
use super::{Group, Kind, Metric, Scale, Series, UNLIMITED, Unit};
use crate::metrics::{PublishedTenant, Sum};

const fn series(
    kind: Kind,
    name: &'static str,
    unit: Unit,
    scale: Scale,
    help: &'static str,
    get: fn(&PublishedTenant) -> u64,
) -> Series<PublishedTenant> {
    Series { metric: Metric::new(kind, Group::Tenant, name, unit, &["tenant"], help), scale, get }
}

pub(in crate::metrics) const TENANT: &[Series<PublishedTenant>] = &[
    series(
        Gauge,
        "bellows_tenant_memory_current_bytes",
        Unit::Bytes,
        Whole,
        "The sum of memory.current of its workloads, at the last look at each.",
        PublishedTenant::current,
    ),
    series(
        Gauge,
        "bellows_tenant_memory_granted_bytes",
        Unit::Bytes,
        Whole,
        "The sum of memory.high of its workloads, as the budget counts it.",
        |t| t.view().granted.0,
    ),
    series(
        Gauge,
        "bellows_tenant_memory_guarantee_bytes",
        Unit::Bytes,
        Whole,
        "What is kept for it, granted or not.",
        |t| t.view().guarantee.0,
    ),
    series(
        Gauge,
        "bellows_tenant_memory_cap_bytes",
        Unit::Bytes,
        Whole,
        "What its grants never exceed.",
        |t| t.view().cap.map_or(UNLIMITED, |cap| cap.0),
    ),
    series(
        Gauge,
        "bellows_tenant_memory_floor_bytes",
        Unit::Bytes,
        Whole,
        "The sum of the floors of its workloads.",
        |t| t.view().floors.0,
    ),
    series(Gauge, "bellows_tenant_workloads", Unit::None, Whole, "Its workloads.", |t| t.view().workloads),
    series(Gauge, "bellows_tenant_waiting", Unit::None, Whole, "Its workloads that wait for a grant.", |t| {
        t.view().waiting
    }),
    series(
        Counter,
        "bellows_tenant_workloads_ended_total",
        Unit::None,
        Whole,
        "Workloads of it that ended.",
        |t| t.sum(Sum::Ended),
    ),
    series(
        Counter,
        "bellows_tenant_oom_kills_total",
        Unit::None,
        Whole,
        "Processes that the kernel's OOM killer ended in its workloads, gone ones included.",
        |t| t.sum(Sum::OomKills),
    ),
    series(
        Counter,
        "bellows_tenant_memory_events_high_total",
        Unit::None,
        Whole,
        "Charges that crossed memory.high in its workloads, gone ones included.",
        |t| t.sum(Sum::High),
    ),
    series(
        Counter,
        "bellows_tenant_limit_moves_total",
        Unit::None,
        Whole,
        "Moves of the memory limits of its workloads, gone ones included.",
        |t| t.sum(Sum::Moves),
    ),
    series(
        Counter,
        "bellows_tenant_cpu_usage_seconds_total",
        Unit::Seconds,
        Millionths,
        "Cpu time that its workloads used, gone ones included; those without a quota as of the scrape before.",
        |t| t.sum(Sum::CpuUsage),
    ),
    series(
        Counter,
        "bellows_tenant_cpu_throttled_seconds_total",
        Unit::Seconds,
        Millionths,
        "Time that the cpus of those with a quota were throttled, gone ones included.",
        |t| t.sum(Sum::CpuThrottled),
    ),
];
