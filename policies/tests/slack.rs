//! Single turns of taking back: when slack and the band are taken, when not, and what a refusal does.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::time::Duration;

use bellows_policies::{
    Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Reason, Sample, Step, Verb,
    Workload, plan, settle, step,
};

const MIB: fn(u64) -> Bytes = Bytes::mib;

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

/// A workload of 64 MiB to 4 GiB, found with these limits at this use at 0 s.
fn found(high: u64, max: u64, current: u64) -> (Workload, Budget) {
    let law = Law { reclaim_factor: 0.0, ..Law::default() };
    let workload = Workload::adopt("64M..4G".parse().unwrap(), law, limits(high, max), sample(0, current, 0));
    assert_eq!(workload.limits(), limits(high, max));
    let mut budget = Budget::new(MIB(8192), Bytes::ZERO);
    budget.adopt(None, Bytes::ZERO, workload.granted());
    (workload, budget)
}

/// A look each second of `seconds`; the first that does more than hold, or wants a detail, and when.
fn first_act(
    workload: &mut Workload,
    seconds: std::ops::RangeInclusive<u64>,
    current: u64,
) -> Option<(u64, Step)> {
    seconds
        .map(|s| (s, step(workload, &sample(s * 1000, current, 0))))
        .find(|(_, look)| look.read_detail || look.decision.verb != Verb::Hold)
}

/// A look each 100 ms, with one hit behind; when the first came that does more than hold, or wants a detail.
fn act_within(workload: &mut Workload, ms: std::ops::RangeInclusive<u64>) -> Option<u64> {
    ms.step_by(100).find(|ms| {
        let look = step(workload, &sample(*ms, 200, 1));
        look.read_detail || look.decision.verb != Verb::Hold
    })
}

fn carry_out(workload: &mut Workload, budget: &mut Budget, look: &Step, ms: u64) -> Limits {
    let plan = plan(workload, look.decision, budget);
    let Plan::Write { verb: Verb::Shrink, to, clamped: false, .. } = plan else { panic!("{plan:?}") };
    settle(&plan, budget);
    workload.commit(to, Instant(ms * 1_000_000));
    assert_eq!(budget.granted(), workload.granted());
    to
}

#[test]
fn high_comes_first_and_max_when_it_has_settled() {
    let (mut workload, mut budget) = found(1000, 1100, 200);
    let (at, look) = first_act(&mut workload, 1..=60, 200).unwrap();
    assert_eq!((at, look.read_detail, look.decision.verb), (10, true, Verb::Hold), "asks first");
    workload.observe(&detail(10_001, 180, 20));
    let look = step(&mut workload, &sample(10_002, 200, 0));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::SlackTaken));
    assert_eq!((look.look_again, look.read_detail), (Some(Duration::from_millis(100)), false));
    let again = step(&mut workload, &sample(10_003, 200, 0));
    assert_eq!(again.decision.verb, Verb::Hold, "one plan at a time");
    assert_eq!(carry_out(&mut workload, &mut budget, &look, 10_004), limits(220, 1100));
    let look = step(&mut workload, &sample(10_014, 200, 0));
    assert_eq!((look.decision.verb, look.look_again), (Verb::Hold, Some(Duration::from_millis(40))));
    let look = step(&mut workload, &sample(10_054, 200, 0));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::BandTaken));
    // 220 + 5 %.
    assert_eq!(carry_out(&mut workload, &mut budget, &look, 10_055), limits(220, 231));
    assert!(first_act(&mut workload, 11..=4000, 200).is_none(), "converged");
}

#[test]
fn slack_is_room_above_the_peak_and_above_need() {
    let table = [
        // The limits found, use over the hold, need as a detail tells it; the high that comes out.
        ("10 % above use", 1000, [200, 200], 180, Some(220)),
        ("of the peak, not of the moment", 1000, [200, 300], 180, Some(330)),
        ("never below the floor", 1000, [10, 10], 10, Some(64)),
        ("4 MiB at least", 100, [70, 70], 70, Some(77)),
        ("above need that is swapped out", 1000, [200, 200], 500, Some(550)),
        ("by 100 MiB at most", 4000, [200, 200], 2000, Some(2100)),
        ("need leaves nothing worth a write", 1000, [200, 200], 900, None),
        ("less than 5 %", 1000, [900, 900], 0, None),
        ("less than 4 MiB", 67, [57, 57], 0, None),
    ];
    for (name, high, used, need, want) in table {
        let (mut workload, mut budget) = found(high, high + high / 20 + 4, used[0]);
        let _ = step(&mut workload, &sample(5000, used[1], 0));
        let act = first_act(&mut workload, 6..=14, used[0]).map(|(at, _)| at);
        if let Some(at) = act {
            workload.observe(&detail(at * 1000 + 1, need, 0));
            let look = step(&mut workload, &sample(at * 1000 + 2, used[0], 0));
            let got = (look.decision.reason == Reason::SlackTaken).then_some(look.decision.want.high);
            assert_eq!(got.map(|high| high.0 >> 20), want, "{name}");
            if got.is_some() {
                let _ = carry_out(&mut workload, &mut budget, &look, 15_000);
            }
        } else {
            assert_eq!(want, None, "{name}");
        }
    }
}

