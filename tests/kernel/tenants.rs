//! Tenants: caps, guarantees, who is served when room comes, and what protects floors on every level.

use std::fs;

use bellows::journal::What;
use bellows_policies::{Reason, Verb};
use nix::sys::signal::Signal;

use crate::policies::Policies;
use crate::rig::{Agent, MIB, Tree, eventually, held, is_ended, is_grow, is_launched, number, read};

fn is_refused_by_its_tenant(what: &What) -> bool {
    matches!(what, What::Held { reason: Reason::TenantDeferred | Reason::TenantInfeasible, .. })
}

/// At its tenant's cap a workload waits while another tenant's grows; and it grows in the turn in which its neighbour ends. Nobody
/// is squeezed: its neighbour's slack would serve it before.
#[test]
fn who_waits_at_a_cap_grows_when_a_neighbour_ends() {
    let text = "[node]\ncapacity = \"1G\"\nreserve = \"100M\"\n[tenant.acme]\nmemory.cap = \"128M\"\n\
                [class.standard]\nsqueeze.rungs = []\n";
    let policies = Policies::new("cap", text);
    let agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let acme = &["--tenant", "acme"][..];
    let _first = agent.load_with("first", "32M..96M", acme, &["grow", "70", "--hold-ms", "300000"]);
    let first = agent.tree.root.join("workloads/acme/first");
    eventually("the first has grown", || held(&first) > 68 * MIB);

    let refused = agent.run_with("large", "256M..512M", acme, &["true"]).finish();
    assert_eq!(refused.code, 5, "{refused:?}");
    let words = "tenant \"acme\": a floor of 256 MiB can never fit: the tenant's cap is 128 MiB";
    assert!(refused.err.contains(words), "{refused:?}");

    let other = agent.load_with("large", "32M..256M", &["--tenant", "other"], &["grow", "150"]);
    let second = agent.load_with("second", "16M..256M", acme, &["grow", "100"]);
    let waits = journal.wait("acme/second", is_refused_by_its_tenant);
    assert_eq!(agent.output("kill", &["--tenant", "acme", "-s", "KILL", "first"]).status.code(), Some(0));
    let ended = journal.wait("acme/first", is_ended);
    let finished = second.finish();
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert_eq!(other.finish().code, 0);
    let others = journal.of("other/large");
    assert!(others.iter().any(is_grow) && !others.iter().any(is_refused_by_its_tenant), "{}", journal.told());

    journal.wait("acme/second", is_ended);
    let next =
        journal.seen.iter().find(|r| r.id > ended.id && &*r.workload == "acme/second").expect("a record");
    assert!(waits.id < ended.id && is_grow(&next.what), "{}", journal.told());
    // The end and the grow are of one turn: the other one, whose look may have been due in it, was looked at once at most.
    let between = journal.seen.iter().filter(|r| (ended.id + 1..next.id).contains(&r.id));
    let moved = between.filter(|r| matches!(r.what, What::LimitsMoved { .. })).count();
    assert!(moved <= 1, "{}", journal.told());
    let high = |what: &What| match what {
        What::LimitsMoved { verb: Verb::Grow, to, .. } => Some(to.high.0),
        _ => None,
    };
    let most = journal.of("acme/second").iter().filter_map(high).max();
    assert!(most.is_some_and(|most| most <= 128 * MIB), "above the cap: {most:?}");
}

/// What stands above the delegated root bounds the budget as well: the root's own files do not tell of it.
#[test]
fn the_budget_is_bounded_by_what_is_above_the_root() {
    let above = Tree::new();
    let root = above.root.join("below");
    fs::write(above.root.join("memory.max"), "512M").expect("memory.max");
    fs::write(above.root.join("cgroup.subtree_control"), "+memory +cpu +pids").expect("controllers");
    fs::create_dir(&root).expect("the root");
    let capacity = |agent: &Agent| {
        let text = agent.http("/metrics");
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("bellows_budget_bytes{state=\"capacity\"} "));
        line.and_then(|value| value.parse::<u64>().ok()).expect("a capacity")
    };
    let mut agent = Agent::start_on(Tree { root }, &[]);
    assert_eq!(capacity(&agent), 512 * MIB);
    agent.signal(Signal::SIGTERM);
    fs::write(above.root.join("memory.high"), "384M").expect("memory.high");
    agent.restart();
    assert_eq!(capacity(&agent), 384 * MIB);
}

