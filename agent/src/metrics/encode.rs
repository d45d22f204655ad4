//! The exposition, text format 0.0.4: the agent's own families by the `prometheus` crate, the workloads' by a writer that
//! goes through the list once per family. (A `GaugeVec` for 10 000 workloads takes 0.4-0.95 s and 327 MB; this, some
//! milliseconds.)

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::TextEncoder;

use super::{Metrics, Published, PublishedTenant, TenantView};

/// Everything, as Prometheus scrapes it. `records_lost` and `unwritten` come from the journal.
#[must_use]
pub fn encode(
    metrics: &Metrics,
    workloads: &[Arc<Published>],
    tenants: &[Arc<PublishedTenant>],
    records_lost: u64,
    unwritten: u64,
) -> String {
    let mut text = String::with_capacity(16 * 1024 + workloads.len() * 1536);
    // Into a String it cannot fail, but for a label that is no UTF-8, and ours are.
    let _ = TextEncoder::new().encode_utf8(&metrics.gather(), &mut text);
    header(
        &mut text,
        "bellows_decisions_total",
        "counter",
        "Decisions by what was decided, why, and what became of it.",
    );
    metrics.encode_decisions(&mut text);
    header(
        &mut text,
        "bellows_journal_records_lost_total",
        "counter",
        "Records lost because the journal's queue was full.",
    );
    let _ = writeln!(text, "bellows_journal_records_lost_total {records_lost}");
    header(
        &mut text,
        "bellows_journal_records_unwritten_total",
        "counter",
        "Records that are not on disk because it did not take them.",
    );
    let _ = writeln!(text, "bellows_journal_records_unwritten_total {unwritten}");
    header(&mut text, "bellows_workloads", "gauge", "Workloads that exist.");
    let _ = writeln!(text, "bellows_workloads {}", workloads.len());

    of_tenants(&mut text, tenants);

    header(&mut text, "bellows_workload_info", "gauge", "Always 1: what a workload is, as labels.");
    for w in workloads {
        let _ = writeln!(text, "bellows_workload_info{{{},class=\"{}\"}} 1", w.labels, w.terms().class);
    }
    let gauges: [(&str, &str, Get); 5] = [
        ("memory_current_bytes", "memory.current at the last look.", |w| &w.current),
        ("memory_high_bytes", "memory.high: what is granted.", |w| &w.high),
        ("memory_max_bytes", "memory.max: a band above memory.high.", |w| &w.max),
        (
            "memory_need_bytes",
            "Memory that does not reclaim cheaply, at the last look into memory.stat.",
            |w| &w.need,
        ),
        ("memory_cache_bytes", "Clean page cache, at the last look into memory.stat.", |w| &w.cache),
    ];
    for (name, help, get) in gauges {
        series(&mut text, name, "gauge", help, workloads, get);
    }
    for (name, help) in [
        ("memory_floor_bytes", "The floor that policy gives it."),
        ("memory_ceiling_bytes", "The ceiling that policy gives it."),
    ] {
        header(&mut text, &format!("bellows_workload_{name}"), "gauge", help);
        for w in workloads {
            let bounds = w.memory();
            let bytes = if name == "memory_floor_bytes" { bounds.floor } else { bounds.ceiling };
            let _ = writeln!(text, "bellows_workload_{name}{{{}}} {}", w.labels, bytes.0);
        }
    }
    for (index, event) in Published::EVENTS.into_iter().enumerate() {
        let name = format!("memory_events_{event}_total");
        let help = format!("The {event} counter of memory.events.local.");
        series(&mut text, &name, "counter", &help, workloads, |w| &w.events[index]);
    }
    series(&mut text, "limit_moves_total", "counter", "Moves of its memory limits.", workloads, |w| &w.moves);
    header(&mut text, "bellows_workload_pinned", "gauge", "1 while an operator has pinned its limits.");
    for w in workloads {
        let _ =
            writeln!(text, "bellows_workload_pinned{{{}}} {}", w.labels, u8::from(w.terms().pin.is_some()));
    }
    observed(&mut text, workloads);
    let governed: Vec<Arc<Published>> = workloads.iter().filter(|w| w.facts.cpu.is_some()).cloned().collect();
    cpu(&mut text, &governed);
    text
}

