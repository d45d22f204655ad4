//! Single turns that a trace passes over: patience, refused and failed writes, release and rearm, adoption, the wire.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::time::Duration;

use bellows_policies::{
    Bounds, Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Pressure, Reason,
    Sample, Step, Verb, Workload, launch, plan, settle, step, undo,
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

/// It reads at 2.4 GiB/s: 100 ms of that would be a step of 240 MiB.
#[test]
fn a_reader_that_waits_is_raised_by_a_step_that_does_not_count_its_rate() {
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    let _ = turn(&mut workload, &mut budget, &sample(1000, 64, 1));
    workload.observe(&detail(1005, 4, 60));
    let _ = turn(&mut workload, &mut budget, &sample(1006, 64, 1));
    assert!(workload.is_held() && workload.limits().high == MIB(64), "{:?}", workload.limits());
    let _ = turn(&mut workload, &mut budget, &sample(1500, 40, 1));
    let _ = turn(&mut workload, &mut budget, &sample(1510, 64, 2));
    let waited = Pressure { some_us: 400_000, full_us: 400_000 };
    workload.observe(&Detail { pressure: waited, ..detail(1512, 4, 60) });
    let (look, plan) = turn(&mut workload, &mut budget, &sample(1514, 64, 3));
    assert_eq!(look.decision.reason, Reason::StallRose, "{look:?}");
    assert!(look.decision.evidence.rate > MIB(1024).0, "{look:?}");
    assert!(matches!(plan, Plan::Write { to, .. } if to.high == MIB(80)), "{plan:?}");
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
        budget.admit(None, MIB(hog)).unwrap();
        let (_, plan) = turn(&mut workload, &mut budget, &sample(1000, 64, 1));
        assert_eq!(plan, Plan::Nothing { reason });
        assert!(workload.is_deferred());
    }
}

/// 100 ms of its growth would be a band of 300 MiB.
#[test]
fn a_fast_grower_that_is_refused_gets_no_band_to_live_in() {
    let mut budget = Budget::new(MIB(64), Bytes::ZERO);
    let mut workload = launched("64M..512M", &mut budget);
    let _ = turn(&mut workload, &mut budget, &sample(1000, 60, 0));
    let (look, plan) = turn(&mut workload, &mut budget, &sample(1010, 90, 1));
    assert!(look.decision.want.max >= MIB(64 + 150), "{look:?}");
    let bounded = MIB(64).saturating_add(workload.law().jump_slack);
    assert!(matches!(plan, Plan::Write { to, .. } if to.high == MIB(64) && to.max == bounded), "{plan:?}");
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
    let mut reader = workload;
    let (look, _) = turn(&mut workload, &mut budget, &sample(1010, 300, 5));
    assert_eq!(look.decision.reason, Reason::VerdictAwaited, "is it need?");
    assert!(look.read_detail && workload.is_released());
    // Page cache has filled the open limit: it goes back all the same, and reclaim does the rest.
    reader.observe(&detail(1005, 20, 280));
    let (look, plan) = turn(&mut reader, &mut budget.clone(), &sample(1010, 300, 5));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::Rearmed));
    assert!(matches!(plan, Plan::Write { to, .. } if to == Limits { high: MIB(64), max: open }), "{plan:?}");
    // A detail that never comes is not waited for.
    let (look, _) = turn(&mut workload.clone(), &mut budget.clone(), &sample(1061, 300, 5));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Grow, Reason::Rearmed));
    workload.observe(&detail(1015, 300, 0));
    let (look, _) = turn(&mut workload, &mut budget, &sample(1020, 300, 5));
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
}

/// What a takeover finds, what is governed then, and what the put-back writes.
#[test]
fn limits_that_were_found_are_governed_at_once() {
    const OPEN: Bytes = Bytes(u64::MAX);
    let at = |high, max| Limits { high, max };
    // A step above use: 16 MiB or a quarter.
    let table = [
        ("as the law left it", at(MIB(120), MIB(130)), 100, limits(120, 130), Verb::Shrink),
        ("below its use", at(MIB(120), MIB(130)), 124, limits(120, 130), Verb::Grow),
        ("a band too small", at(MIB(120), MIB(121)), 100, limits(120, 124), Verb::Shrink),
        ("opened by the watchdog", at(OPEN, MIB(538)), 100, limits(125, 538), Verb::Shrink),
        ("opened while small", at(OPEN, MIB(538)), 10, limits(64, 538), Verb::Shrink),
        ("failed: high at max", at(MIB(130), MIB(130)), 100, limits(125, 130), Verb::Shrink),
        ("failed, and near its end", at(MIB(130), MIB(130)), 128, limits(160, 164), Verb::Shrink),
        ("opened, and near the ceiling", at(OPEN, MIB(538)), 500, limits(512, 538), Verb::Shrink),
        ("of a former policy", at(MIB(900), MIB(2000)), 700, limits(512, 2000), Verb::Shrink),
        ("of a former policy, small", at(MIB(20), MIB(24)), 16, limits(64, 68), Verb::Shrink),
        ("no limit at all", at(OPEN, OPEN), 100, at(MIB(125), OPEN.page_floor()), Verb::Shrink),
    ];
    for (name, found, current, governed, verb) in table {
        let bounds: Bounds = "64M..512M".parse().unwrap();
        let mut workload = Workload::adopt(bounds, Law::default(), found, sample(1000, current, 900));
        assert_eq!(workload.limits(), governed, "{name}");
        assert!(governed.max >= MIB(current + 4), "{name}: no kill");
        let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
        budget.adopt(None, Bytes::ZERO, workload.granted());
        workload.rearm();
        workload.observe(&detail(1005, current, 0));
        let (look, plan) = turn(&mut workload, &mut budget, &sample(1010, current, 900));
        assert_eq!((look.decision.verb, look.decision.reason), (verb, Reason::Rearmed), "{name}");
        let Plan::Write { to, clamped: false, .. } = plan else { panic!("{name}: {plan:?}") };
        assert!(to == governed || (verb == Verb::Grow && to.high > governed.high), "{name}: {to}");
        assert!(!workload.is_released() && budget.granted() == workload.granted(), "{name}");
    }
}

/// `memory.max` was found wide open: it comes down to its band, by the law and with its care.
#[test]
fn an_open_max_that_was_found_is_taken_back() {
    let found = Limits { high: Bytes(u64::MAX), max: Bytes(u64::MAX) };
    let mut workload =
        Workload::adopt("64M..512M".parse().unwrap(), Law::default(), found, sample(1000, 100, 9));
    let mut budget = Budget::new(Bytes::GIB, Bytes::ZERO);
    budget.adopt(None, Bytes::ZERO, workload.granted());
    workload.rearm();
    let (look, _) = turn(&mut workload, &mut budget, &sample(1001, 100, 9));
    assert_eq!(look.decision.reason, Reason::Rearmed);
    let mut told = Vec::new();
    for ms in (2000..60_000).step_by(1000) {
        let (look, plan) = turn(&mut workload, &mut budget, &sample(ms, 100, 9));
        if let Plan::Write { reason, to, clamped: false, .. } = plan {
            told.push((ms, reason, to));
        }
        if look.read_detail {
            workload.observe(&detail(ms, 95, 5));
        }
    }
    // 125 MiB was a step, and headroom is 10 %; max follows when that has settled.
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], (13_000, Reason::SlackTaken, Limits { high: MIB(110), max: found.max.page_floor() }));
    assert_eq!((told[1].1, told[1].2.high), (Reason::BandTaken, MIB(110)));
    assert_eq!(told[1].2.max, MIB(110).saturating_add(MIB(110).scale(0.05)).page_ceil());
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
