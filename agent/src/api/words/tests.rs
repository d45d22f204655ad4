//! What people read, kept word by word: one case for each of the main reasons, from evidence as the laws give it.

use std::sync::Arc;

use bellows_policies::cpu::{CpuEvidence, CpuRule};
use bellows_policies::evidence::{Growth, Interval};
use bellows_policies::ladder::{Gave, Grip, GripEvidence};
use bellows_policies::{
    AssignedBy, Bytes, CpuLaw, Cpus, Evidence, Law, Limits, MemoryLaw, Outcome, Reason, Verb, replay,
};

use super::{record, workload};
use crate::api::types::{Holder, RecordExplained, Sizing, WorkloadExplained, WorkloadView};
use crate::journal::{Incident, Kind, Laws, Process, Record, Snapshot, What};

const MIB: fn(u64) -> Bytes = Bytes::mib;
/// 14:03:07.120.
const THEN: u64 = 50_587_120_000_000;

fn known() -> Evidence {
    Evidence {
        floor: MIB(64),
        ceiling: MIB(512),
        high: MIB(256),
        max: MIB(272),
        current: MIB(256),
        need: MIB(240),
        cache: MIB(12),
        detail_age_ms: Some(4),
        growth: Some(Growth {
            high: MIB(256),
            need: MIB(240),
            need_grew: MIB(60),
            grew: MIB(64),
            time: Interval { ms: 20.0, some: 0.1, ..Interval::default() },
        }),
        rate: MIB(100).0,
        fastest: MIB(100).0,
        threads: 4,
        hit_age_ms: Some(0),
        free: Some(MIB(900)),
        ..Evidence::default()
    }
}

fn decided(id: u64, what: What) -> Record {
    Record {
        id,
        unix_ns: THEN,
        workload: "acme/web".into(),
        version: Some("standard@built-in.1f0c9a2e".into()),
        prior: None,
        by: None,
        what,
    }
}

/// A write as the law and the guard make it of this evidence.
fn moved(reason: Reason, evidence: &Evidence) -> What {
    let law = Law::default();
    let decision = evidence.decide(&law, reason);
    let Outcome::Limits(to) = replay(evidence, &law) else { panic!("no limits") };
    let evidence = Evidence { want: decision.want.high, ..*evidence };
    let (from, current) = (evidence.limits(), evidence.current);
    What::LimitsMoved { verb: decision.verb, reason, from, to, current, wake_to_write_us: 143, evidence }
}

fn held(reason: Reason, evidence: &Evidence) -> What {
    What::Held { reason, limits: evidence.limits(), current: evidence.current, evidence: *evidence }
}

fn incident(kind: Kind) -> Record {
    let process = |pid, comm: &str, rss| Process { pid, comm: comm.to_owned(), rss: MIB(rss) };
    let snapshot = Snapshot {
        unix_ns: THEN,
        processes: vec![process(118, "postgres", 200), process(121, "postgres", 40)],
        count: 5,
        anon: MIB(238),
        file: MIB(14),
        shmem: MIB(2),
        kernel: MIB(3),
        some_us: 0,
        full_us: 0,
    };
    let limits = Limits { high: MIB(512), max: MIB(538) };
    let snapshot = Some(Arc::new(snapshot));
    let what = What::Incident(Box::new(Incident { kind, limits, current: MIB(513), snapshot }));
    Record { prior: Some(57), ..decided(90, what) }
}

fn explained(what: What) -> RecordExplained {
    let holder = |workload: &str, granted, current| Holder {
        workload: workload.to_owned(),
        granted: MIB(granted),
        current: MIB(current),
    };
    RecordExplained {
        record: decided(57, what),
        laws: Some(Laws::new("standard", "built-in", Law::default(), CpuLaw::standard())),
        before: Vec::new(),
        after: Vec::new(),
        incidents: Vec::new(),
        holders: vec![holder("acme/db", 700, 650), holder("acme/web", 256, 256)],
    }
}

fn text(what: What) -> String {
    record::text(&explained(what))
}

#[test]
fn a_grow_of_need() {
    let mut told = explained(moved(Reason::NeedGrew, &Evidence { law: MemoryLaw::Grow, ..known() }));
    let held = held(Reason::BudgetDeferred, &Evidence { free: Some(Bytes::ZERO), ..known() });
    told.before.push(decided(51, held));
    let (verb, limits) = (Verb::Grow, Limits { high: MIB(320), max: MIB(336) });
    told.after.push(decided(
        60,
        What::OutcomeSeen {
            of: 57,
            verb,
            helped: true,
            over_ms: 1004,
            hits: 0,
            waited: None,
            current: MIB(300),
            limits,
        },
    ));
    insta::assert_snapshot!(record::text(&told));
}