fn of_tenants(text: &mut String, tenants: &[Arc<PublishedTenant>]) {
    let gauges: [(&str, &str, GetOfTenant); 5] = [
        ("tenant_memory_granted_bytes", "The sum of memory.high of a tenant's workloads.", |t| t.granted.0),
        ("tenant_memory_guarantee_bytes", "What is kept for a tenant, granted or not.", |t| t.guarantee.0),
        ("tenant_memory_cap_bytes", "What a tenant's grants never exceed.", |t| {
            t.cap.map_or(u64::MAX, |cap| cap.0)
        }),
        ("tenant_memory_floor_bytes", "The sum of the floors of a tenant's workloads.", |t| t.floors.0),
        ("tenant_waiting", "Workloads of a tenant that wait for a grant.", |t| t.waiting),
    ];
    for (name, help, get) in gauges {
        header(text, &format!("bellows_{name}"), "gauge", help);
        for tenant in tenants {
            // Names need no escape in a label.
            let _ = match get(&tenant.view()) {
                u64::MAX => writeln!(text, "bellows_{name}{{tenant=\"{}\"}} +Inf", tenant.tenant),
                value => writeln!(text, "bellows_{name}{{tenant=\"{}\"}} {value}", tenant.tenant),
            };
        }
    }
}

/// The series of those that are only observed: limits that are not in force are none of `memory_high_bytes`.
fn observed(text: &mut String, workloads: &[Arc<Published>]) {
    let observed: Vec<Arc<Published>> =
        workloads.iter().filter(|w| w.would_be().is_some()).cloned().collect();
    let all: [(&str, &str, &str, Get); 3] = [
        ("memory_would_high_bytes", "gauge", "memory.high as it would be.", |w| &w.would[0]),
        ("memory_would_max_bytes", "gauge", "memory.max as it would be.", |w| &w.would[1]),
        (
            "limit_moves_observed_total",
            "counter",
            "Moves of its memory limits that would have been made.",
            |w| &w.would_moves,
        ),
    ];
    for (name, kind, help, get) in all {
        series(text, name, kind, help, &observed, get);
    }
}

/// The series of those whose quota is governed. The kernel's times are microseconds, Prometheus' are seconds.
fn cpu(text: &mut String, workloads: &[Arc<Published>]) {
    let millionths: [(&str, &str, &str, Get); 3] = [
        ("cpu_quota_cpus", "gauge", "cpu.max, in cpus.", |w| &w.quota),
        ("cpu_usage_seconds_total", "counter", "Cpu time used, at the last look.", |w| &w.cpu[0]),
        ("cpu_throttled_seconds_total", "counter", "Time that its cpus were throttled.", |w| &w.cpu[3]),
    ];
    for (name, kind, help, get) in millionths {
        header(text, &format!("bellows_workload_{name}"), kind, help);
        for w in workloads {
            let value = get(w).load(Ordering::Relaxed);
            let value = if value == u64::MAX { f64::INFINITY } else { value as f64 / 1e6 };
            let value = if value.is_finite() { value.to_string() } else { "+Inf".to_owned() };
            let _ = writeln!(text, "bellows_workload_{name}{{{}}} {value}", w.labels);
        }
    }
    for (name, help) in
        [("cpu_floor_cpus", "The floor of its quota."), ("cpu_ceiling_cpus", "The ceiling of its quota.")]
    {
        header(text, &format!("bellows_workload_{name}"), "gauge", help);
        for (w, bounds) in workloads.iter().filter_map(|w| Some((w, w.cpu_bounds()?))) {
            let cpus = if name == "cpu_floor_cpus" { bounds.floor } else { bounds.ceiling };
            let _ = writeln!(text, "bellows_workload_{name}{{{}}} {}", w.labels, cpus.as_f64());
        }
    }
    let counters: [(&str, &str, Get); 3] = [
        ("cpu_periods_total", "Periods in which it ran, at the last look.", |w| &w.cpu[1]),
        ("cpu_throttled_periods_total", "Periods in which it was throttled.", |w| &w.cpu[2]),
        ("cpu_quota_moves_total", "Moves of its cpu quota.", |w| &w.quota_moves),
    ];
    for (name, help, get) in counters {
        series(text, name, "counter", help, workloads, get);
    }
}

