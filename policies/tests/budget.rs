//! The budget by examples: who is granted what, what is kept for whom, who is refused at which level, and who is served when
//! room comes.

use bellows_policies::budget::{BoundsError, LEAST_PART};
use bellows_policies::{
    Base, Budget, Bytes, Grant, Level, Overcommit, Reason, Refusal, Seat, TenantBounds, TenantId,
};
use bellows_policies::{Instant, Law, MemoryEvents, Plan, Sample, Workload, launch, plan, settle, step};

const MIB: fn(u64) -> Bytes = Bytes::mib;

fn bounds(guarantee: u64, cap: Option<u64>, weight: u32) -> TenantBounds {
    TenantBounds { guarantee: MIB(guarantee), cap: cap.map(MIB), weight }
}

/// A budget of so many MiB, and tenants.
fn node<const N: usize>(pool: u64, tenants: [TenantBounds; N]) -> (Budget, [TenantId; N]) {
    let mut budget = Budget::new(MIB(pool), Bytes::ZERO);
    let tenants = tenants.map(|bounds| open(&mut budget, bounds).expect("bounds that can be kept"));
    (budget, tenants)
}

fn open(budget: &mut Budget, bounds: TenantBounds) -> Result<TenantId, BoundsError> {
    let tenant = budget.open();
    budget.set_bounds(tenant, bounds).inspect_err(|_| budget.close(tenant)).map(|()| tenant)
}

fn seat(budget: &mut Budget, tenant: TenantId, floor: u64) -> Seat {
    let seat = budget.join(tenant, Base::Standard, 100);
    budget.admit(Some(seat), MIB(floor)).expect("a floor that fits");
    seat
}

/// Lets everybody whose turn it is ask for `want` MiB beyond nothing; what each was given.
fn serve(budget: &mut Budget, want: u64) -> Vec<(Seat, Grant)> {
    let mut given = Vec::new();
    while let Some(seat) = budget.serve() {
        given.push((seat, budget.request(Some(seat), Bytes::ZERO, MIB(want))));
        budget.served(seat);
    }
    given
}

#[test]
fn pool_is_capacity_less_reserve_times_overcommit() {
    let budget = Budget::new(MIB(1000), MIB(100));
    assert_eq!(budget.pool(), MIB(900));
    let sold = budget.clone().with_overcommit(Overcommit { batch: 3.0, ..Overcommit::default() });
    assert_eq!((sold.pool_of(Base::Latency), sold.pool_of(Base::Batch)), (MIB(900), MIB(2700)));
    assert_eq!(budget.with_overcommit(Overcommit::same(f64::NAN)).pool_of(Base::Batch), Bytes::ZERO);
    assert_eq!(Budget::new(MIB(1), MIB(2)).pool(), Bytes::ZERO);
}

#[test]
fn floors_are_admitted_whole_or_refused_at_their_level() {
    let (mut budget, [acme, other]) = node(100, [bounds(0, Some(50), 100), bounds(20, None, 100)]);
    let first = seat(&mut budget, acme, 40);
    let second = budget.join(acme, Base::Standard, 100);
    let deferred = |level, floor, free| Err(Refusal::Deferred { level, floor: MIB(floor), free: MIB(free) });
    let never = |level, floor, most| Err(Refusal::Infeasible { level, floor: MIB(floor), most: MIB(most) });
    assert_eq!(budget.admit(Some(second), MIB(20)), deferred(Level::Tenant, 20, 10));
    assert_eq!(budget.admit(Some(second), MIB(51)), never(Level::Tenant, 51, 50));
    let third = budget.join(other, Base::Standard, 100);
    assert_eq!(budget.admit(Some(third), MIB(70)), deferred(Level::Node, 70, 60));
    assert_eq!(budget.admit(Some(third), MIB(101)), never(Level::Node, 101, 100));
    assert_eq!(budget.admit(None, MIB(81)), never(Level::Node, 81, 80));
    assert_eq!((budget.granted(), budget.tenant(acme).floors[1]), (MIB(40), MIB(40)));
    budget.leave(first);
    assert_eq!((budget.granted(), budget.tenant(acme).floors[1]), (Bytes::ZERO, Bytes::ZERO));
    insta::assert_snapshot!(budget.admit(Some(second), MIB(51)).unwrap_err(),
        @"a floor of 51 MiB can never fit: the tenant's cap is 50 MiB");
    insta::assert_snapshot!(budget.admit(Some(third), MIB(101)).unwrap_err(),
        @"a floor of 101 MiB can never fit: the node's budget has 100 MiB for it");
}

