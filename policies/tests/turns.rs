//! Single turns that a trace passes over: patience, refused and failed writes, release and rearm, adoption, the wire.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::time::Duration;

use bellows_policies::{
    Bounds, Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Reason, Sample,
    Step, Verb, Workload, launch, plan, settle, step, undo,
};
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer};

const MIB: fn(u64) -> Bytes = Bytes::mib;

fn launched(bounds: &str, budget: &mut Budget) -> Workload {
    let workload = Workload::new(bounds.parse().unwrap(), Law::default());
    settle(&launch(&workload, budget).unwrap(), budget);
    workload
}

fn sample(ms: u64, current: u64, high: u64) -> Sample {
    let events = MemoryEvents { high, ..MemoryEvents::default() };
    Sample { at: Instant(ms * 1_000_000), current: MIB(current), events }
}

fn detail(ms: u64, anon: u64, cache: u64) -> Detail {
    let stat =
        MemoryStat { anon: MIB(anon), file: MIB(cache), inactive_file: MIB(cache), ..MemoryStat::default() };
    Detail { at: Instant(ms * 1_000_000), stat, threads: 4, ..Detail::default() }
}

fn limits(high: u64, max: u64) -> Limits {
    Limits { high: MIB(high), max: MIB(max) }
}

/// Looks, plans, and carries the plan out.
fn turn(workload: &mut Workload, budget: &mut Budget, sample: &Sample) -> (Step, Plan) {
    let look = step(workload, sample);
    let plan = plan(workload, look.decision, budget);
    if let Plan::Write { to, .. } = plan {
        settle(&plan, budget);
        workload.commit(to, sample.at);
    }
    (look, plan)
}

#[test]
fn launch_is_at_the_floor_with_a_band() {
    let mut budget = Budget::new(MIB(100), Bytes::ZERO);
    let workload = launched("64M..512M", &mut budget);
    assert_eq!(workload.limits(), limits(64, 80));
    assert_eq!(budget.granted(), MIB(64));
    assert!(launch(&workload, &mut budget).unwrap_err().is_deferred());
}

#[test]
fn the_first_hit_grows_at_once_and_asks_for_a_detail() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    assert_eq!(turn(&mut workload, &mut budget, &sample(1, 10, 0)).0.decision.reason, Reason::Calm);
    let (look, _) = turn(&mut workload, &mut budget, &sample(1000, 64, 1));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Grow, Reason::TripwireHit));
    assert_eq!((look.look_again, look.read_detail), (Some(Duration::from_millis(2)), true));
    assert_eq!(workload.limits(), limits(80, 96));
    // The echo: crossings of the old limit, counted between the look and the write.
    let (look, _) = turn(&mut workload, &mut budget, &sample(1002, 64, 9));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::RoomLeft));
}

#[test]
fn two_steps_ahead_of_the_verdict_and_no_more_until_it_is_overdue() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..900M", &mut budget);
    let mut verbs = Vec::new();
    for (turn_, ms) in [1000, 1002, 1004, 1006, 1060].into_iter().enumerate() {
        let current = workload.limits().high.0 >> 20;
        let look = turn(&mut workload, &mut budget, &sample(ms, current, turn_ as u64 + 1)).0;
        verbs.push(look.decision.reason.as_str());
    }
    assert_eq!(
        verbs,
        ["tripwire_hit", "growth_continued", "verdict_awaited", "verdict_awaited", "growth_continued"]
    );
}

/// The detail thread was starved for a second, and the workload is quiet by then.
#[test]
fn a_step_that_was_judged_late_is_taken_back_all_the_same() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    let (look, _) = turn(&mut workload, &mut budget, &sample(1000, 64, 1));
    assert_eq!(look.decision.verb, Verb::Grow);
    for ms in (1050..2000).step_by(50) {
        let (look, _) = turn(&mut workload, &mut budget, &sample(ms, 64, 1));
        assert_eq!((look.decision.reason, look.read_detail), (Reason::RoomLeft, true), "at {ms} ms");
        assert_eq!(look.look_again, Some(Duration::from_millis(50)), "at {ms} ms");
    }
    workload.observe(&detail(2000, 4, 60));
    let (look, _) = turn(&mut workload, &mut budget, &sample(2001, 64, 1));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::CacheTakenBack));
    assert_eq!(look.decision.want.high, MIB(64));
}

#[test]
fn a_workload_known_to_be_cache_is_waited_for_once() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("128M..512M", &mut budget);
    workload.observe(&detail(900, 10, 110));
    let (look, _) = turn(&mut workload, &mut budget, &sample(1000, 128, 1));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::VerdictAwaited));
    assert_eq!((look.look_again, look.read_detail), (Some(Duration::from_millis(2)), true));
    let mut late = workload;
    let (look, _) = turn(&mut late, &mut budget, &sample(1002, 128, 2));
    assert_eq!(look.decision.verb, Verb::Grow, "without a verdict it is not waited for twice");
    workload.observe(&detail(1001, 10, 118));
    let (look, _) = turn(&mut workload, &mut budget, &sample(1002, 128, 2));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::CacheHeld));
    assert!(workload.is_held());
    assert_eq!(workload.limits().high, MIB(128));
}