type Get = fn(&Published) -> &AtomicU64;
type GetOfTenant = fn(&TenantView) -> u64;

fn series(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    workloads: &[Arc<Published>],
    get: impl Fn(&Published) -> &AtomicU64,
) {
    header(text, &format!("bellows_workload_{name}"), kind, help);
    for w in workloads {
        let _ = match get(w).load(Ordering::Relaxed) {
            u64::MAX => writeln!(text, "bellows_workload_{name}{{{}}} +Inf", w.labels),
            value => writeln!(text, "bellows_workload_{name}{{{}}} {value}", w.labels),
        };
    }
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Facts, Terms};
    use bellows_policies::decision::Limits;
    use bellows_policies::units::{Bounds, Bytes};
    use bellows_policies::{Base, Budget, Cpus, TenantBounds};

    #[test]
    fn unlimited_is_infinite_and_zeros_are_there() {
        let facts = Facts {
            tenant: "acme".to_owned(),
            workload: "web".to_owned(),
            terms: Terms { class: "latency".into(), assigned: None, pin: None },
            memory: Bounds { floor: Bytes::mib(64), ceiling: Bytes::mib(128) },
            cpu: Some("0.1..2".parse().unwrap()),
            started_unix_ns: 0,
            adopted: false,
            resources: bellows_policies::Resources::default(),
        };
        let published = Arc::new(Published::new(facts));
        published.quota(Some(Cpus::milli(250)));
        published.limits(Limits { high: Bytes(u64::MAX), max: Bytes::mib(132) });
        let mut budget = Budget::new(Bytes::mib(100), Bytes::ZERO);
        let id = budget.open();
        let bounds = TenantBounds { guarantee: Bytes::mib(1), ..TenantBounds::default() };
        budget.set_bounds(id, bounds).unwrap();
        let seat = budget.join(id, Base::Standard, 100);
        budget.admit(Some(seat), Bytes::mib(2)).unwrap();
        let tenant = Arc::new(PublishedTenant::new("acme".to_owned()));
        tenant.publish(budget.tenant(id));
        let text = encode(&Metrics::new().unwrap(), &[published], &[tenant], 0, 0);
        for line in [
            "bellows_workload_memory_high_bytes{tenant=\"acme\",workload=\"web\"} +Inf",
            "bellows_workload_memory_max_bytes{tenant=\"acme\",workload=\"web\"} 138412032",
            "bellows_workload_memory_events_oom_kill_total{tenant=\"acme\",workload=\"web\"} 0",
            "bellows_workload_info{tenant=\"acme\",workload=\"web\",class=\"latency\"} 1",
            "bellows_workload_cpu_quota_cpus{tenant=\"acme\",workload=\"web\"} 0.25",
            "bellows_workload_cpu_ceiling_cpus{tenant=\"acme\",workload=\"web\"} 2",
            "bellows_tenant_memory_granted_bytes{tenant=\"acme\"} 2097152",
            "bellows_tenant_memory_guarantee_bytes{tenant=\"acme\"} 1048576",
            "bellows_tenant_memory_cap_bytes{tenant=\"acme\"} +Inf",
            "bellows_tenant_waiting{tenant=\"acme\"} 0",
            "# TYPE bellows_reaction_seconds histogram",
            "bellows_journal_records_lost_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "missing {line}\n{text}");
        }
    }
}