#[test]
fn without_tenants_grants_are_full_partial_later_or_never() {
    let mut budget = Budget::new(MIB(100), Bytes::ZERO);
    assert_eq!(budget.request(None, MIB(0), MIB(64)), Grant::Full);
    assert_eq!(budget.request(None, MIB(64), MIB(64)), Grant::Full, "nothing more is always there");
    assert_eq!(budget.request(None, MIB(64), MIB(128)), Grant::Partial(MIB(100)));
    assert_eq!(budget.request(None, MIB(20), MIB(30)), Grant::Deferred(Level::Node));
    assert_eq!(budget.request(None, MIB(100), MIB(101)), Grant::Infeasible(Level::Node));
    budget.give_back(None, MIB(40));
    assert_eq!((budget.granted(), budget.free(), budget.waiting()), (MIB(60), MIB(40), 0));
    budget.adopt(None, Bytes::ZERO, MIB(90));
    assert_eq!(budget.free(), Bytes::ZERO, "what is adopted may exceed the pool");
    assert_eq!(budget.request(None, MIB(10), MIB(20)), Grant::Deferred(Level::Node));
}

#[test]
fn guarantees_that_cannot_be_kept_are_refused_with_their_excess() {
    let (mut budget, [acme]) = node(100, [bounds(60, None, 100)]);
    let error = open(&mut budget, bounds(50, None, 100)).unwrap_err();
    assert_eq!(error, BoundsError::GuaranteesExceedPool { guaranteed: MIB(110), pool: MIB(100) });
    insta::assert_snapshot!(error, @"the guarantees add up to 110 MiB, 10 MiB more than the budget of 100 MiB");
    assert_eq!(budget.set_bounds(acme, bounds(100, None, 100)), Ok(()), "its own is not counted twice");
    assert!(matches!(open(&mut budget, bounds(20, Some(10), 1)), Err(BoundsError::GuaranteeAboveCap { .. })));
    assert_eq!(open(&mut budget, bounds(0, None, 0)), Err(BoundsError::NoWeight));
    budget.close(acme);
    assert_eq!(open(&mut budget, bounds(100, None, 1)), Ok(acme), "its place is taken again");
}

#[test]
fn a_guarantee_is_kept_from_a_greedy_neighbour() {
    let (mut budget, [acme, greedy]) = node(100, [bounds(40, None, 100), bounds(0, None, 100)]);
    let taker = seat(&mut budget, greedy, 10);
    assert_eq!(budget.request(Some(taker), MIB(10), MIB(90)), Grant::Partial(MIB(60)));
    let late = seat(&mut budget, acme, 10);
    assert_eq!(budget.request(Some(late), MIB(10), MIB(30)), Grant::Full, "past those who wait");
    assert_eq!(budget.request(Some(late), MIB(30), MIB(50)), Grant::Partial(MIB(40)));
    budget.give_back(Some(late), MIB(20));
    assert_eq!(serve(&mut budget, 20), [(late, Grant::Full)], "what it gave back is its own");
}

/// What each class may be given while others are oversold.
#[test]
fn a_class_is_given_nothing_while_the_node_is_above_its_pool() {
    let overcommit = Overcommit { latency: 1.0, standard: 1.0, batch: 2.0 };
    let mut budget = Budget::new(MIB(100), Bytes::ZERO).with_overcommit(overcommit);
    let [tenant, promised] = [0, 30].map(|mib| open(&mut budget, bounds(mib, None, 100)).unwrap());
    let [batch, second] = [(); 2].map(|()| budget.join(tenant, Base::Batch, 100));
    let [latency, safe] = [tenant, promised].map(|tenant| budget.join(tenant, Base::Latency, 100));
    assert_eq!(budget.request(Some(batch), MIB(0), MIB(300)), Grant::Partial(MIB(170)));
    assert_eq!(budget.request(Some(second), MIB(0), MIB(50)), Grant::Deferred(Level::Node));
    assert_eq!(budget.request(Some(latency), MIB(0), MIB(10)), Grant::Deferred(Level::Node));
    assert_eq!(budget.request(Some(safe), MIB(0), MIB(20)), Grant::Full, "a guarantee holds for any class");
    budget.give_back(Some(batch), MIB(110));
    // 60 for batch and 20 for the guaranteed are granted, and 10 still owed: 10 of the pool of 100 are left.
    assert_eq!(budget.serve(), Some(latency), "the smallest pool is served first");
    assert_eq!(budget.request(Some(latency), MIB(0), MIB(10)), Grant::Full);
    budget.served(latency);
    assert_eq!(serve(&mut budget, 50), [(second, Grant::Full)]);
}

