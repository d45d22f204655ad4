//! What holds of the cpu law whatever happens: random samples, refusals, failed writes, releases; and on a plant: no limit
//! cycle under constant load, few writes under a periodic one, growth in sum as the guard allows.

mod cpu_plant;

use std::time::Duration;

use bellows_policies::cpu::{CpuRule, plan, step};
use bellows_policies::{
    CpuLaw, CpuPlan, CpuSample, CpuWorkload, Cpus, Instant, NodeGuard, NodeLaw, Reason, Verb,
};
use cpu_plant::group::Demand;
use cpu_plant::rig::Rig;
use proptest::prelude::*;

const CPUS: Cpus = Cpus(8_000_000);

/// One thing that happens to one workload, or to the node.
#[derive(Clone, Debug)]
struct Happening {
    who: usize,
    wait_us: u64,
    /// Use, percent of the quota.
    used: u64,
    periods: u64,
    /// Throttled periods, percent.
    throttled: u64,
    /// Use of the node, percent.
    node: u64,
    write_fails: bool,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Look,
    Release,
    Rearm,
    OtherCgroup,
    ClockBack,
}

fn happening() -> impl Strategy<Value = Happening> {
    let act = prop_oneof![
        3000 => Just(Act::Look),
        2 => Just(Act::Release),
        8 => Just(Act::Rearm),
        3 => Just(Act::OtherCgroup),
        2 => Just(Act::ClockBack),
    ];
    let wait = prop_oneof![
        900 => 20_000..40_000_u64,
        100 => 0..1000_u64,
        50 => 100_000..900_000_u64,
        1 => Just(4_000_000),
    ];
    let used = prop_oneof![30 => 0..60_u64, 20 => 60..120_u64, 1 => Just(1000)];
    let throttled = prop_oneof![3 => Just(0), 2 => 0..=100_u64];
    let node = prop_oneof![0..50_u64, 50..100_u64];
    (0..3_usize, wait, used, 0..12_u64, throttled, node, proptest::bool::weighted(0.1), act).prop_map(
        |(who, wait_us, used, periods, throttled, node, write_fails, act)| Happening {
            who,
            wait_us,
            used,
            periods,
            throttled,
            node,
            write_fails,
            act,
        },
    )
}

struct Play {
    fleet: Vec<(CpuWorkload, CpuSample, Option<Instant>)>,
    guard: NodeGuard,
    plans: Vec<CpuPlan>,
}

/// Plays it all, checks every plan, and tells what was planned.
fn play(happenings: &[Happening]) -> Result<Vec<CpuPlan>, TestCaseError> {
    let kinds =
        [("0.1..2", CpuLaw::latency()), ("0.05..8", CpuLaw::standard()), ("0.5..0.55", CpuLaw::batch())];
    let fleet = kinds
        .map(|(bounds, law)| {
            (CpuWorkload::new(bounds.parse().expect("bounds"), law), CpuSample::default(), None)
        })
        .into();
    let mut play = Play { fleet, guard: NodeGuard::new(CPUS, NodeLaw::default()), plans: vec![] };
    let mut now = Instant(10_000_000_000);
    for (index, what) in happenings.iter().enumerate() {
        // By turns 10 s of anything and 10 s of little, or nothing would ever shrink.
        let calm =
            Happening { used: what.used.min(30), throttled: 0, node: what.node.min(50), ..what.clone() };
        let what = if index / 300 % 2 == 0 { what } else { &calm };
        now = now.plus(Duration::from_micros(what.wait_us));
        if matches!(what.act, Act::ClockBack) {
            now = Instant(now.0 - 3_000_000_000);
            play.fleet.iter_mut().for_each(|(_, _, changed)| *changed = None);
        }
        play.happen(what, now)?;
    }
    Ok(play.plans)
}

