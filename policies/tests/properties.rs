//! What holds whatever happens: random samples, details, refusals and failed writes over several workloads.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

mod plant;

use bellows_policies::memory::Spare;
use bellows_policies::squeeze::Rung;
use bellows_policies::{
    Budget, Bytes, Decision, Detail, Instant, Law, Limits, MemoryEvents, MemoryLaw, MemoryStat, Plan,
    Pressure, Reason, Sample, Verb, Workload, launch, plan, settle, step, undo,
};
use plant::{Demand, Rig, mib, plenty};
use proptest::prelude::*;

/// One thing that happens to one workload.
#[derive(Clone, Debug)]
struct Happening {
    who: usize,
    wait_us: u64,
    /// Use, percent of the present `memory.high`.
    use_percent: u64,
    hits: u64,
    /// A detail follows, with this percentage of use being need.
    need_percent: Option<u64>,
    waits: bool,
    write_fails: bool,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Look,
    Release,
    Rearm,
    Squeeze(Rung),
}

fn happening() -> impl Strategy<Value = Happening> {
    let act = prop_oneof![
        40 => Just(Act::Look),
        1 => Just(Act::Release),
        2 => Just(Act::Rearm),
        2 => Just(Act::Squeeze(Rung::Slack)),
        2 => Just(Act::Squeeze(Rung::Reclaim)),
    ];
    let wait = prop_oneof![
        6 => 0..50_u64,
        6 => 1_000..5_000_u64,
        6 => 10_000..400_000_u64,
        3 => 1_000_000..70_000_000_u64,
    ];
    let hits = prop_oneof![Just(0), 1..40_u64];
    let detail = proptest::option::of(0..=100_u64);
    (0..3_usize, wait, 0..=115_u64, hits, detail, any::<bool>(), proptest::bool::weighted(0.1), act).prop_map(
        |(who, wait_us, use_percent, hits, need_percent, waits, write_fails, act)| Happening {
            who,
            wait_us,
            use_percent,
            hits,
            need_percent,
            waits,
            write_fails,
            act,
        },
    )
}

fn fleet(pool_mib: u64) -> (Vec<(Workload, MemoryEvents, Detail)>, Budget) {
    let mut budget = Budget::new(Bytes::mib(pool_mib), Bytes::ZERO);
    let mut fleet = Vec::new();
    for bounds in ["16M..64M", "32M..300M", "1M..2G"] {
        let workload = Workload::new(bounds.parse().unwrap(), Law::default());
        settle(&launch(&workload, &mut budget).unwrap(), &mut budget);
        fleet.push((workload, MemoryEvents::default(), Detail::default()));
    }
    (fleet, budget)
}

/// Plays it all, checks every plan, and tells what was planned.
fn play(happenings: &[Happening], pool_mib: u64) -> Result<Vec<Plan>, TestCaseError> {
    let (mut fleet, mut budget) = fleet(pool_mib);
    let mut now = Instant(1_000_000_000);
    let mut plans = Vec::new();
    for what in happenings {
        now = now.plus(std::time::Duration::from_micros(what.wait_us));
        let (workload, events, detail) = &mut fleet[what.who];
        match what.act {
            Act::Look | Act::Squeeze(_) => {}
            Act::Release => workload.release(),
            Act::Rearm => workload.rearm(),
        }
        let current = Bytes(workload.limits().high.0 / 100 * what.use_percent);
        events.high += what.hits;
        let sample = Sample { at: now, current, events: *events };
        let look = step(workload, &sample);
        let given = match what.act {
            Act::Squeeze(rung) => squeezed(workload, rung, now),
            Act::Look | Act::Release | Act::Rearm => None,
        };
        let planned = plan(workload, given.unwrap_or(look.decision), &mut budget);
        check(workload, &planned, current)?;
        match planned {
            Plan::Write { verb, .. } if what.write_fails => {
                undo(&planned, &mut budget);
                if verb == Verb::Shrink {
                    workload.shrink_refused(now);
                }
            }
            Plan::Write { to, .. } => {
                settle(&planned, &mut budget);
                workload.commit(to, now);
            }
            Plan::Reclaim { .. } if what.write_fails => workload.shrink_refused(now),
            Plan::Reclaim { bytes, .. } => {
                prop_assert!(bytes <= current.saturating_sub(workload.bounds().floor));
                workload.reclaimed(now);
            }
            Plan::Nothing { .. } => {}
        }
        plans.push(planned);
        if let Some(percent) = what.need_percent {
            let anon = Bytes(current.0 / 100 * percent);
            let file = current.saturating_sub(anon);
            let stat = MemoryStat { anon, file, inactive_file: file, ..detail.stat };
            let waited = detail.pressure.some_us + if what.waits { what.wait_us } else { 0 };
            let pressure = Pressure { some_us: waited, full_us: waited };
            *detail = Detail { at: now, stat, pressure, io: pressure, threads: 4, ..Detail::default() };
            workload.observe(detail);
        }
        let sum =
            fleet.iter().fold(Bytes::ZERO, |sum, (workload, ..)| sum.saturating_add(workload.granted()));
        prop_assert_eq!(sum, budget.granted());
        prop_assert!(sum <= budget.pool());
    }
    Ok(plans)
}

