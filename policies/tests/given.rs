//! What is written for the sake of others, or of a policy, comes of its evidence too: squeezes and raised floors.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

mod plant;

use std::time::Duration;

use bellows_policies::memory::Spare;
use bellows_policies::squeeze::Rung;
use bellows_policies::{
    Budget, Bytes, Detail, Evidence, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Reason, Sample,
    Verb, Workload, launch, met, plan, settle, step,
};

const MIB: fn(u64) -> Bytes = Bytes::mib;
const NOW: Instant = Instant(2_000_000_000);

/// A workload at rest, of 60 MiB and 140 MiB of cache, of which 100 MiB are cold and the rest is a need.
fn rested(high: u64) -> (Workload, Budget) {
    let found = Limits { high: MIB(high), max: MIB(high + 40) };
    let sample = |at| Sample { at, current: MIB(200), events: MemoryEvents::default() };
    let bounds = "64M..4G".parse().unwrap();
    let mut workload = Workload::adopt(bounds, Law::default(), found, sample(Instant(0)));
    let _ = step(&mut workload, &sample(NOW));
    let (anon, locked) = (MIB(60), MIB(40));
    let stat =
        MemoryStat { anon, active_anon: anon, file: MIB(140), unevictable: locked, ..MemoryStat::default() };
    let stat = MemoryStat { inactive_file: MIB(100), ..stat };
    workload.observe(&Detail { at: NOW, stat, threads: 4, ..Detail::default() });
    let mut budget = Budget::new(MIB(8192), Bytes::ZERO);
    budget.adopt(None, Bytes::ZERO, workload.granted());
    (workload, budget)
}

#[test]
fn a_squeeze_says_what_was_asked_and_what_could_be_spared() {
    // Slack ends above use, the room of a shrink included; cache may be taken below it, a chunk at a time.
    for (rung, high, spare, asked, reason) in [
        (Rung::Slack, 400, 180, 30, Reason::SlackSqueezed),
        (Rung::Reclaim, 210, 32, 20, Reason::CacheSqueezed),
    ] {
        let (mut workload, mut budget) = rested(high);
        assert_eq!(workload.spare(rung, NOW), Spare::Known(MIB(spare)), "{reason:?}");
        let decision = workload.squeeze(rung, MIB(asked), NOW);
        let planned = plan(&workload, decision, &mut budget);
        plant::replays(&planned, workload.law());
        let Plan::Write { verb: Verb::Shrink, to, reason: told, clamped: false, evidence, .. } = planned
        else {
            panic!("{planned:?}")
        };
        assert_eq!((to.high, told), (MIB(high - asked), reason));
        let Evidence { asked: told, spare: could, cold, need, .. } = evidence;
        assert_eq!((told, could, cold, need), (MIB(asked), MIB(spare), MIB(100), MIB(100)));
    }
}

/// Chunk after chunk as fast as it is asked, since a fast grower is fed by few; until it has missed what it gave.
#[test]
fn who_has_given_gives_again_until_it_was_raised() {
    let (mut workload, mut budget) = rested(210);
    let at = |ms: u64| NOW.plus(Duration::from_millis(ms));
    for (ms, spare) in [(0, 32), (50, 32), (100, 32), (150, 4)] {
        assert_eq!(workload.spare(Rung::Reclaim, at(ms)), Spare::Known(MIB(spare)), "after {ms} ms");
        let decision = workload.squeeze(Rung::Reclaim, MIB(spare), at(ms));
        let planned = plan(&workload, decision, &mut budget);
        let Plan::Write { to, .. } = planned else { panic!("{planned:?}") };
        assert_eq!(workload.spare(Rung::Reclaim, at(ms)), Spare::Known(Bytes::ZERO), "one at a time");
        settle(&planned, &mut budget);
        workload.commit(to, at(ms + 10));
    }
    workload.commit(Limits { high: MIB(210), max: MIB(250) }, at(200));
    assert_eq!(workload.spare(Rung::Slack, at(1150)), Spare::Known(Bytes::ZERO), "it was raised");
    assert_eq!(workload.spare(Rung::Reclaim, at(1250)), Spare::AfterDetail);
}

/// Cache that the kernel could not take is not given up, and not asked for again before it has been looked for.
#[test]
fn what_could_not_be_taken_is_kept() {
    let squeeze = || {
        let (mut workload, mut budget) = rested(210);
        let decision = workload.squeeze(Rung::Reclaim, MIB(30), NOW);
        let planned = plan(&workload, decision, &mut budget);
        (workload, budget, planned)
    };
    // Use that was left, MiB, and where `memory.high` ends.
    for (left, high) in [(150, 180), (180, 180), (181, 181), (200, 200), (300, 210)] {
        let (workload, mut budget, planned) = squeeze();
        let met = met(planned, workload.law(), MIB(left));
        plant::replays(&met, workload.law());
        let Plan::Write { to, .. } = met else { panic!("{met:?}") };
        assert_eq!(to.high, MIB(high), "{left}");
        settle(&met, &mut budget);
        assert_eq!(budget.granted(), MIB(high), "what was not taken is charged on");
    }
    let (mut workload, _, planned) = squeeze();
    let Plan::Write { to, .. } = met(planned, workload.law(), MIB(200)) else { panic!("{planned:?}") };
    workload.commit(to, NOW);
    workload.found_warm();
    let soon = NOW.plus(Duration::from_millis(500));
    assert_eq!(workload.spare(Rung::Reclaim, soon), Spare::Known(Bytes::ZERO));
    assert_eq!(workload.spare(Rung::Reclaim, NOW.plus(Duration::from_secs(2))), Spare::AfterDetail);
}

#[test]
fn a_raised_floor_replays_as_far_as_there_is_room() {
    for (capacity, high, granted) in [(1024, 128, None), (100, 100, Some(MIB(100)))] {
        let mut workload = Workload::new("64M..1G".parse().unwrap(), Law::default());
        let mut budget = Budget::new(MIB(capacity), Bytes::ZERO);
        settle(&launch(&workload, &mut budget).unwrap(), &mut budget);
        // What it uses, since no grow jumps far above it.
        let _ = step(&mut workload, &Sample { at: NOW, current: MIB(60), events: MemoryEvents::default() });
        assert_eq!(workload.to_floor(), None, "it stands there");
        workload.govern("128M..1G".parse().unwrap(), Law::default());
        let planned = plan(&workload, workload.to_floor().unwrap(), &mut budget);
        plant::replays(&planned, workload.law());
        let Plan::Write { verb: Verb::Grow, to, reason: Reason::PolicyChanged, evidence, .. } = planned
        else {
            panic!("{planned:?}")
        };
        assert_eq!((to.high, evidence.granted), (MIB(high), granted));
        assert_eq!(evidence.free, Some(MIB(capacity - 64)));
    }
}