#[test]
fn slack_that_was_taken() {
    let evidence = Evidence {
        law: MemoryLaw::Slack,
        current: MIB(80),
        need: MIB(70),
        peak: MIB(90),
        held_ms: 10_400,
        hold_ms: 10_000,
        free: None,
        ..known()
    };
    insta::assert_snapshot!(text(moved(Reason::SlackTaken, &evidence)));
}

#[test]
fn cache_that_was_held() {
    let growth = Growth {
        high: MIB(256),
        need: MIB(20),
        need_grew: Bytes::ZERO,
        grew: MIB(200),
        time: Interval { ms: 20.0, some: 0.3, scanned: 9000, efficiency: 0.99, ..Interval::default() },
    };
    let evidence = Evidence { need: MIB(20), cache: MIB(230), growth: Some(growth), ..known() };
    insta::assert_snapshot!(text(held(Reason::CacheHeld, &evidence)));
}

#[test]
fn a_ceiling_that_was_reached_and_what_it_looked_like_inside() {
    let evidence = Evidence { high: MIB(512), max: MIB(538), current: MIB(513), need: MIB(500), ..known() };
    let mut told = explained(held(Reason::CeilingReached, &evidence));
    told.incidents.push(incident(Kind::CeilingReached));
    insta::assert_snapshot!(record::text(&told));
}

#[test]
fn a_grant_that_was_deferred() {
    let evidence =
        Evidence { law: MemoryLaw::Grow, want: MIB(336), free: Some(MIB(68)), waited_ms: 250, ..known() };
    insta::assert_snapshot!(text(held(Reason::BudgetDeferred, &evidence)));
}

#[test]
fn a_tenant_at_its_cap() {
    let evidence = Evidence { law: MemoryLaw::Grow, want: MIB(336), free: Some(MIB(16)), ..known() };
    insta::assert_snapshot!(text(held(Reason::TenantDeferred, &evidence)));
}

#[test]
fn cache_that_was_given_to_another() {
    let evidence = Evidence {
        law: MemoryLaw::SqueezeCache,
        need: MIB(100),
        cold: MIB(60),
        spare: MIB(32),
        asked: MIB(20),
        free: None,
        ..known()
    };
    insta::assert_snapshot!(text(moved(Reason::CacheSqueezed, &evidence)));
}

#[test]
fn a_stall_that_was_ended() {
    let evidence = Evidence {
        law: MemoryLaw::Stall,
        high: MIB(512),
        max: MIB(538),
        current: MIB(515),
        stalled_ms: 2010,
        free: None,
        swapped: MIB(90),
        swap_kept_permille: 310,
        ..known()
    };
    insta::assert_snapshot!(text(moved(Reason::StalledAtLimit, &evidence)));
}

#[test]
fn a_quota_that_ran_out() {
    let evidence = CpuEvidence {
        law: CpuRule::Grow,
        floor: Cpus::milli(100),
        ceiling: Cpus::milli(2000),
        quota: Cpus::milli(500),
        used: Cpus::milli(490),
        rho: 0.6,
        rho_window: 0.14,
        node_used: Cpus::milli(1700),
        granted: Some(Cpus::milli(150)),
        want: Cpus::milli(650),
        ..CpuEvidence::default()
    };
    let (verb, reason) = (Verb::Grow, Reason::ThrottlingWentOn);
    let (from, to) = (Cpus::milli(500), Cpus::milli(650));
    insta::assert_snapshot!(text(What::QuotaMoved {
        verb,
        reason,
        from,
        to,
        throttled: 1,
        wake_to_write_us: 60,
        evidence
    }));
}

#[test]
fn a_quota_that_the_busy_node_held() {
    let evidence = CpuEvidence {
        law: CpuRule::Grow,
        floor: Cpus::milli(200),
        ceiling: Cpus::milli(2000),
        quota: Cpus::milli(200),
        used: Cpus::milli(200),
        rho: 0.1,
        is_first: true,
        node_used: Cpus::milli(1900),
        granted: Some(Cpus::ZERO),
        want: Cpus::milli(250),
        ..CpuEvidence::default()
    };
    insta::assert_snapshot!(text(What::QuotaHeld {
        reason: Reason::NodeBusy,
        quota: Cpus::milli(200),
        evidence
    }));
}

#[test]
fn an_end_out_of_memory() {
    let how = "killed by the kernel: out of memory at its ceiling of 512 MiB".to_owned();
    let mut told = explained(What::Ended { how, code: 137 });
    told.incidents.push(incident(Kind::OomKilled));
    insta::assert_snapshot!(record::text(&told));
}

