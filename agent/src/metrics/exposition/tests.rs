//! What is in an exposition, for whom and in which form.

use std::sync::Arc;

use bellows_policies::decision::Limits;
use bellows_policies::sample::{MemoryEvents, Sample};
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{Base, Budget, Cpus, Resources, TenantBounds};

use super::super::{Facts, Published, PublishedTenant, Terms};
use super::*;

struct Scene {
    metrics: Metrics,
    workloads: Table,
    tenants: TenantTable,
}

impl Scene {
    fn new(tier: Tier) -> Self {
        let metrics = Metrics::new(tier, 0).unwrap();
        Self { metrics, workloads: Table::default(), tenants: TenantTable::default() }
    }

    fn tenant(&self, name: &str) -> Arc<PublishedTenant> {
        self.tenants.begin(name, |name| PublishedTenant::new(name, self.metrics.oom_kills.clone()))
    }

    fn workload(&self, tenant: &Arc<PublishedTenant>, name: &str) -> Arc<Published> {
        let facts = Facts {
            tenant: tenant.tenant.clone(),
            workload: name.to_owned(),
            terms: Terms {
                class: "latency".into(),
                assigned: None,
                pin: None,
                resources: Resources::default(),
            },
            memory: Bounds { floor: Bytes::mib(64), ceiling: Bytes::mib(128) },
            cpu: Some("0.1..2".parse().unwrap()),
            started_unix_ns: 0,
            adopted: false,
        };
        let published = Arc::new(Published::new(facts));
        published.add_to(Arc::clone(tenant));
        self.workloads.begin(Arc::clone(&published));
        published
    }

    fn text(&self, format: Format, groups: &[Group], exemplars: Vec<Exemplar>) -> String {
        let outside = Outside { exemplars, ..Outside::default() };
        let groups = groups.iter().copied().collect();
        let pieces =
            Exposition::new(&self.metrics, &self.workloads, &self.tenants, &outside, format, &groups);
        String::from_utf8(pieces.flatten().collect()).unwrap()
    }

    fn all(&self) -> String {
        self.text(Format::Text, &Group::ALL, Vec::new())
    }
}

fn expect(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "missing {line}\n{text}");
    }
}

fn kills(oom_kill: u64) -> Sample {
    let events = MemoryEvents { oom_kill, ..MemoryEvents::default() };
    Sample { current: Bytes::mib(3), events, ..Sample::default() }
}

#[test]
fn unlimited_is_infinite_and_zeros_are_there() {
    let scene = Scene::new(Tier::Full);
    let tenant = scene.tenant("acme");
    let published = scene.workload(&tenant, "web");
    published.quota(Some(Cpus::milli(250)));
    published.limits(Limits { high: Bytes(u64::MAX), max: Bytes::mib(132) });
    let mut budget = Budget::new(Bytes::mib(100), Bytes::ZERO);
    let id = budget.open();
    let bounds = TenantBounds { guarantee: Bytes::mib(1), ..TenantBounds::default() };
    budget.set_bounds(id, bounds).unwrap();
    let seat = budget.join(id, Base::Standard, 100);
    budget.admit(Some(seat), Bytes::mib(2)).unwrap();
    tenant.publish(budget.tenant(id));
    expect(
        &scene.all(),
        &[
            "bellows_workload_memory_high_bytes{tenant=\"acme\",workload=\"web\"} +Inf",
            "bellows_workload_memory_max_bytes{tenant=\"acme\",workload=\"web\"} 138412032",
            "bellows_workload_memory_events_oom_kill_total{tenant=\"acme\",workload=\"web\"} 0",
            "bellows_workload_info{tenant=\"acme\",workload=\"web\",class=\"latency\",mode=\"enforce\",policy=\"\"} 1",
            "bellows_workload_cpu_max_cores{tenant=\"acme\",workload=\"web\"} 0.25",
            "bellows_workload_cpu_ceiling_cores{tenant=\"acme\",workload=\"web\"} 2",
            "bellows_tenant_memory_granted_bytes{tenant=\"acme\"} 2097152",
            "bellows_tenant_memory_guarantee_bytes{tenant=\"acme\"} 1048576",
            "bellows_tenant_memory_cap_bytes{tenant=\"acme\"} +Inf",
            "bellows_tenant_waiting{tenant=\"acme\"} 0",
            "# TYPE bellows_reaction_seconds histogram",
            "bellows_journal_records_lost_total 0",
        ],
    );
}

#[test]
fn everything_in_the_catalogue_is_exposed_and_nothing_else() {
    let scene = Scene::new(Tier::Full);
    let tenant = scene.tenant("acme");
    let web = scene.workload(&tenant, "web");
    web.would(Some(Limits { high: Bytes::MIB, max: Bytes::MIB }));
    // Nothing, rather than a zero from which it would seem to leap.
    assert!(!scene.all().contains("bellows_workload_pressure_cpu_waiting_seconds_total{"));
    web.cpu_waits(Some((1_500_000, 500_000)));
    for (format, name) in
        [(Format::Text, (|m| m.name) as fn(&Metric) -> &str), (Format::OpenMetrics, |m| m.family())]
    {
        let text = scene.text(format, &Group::ALL, Vec::new());
        let typed: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
        let expected: Vec<String> =
            catalogue::all().map(|m| format!("{} {}", name(m), m.kind.as_str())).collect();
        assert_eq!(typed, expected);
        // Only decisions are without any line before there are some.
        for metric in catalogue::all().filter(|m| m.name != "bellows_decisions_total") {
            let begin = |l: &&str| l.starts_with(metric.name);
            let line = text.lines().find(begin).unwrap_or_else(|| panic!("no line of {}", metric.name));
            for label in metric.labels {
                assert!(line.contains(&format!("{label}=\"")), "{line} has no label {label}");
            }
        }
        assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
    }
}