impl Play {
    fn happen(&mut self, what: &Happening, now: Instant) -> Result<(), TestCaseError> {
        self.guard.observe(now, CPUS.scale(what.node as f64 / 100.0));
        if self.guard.is_shedding() {
            self.guard.share_out(self.fleet.iter().map(|(workload, ..)| workload));
        }
        let (workload, sample, changed) = &mut self.fleet[what.who];
        match what.act {
            Act::Look | Act::ClockBack => {}
            Act::Release => workload.release(),
            Act::Rearm => workload.rearm(),
            Act::OtherCgroup => *sample = CpuSample { at: sample.at, ..CpuSample::default() },
        }
        let time = now.since(sample.at).min(Duration::from_secs(4));
        let used = workload.quota().scale(what.used as f64 / 100.0 * time.as_secs_f64()).0;
        *sample = CpuSample {
            at: now,
            usage_us: sample.usage_us + used,
            nr_periods: sample.nr_periods + what.periods,
            nr_throttled: sample.nr_throttled + what.periods * what.throttled / 100,
            throttled_us: sample.throttled_us + what.throttled,
        };
        let look = step(workload, sample);
        let (hot, most) = (workload.law().look_hot_ms, workload.law().look_most_ms);
        prop_assert!((hot..=most).contains(&u64::try_from(look.look_again.as_millis()).unwrap_or(u64::MAX)));
        let planned = plan(workload, look.decision, &mut self.guard);
        self.plans.push(planned);
        let CpuPlan::Write { verb, from, to, reason, evidence } = planned else { return Ok(()) };
        prop_assert_eq!(cpu_plant::replayed(&evidence, workload.law()), to, "{:?}", planned);
        let bounds = workload.bounds();
        prop_assert_eq!(from, workload.quota());
        prop_assert!(bounds.floor <= to && to <= bounds.ceiling && to >= workload.burst());
        if reason == Reason::QuotaPutBack {
            prop_assert_eq!(from, to);
        } else {
            prop_assert!(
                if verb == Verb::Grow { to > from } else { verb == Verb::Shrink && to < from },
                "{planned:?}"
            );
            let is_last = to == bounds.floor || to == bounds.ceiling;
            prop_assert!(is_last || to.0.abs_diff(from.0) >= from.scale(0.0499).0, "{planned:?}");
            prop_assert!(changed.is_none_or(|at| now.since(at) >= Duration::from_millis(90)), "{planned:?}");
        }
        if !what.write_fails {
            workload.commit(to, reason, now);
            *changed = Some(now);
            prop_assert_eq!(workload.quota(), to);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_replays_agree(happenings in proptest::collection::vec(happening(), 1..1500)) {
        let first = play(&happenings)?;
        prop_assert_eq!(first, play(&happenings)?);
    }

    #[test]
    fn guard_brings_anything_within_bounds(
        verb in prop_oneof![Just(Verb::Grow), Just(Verb::Shrink), Just(Verb::Hold), Just(Verb::Fail)],
        want in any::<u64>(),
        node in 0..10_000_u64,
    ) {
        let law = CpuLaw::standard();
        let workload = CpuWorkload::adopt("0.1..4".parse().unwrap(), law, Some(Cpus::ONE), CpuSample::default());
        let mut guard = NodeGuard::new(CPUS, NodeLaw::default());
        guard.observe(Instant(1_000_000_000), Cpus::milli(node));
        let want = Cpus(want);
        let evidence = workload.evidence(CpuRule::Hold);
        let decision = bellows_policies::cpu::CpuDecision { verb, want, reason: Reason::Calm, evidence };
        if let CpuPlan::Write { verb, from, to, .. } = plan(&workload, decision, &mut guard) {
            prop_assert!(workload.bounds().clamp(to) == to);
            prop_assert_eq!(verb == Verb::Grow, to > from);
            prop_assert_ne!(to, from);
            prop_assert!(verb == Verb::Shrink || to.saturating_sub(from) <= Cpus::milli(6400 - node.min(6400)));
        }
    }

    #[test]
    fn a_law_of_any_values_keeps_the_bounds(ratio in any::<f64>(), ms in any::<u64>(), periods in any::<u32>()) {
        let law = CpuLaw {
            throttled_target: 0.0,
            throttled_periods: periods,
            grow_most: ratio,
            relief_step: ratio,
            jitter_ms: ms,
            use_periods: periods,
            margin_most: ratio,
            shrink_most: ratio,
            rollback_periods: periods,
            hold_most_ms: ms,
            look_most_ms: ms,
            gap_looks: periods,
            gift_share: ratio,
            ..CpuLaw::batch()
        };
        let mut workload = CpuWorkload::new("0.1..2".parse().unwrap(), law);
        for n in 1..80_u64 {
            let sample = CpuSample { at: Instant(n * 100_000_000), usage_us: n * 9000, nr_periods: n, nr_throttled: n / 2, throttled_us: n };
            let want = step(&mut workload, &sample).decision.want;
            prop_assert!(workload.bounds().clamp(want) == want);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_for_ten_thousand_steps(happenings in proptest::collection::vec(happening(), 10_000)) {
        let mut counts = [0_u64; Verb::Fail as usize + 1];
        for plan in play(&happenings)? {
            if let CpuPlan::Write { verb, .. } = plan {
                counts[verb as usize] += 1;
            }
        }
        prop_assert!(counts[Verb::Grow as usize] > 20 && counts[Verb::Shrink as usize] > 20, "{counts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_constant_load_converges_and_stays(
        seed in any::<u64>(),
        milli in 50..3500_u64,
        noise in 0..30_u64,
        law in prop_oneof![Just(CpuLaw::latency()), Just(CpuLaw::standard()), Just(CpuLaw::batch())],
    ) {
        let mut rig = Rig::new(64, seed);
        let (mut level, swing) = (0, milli * noise / 100);
        rig.launch("0.05..4", law, move |_, now, rng| {
            if now.is_multiple_of(100_000) {
                level = milli - swing + rng.below(2 * swing);
            }
            Demand::milli(level)
        });
        rig.run(120_000);
        let (before, used) = (rig.members[0].writes.len(), rig.usage_us());
        let (periods, throttled) = (rig.members[0].group.stat.nr_periods, rig.members[0].group.stat.nr_throttled);
        rig.run(600_000);
        let stat = rig.members[0].group.stat;
        let rho = (stat.nr_throttled - throttled) as f64 / (stat.nr_periods - periods) as f64;
        prop_assert!(rho <= law.throttled_target, "{rho:.3} of its periods were throttled\n{}", rig.log());
        let writes = rig.members[0].writes.len() - before;
        prop_assert!(writes <= 20, "{writes} writes in ten minutes\n{}", rig.log());
        let served = (rig.usage_us() - used) as f64 / (milli as f64 * 600_000.0);
        prop_assert!(served > 0.9, "{served:.3} of the load was served\n{}", rig.log());
        let granted = rig.members[0].workload.quota();
        prop_assert!(granted <= Cpus::milli(milli + swing).scale(2.5).max(Cpus::milli(50)), "{granted} for {milli}\n{}", rig.log());
    }

    #[test]
    fn a_periodic_load_costs_few_writes(
        seed in any::<u64>(),
        on_ms in 100..20_000_u64,
        off_ms in 100..40_000_u64,
        milli in 200..3000_u64,
        law in prop_oneof![Just(CpuLaw::latency()), Just(CpuLaw::standard()), Just(CpuLaw::batch())],
    ) {
        let mut rig = Rig::new(64, seed);
        rig.launch("0.1..4", law, move |_, now, _| {
            Demand::milli(if now / 1000 % (on_ms + off_ms) < on_ms { milli } else { 10 })
        });
        rig.run(600_000);
        let learnt = rig.members[0].writes.len();
        rig.run(1_800_000);
        let writes = rig.members[0].writes.len() - learnt;
        // Once in five minutes down and up again, or, where it goes down and up by less than a third, as often as five seconds
        // show that less is used: then no hold is doubled. Most is needed where the target is as high as batch's: a relieved
        // period in ten puts rho at the threshold, so that it climbs by the least step, 5 %. Of 700 such loads the worst made
        // 138 writes, and 216 under batch's law; 270 were seen once, under latency's: bursts of two periods every four
        // seconds, followed by a quarter down and up in three writes each 20 s.
        let bound = if law.throttled_target > 0.2 { 560 } else { 420 };
        prop_assert!(writes <= bound, "{writes} writes in half an hour\n{}", rig.log());
    }

    #[test]
    fn growth_in_sum_follows_the_guard(
        asks in proptest::collection::vec((5..100_u64, 60..80_u64, 20..3000_u64, 0..10_u64), 1..200),
    ) {
        let mut guard = NodeGuard::new(CPUS, NodeLaw::default());
        let (mut now, mut sum) = (Instant(1_000_000_000), 0);
        let begin = now;
        for (wait_ms, node, milli, used_ms) in asks {
            now = now.plus(Duration::from_millis(wait_ms));
            guard.observe(now, CPUS.scale(node as f64 / 100.0));
            let found = Some(Cpus::milli(milli));
            let bounds = "0.01..8".parse().unwrap();
            let mut workload = CpuWorkload::adopt(bounds, CpuLaw::standard(), found, CpuSample::default());
            let sample = CpuSample { at: Instant(100_000_000), usage_us: used_ms * 1000, nr_periods: 1, nr_throttled: 1, throttled_us: 1 };
            let decision = step(&mut workload, &sample).decision;
            prop_assert_eq!(decision.verb, Verb::Grow);
            if let CpuPlan::Write { from, to, .. } = plan(&workload, decision, &mut guard) {
                prop_assert!(to.saturating_sub(from) <= Cpus::milli(8 * (800 - 10 * node)));
                sum += to.saturating_sub(from).0;
            }
            // 1 % of 8 cpus per 100 ms, one of them ahead, and one least step of the largest quota borrowed.
            let allowed = now.since(begin).as_secs_f64() * 800_000.0 + 80_000.0 + 0.05 * 3_000_000.0;
            prop_assert!(sum as f64 <= allowed, "{sum} > {allowed}");
        }
    }
}

#[test]
fn a_saturated_node_settles() {
    let kinds = [(4, 5, CpuLaw::standard()), (2, 3, CpuLaw::standard()), (4, 5, CpuLaw::batch())];
    for (seed, (cpus, count, law)) in (0..5).flat_map(|seed| kinds.map(|kind| (seed, kind))) {
        let mut rig = Rig::new(cpus, seed);
        for _ in 0..count {
            rig.launch("0.1..1", law, |_, _, _| Demand::hog(4));
        }
        rig.run(60_000);
        let before: usize = rig.members.iter().map(|member| member.writes.len()).sum();
        rig.run(600_000);
        let after: usize = rig.members.iter().map(|member| member.writes.len()).sum();
        let writes = after - before;
        assert!(
            writes <= 20,
            "seed {seed}, {count} on {cpus}: {writes} writes in ten minutes\n{}",
            rig.log()
        );
        let share = rig.used.as_f64() / cpus as f64;
        assert!((0.6..0.86).contains(&share), "seed {seed}: {share} of the node in use");
    }
}