#[test]
fn room_is_shared_by_weight_of_tenant_and_then_of_workload() {
    let (mut budget, [holder, one, three]) =
        node(120, [bounds(0, None, 1), bounds(0, None, 100), bounds(0, None, 300)]);
    let full = seat(&mut budget, holder, 120);
    let light = budget.join(one, Base::Standard, 100);
    let [half, whole] = [50, 100].map(|weight| budget.join(three, Base::Batch, weight));
    for seat in [light, half, whole] {
        assert_eq!(budget.request(Some(seat), MIB(0), MIB(110)), Grant::Deferred(Level::Node));
    }
    assert_eq!(budget.serve(), None);
    budget.give_back(Some(full), MIB(80));
    let given = serve(&mut budget, 110);
    let expected = [(light, 20), (half, 20), (whole, 40)].map(|(seat, mib)| (seat, Grant::Partial(MIB(mib))));
    assert_eq!(given, expected);
    assert_eq!((budget.waiting(), budget.tenant(three).waiting()), (3, 2), "they still want the rest");
}

#[test]
fn who_wants_little_is_filled_and_leaves_the_rest_to_others() {
    let (mut budget, [holder, other]) = node(100, [bounds(0, None, 1), bounds(0, None, 100)]);
    let full = seat(&mut budget, holder, 100);
    let [small, large] = [(); 2].map(|()| budget.join(other, Base::Standard, 100));
    for (seat, want) in [(small, 5), (large, 90)] {
        assert_eq!(budget.request(Some(seat), MIB(0), MIB(want)), Grant::Deferred(Level::Node));
    }
    budget.give_back(Some(full), MIB(50));
    assert_eq!(budget.serve(), Some(small));
    assert_eq!(budget.request(Some(small), MIB(0), MIB(5)), Grant::Full);
    budget.served(small);
    assert_eq!(serve(&mut budget, 90), [(large, Grant::Partial(MIB(45)))]);
}

/// A part too small for all goes to who has waited longest, and nobody who comes later gets past them.
#[test]
fn who_has_waited_longest_is_served_first() {
    let (mut budget, [holder, other]) = node(100, [bounds(0, None, 1), bounds(0, None, 100)]);
    let full = seat(&mut budget, holder, 100);
    let waiters = [1, 1000, 1].map(|weight| budget.join(other, Base::Standard, weight));
    let late = budget.join(holder, Base::Standard, 1000);
    for seat in waiters {
        assert_eq!(budget.request(Some(seat), MIB(0), MIB(90)), Grant::Deferred(Level::Node));
    }
    for seat in waiters {
        budget.give_back(Some(full), LEAST_PART);
        assert_eq!(
            budget.request(Some(late), MIB(0), MIB(1)),
            Grant::Deferred(Level::Node),
            "it was freed for them"
        );
        budget.withdraw(Some(late));
        assert_eq!(serve(&mut budget, 90), [(seat, Grant::Partial(LEAST_PART))]);
    }
    // Crumbs are left to add up.
    budget.give_back(Some(full), Bytes(LEAST_PART.0 / 2));
    assert_eq!(budget.serve(), None);
    assert_eq!(
        budget.request(Some(late), MIB(0), Bytes(LEAST_PART.0 / 4)),
        Grant::Deferred(Level::Node),
        "they would never add up"
    );
}