/// What one tenant is promised, a greedy neighbour does not get.
#[test]
fn a_guarantee_is_kept_free() {
    let text =
        "[node]\ncapacity = \"300M\"\nreserve = \"1M\"\n[tenant.promised]\nmemory.guarantee = \"128M\"\n";
    let policies = Policies::new("guarantee", text);
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let greedy = agent.load_with("greedy", "32M..512M", &["--tenant", "greedy"], &["grow", "400"]);
    journal.wait("greedy/greedy", |what| {
        matches!(what, What::Held { reason: Reason::BudgetDeferred | Reason::BudgetInfeasible, .. })
    });
    let late = agent.load_with("late", "32M..200M", &["--tenant", "promised"], &["grow", "100"]);
    let finished = late.finish();
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert_eq!(greedy.finish().code, 137, "what it may not have it ends at");
    journal.wait("greedy/greedy", is_ended);
    for what in journal.of("greedy/greedy") {
        if let What::LimitsMoved { verb: Verb::Grow, to, .. } = what {
            assert!(to.high.0 <= (299 - 128) * MIB, "{to}");
        }
    }
}

/// The sums of floors stand on the tenant, on `workloads/` and on the root, and go with the workloads.
#[test]
fn floors_are_protected_on_every_level() {
    let policies = Policies::new("floors", "[tenant.acme]\nweight = 300\nmemory.guarantee = \"64M\"\n");
    let agent = policies.agent_on(Tree::new());
    let mut journal = agent.follow();
    let hold = ["sleep", "300"];
    let _web = agent.run_with("web", "32M..64M", &["--tenant", "acme", "--class", "latency"], &hold);
    let _job = agent.run_with("job", "24M..64M", &["--tenant", "acme"], &hold);
    let _other = agent.run_with("job", "16M..64M", &["--tenant", "other", "--class", "batch"], &hold);
    for workload in ["acme/web", "acme/job", "other/job"] {
        journal.wait(workload, is_launched);
    }
    let root = &agent.tree.root;
    let has = |directory: &str, min: u64, low: u64| {
        let at = |file: &str| number(&root.join(directory).join(file));
        eventually(&format!("{directory:?} is protected"), || {
            (at("memory.min"), at("memory.low")) == (min * MIB, low * MIB)
        });
    };
    has("workloads/acme", 32, 24);
    has("workloads/other", 0, 16);
    has("workloads", 32, 40);
    has("", 32, 40);
    assert_eq!(number(&root.join("workloads/acme/cpu.weight")), 300);
    assert_eq!(number(&root.join("workloads/acme/cgroup.max.depth")), 8);
    assert_eq!(number(&root.join("workloads/acme/cgroup.max.descendants")), 4096);

    let metrics = || agent.http("/metrics");
    eventually("the tenant is told", || {
        metrics().contains("bellows_tenant_memory_floor_bytes{tenant=\"acme\"} 58720256\n")
    });
    let metrics = metrics();
    assert!(metrics.contains("bellows_tenant_memory_cap_bytes{tenant=\"acme\"} +Inf\n"), "{metrics}");
    let listed = agent.output("tenants", &["--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("json");
    assert_eq!(listed[0]["tenant"], "acme");
    assert_eq!((&listed[0]["workloads"], &listed[0]["guarantee"]), (&2.into(), &(64 * MIB).into()));

    assert_eq!(agent.output("kill", &["--tenant", "other", "-s", "KILL", "job"]).status.code(), Some(0));
    journal.wait("other/job", is_ended);
    has("workloads/other", 0, 0);
    has("workloads", 32, 24);
    assert_eq!(read(&root.join("memory.low")).trim(), (40 * MIB).to_string(), "the root's is never lowered");
    let told = |series: &str| agent.http("/metrics").contains(&format!("{series}{{tenant=\"other\"}}"));
    eventually("its account is closed", || !told("bellows_tenant_memory_granted_bytes"));
    assert!(told("bellows_tenant_oom_kills_total"), "what it counted outlives it");
}