#[test]
fn tiers_and_groups_leave_out_what_is_not_wanted() {
    for (tier, has_core, has_full) in
        [(Tier::Off, false, false), (Tier::Core, true, false), (Tier::Full, true, true)]
    {
        let scene = Scene::new(tier);
        scene.workload(&scene.tenant("acme"), "web");
        let text = scene.all();
        assert_eq!(text.contains("bellows_workload_info{"), has_core, "{tier:?}");
        assert_eq!(text.contains("bellows_workload_memory_current_bytes{"), has_core, "{tier:?}");
        assert_eq!(text.contains("bellows_workload_memory_anon_bytes{"), has_full, "{tier:?}");
        assert!(text.contains("bellows_tenant_memory_current_bytes{"), "of tenants all is told, always");
        let node = scene.text(Format::Text, &[Group::Node], Vec::new());
        assert!(node.contains("bellows_budget_bytes") && !node.contains("bellows_tenant_"), "{node}");
        assert!(!node.contains("bellows_reaction_seconds") && !node.contains("bellows_workload_"), "{node}");
    }
}

#[test]
fn counters_outlive_workloads_and_gauges_do_not() {
    let scene = Scene::new(Tier::Full);
    let tenant = scene.tenant("acme");
    let (one, other) = (scene.workload(&tenant, "one"), scene.workload(&tenant, "other"));
    one.sample(&kills(1));
    other.sample(&kills(0));
    one.moved();
    expect(&scene.all(), &["bellows_tenant_memory_current_bytes{tenant=\"acme\"} 6291456"]);
    // The last kill is seen at its end only.
    one.ended(2);
    scene.workloads.end(&one, 0);
    let text = scene.all();
    expect(
        &text,
        &[
            "bellows_workload_memory_events_oom_kill_total{tenant=\"acme\",workload=\"one\"} 2",
            "bellows_tenant_oom_kills_total{tenant=\"acme\"} 2",
            "bellows_tenant_workloads_ended_total{tenant=\"acme\"} 1",
            "bellows_tenant_limit_moves_total{tenant=\"acme\"} 1",
            "bellows_tenant_memory_current_bytes{tenant=\"acme\"} 3145728",
            "bellows_oom_kills_total 2",
            "bellows_workloads 1",
        ],
    );
    assert!(!text.contains("bellows_workload_memory_current_bytes{tenant=\"acme\",workload=\"one\"}"));
    assert!(!text.contains("bellows_workload_info{tenant=\"acme\",workload=\"one\""));
    // Another one of that name begins at zero, and there is only one.
    scene.workload(&tenant, "one");
    let text = scene.all();
    let line = "bellows_workload_memory_events_oom_kill_total{tenant=\"acme\",workload=\"one\"}";
    assert_eq!(text.lines().filter(|l| l.starts_with(line)).count(), 1, "{text}");
    expect(&text, &[&format!("{line} 0"), "bellows_tenant_oom_kills_total{tenant=\"acme\"} 2"]);
    // And a tenant that is gone is told of, without its gauges.
    scene.tenants.end(&tenant, 0);
    let text = scene.all();
    expect(&text, &["bellows_tenant_oom_kills_total{tenant=\"acme\"} 2"]);
    assert!(!text.contains("bellows_tenant_waiting{"), "{text}");
}

#[test]
fn what_an_earlier_agent_has_told_is_not_told_again() {
    let scene = Scene::new(Tier::Full);
    let tenant = scene.tenant("acme");
    let published = scene.workload(&scene.tenant("nobody"), "web");
    let later = Arc::new(Published::new(published.facts.clone()));
    later.sample(&kills(5));
    later.add_to(Arc::clone(&tenant));
    later.sample(&kills(6));
    expect(
        &scene.all(),
        &[
            "bellows_tenant_oom_kills_total{tenant=\"acme\"} 1",
            "bellows_tenant_memory_current_bytes{tenant=\"acme\"} 3145728",
        ],
    );
}

#[test]
fn the_newest_decision_is_the_exemplar_of_its_bucket() {
    let scene = Scene::new(Tier::Full);
    for took in [80e-6, 90e-6, 0.02] {
        scene.metrics.reaction.observe(took);
    }
    let exemplars: Vec<Exemplar> = [(7, 80), (8, 90), (9, 20_000)]
        .map(|(decision_id, took_us)| Exemplar { decision_id, took_us, unix_ns: 1_500_000_000 })
        .into();
    let text = scene.text(Format::OpenMetrics, &[Group::Agent], exemplars.clone());
    expect(
        &text,
        &[
            "bellows_reaction_seconds_bucket{le=\"0.00005\"} 0",
            "bellows_reaction_seconds_bucket{le=\"0.0001\"} 2 # {decision_id=\"8\"} 0.00009 1.500",
            "bellows_reaction_seconds_bucket{le=\"0.025\"} 3 # {decision_id=\"9\"} 0.02 1.500",
            "bellows_reaction_seconds_bucket{le=\"+Inf\"} 3",
            "# UNIT bellows_reaction_seconds seconds",
        ],
    );
    let text = scene.text(Format::Text, &[Group::Agent], exemplars);
    expect(&text, &["bellows_reaction_seconds_bucket{le=\"0.0001\"} 2"]);
    assert!(!text.contains("# UNIT") && !text.contains("decision_id"), "the text format has none of that");
}
