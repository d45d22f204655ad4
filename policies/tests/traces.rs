//! Whole traces of one workload, as tables to read. A change of a law shows here as a change of its story.

mod plant;

use bellows_policies::{Budget, Bytes};
use plant::{Demand, Rig, mib, plenty};

#[test]
fn full_speed_grower() {
    let mut rig = Rig::new("32M..1G", plenty());
    rig.run(600, Demand { need_rate: mib(1024), need_most: mib(511), cache_rate: 0 });
    insta::assert_snapshot!(rig.log);
    assert!(!rig.plant.is_dead);
    assert_eq!(rig.plant.usage(), mib(512));
    assert_eq!(rig.plant.asleep_ns, 0, "never throttled");
    assert_eq!(rig.budget.granted(), rig.workload.granted());
    assert!(rig.workload.granted() <= Bytes::mib(1024));
}

#[test]
fn reader_is_held() {
    let mut rig = Rig::new("64M..1G", plenty());
    rig.run(20, Demand { need_rate: mib(1024), need_most: mib(8), cache_rate: 0 });
    rig.run(20_000, Demand { cache_rate: mib(1024), ..Demand::default() });
    insta::assert_snapshot!(rig.log);
    assert_eq!(rig.workload.granted(), Bytes::mib(64), "its step was taken back");
    assert!(rig.workload.is_held());
    assert!(rig.writes <= 4, "{} writes", rig.writes);
    assert!(rig.details <= 40, "{} details", rig.details);
    assert_eq!(rig.plant.asleep_ns, 0);
}

#[test]
fn reader_turns_into_a_grower() {
    let mut rig = Rig::new("64M..1G", plenty());
    rig.run(20, Demand { need_rate: mib(1024), need_most: mib(8), cache_rate: 0 });
    rig.run(5_000, Demand { cache_rate: mib(512), ..Demand::default() });
    rig.run(1_000, Demand { need_rate: mib(512), need_most: mib(400), cache_rate: mib(64) });
    insta::assert_snapshot!(rig.log);
    assert_eq!(rig.plant.stat.anon, Bytes::mib(400));
    assert!(rig.plant.asleep_ns <= 30_000_000, "asleep for {} ns", rig.plant.asleep_ns);
}

#[test]
fn livelock_at_the_ceiling() {
    let mut rig = Rig::new("32M..128M", plenty());
    rig.run(6_000, Demand { need_rate: mib(256), need_most: mib(512), cache_rate: 0 });
    insta::assert_snapshot!(rig.log);
    // It ends within 5 s: by the stall rule, or, as here, because throttled as it is it creeps through the band before.
    assert!(rig.plant.is_dead, "the kernel ended it");
    assert!(rig.failed_at.is_none_or(|at| at <= 5_000_000_000), "{:?}", rig.failed_at);
}

#[test]
fn budget_exhausted_then_freed() {
    let mut rig = Rig::new("32M..512M", Budget::new(Bytes::mib(512), Bytes::mib(32)));
    rig.budget.admit(Bytes::mib(400)).unwrap();
    let demand = Demand { need_rate: mib(256), need_most: mib(199), cache_rate: 0 };
    rig.run(1_000, demand);
    assert_eq!(rig.workload.granted(), Bytes::mib(80));
    assert!(rig.workload.is_deferred() && rig.workload.is_cornered());
    rig.budget.give_back(Bytes::mib(400));
    rig.run(3_000, demand);
    insta::assert_snapshot!(rig.log);
    assert_eq!(rig.plant.usage(), mib(200));
    assert!(!rig.workload.is_deferred() && !rig.workload.is_cornered());
    assert_eq!(rig.budget.granted(), rig.workload.granted());
}
