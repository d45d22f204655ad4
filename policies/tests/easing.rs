//! What holds while memory is taken back: nobody is killed, budgets add up, constant load comes to rest, and a load that
//! goes up and down is written for a few times a minute at most.

mod plant;

use bellows_policies::{Bytes, Law};
use plant::{Demand, Rig, mib, plenty};
use proptest::prelude::*;

/// Most instants within any span of `span_ms`.
fn densest(instants: &[u64], span_ms: u64) -> usize {
    let span = span_ms * 1_000_000;
    let within = |from: usize| instants[from..].iter().take_while(|at| **at < instants[from] + span).count();
    (0..instants.len()).map(within).max().unwrap_or(0)
}

/// Two shrinks in a hold of 10 s would be 12 a minute; holds double, and peaks come to cover whole periods.
#[test]
fn a_load_that_goes_up_and_down_is_written_for_a_few_times_a_minute() {
    for (period, rate) in
        [(1, 1536), (2, 64), (5, 64), (10, 1536), (30, 64), (60, 64), (120, 1536), (300, 512)]
    {
        let mut rig = Rig::new("64M..4G", plenty()).with_passes();
        let rates = Demand { need_rate: mib(rate), free_rate: mib(rate), ..Demand::default() };
        for _ in 0..3600 / period {
            rig.run(period * 500, Demand { need_most: mib(1000), ..rates });
            rig.run(period * 500, Demand { need_most: mib(300), ..rates });
        }
        let (worst, shrinks, writes) = (densest(&rig.shrinks, 60_000), rig.shrinks.len(), rig.writes);
        let name = format!("period {period} s, {rate} MiB/s: {shrinks} of {writes} writes, {worst} a minute");
        assert!(!rig.plant.is_dead && rig.failed_at.is_none(), "{name}\n{}", rig.log);
        assert!(worst <= 8 && shrinks <= 60 && writes <= 200, "{name}\n{}", rig.log);
        assert!(rig.details <= 180, "{name}, {} details", rig.details);
        assert_eq!(rig.budget.granted(), rig.workload.granted(), "{name}");
    }
}

/// A law that is always at it, so that shrinks meet whatever else happens.
fn hasty() -> Law {
    Law {
        slack_hold_ms: 200,
        shrink_hold_max_ms: 400,
        slack_grace_ms: 0,
        reclaim_hold_ms: 300,
        reclaim_grace_ms: 0,
        reclaim_short_ms: 500,
        reclaim_long_ms: 1000,
        reclaim_period_ms: 200,
        reclaim_factor: 0.01,
        peak_half_life_ms: 500,
        ..Law::default()
    }
}

fn demand() -> impl Strategy<Value = (u64, Demand)> {
    let rate = || prop_oneof![1..64_u64, 64..1536_u64];
    let cache = prop_oneof![2 => Just(0), 1 => 1..1000_u64];
    (50..5000_u64, rate(), rate(), 1..2500_u64, cache, 0..200_u64).prop_map(
        |(ms, need, free, most, cache, warm)| {
            let (need_rate, free_rate) = (mib(need), mib(free));
            let (cache_rate, warm) = (mib(cache), mib(warm));
            (ms, Demand { need_rate, free_rate, need_most: mib(most), cache_rate, warm })
        },
    )
}

#[test]
fn a_hasty_law_shrinks_often() {
    // Or the property below would prove nothing.
    let mut rig = Rig::under(&hasty(), "64M..4G", plenty()).with_passes();
    rig.pass_ns = Some(100_000_000);
    let rates = Demand { need_rate: mib(1536), free_rate: mib(800), ..Demand::default() };
    for most in [1000, 100, 900, 90, 800, 80] {
        rig.run(4000, Demand { need_most: mib(most), ..rates });
    }
    assert!(rig.shrinks.len() >= 20, "{} shrinks\n{}", rig.shrinks.len(), rig.log);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_killed_while_memory_is_taken_back(
        demands in proptest::collection::vec(demand(), 1..20),
        is_hasty in proptest::bool::weighted(0.8),
        lane_us in prop_oneof![100..5_000_u64, 5_000..500_000_u64],
        wake_us in 0..3_000_u64,
        pass_ms in 50..2_000_u64,
    ) {
        let law = if is_hasty { hasty() } else { Law::default() };
        let mut rig = Rig::under(&law, "64M..4G", plenty());
        rig.lane_ns = lane_us * 1000;
        rig.wake_ns = wake_us * 1000;
        rig.pass_ns = Some(pass_ms * 1_000_000);
        for (ms, demand) in demands {
            rig.run(ms, demand);
            prop_assert!(!rig.plant.is_dead && rig.failed_at.is_none(), "{}", rig.log);
            // Charged for a plan that is on its way, or else what is granted.
            prop_assert_eq!(rig.budget.granted(), rig.workload.granted());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_constant_load_comes_to_rest(
        peak in 1..2000_u64,
        rest in 1..2000_u64,
        cache in 0..500_u64,
        rate in 16..1536_u64,
    ) {
        let mut rig = Rig::new("64M..4G", plenty()).with_passes();
        let rates = Demand { need_rate: mib(rate), free_rate: mib(rate), ..Demand::default() };
        rig.run(5_000 + peak * 1000 / rate, Demand { need_most: mib(peak), ..rates });
        rig.run(1_000, Demand { need_most: mib(rest), cache_rate: mib(cache), ..rates });
        let demand = Demand { need_most: mib(rest), warm: rig.plant.stat.file.0, ..rates };
        rig.run(1_200_000, demand);
        prop_assert!(rig.shrinks.len() <= 50, "{} shrinks\n{}", rig.shrinks.len(), rig.log);
        let (writes, details, reclaims) = (rig.writes, rig.details, rig.reclaims.len());
        rig.run(600_000, demand);
        let (used, Law { slack_min, .. }) = (Bytes(rig.plant.usage()), *rig.workload.law());
        prop_assert_eq!(rig.writes - writes, 0, "{}", rig.log);
        prop_assert!(rig.details - details <= 6 && rig.reclaims.len() - reclaims <= 2, "{} {}\n{}", rig.details - details, rig.reclaims.len() - reclaims, rig.log);
        // No more than headroom, and what is not worth a write, is left.
        let most = used.saturating_add(used.scale(0.1).max(Bytes::mib(4))).max(Bytes::mib(64));
        let most = most.saturating_add(slack_min.max(most.scale(0.06)));
        prop_assert!(rig.workload.granted() <= most, "{} > {most}\n{}", rig.workload.granted(), rig.log);
    }
}