#[test]
fn who_waits_at_a_cap_keeps_nobody_else_waiting() {
    let (mut budget, [capped, other]) = node(100, [bounds(0, Some(10), 100), bounds(0, None, 100)]);
    let small = seat(&mut budget, capped, 10);
    let large = seat(&mut budget, other, 10);
    assert_eq!(budget.request(Some(small), MIB(10), MIB(20)), Grant::Infeasible(Level::Tenant));
    let second = budget.join(capped, Base::Standard, 100);
    assert_eq!(budget.request(Some(second), MIB(0), MIB(5)), Grant::Deferred(Level::Tenant));
    assert_eq!(budget.request(Some(large), MIB(10), MIB(50)), Grant::Full);
    assert_eq!((budget.serve(), budget.tenant(capped).waiting()), (None, 1));
    budget.set_bounds(capped, bounds(0, Some(13), 100)).unwrap();
    assert_eq!(serve(&mut budget, 5), [(second, Grant::Partial(MIB(3)))], "a raised cap is room");
    budget.leave(small);
    assert_eq!(serve(&mut budget, 2), [(second, Grant::Full)], "and so is an end");
}

/// Whoever has left, or wants nothing any more, is not offered anything, and keeps nothing.
#[test]
fn what_was_offered_and_not_taken_goes_to_the_next() {
    let (mut budget, [holder, other]) = node(100, [bounds(0, None, 1), bounds(0, None, 100)]);
    let full = seat(&mut budget, holder, 100);
    let [gone, idle, next] = [(); 3].map(|()| budget.join(other, Base::Standard, 100));
    for seat in [gone, idle, next] {
        assert_eq!(budget.request(Some(seat), MIB(0), MIB(60)), Grant::Deferred(Level::Node));
    }
    budget.give_back(Some(full), MIB(60));
    assert_eq!(budget.serve(), Some(gone));
    budget.leave(gone);
    assert_eq!(budget.serve(), Some(idle));
    budget.served(idle);
    assert_eq!(serve(&mut budget, 60), [(next, Grant::Full)], "more than its part, since nobody else waits");
    assert_eq!(budget.granted(), MIB(100));
}

/// The guard names the level, and the law asks at once when it is told that room has come.
#[test]
fn a_refused_workload_asks_again_when_its_turn_has_come() {
    let (mut budget, [acme]) = node(1000, [bounds(0, Some(80), 100)]);
    let other = seat(&mut budget, acme, 16);
    let workload = Workload::new("64M..512M".parse().unwrap(), Law::default());
    let mut workload = workload.seated(budget.join(acme, Base::Standard, 100));
    settle(&launch(&workload, &mut budget).unwrap(), &mut budget);
    let mut events = MemoryEvents::default();
    let mut look = |workload: &mut Workload, budget: &mut Budget, ms: u64| {
        events.high += 1;
        let sample = Sample { at: Instant(ms * 1_000_000), current: MIB(64), events };
        let decision = step(workload, &sample).decision;
        plan(workload, decision, budget)
    };
    let refused = look(&mut workload, &mut budget, 1000);
    assert!(matches!(refused, Plan::Nothing { reason: Reason::TenantDeferred }), "{refused:?}");
    let seat = workload.seat().unwrap();
    let waits = look(&mut workload, &mut budget, 1002);
    assert!(matches!(waits, Plan::Nothing { reason: Reason::BudgetDeferred }), "{waits:?}");
    assert_eq!(budget.tenant(acme).waiting(), 1, "a look in between keeps the place");
    budget.leave(other);
    assert_eq!(budget.serve(), Some(seat));
    workload.ask_again();
    let granted = look(&mut workload, &mut budget, 1004);
    budget.served(seat);
    assert!(matches!(granted, Plan::Write { to, .. } if to.high == MIB(80)), "{granted:?}");
    assert_eq!((budget.granted(), budget.waiting()), (MIB(80), 0));
}

#[test]
fn while_room_is_shared_others_have_what_the_line_leaves() {
    let (mut budget, [acme, other]) = node(300, [bounds(0, Some(100), 100), bounds(0, None, 100)]);
    let (first, second, third) =
        (seat(&mut budget, acme, 80), seat(&mut budget, acme, 1), seat(&mut budget, other, 1));
    assert_eq!(budget.request(Some(second), MIB(1), MIB(61)), Grant::Partial(MIB(20)));
    budget.give_back(Some(first), MIB(80));
    assert!(budget.is_sharing());
    // 278 are free, and 40 of them are for the one in line.
    assert_eq!(budget.request(Some(third), MIB(1), MIB(239)), Grant::Full);
    assert_eq!(budget.request(Some(third), MIB(239), MIB(240)), Grant::Deferred(Level::Node));
    budget.withdraw(Some(third));
    assert_eq!(serve(&mut budget, 40), [(second, Grant::Full)]);
}