#[test]
fn a_grow_that_was_not_written_is_asked_for_again_slowly() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    let look = step(&mut workload, &sample(1000, 64, 1));
    let failed = plan(&workload, look.decision, &mut budget);
    assert_eq!(budget.granted(), MIB(80));
    undo(&failed, &mut budget);
    assert_eq!(budget.granted(), MIB(64));
    assert!(workload.is_deferred());
    let (look, _) = turn(&mut workload, &mut budget, &sample(1010, 64, 2));
    assert_eq!(look.decision.reason, Reason::BudgetDeferred);
    assert_eq!(look.look_again, Some(Duration::from_millis(40)));
    let (look, _) = turn(&mut workload, &mut budget, &sample(1050, 64, 3));
    assert_eq!(look.decision.verb, Verb::Grow);
    assert!(!workload.is_deferred());
}

#[test]
fn refusals_are_deferred_or_infeasible() {
    for (capacity, hog, reason) in [(512, 448, Reason::BudgetDeferred), (64, 0, Reason::BudgetInfeasible)] {
        let mut budget = Budget::new(MIB(capacity), Bytes::ZERO);
        let mut workload = launched("64M..512M", &mut budget);
        budget.admit(MIB(hog)).unwrap();
        let (_, plan) = turn(&mut workload, &mut budget, &sample(1000, 64, 1));
        assert_eq!(plan, Plan::Nothing { reason });
        assert!(workload.is_deferred());
    }
}

#[test]
fn released_limits_are_left_alone_until_rearmed() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    workload.release();
    let open = workload.released_max();
    assert_eq!(open, MIB(512).saturating_add(MIB(512).scale(0.05)).page_ceil());
    let (look, plan) = turn(&mut workload, &mut budget, &sample(1000, 300, 5));
    assert_eq!(look.decision.reason, Reason::LimitsReleased);
    assert_eq!(plan, Plan::Nothing { reason: Reason::LimitsReleased });
    // Below its old grant the tripwire goes back to where it was; above it, that is a grow.
    let mut small = workload;
    small.rearm();
    let (look, plan) = turn(&mut small, &mut budget.clone(), &sample(1010, 32, 5));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::Rearmed));
    assert!(matches!(plan, Plan::Write { to, .. } if to == Limits { high: MIB(64), max: open }), "{plan:?}");
    assert!(!small.is_released());
    workload.rearm();
    assert!(workload.is_released());
    let (look, _) = turn(&mut workload, &mut budget, &sample(1010, 300, 5));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Grow, Reason::Rearmed));
    assert_eq!(budget.granted(), workload.granted());
    assert!(workload.granted() > MIB(300) && !workload.is_released());
}

#[test]
fn an_adopted_workload_is_governed_from_its_first_sample_on() {
    let bounds: Bounds = "64M..512M".parse().unwrap();
    let found = sample(1000, 100, 900);
    let mut workload = Workload::adopt(bounds, Law::default(), limits(120, 130), found);
    assert_eq!(workload.limits(), limits(120, 130));
    let look = step(&mut workload, &sample(1001, 100, 900));
    assert_eq!(look.decision.reason, Reason::Calm, "old crossings are no hit");
    let outside = Workload::adopt(bounds, Law::default(), limits(900, 2000), sample(1000, 700, 0));
    assert_eq!(outside.limits(), limits(512, 2000), "lowered later, by the law");
}

#[test]
fn laws_and_bounds_are_read_from_the_wire() {
    let law = |fields: &[(&'static str, u64)]| {
        Law::deserialize(MapDeserializer::<_, Error>::new(fields.iter().copied()))
    };
    assert_eq!(law(&[]), Ok(Law::default()));
    assert_eq!(law(&[("hot_poll_ms", 5)]), Ok(Law { hot_poll_ms: 5, ..Law::default() }));
    assert!(law(&[("hot_pol_ms", 5)]).unwrap_err().to_string().contains("hot_poll_ms"));
    let bounds = |floor, ceiling| {
        Bounds::deserialize(MapDeserializer::<_, Error>::new(
            [("floor", floor), ("ceiling", ceiling)].into_iter(),
        ))
    };
    assert_eq!(bounds(1 << 20, 2 << 20), Ok(Bounds { floor: MIB(1), ceiling: MIB(2) }));
    assert!(bounds(2 << 20, 1 << 20).unwrap_err().to_string().contains("lies above the ceiling"));
}