#[test]
fn a_stale_detail_is_never_acted_upon() {
    let (mut workload, _) = found(1000, 1100, 200);
    workload.observe(&detail(8_000, 180, 20));
    let (at, look) = first_act(&mut workload, 1..=60, 200).unwrap();
    assert_eq!((at, look.read_detail, look.decision.verb), (10, true, Verb::Hold));
    // It is lost, and asked for again; never more than once a second.
    let asked =
        (10_100..20_000).step_by(100).filter(|ms| step(&mut workload, &sample(*ms, 200, 0)).read_detail);
    assert_eq!(asked.count(), 9);
}

#[test]
fn growth_is_left_room_for() {
    let (mut workload, mut budget) = found(2000, 3000, 100);
    // 500 MiB/s for a moment, and half of it a minute after it was last seen.
    let _ = step(&mut workload, &sample(1000, 100, 0));
    let _ = step(&mut workload, &sample(1100, 150, 0));
    assert_eq!(workload.fastest_growth(), MIB(500).0);
    let _ = first_act(&mut workload, 2..=60, 100).unwrap();
    workload.observe(&detail(61_099, 90, 0));
    let look = step(&mut workload, &sample(61_100, 100, 0));
    let growth = workload.fastest_growth();
    assert!((MIB(250).0..MIB(255).0).contains(&growth), "{growth}");
    // A tenth of a second of it above the peak; and a whole one between use and max.
    assert_eq!(look.decision.want.high, Bytes(MIB(150).0 + growth / 10).page_ceil());
    let _ = carry_out(&mut workload, &mut budget, &look, 61_100);
    let look = step(&mut workload, &sample(61_200, 100, 0));
    assert_eq!(look.decision.reason, Reason::BandTaken);
    let growth = workload.fastest_growth();
    assert_eq!(look.decision.want.max, Bytes(MIB(100).0 + growth).page_ceil());
}

#[test]
fn one_that_is_idle_costs_nothing() {
    let launched = Workload::new("64M..4G".parse().unwrap(), Law::default());
    let grown = found(68, 84, 62).0;
    for (name, mut workload, current) in
        [("at its floor", launched, 64), ("below it", launched, 3), ("with its smallest headroom", grown, 62)]
    {
        let act = first_act(&mut workload, 1..=20_000, current);
        assert_eq!(act, None, "{name}");
    }
}

#[test]
fn a_hit_or_a_refusal_begins_the_hold_anew() {
    let (mut workload, mut budget) = found(1000, 1100, 200);
    // Counted, but not in the way: there is room by now.
    let _ = step(&mut workload, &sample(9_000, 200, 1));
    assert_eq!(act_within(&mut workload, 9_100..=18_900), None);
    workload.observe(&detail(18_950, 190, 10));
    let look = step(&mut workload, &sample(19_000, 200, 1));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Shrink, Reason::SlackTaken));
    workload.shrink_refused(Instant(19_600_000_000));
    assert_eq!(act_within(&mut workload, 19_700..=29_500), None);
    workload.observe(&detail(29_600, 190, 10));
    let look = step(&mut workload, &sample(29_700, 200, 1));
    assert_eq!(look.decision.reason, Reason::SlackTaken);
    assert_eq!(carry_out(&mut workload, &mut budget, &look, 29_701), limits(220, 1100));
    // A hit before it settled: max stays.
    let look = step(&mut workload, &sample(29_760, 219, 2));
    assert_eq!(look.decision.verb, Verb::Grow);
}

#[test]
fn a_held_reader_keeps_high_and_gives_up_the_band() {
    let law = Law { detail_gap_ms: 10, ..Law::default() };
    let mut workload = Workload::adopt("64M..4G".parse().unwrap(), law, limits(100, 400), sample(0, 100, 0));
    let mut budget = Budget::new(MIB(8192), Bytes::ZERO);
    budget.adopt(None, Bytes::ZERO, workload.granted());
    workload.observe(&detail(900, 10, 90));
    let mut shrinks = Vec::new();
    for ms in (1000..20_000).step_by(100) {
        let look = step(&mut workload, &sample(ms, 100, ms));
        if look.read_detail {
            workload.observe(&detail(ms, 10, 90));
        }
        if look.decision.verb == Verb::Shrink {
            shrinks.push((look.decision.reason, carry_out(&mut workload, &mut budget, &look, ms)));
        }
        assert_ne!(look.decision.verb, Verb::Grow);
    }
    assert!(workload.is_held());
    assert_eq!(shrinks, [(Reason::BandTaken, limits(100, 110))], "hit all the time, and 10 % above its use");
}
