//! Tenants that provoke writes of their quota, since each write refills it: none is given more than 2 % over its ceiling.

mod cpu_plant;

use bellows_policies::{CpuLaw, Cpus};
use cpu_plant::Rng;
use cpu_plant::group::{Demand, Group};
use cpu_plant::rig::{Load, Rig};
use proptest::prelude::*;

const SECONDS: u64 = 300;

/// The law without the count of what refills gave.
fn open_handed(law: CpuLaw) -> CpuLaw {
    CpuLaw { gift_ms: u64::MAX / 1000, ..law }
}

/// A tenant beside a latency workload that comes and goes, so that its quota is shed and grows again; its use over its
/// ceiling, and its writes per minute.
fn beside_a_toggle(law: CpuLaw, on_ms: u64, off_ms: u64, use_milli: u64) -> (f64, u64) {
    let mut rig = Rig::new(2, 3);
    rig.launch("0.1..4", CpuLaw::latency(), move |_, now, _| {
        if now / 1000 % (on_ms + off_ms) < on_ms { Demand::milli(use_milli) } else { Demand::NONE }
    });
    rig.launch("0.9..1", law, |_, _, _| Demand::hog(4));
    rig.run(SECONDS * 1000);
    let tenant = &rig.members[1];
    (
        tenant.group.stat.usage_us as f64 / (SECONDS * 1_000_000) as f64,
        tenant.writes.len() as u64 * 60 / SECONDS,
    )
}

#[test]
fn a_quota_shed_again_and_again_gives_no_more_than_its_ceiling() {
    for (on_ms, off_ms, use_milli) in
        [(600, 1000, 1000), (800, 1500, 1000), (600, 600, 1000), (600, 3000, 3000)]
    {
        let (used, writes) = beside_a_toggle(CpuLaw::standard(), on_ms, off_ms, use_milli);
        assert!(used <= 1.02, "{on_ms} ms on, {off_ms} ms off: {used:.4} of the ceiling");
        assert!(writes <= 60, "{on_ms} ms on, {off_ms} ms off: {writes} writes a minute");
    }
    let (used, _) = beside_a_toggle(open_handed(CpuLaw::standard()), 600, 1000, 1000);
    assert!(used > 1.05, "the plant no longer shows what the count is for: {used:.4}");
}

/// Idles, then burns.
fn burst(idle_ms: u64, burn_ms: u64) -> Load {
    Box::new(
        move |_, now, _| {
            if now / 1000 % (idle_ms + burn_ms) < idle_ms { Demand::NONE } else { Demand::hog(4) }
        },
    )
}

/// Uses what just allows a shrink until there is one, then burns until the quota is open.
fn stalker(share: u64) -> Load {
    Box::new(move |group, _, _| {
        let is_open = group.quota_us >= 100_000;
        if is_open { Demand { rate: Cpus(group.quota_us * share / 10), threads: 4 } } else { Demand::hog(4) }
    })
}

/// Changes its mind at random.
fn fickle(mean_ms: u64) -> Load {
    let (mut until, mut demand) = (0, Demand::NONE);
    Box::new(move |_: &Group, now, rng: &mut Rng| {
        if now >= until {
            until = now + rng.below(2 * mean_ms) * 1000;
            demand = if rng.below(2) == 0 { Demand::hog(4) } else { Demand::milli(rng.below(1000)) };
        }
        demand
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_tenant_is_given_more_than_its_ceiling(
        seed in any::<u64>(),
        kind in 0..3_usize,
        first in 100..8000_u64,
        second in 100..8000_u64,
        share in 70..100_u64,
        law in prop_oneof![Just(CpuLaw::latency()), Just(CpuLaw::standard()), Just(CpuLaw::batch())],
        cpus in prop_oneof![Just(2_u64), Just(4), Just(64)],
        floor in prop_oneof![Just("0.05..1"), Just("0.5..1"), Just("0.9..1")],
    ) {
        let mut rig = Rig::new(cpus, seed);
        for _ in 0..3 {
            let mut load = match kind {
                0 => burst(first, second),
                1 => stalker(share),
                _ => fickle(first),
            };
            rig.launch(floor, law, move |group, now, rng| load(group, now, rng));
        }
        rig.run(SECONDS * 1000);
        for member in &rig.members {
            let used = member.group.stat.usage_us as f64 / (SECONDS * 1_000_000) as f64;
            prop_assert!(used <= 1.02, "{used:.4} of the ceiling\n{}", rig.log());
        }
    }
}
