//! What a scrape of 10 000 workloads costs: time, and memory above what the workloads themselves take. Needs no kernel of its
//! own and no rights: `bellows-bench scrape`.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bellows::metrics::catalogue::{Group, Tier};
use bellows::metrics::{
    Exposition, Facts, Format, Metrics, Outside, Published, PublishedTenant, Table, TenantTable, Terms,
};
use bellows_policies::{Bytes, Cpus, Detail, Limits, MemoryEvents, Resources, Sample};
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::stats::Samples;

const WORKLOADS: u64 = 10_000;
const TENANTS: u64 = 100;
const SCRAPES: usize = 50;

/// Measures, and prints the figures as JSON.
pub(crate) fn run() -> anyhow::Result<()> {
    let metrics = Metrics::new(Tier::Full, 0)?;
    let (workloads, tenants) = (Table::default(), TenantTable::default());
    let accounts: Vec<Arc<PublishedTenant>> = (0..TENANTS)
        .map(|n| {
            tenants
                .begin(&format!("tenant-{n}"), |name| PublishedTenant::new(name, metrics.oom_kills.clone()))
        })
        .collect();
    for n in 0..WORKLOADS {
        let tenant = &accounts[usize::try_from(n % TENANTS)?];
        workloads.insert(Arc::new(workload(n, tenant)?));
    }
    let outside = Outside::default();
    let groups = Group::ALL.into_iter().collect();
    let before = status_kib("VmRSS:")?;
    // From here on the peak counts.
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of the resident memory")?;
    let (mut times, mut cpu, mut lines, mut bytes) = (Samples::default(), Samples::default(), 0, 0);
    for _ in 0..SCRAPES {
        let (began, cpu_began) = (Instant::now(), thread_time()?);
        let exposition =
            Exposition::new(&metrics, &workloads, &tenants, &outside, Format::OpenMetrics, &groups);
        (lines, bytes) = (0, 0);
        let mut pieces = Vec::new();
        for piece in exposition {
            bytes += piece.len();
            // One is on its way while the next is written.
            pieces = black_box(piece);
        }
        drop(pieces);
        times.push(u64::try_from(began.elapsed().as_nanos())?);
        cpu.push(thread_time()? - cpu_began);
    }
    let peak = status_kib("VmHWM:")?;
    for piece in Exposition::new(&metrics, &workloads, &tenants, &outside, Format::OpenMetrics, &groups) {
        lines +=
            piece.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"bellows_workload_")).count();
    }
    let figures = json!({
        "workloads": WORKLOADS,
        "series_per_workload": lines as f64 / WORKLOADS as f64,
        "bytes": bytes,
        "least_ms": times.percentile_us(0.0) / 1000.0,
        "p50_ms": times.percentile_us(0.5) / 1000.0,
        "p99_ms": times.percentile_us(0.99) / 1000.0,
        "cpu_least_ms": cpu.percentile_us(0.0) / 1000.0,
        "cpu_p50_ms": cpu.percentile_us(0.5) / 1000.0,
        "extra_rss_mib": peak.saturating_sub(before) as f64 / 1024.0,
    });
    println!("{figures}");
    Ok(())
}

/// One with a quota, and with values as long as real ones.
fn workload(n: u64, tenant: &Arc<PublishedTenant>) -> anyhow::Result<Published> {
    let published = Published::new(Facts {
        tenant: tenant.tenant.clone(),
        workload: format!("workload-{n}"),
        terms: Terms { class: "standard".into(), assigned: None, pin: None, resources: Resources::default() },
        memory: "64M..1G".parse()?,
        cpu: Some("0.1..2".parse()?),
        started_unix_ns: 0,
        adopted: false,
    });
    published.add_to(Arc::clone(tenant));
    let current = Bytes::mib(100 + n % 400);
    published.limits(Limits { high: current.scale(1.1), max: current.scale(1.2) });
    let events = MemoryEvents { high: n * 7, max: n % 3, ..MemoryEvents::default() };
    published.sample(&Sample { current, events, ..Sample::default() });
    let mut detail = Detail::default();
    (detail.stat.anon, detail.stat.file) = (current.scale(0.7), current.scale(0.3));
    detail.pressure.some_us = n * 12_345;
    published.detail(&detail);
    published.quota(Some(Cpus::milli(250 + n % 1000)));
    Ok(published)
}

/// Cpu time of this thread, nanoseconds: what a scrape costs on a machine that others use, too.
fn thread_time() -> anyhow::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// A line of `/proc/self/status`, in KiB.
fn status_kib(key: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).context("no number")
}
