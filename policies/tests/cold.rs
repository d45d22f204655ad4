//! Single turns of reclaim: each gate open and shut, how much is taken, and what becomes of a waste.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use bellows_policies::{
    Budget, Bytes, Detail, Instant, Law, Limits, MemoryEvents, MemoryStat, Plan, Pressure, Reason, Sample,
    Workload, plan, step,
};

const MIB: fn(u64) -> Bytes = Bytes::mib;

/// What the kernel shows of one workload, and what it makes of a reclaim.
#[derive(Clone, Copy)]
struct World {
    anon: Bytes,
    cache: Bytes,
    hits: u64,
    stat: MemoryStat,
    /// Microseconds waited per second.
    memory_us: u64,
    io_us: u64,
    /// Pages of a hundred taken that come back at once, and of a hundred looked at that are taken.
    returns: u64,
    taken: u64,
}

fn world() -> World {
    let stat = MemoryStat::default();
    World { anon: MIB(1000), cache: MIB(1000), hits: 0, stat, memory_us: 0, io_us: 0, returns: 0, taken: 100 }
}

fn found(law: &Law) -> Workload {
    let limits = Limits { high: MIB(2200), max: MIB(2310) };
    let sample = Sample { at: Instant(0), current: MIB(2000), ..Sample::default() };
    Workload::adopt("64M..4G".parse().unwrap(), *law, limits, sample)
}

/// A look each second from `from` to `to`, all plans carried out: the second, size and reason of each reclaim, and the
/// number of details.
fn run(
    workload: &mut Workload,
    world: &mut World,
    seconds: std::ops::Range<u64>,
) -> (Vec<(u64, u64, Reason)>, u64) {
    let mut budget = Budget::new(MIB(8192), Bytes::ZERO);
    budget.adopt(None, Bytes::ZERO, workload.granted());
    let (mut reclaims, mut details) = (Vec::new(), 0);
    for second in seconds {
        let at = Instant(second * 1_000_000_000);
        let current = world.anon.saturating_add(world.cache);
        let events = MemoryEvents { high: world.hits, ..MemoryEvents::default() };
        let sample = Sample { at, current, events };
        let mut look = step(workload, &sample);
        if look.read_detail {
            details += 1;
            let stat =
                MemoryStat { anon: world.anon, file: world.cache, inactive_file: world.cache, ..world.stat };
            let waited = |us: u64| Pressure { some_us: us * second, full_us: 0 };
            let (pressure, io) = (waited(world.memory_us), waited(world.io_us));
            workload.observe(&Detail { at, stat, pressure, io, threads: 4, ..Detail::default() });
            look = step(workload, &sample);
        }
        match plan(workload, look.decision, &mut budget) {
            Plan::Reclaim { bytes, reason, .. } => {
                let pages = bytes.0 / 4096;
                world.cache = world.cache.saturating_sub(Bytes(bytes.0 / 100 * world.taken));
                world.stat.pgscan += pages;
                world.stat.pgsteal += pages * world.taken / 100;
                world.stat.workingset_activate_file += pages * world.returns / 100;
                workload.reclaimed(at);
                reclaims.push((second, bytes.0 >> 10, reason));
            }
            Plan::Write { to, .. } => workload.commit(to, at),
            Plan::Nothing { .. } => {}
        }
    }
    (reclaims, details)
}

#[test]
fn a_little_is_taken_every_six_seconds_from_two_minutes_on() {
    let (reclaims, details) = run(&mut found(&Law::default()), &mut world(), 1..151);
    // A minute of grace, and one in which pressure comes to be known: details each 6 s.
    let expected: Vec<u64> = (0..6).map(|n| 120 + 6 * n).collect();
    assert_eq!(reclaims.iter().map(|(second, ..)| *second).collect::<Vec<_>>(), expected);
    assert_eq!(reclaims[0], (120, 1024, Reason::ColdReclaimed), "0.05 % of 2000 MiB");
    assert_eq!(details, 16);
}

#[test]
fn each_gate_shuts() {
    let law = Law::default();
    let open = world();
    let table = [
        ("none", law, open, true),
        ("memory is waited for", law, World { memory_us: 1000, ..open }, false),
        ("less", law, World { memory_us: 400, ..open }, true),
        ("I/O is waited for", law, World { io_us: 1000, ..open }, false),
        ("nothing to give", law, World { anon: MIB(1950), cache: MIB(50), ..open }, false),
        ("switched off", Law { reclaim_factor: 0.0, ..law }, open, false),
        ("its floor", law, World { anon: MIB(10), cache: MIB(54), ..open }, false),
    ];
    for (name, law, mut world, opens) in table {
        let mut workload = found(&law);
        let (reclaims, details) = run(&mut workload, &mut world, 1..500);
        assert_eq!(!reclaims.is_empty(), opens, "{name}: {reclaims:?}");
        assert!(details <= 75, "{name}: {details} details");
    }
}

#[test]
fn it_takes_less_the_more_is_waited_and_never_much() {
    let law = Law::default();
    for (name, law, memory_us, kib) in [
        ("nobody waits", law, 0, 1024),
        ("0.05 %, of 12 s counted as 10", law, 500, 408),
        ("a node under pressure", Law { reclaim_factor: 0.01, ..law }, 0, 20_480),
        ("no more than a bound", Law { reclaim_factor: 0.01, reclaim_max: MIB(4), ..law }, 0, 4096),
    ] {
        let mut world = World { memory_us, ..world() };
        let (reclaims, _) = run(&mut found(&law), &mut world, 1..130);
        assert_eq!(reclaims[0].1, kib, "{name}");
    }
}

#[test]
fn a_waste_shuts_the_gate_for_longer_and_longer_and_a_probe_opens_it() {
    for (name, bad) in [
        ("pages come back", World { returns: 2, ..world() }),
        ("pages are looked at in vain", World { taken: 50, ..world() }),
        ("nothing is found", World { taken: 0, ..world() }),
    ] {
        let mut workload = found(&Law::default());
        let mut world = bad;
        let (reclaims, details) = run(&mut workload, &mut world, 1..1500);
        let told: Vec<_> = reclaims.iter().map(|(at, _, reason)| (*at, *reason)).collect();
        // Judged with the next detail, 6 s later; then twice the hold of 30 s, and twice that.
        let probe = Reason::ReclaimProbed;
        assert_eq!(told[0], (120, Reason::ColdReclaimed), "{name}");
        assert_eq!(told[1..4], [(186, probe), (312, probe), (558, probe)], "{name}");
        assert!(reclaims[1..].iter().all(|(_, kib, _)| *kib == 1024), "{name}");
        assert!(told.len() <= 6 && details <= 30, "{name}: {told:?}, {details} details");
        world.returns = 0;
        world.taken = 100;
        let (reclaims, _) = run(&mut workload, &mut world, 1500..3000);
        assert!(reclaims.len() > 20, "{name}: {}", reclaims.len());
        assert_eq!(reclaims[0].2, probe, "{name}");
        assert_eq!(reclaims[1].2, Reason::ColdReclaimed, "{name}");
    }
}

#[test]
fn a_hit_stops_it_for_half_a_minute() {
    let mut workload = found(&Law::default());
    let mut world = world();
    let _ = run(&mut workload, &mut world, 1..122);
    world.hits += 1;
    let (reclaims, _) = run(&mut workload, &mut world, 122..170);
    assert_eq!(reclaims[0].0, 152, "{reclaims:?}");
}
