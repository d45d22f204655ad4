//! `step`, `observe`, `plan`, `settle`, `undo` and `commit` never allocate: they run on the control thread.

#![expect(unsafe_code, reason = "an allocator can only be counted by being one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bellows_policies::ladder::{Grip, Ladder, LadderLaw, Leases, Waiter};
use bellows_policies::squeeze::Round;
use bellows_policies::{
    Base, Budget, Bytes, CpuLaw, CpuPlan, CpuSample, CpuWorkload, Cpus, Detail, Grant, Instant, Law,
    MemoryEvents, MemoryStat, NodeGuard, NodeLaw, Plan, Pressure, Sample, TenantBounds, Verb, Workload, cpu,
    launch, plan, settle, step, undo,
};

struct Counting;

thread_local! {
    // Per thread, since the test harness allocates on threads of its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_turn_does_not_allocate() {
    let mut budget = Budget::new(Bytes::mib(600), Bytes::ZERO);
    // Slack and cold memory are looked for within the test's seconds.
    let law = Law {
        hold_forget_ms: 500,
        slack_hold_ms: 200,
        slack_grace_ms: 0,
        reclaim_hold_ms: 200,
        reclaim_grace_ms: 0,
        reclaim_short_ms: 100,
        reclaim_long_ms: 300,
        reclaim_period_ms: 100,
        ..Law::default()
    };
    let mut workload = Workload::new("32M..512M".parse().unwrap(), law);
    let first = launch(&workload, &mut budget).unwrap();
    settle(&first, &mut budget);
    let mut events = MemoryEvents::default();
    let mut detail = Detail { threads: 4, ..Detail::default() };
    let (mut writes, mut shrinks, mut reclaims, mut holds) = (0_u64, 0_u64, 0_u64, 0_u64);

    let before = ALLOCATIONS.get();
    for turn in 1..20_000_u64 {
        let at = Instant(turn * 2_000_000);
        if turn % 2_500 == 0 {
            // As the slow lane would, which lowers what is no longer used.
            let low = workload.launch_limits();
            budget.give_back(None, workload.granted().saturating_sub(low.high));
            workload.commit(low, at);
        }
        // Grower, reader, stall and fall by turns, so that every path is walked.
        let (need, current) = match turn / 2_500 % 4 {
            0 => (turn % 2_500 / 4, turn % 2_500 / 4),
            1 => (8, workload.limits().high.0 >> 20),
            2 => (700, (workload.limits().high.0 >> 20) + 2),
            _ => (8, 100),
        };
        events.high += u64::from(Bytes::mib(current) >= workload.limits().high);
        let step = step(&mut workload, &Sample { at, current: Bytes::mib(current), events });
        let plan = plan(&workload, step.decision, &mut budget);
        match plan {
            Plan::Write { .. } if turn % 7 == 3 => {
                undo(&plan, &mut budget);
                workload.shrink_refused(at);
            }
            Plan::Write { verb, to, .. } => {
                writes += 1;
                shrinks += u64::from(verb == Verb::Shrink);
                settle(&plan, &mut budget);
                workload.commit(to, at);
            }
            Plan::Reclaim { .. } => {
                reclaims += 1;
                workload.reclaimed(at);
            }
            Plan::Nothing { .. } => holds += 1,
        }
        if step.read_detail {
            let need = Bytes::mib(need).min(Bytes::mib(current));
            let file = Bytes::mib(current).saturating_sub(need);
            let stat = MemoryStat { anon: need, file, inactive_file: file, ..MemoryStat::default() };
            let waits = if turn / 2_500 % 4 == 3 { 0 } else { at.0 / 2000 };
            let pressure = Pressure { some_us: waits, full_us: waits };
            detail = Detail { at, stat, pressure, ..detail };
            workload.observe(&detail);
        }
        black_box(&workload);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(writes > 20 && holds > 1000, "{writes} writes, {holds} holds");
    assert!(shrinks > 4 && reclaims > 4, "{shrinks} shrinks, {reclaims} reclaims");
}

/// Rounds over a thousand workloads of three priorities, and a ladder that is climbed and descended.
#[test]
fn squeezing_does_not_allocate() {
    let mut round = Round::default();
    let mut ladder = Ladder::new(LadderLaw::default());
    let mut leases = [Leases::default(); 100];
    let spare = |n: u64| Bytes::mib(n % 5);
    let members = || {
        (0..1000)
            .map(|n| (100 * (1 + u32::try_from(n % 3).unwrap()), 1 + u32::try_from(n % 7).unwrap(), spare(n)))
    };
    let (mut given, mut held, mut eased) = (Bytes::ZERO, 0_u64, 0_u64);
    let mut turn = |turn: u64| {
        let now = Instant(turn * 50_000_000);
        round.begin(Bytes::mib(1 + turn % 700));
        members().for_each(|(priority, weight, spare)| round.count(priority, weight, spare));
        let _ = round.close();
        given = members()
            .map(|(priority, weight, spare)| round.part(priority, weight, spare))
            .fold(given, Bytes::saturating_add);
        let waiter = Waiter { who: turn / 1000, priority: 300 };
        if (turn / 1000).is_multiple_of(2) {
            ladder.refused(waiter, now);
            if let Some(grip) = ladder.unmet(waiter.who, now) {
                let order = ladder.next_order();
                leases[usize::try_from(order % 100).unwrap()].take(grip, &LadderLaw::DEFAULT, order, now);
                held += 1;
                let _ = ladder.tried(grip, u32::from(!order.is_multiple_of(3)), now);
            }
        }
        for lease in &mut leases {
            for grip in Grip::ALL {
                if lease.of(grip).is_some_and(|lease| ladder.is_over(grip, &lease, 100, now)) {
                    eased += u64::from(lease.give_back(grip, now).is_some());
                }
            }
        }
    };
    turn(1);
    let before = ALLOCATIONS.get();
    (2..6000).for_each(&mut turn);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(given > Bytes::GIB && held > 20 && eased > 20, "{given}, {held} held, {eased} eased");
}

/// A thousand workloads of ten tenants, all in line, and room that comes and goes: a MiB serves one, much serves many.
#[test]
fn sharing_does_not_allocate() {
    let mut budget = Budget::new(Bytes::mib(4000), Bytes::ZERO);
    let bounds = TenantBounds { guarantee: Bytes::mib(10), cap: Some(Bytes::mib(900)), weight: 100 };
    let tenants: Vec<_> = (0..10).map(|_| budget.open()).collect();
    for tenant in &tenants {
        budget.set_bounds(*tenant, bounds).unwrap();
    }
    let seats: Vec<_> = (0..1000)
        .zip((1..=7).cycle())
        .map(|(n, weight)| budget.join(tenants[n % 10], Base::ALL[n % 3], weight))
        .collect();
    let mut held = vec![Bytes::ZERO; seats.len()];
    let mut served = 0_u64;

    let before = ALLOCATIONS.get();
    for turn in 0..4000_usize {
        let index = turn * 7 % seats.len();
        let (seat, back) = (seats[index], Bytes::mib([0, 1, 2, 200][turn % 4]).min(held[index]));
        budget.give_back(Some(seat), back);
        held[index] = held[index].saturating_sub(back);
        let mut next = Some(seat);
        while let Some(seat) = next {
            let index = seats.iter().position(|s| *s == seat).unwrap();
            match budget.request(Some(seat), held[index], Bytes::mib(300)) {
                Grant::Full => held[index] = held[index].max(Bytes::mib(300)),
                Grant::Partial(high) => held[index] = high,
                Grant::Deferred(_) | Grant::Infeasible(_) => {}
            }
            budget.served(seat);
            next = budget.serve();
            served += u64::from(next.is_some());
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(served > 1000 && budget.waiting() > 500, "{served} served, {} wait", budget.waiting());
}

#[test]
fn a_look_at_the_cpu_does_not_allocate() {
    let mut guard = NodeGuard::new(Cpus::milli(4000), NodeLaw::default());
    let mut workload = CpuWorkload::new("0.1..4".parse().unwrap(), CpuLaw::default());
    let mut sample = CpuSample::default();
    let (mut grows, mut shrinks) = (0_u64, 0_u64);

    let before = ALLOCATIONS.get();
    for turn in 1..20_000_u64 {
        // Ten seconds throttled, ten seconds almost idle; every other time on a node that is overloaded.
        let (throttled, used) =
            if turn / 100 % 2 == 0 { (1, workload.quota().quota_us()) } else { (0, 1000) };
        sample = CpuSample {
            at: Instant(turn * 100_000_000),
            usage_us: sample.usage_us + used,
            nr_periods: turn,
            nr_throttled: sample.nr_throttled + throttled,
            throttled_us: turn,
        };
        guard.observe(sample.at, Cpus::milli(if turn / 200 % 2 == 0 { 1000 } else { 3600 }));
        if guard.is_shedding() {
            guard.share_out(std::iter::once(&workload));
        }
        let step = cpu::step(&mut workload, &sample);
        if let CpuPlan::Write { from, to, reason, .. } = cpu::plan(&workload, step.decision, &mut guard) {
            grows += u64::from(to > from);
            shrinks += u64::from(to < from);
            workload.commit(to, reason, sample.at);
        }
        black_box(&workload);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(grows > 20 && shrinks > 20, "{grows} grows, {shrinks} shrinks");
}