/// All that it can spare, if there is anything.
fn squeezed(workload: &mut Workload, rung: Rung, now: Instant) -> Option<Decision> {
    match workload.spare(rung, now) {
        Spare::Known(Bytes::ZERO) | Spare::AfterDetail => None,
        Spare::Known(spare) => Some(workload.squeeze(rung, spare, now)),
    }
}

fn check(workload: &Workload, planned: &Plan, current: Bytes) -> Result<(), TestCaseError> {
    plant::replays(planned, workload.law());
    let Plan::Write { verb, from, to, clamped, reason, .. } = *planned else { return Ok(()) };
    prop_assert!(!clamped, "the law went out of bounds: {planned:?}");
    check_write(workload, verb, from, to, reason, current)
}

fn check_write(
    workload: &Workload,
    verb: Verb,
    from: Limits,
    to: Limits,
    reason: Reason,
    current: Bytes,
) -> Result<(), TestCaseError> {
    let (bounds, law) = (workload.bounds(), workload.law());
    prop_assert_eq!(from, workload.limits());
    prop_assert!(to.high.0.is_multiple_of(4096) && to.max.0.is_multiple_of(4096));
    if verb == Verb::Fail {
        prop_assert_eq!(to, Limits { high: from.max, max: from.max });
        return Ok(());
    }
    prop_assert!(bounds.floor <= to.high && to.high <= bounds.ceiling);
    prop_assert!(to.max >= to.high.saturating_add(law.band_min));
    let most = bounds.ceiling.saturating_add(workload.band_above(bounds.ceiling)).max(from.max);
    prop_assert!(to.max <= most);
    match verb {
        Verb::Grow => {
            prop_assert!(to.high >= from.high && to.max >= from.max);
            let jump = current.saturating_add(current).saturating_add(law.jump_slack);
            prop_assert!(to.max <= jump.max(from.max));
        }
        Verb::Shrink => {
            prop_assert!(to.high <= from.high && to.max <= from.max);
            // One of the two; max leaves its room, high stays above use unless it takes back cache.
            prop_assert!(to.high == from.high || to.max == from.max);
            prop_assert!(to.max >= workload.room().above(current).min(from.max));
            let is_cache = matches!(reason, Reason::CacheTakenBack | Reason::CacheSqueezed);
            prop_assert!(is_cache || to.high >= current.min(from.high));
        }
        Verb::Hold | Verb::Reclaim | Verb::Fail => prop_assert!(false, "{verb} to {to}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_replays_agree(
        happenings in proptest::collection::vec(happening(), 1..200),
        pool_mib in 60..800_u64,
    ) {
        let first = play(&happenings, pool_mib)?;
        prop_assert_eq!(first, play(&happenings, pool_mib)?);
    }

    #[test]
    fn stale_signals_hold(
        happenings in proptest::collection::vec(happening(), 1..40),
        use_mib in 0..600_u64,
        overtaken in any::<bool>(),
    ) {
        let mut workload = Workload::new("32M..300M".parse().unwrap(), Law::default());
        let mut now = Instant(1_000_000_000);
        let mut events = MemoryEvents { high: 7, ..MemoryEvents::default() };
        for what in &happenings {
            now = now.plus(std::time::Duration::from_micros(what.wait_us));
            events.high += what.hits;
            let _ = step(&mut workload, &Sample { at: now, current: Bytes::mib(what.use_percent), events });
        }
        let mut sample = Sample { at: now, current: Bytes::mib(use_mib), events };
        if overtaken {
            sample.at = Instant(now.0 - 1);
            sample.events.high += 9;
        } else {
            sample.events.high -= 1;
        }
        let limits = workload.limits();
        let look = step(&mut workload, &sample);
        prop_assert_eq!(look.decision.verb, Verb::Hold);
        prop_assert_eq!(look.decision.want, limits);
        prop_assert_eq!(look.decision.reason, Reason::SignalsStale);
    }

    #[test]
    fn guard_brings_anything_within_bounds(
        verb in prop_oneof![Just(Verb::Grow), Just(Verb::Shrink), Just(Verb::Fail)],
        high in any::<u64>(),
        max in any::<u64>(),
        use_mib in 0..400_u64,
    ) {
        let mut workload = Workload::new("32M..300M".parse().unwrap(), Law::default());
        let mut budget = plenty();
        settle(&launch(&workload, &mut budget).unwrap(), &mut budget);
        let current = Bytes::mib(use_mib);
        let _ = step(&mut workload, &Sample { at: Instant(1), current, ..Sample::default() });
        let want = Limits { high: Bytes(high), max: Bytes(max) };
        let evidence = workload.evidence(MemoryLaw::Hold);
        let decision = Decision { verb, want, reclaim: Bytes::ZERO, reason: Reason::Calm, evidence };
        if let Plan::Write { verb, from, to, clamped, .. } = plan(&workload, decision, &mut budget) {
            prop_assert!(clamped || to.high == want.high.page_floor());
            check_write(&workload, verb, from, to, Reason::Calm, current)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_livelock_fails_within_five_seconds(
        rate in 16..2048_u64,
        ceiling in 33..400_u64,
        cache in prop_oneof![Just(0), 1..64_u64],
        deferred in any::<bool>(),
    ) {
        let bounds = format!("32M..{}M", if deferred { 4096 } else { ceiling });
        let mut rig = Rig::new(&bounds, if deferred { Budget::new(Bytes::mib(ceiling), Bytes::ZERO) } else { plenty() });
        let demand = Demand { need_rate: mib(rate), need_most: mib(4000), cache_rate: mib(cache), ..Demand::default() };
        // Until it stands at the limit: use above it is the first futile hit.
        let mut cornered = None;
        for _ in 0..30_000 {
            rig.run(1, demand);
            let stuck = Bytes(rig.plant.usage()) > rig.workload.limits().high && (deferred || rig.workload.limits().high.0 + 4096 > mib(ceiling));
            cornered = cornered.or_else(|| (stuck && rig.plant.stat.file.0 < mib(4)).then_some(rig.plant.now));
            if rig.failed_at.is_some() || rig.plant.is_dead {
                break;
            }
        }
        if let Some(at) = rig.failed_at {
            let since = at - cornered.unwrap_or(at);
            prop_assert!(since <= 5_000_000_000, "{} ms\n{}", since / 1_000_000, rig.log);
        } else {
            prop_assert!(rig.plant.is_dead, "{}", rig.log);
        }
    }

    #[test]
    fn a_reader_is_never_failed_and_costs_little(
        rate in 16..3000_u64,
        need in 1..24_u64,
        ceiling in prop_oneof![Just(64), Just(66), 70..1000_u64],
        pause in 0..200_u64,
    ) {
        let mut rig = Rig::new(&format!("64M..{ceiling}M"), plenty());
        rig.run(20, Demand { need_rate: mib(2000), need_most: mib(need), ..Demand::default() });
        for _ in 0..10 {
            rig.run(1000 - pause, Demand { cache_rate: mib(rate), ..Demand::default() });
            rig.run(pause, Demand::default());
        }
        prop_assert_eq!(rig.failed_at, None, "{}", rig.log);
        prop_assert!(rig.workload.granted() <= Bytes::mib(64 + 48), "{}", rig.log);
        prop_assert!(rig.writes <= 8 && rig.details <= 60, "{} writes, {} details\n{}", rig.writes, rig.details, rig.log);
        prop_assert!(rig.looks <= 1500, "{} looks", rig.looks);
    }

    #[test]
    fn a_reader_with_any_need_is_held_in_the_end(rate in 16..3000_u64, need in 4..400_u64, floor in 4..64_u64) {
        let mut rig = Rig::new(&format!("{floor}M..4G"), plenty()).with_passes();
        let demand = Demand { need_rate: mib(64), need_most: mib(need), cache_rate: mib(rate), ..Demand::default() };
        rig.run(20_000, demand);
        let before = rig.writes;
        rig.run(10_000, demand);
        prop_assert!(rig.writes <= before + 2, "{} writes more\n{}", rig.writes - before, rig.log);
    }

    #[test]
    fn a_grower_is_never_delayed_nor_killed(rate in 16..2048_u64, floor in 64..256_u64) {
        let mut rig = Rig::new(&format!("{floor}M..4G"), plenty());
        rig.run(2000, Demand { need_rate: mib(rate), need_most: mib(1000), ..Demand::default() });
        prop_assert!(!rig.plant.is_dead, "{}", rig.log);
        prop_assert!(rig.plant.asleep_ns <= 40_000_000, "{} ms asleep\n{}", rig.plant.asleep_ns / 1_000_000, rig.log);
        prop_assert!(rig.writes <= 120, "{} writes\n{}", rig.writes, rig.log);
    }
}
