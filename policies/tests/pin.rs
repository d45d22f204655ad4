//! An operator's word: a pinned limit stays, whatever the law would make of what it sees, and is the law's again afterwards.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

mod plant;

use bellows_policies::memory::Spare;
use bellows_policies::squeeze::Rung;
use bellows_policies::{
    Budget, Bytes, CpuLaw, CpuSample, CpuWorkload, Cpus, Detail, Instant, Law, Limits, MemoryEvents,
    MemoryStat, Plan, Pressure, Reason, Sample, Verb, Workload, cpu, launch, plan, settle, step,
};

const MIB: fn(u64) -> Bytes = Bytes::mib;

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn sample(ms: u64, current: u64, high: u64) -> Sample {
    let events = MemoryEvents { high, ..MemoryEvents::default() };
    Sample { at: at(ms), current: MIB(current), events }
}

fn launched(budget: &mut Budget) -> Workload {
    let workload = Workload::new("64M..1G".parse().unwrap(), Law::default());
    settle(&launch(&workload, budget).unwrap(), budget);
    workload
}

/// Ten seconds at the limit, hit all the time, in full stall: the law would have grown at once, and failed it after two.
#[test]
fn a_pinned_limit_is_neither_raised_nor_taken_away() {
    let mut budget = Budget::new(MIB(4096), Bytes::ZERO);
    let mut workload = launched(&mut budget);
    workload.pin();
    for n in 1..5000 {
        let look = step(&mut workload, &sample(n * 2, 64, n));
        assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::LimitPinned), "{n}");
        let stat = MemoryStat { anon: MIB(64), ..MemoryStat::default() };
        let pressure = Pressure { some_us: n * 2000, full_us: n * 2000 };
        workload.observe(&Detail { at: at(n * 2), stat, pressure, threads: 4, ..Detail::default() });
    }
    assert_eq!(workload.spare(Rung::Slack, at(20_000)), Spare::Known(Bytes::ZERO));
    workload.govern("128M..1G".parse().unwrap(), Law::default());
    assert_eq!(workload.to_floor(), None, "a raised floor waits for its end");
    workload.unpin(at(20_000));
    assert!(workload.to_floor().is_some());
    let look = step(&mut workload, &sample(20_000, 64, 6000));
    assert_eq!((look.decision.verb, look.decision.reason), (Verb::Grow, Reason::TripwireHit));
}

#[test]
fn slack_under_a_pin_is_left_and_taken_a_hold_after_it() {
    let found = Limits { high: MIB(512), max: MIB(600) };
    let mut workload = Workload::adopt("64M..1G".parse().unwrap(), Law::default(), found, sample(0, 80, 0));
    workload.pin();
    for second in 1..60 {
        let look = step(&mut workload, &sample(second * 1000, 80, 0));
        assert_eq!(look.decision.verb, Verb::Hold, "{second} s");
    }
    workload.unpin(at(60_000));
    let mut taken = None;
    for second in 60..90 {
        let look = step(&mut workload, &sample(second * 1000, 80, 0));
        if look.read_detail {
            let stat = MemoryStat { anon: MIB(80), ..MemoryStat::default() };
            let now = at(second * 1000 + 1);
            workload.observe(&Detail { at: now, stat, threads: 4, ..Detail::default() });
        }
        if look.decision.verb == Verb::Shrink {
            taken.get_or_insert(second);
        }
    }
    assert_eq!(taken, Some(71), "ten seconds, and one for the look into memory.stat");
}

/// It is put where it is wanted, far above use too, charged to the budget, and comes of its evidence.
#[test]
fn a_pin_is_a_plan() {
    let mut budget = Budget::new(MIB(600), Bytes::ZERO);
    let mut workload = launched(&mut budget);
    let _ = step(&mut workload, &sample(1, 40, 0));
    for (asked, verb, high, granted) in
        [(512, Verb::Grow, 512, 512), (2048, Verb::Grow, 600, 600), (50, Verb::Shrink, 64, 512)]
    {
        let mut workload = workload;
        let mut budget = budget.clone();
        if verb == Verb::Shrink {
            workload.commit(Limits { high: MIB(512), max: MIB(560) }, at(2));
            let _ = budget.request(None, MIB(64), MIB(512));
        }
        let planned = plan(&workload, workload.to_pin(MIB(asked)), &mut budget);
        plant::replays(&planned, workload.law());
        let Plan::Write { verb: told, to, reason: Reason::LimitPinned, .. } = planned else {
            panic!("{planned:?}")
        };
        assert_eq!((told, to.high, budget.granted()), (verb, MIB(high), MIB(granted)), "{asked}");
    }
}

#[test]
fn a_pinned_quota_stays_through_throttling_and_idleness() {
    let sample = |n: u64, throttled| CpuSample {
        at: at(n * 100),
        usage_us: n * 50_000,
        nr_periods: n,
        nr_throttled: throttled,
        throttled_us: throttled,
    };
    let mut workload = CpuWorkload::new("0.1..2".parse().unwrap(), CpuLaw::standard());
    workload.pin(Some(Cpus::milli(5000)));
    assert_eq!(workload.quota(), Cpus::milli(2000), "within its bounds");
    workload.pin(Some(Cpus::milli(500)));
    for n in 1..100 {
        let look = cpu::step(&mut workload, &sample(n, n));
        assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::LimitPinned));
    }
    workload.unpin();
    let look = cpu::step(&mut workload, &sample(100, 100));
    assert_eq!(look.decision.verb, Verb::Grow);
}