#[test]
fn a_version_that_nobody_knows() {
    let grow = moved(Reason::TripwireHit, &Evidence { law: MemoryLaw::Grow, growth: None, ..known() });
    insta::assert_snapshot!(record::text(&RecordExplained { laws: None, ..explained(grow) }));
}

fn view() -> WorkloadView {
    WorkloadView {
        tenant: "acme".to_owned(),
        name: "web".to_owned(),
        class: "standard".to_owned(),
        assigned: Some(AssignedBy::Rule("web.toml:7".to_owned())),
        pin: None,
        adopted: false,
        yielded: false,
        mode: "enforce".to_owned(),
        state: "running".to_owned(),
        pid: 118,
        memory_current: MIB(513),
        memory_high: Some(MIB(512)),
        memory_max: Some(MIB(538)),
        would_high: None,
        would_max: None,
        would_moves: 0,
        sizing: None,
        memory_need: MIB(500),
        memory: "64M..512M".parse().unwrap(),
        limit_moves: 7,
        oom_kills: 0,
        cpu_quota: Some(Cpus::milli(650)),
        cpu: Some("0.1..2".parse().unwrap()),
        cpu_usage_us: 0,
        quota_moves: 1,
        // In the future: its age is nought, whenever this runs.
        resources: bellows_policies::Resources::default(),
        started_unix_ns: u64::MAX / 2,
        lends_cpu: false,
        is_frozen: false,
        detached: None,
    }
}

#[test]
fn a_workload_at_its_ceiling() {
    let evidence = Evidence { high: MIB(512), max: MIB(538), current: MIB(513), need: MIB(500), ..known() };
    let grow = decided(56, moved(Reason::NeedGrew, &Evidence { law: MemoryLaw::Grow, ..known() }));
    let stays = decided(57, held(Reason::CeilingReached, &evidence));
    insta::assert_snapshot!(workload::text(&WorkloadExplained {
        workload: "acme/web".to_owned(),
        view: Some(view()),
        records: vec![grow, stays.clone()],
        held: Some(stays),
        incidents: vec![incident(Kind::CeilingReached)],
        holders: Vec::new(),
    }));
}

#[test]
fn a_workload_that_is_frozen_for_another() {
    let gave = Gave { slack: MIB(40), reclaim: MIB(96), cpu: 2, ..Gave::default() };
    let evidence = GripEvidence {
        waiter: 300,
        victim: 100,
        weight: 20,
        current: MIB(180),
        missing: MIB(64),
        waited_ms: 2150,
        idle_ms: 520,
        climb_ms: 500,
        gave,
    };
    let what = What::Squeezed { grip: Grip::Freeze, waiter: "shop/front".into(), hold_ms: 10_000, evidence };
    insta::assert_snapshot!(record::text(&explained(what)));
}

/// As `moved`, of a workload that is only observed.
fn would(reason: Reason, evidence: &Evidence) -> What {
    let What::LimitsMoved { verb, from, to, current, evidence, .. } = moved(reason, evidence) else {
        panic!("no move")
    };
    What::WouldHave { verb, reason, from, to, bytes: Bytes::ZERO, current, evidence }
}

#[test]
fn a_grow_that_was_only_told() {
    insta::assert_snapshot!(text(would(Reason::NeedGrew, &Evidence { law: MemoryLaw::Grow, ..known() })));
}

#[test]
fn a_workload_that_is_observed() {
    let sizing = Sizing {
        // In the future: its age is nought, whenever this runs.
        since_unix_ns: u64::MAX / 2,
        looks: 3600,
        use_peak: MIB(700),
        use_p95: MIB(640),
        need_peak: MIB(320),
        need_p95: MIB(288),
        need_p50: MIB(208),
        floor: MIB(229),
        ceiling: MIB(400),
    };
    let view = WorkloadView {
        mode: "observe".to_owned(),
        memory_high: None,
        memory_max: Some(MIB(538)),
        would_high: Some(MIB(320)),
        would_max: Some(MIB(336)),
        would_moves: 5,
        limit_moves: 0,
        sizing: Some(sizing),
        ..view()
    };
    let grow = would(Reason::NeedGrew, &Evidence { law: MemoryLaw::Grow, ..known() });
    insta::assert_snapshot!(workload::text(&WorkloadExplained {
        workload: "acme/web".to_owned(),
        view: Some(view),
        records: vec![decided(56, grow)],
        held: None,
        incidents: Vec::new(),
        holders: Vec::new(),
    }));
}
