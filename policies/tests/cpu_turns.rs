//! Turns of the cpu law: relief, convergence, stale samples, release, adoption, a busy node.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

mod cpu_plant;

use std::time::Duration;

use bellows_policies::cpu::{CpuDecision, CpuRule, CpuStep, plan, step};
use bellows_policies::{
    CpuLaw, CpuPlan, CpuSample, CpuWorkload, Cpus, Instant, NodeGuard, NodeLaw, Reason, Verb,
};
use cpu_plant::group::Demand;
use cpu_plant::rig::Rig;

fn sample(ms: u64, usage_ms: u64, nr_periods: u64, nr_throttled: u64) -> CpuSample {
    let at = Instant(ms * 1_000_000);
    CpuSample { at, usage_us: usage_ms * 1000, nr_periods, nr_throttled, throttled_us: nr_throttled }
}

/// The same with its throttled periods stood still for as long as they last.
fn harsh(ms: u64, usage_ms: u64, nr_periods: u64, nr_throttled: u64) -> CpuSample {
    let throttled_us = nr_throttled * 100_000;
    CpuSample { throttled_us, ..sample(ms, usage_ms, nr_periods, nr_throttled) }
}

fn workload(bounds: &str) -> CpuWorkload {
    CpuWorkload::new(bounds.parse().unwrap(), CpuLaw::standard())
}

/// Looks at each period from `from` on: `usage_ms` used and, if so, throttled in each. The last step.
fn periods(workload: &mut CpuWorkload, from: u64, count: u64, usage_ms: u64, is_throttled: bool) -> CpuStep {
    let last = (from..from + count)
        .map(|n| {
            let throttled = if is_throttled { n } else { 0 };
            step(workload, &sample(n * 100, n * usage_ms, n, throttled))
        })
        .last();
    last.unwrap()
}

/// A decision without its evidence.
fn told(decision: &CpuDecision) -> (Verb, Cpus, Reason) {
    (decision.verb, decision.want, decision.reason)
}

#[test]
fn throttling_right_after_the_launch_is_relieved() {
    let mut launched = workload("0.1..2");
    let look = step(&mut launched, &sample(100, 10, 1, 1));
    let want = Cpus::milli(125);
    assert_eq!(told(&look.decision), (Verb::Grow, want, Reason::QuotaExhausted));
    assert_eq!(look.look_again, Duration::from_millis(100));
}

#[test]
fn relief_comes_with_the_first_sample_that_shows_throttling() {
    for seed in 0..20 {
        let mut rig = Rig::new(64, seed);
        let begin_us = 10_000_000 + seed * 137_000;
        rig.launch("0.1..2", CpuLaw::standard(), move |_, now, _| {
            if now < begin_us { Demand::milli(5) } else { Demand::hog(2) }
        });
        rig.run(begin_us / 1000);
        assert!(
            rig.members[0].writes.is_empty()
                && rig.members[0].workload.least_exhausting_use() == Cpus::milli(50)
        );
        assert!(rig.members[0].looks < 20, "idle, and looked at {} times in 10 s", rig.members[0].looks);
        let mut shown_us = 0;
        while rig.members[0].writes.is_empty() && rig.now_us < begin_us + 1_000_000 {
            rig.run(1);
            if rig.members[0].group.stat.nr_throttled > 0 && shown_us == 0 {
                shown_us = rig.now_us;
            }
        }
        // The grid is 100 ms with looks up to 2 ms late: the wake after the counter rose is the first that could see it.
        let waited = rig.now_us - shown_us;
        assert!(waited <= 102_000, "seed {seed}: {waited} us after the counter rose");
        let first = rig.members[0].writes[0];
        assert!(first.reason == Reason::QuotaExhausted && first.to >= first.from.scale(1.25), "{first:?}");
    }
}

#[test]
fn later_steps_follow_the_share_of_throttled_periods() {
    let mut workload = workload("0.1..9");
    let _ = periods(&mut workload, 0, 10, 5, false);
    for (n, throttled, milli, reason) in [
        (10, 1, Some(125), Reason::QuotaExhausted),
        (11, 2, None, Reason::ThrottlingTolerated),
        (12, 3, None, Reason::ThrottlingTolerated),
        (13, 4, Some(138), Reason::ThrottlingWentOn),
        (14, 5, None, Reason::JustChanged),
        (15, 6, Some(179), Reason::ThrottlingWentOn),
    ] {
        let look = step(&mut workload, &sample(n * 100, n * 5, n, throttled));
        assert_eq!(look.decision.reason, reason, "{n}");
        let grown = (look.decision.verb == Verb::Grow).then_some(look.decision.want);
        assert_eq!(grown.map(|want| (want.0 + 500) / 1000), milli, "{n}");
        if let Some(want) = grown {
            workload.commit(want, reason, Instant(n * 100_000_000));
        }
    }
}

#[test]
fn a_grow_that_was_not_written_is_decided_again() {
    let mut workload = workload("0.1..2");
    for n in 1..4 {
        let look = step(&mut workload, &sample(n * 100, n * 10, n + 20, n));
        assert_eq!((look.decision.verb, look.decision.reason), (Verb::Grow, Reason::QuotaExhausted), "{n}");
    }
}

#[test]
fn a_shrink_leaves_headroom_and_is_rolled_back_when_regretted() {
    let found = Some(Cpus::milli(1000));
    let mut workload =
        CpuWorkload::adopt("0.1..4".parse().unwrap(), CpuLaw::standard(), found, sample(0, 0, 0, 0));
    assert_eq!(periods(&mut workload, 1, 49, 70, false).decision.verb, Verb::Hold, "five seconds first");
    let look = periods(&mut workload, 50, 1, 70, false);
    let want = Cpus::milli(735);
    assert_eq!(told(&look.decision), (Verb::Shrink, want, Reason::QuotaUnused));
    workload.commit(want, Reason::QuotaUnused, Instant(5_000_000_000));
    let look = step(&mut workload, &harsh(5100, 51 * 70, 51, 1));
    let want = Cpus::milli(1265);
    assert_eq!(told(&look.decision), (Verb::Grow, want, Reason::ThrottledAfterShrink));
}

#[test]
fn mild_throttling_is_borne_as_far_as_the_target_goes() {
    let found = Some(Cpus::milli(1000));
    let bounds = "0.1..4".parse().unwrap();
    let mut workload = CpuWorkload::adopt(bounds, CpuLaw::standard(), found, sample(0, 0, 0, 0));
    let _ = periods(&mut workload, 1, 50, 93, false);
    // Each tenth period is throttled for a moment: five in five seconds are the target, the sixth is too much.
    let verbs = |workload: &mut CpuWorkload, from: u64, throttled: fn(u64) -> u64| {
        let looks = (from..from + 50).map(|n| step(workload, &sample(n * 100, n * 93, n, throttled(n - 50))));
        looks.map(|look| look.decision.verb).filter(|verb| *verb != Verb::Hold).collect::<Vec<_>>()
    };
    assert_eq!(verbs(&mut workload, 51, |n| n / 10), []);
    let look = step(&mut workload, &sample(10_100, 101 * 93, 101, 6));
    assert_eq!(told(&look.decision), (Verb::Grow, Cpus::milli(1050), Reason::ThrottlingWentOn));
    assert!(look.decision.evidence.rho_window > 0.1, "{look:?}");
}

#[test]
fn a_relapse_makes_the_hold_longer_and_following_a_load_does_not() {
    let shrinks_after = |low_ms: u64, high_ms: u64| {
        let mut rig = Rig::new(64, 1);
        let high = move |now: u64| now / 1_000_000 % 16 >= 8;
        rig.launch("0.05..4", CpuLaw::standard(), move |_, now, _| {
            Demand::milli(10 * if high(now) { high_ms } else { low_ms })
        });
        rig.run(320_000);
        let shrinks =
            rig.members[0].writes.iter().filter(|wrote| wrote.to < wrote.from && wrote.at_us > 160_000_000);
        shrinks.count()
    };
    // Ten rounds of 16 s: up by a quarter and down again, each followed; and from little to much, which is left alone soon.
    let followed = shrinks_after(80, 100);
    assert!(followed >= 8, "{followed} shrinks");
    let left_alone = shrinks_after(2, 100);
    assert!(left_alone <= 8, "{left_alone} shrinks");
}

#[test]
fn a_shrink_leaves_more_the_more_was_throttled() {
    // Use swings between 400 and 600: a deviation of 100 about a greatest use of 600, which makes 630 with the headroom.
    let shrunk_to = |throttled_of_ten: u64| {
        let (bounds, found) = ("0.1..4".parse().unwrap(), Some(Cpus::milli(1000)));
        let mut workload = CpuWorkload::adopt(bounds, CpuLaw::standard(), found, sample(0, 0, 0, 0));
        let (mut usage_ms, mut throttled) = (0, 0);
        for n in 1..100 {
            usage_ms += if n % 2 == 0 { 40 } else { 60 };
            throttled += u64::from(n % 10 < throttled_of_ten);
            let decision = step(&mut workload, &sample(n * 100, usage_ms, n, throttled)).decision;
            if decision.verb == Verb::Shrink {
                return decision.want;
            }
        }
        panic!("no shrink");
    };
    assert_eq!(shrunk_to(0), Cpus::milli(630));
    // rho stands at 0.3, 0.2 above its target, for five seconds: a margin of about one deviation.
    let wider = shrunk_to(3);
    assert!(Cpus::milli(690) < wider && wider < Cpus::milli(770), "{wider}");
}

#[test]
fn stale_samples_hold_and_start_anew() {
    for (name, stale) in [
        ("counters went back", sample(7900, 1, 1, 0)),
        ("the clock went back", sample(5000, 800, 80, 80)),
        ("a suspended machine", sample(60_000, 800, 80, 80)),
    ] {
        let found = Some(Cpus::milli(1000));
        let mut workload =
            CpuWorkload::adopt("0.1..4".parse().unwrap(), CpuLaw::standard(), found, sample(0, 0, 0, 0));
        let _ = periods(&mut workload, 1, 78, 9, false);
        workload.commit(Cpus::milli(500), Reason::QuotaUnused, Instant(7_800_000_000));
        let look = step(&mut workload, &stale);
        assert_eq!((look.decision.verb, look.decision.reason), (Verb::Hold, Reason::SignalsStale), "{name}");
        for n in 1..=60 {
            let at = Instant(stale.at.0 + n * 100_000_000);
            let next = CpuSample {
                at,
                usage_us: stale.usage_us + n * 9000,
                nr_periods: stale.nr_periods + n,
                ..stale
            };
            let verb = step(&mut workload, &next).decision.verb;
            assert_eq!(verb == Verb::Shrink, n >= 50, "{name}: {n} periods later");
        }
        let at = Instant(stale.at.0 + 6_100_000_000);
        let next = CpuSample {
            at,
            usage_us: stale.usage_us + 600_000,
            nr_periods: stale.nr_periods + 61,
            nr_throttled: stale.nr_throttled + 1,
            throttled_us: stale.throttled_us,
        };
        assert_eq!(step(&mut workload, &next).decision.reason, Reason::QuotaExhausted, "{name}");
    }
}

#[test]
fn a_release_holds_until_it_is_rearmed() {
    let mut workload = workload("0.1..2");
    let mut guard = NodeGuard::new(Cpus::ONE, NodeLaw::default());
    workload.release();
    assert!(workload.is_released() && workload.quota() == Cpus::milli(2000));
    let look = step(&mut workload, &sample(100, 10, 1, 1));
    assert_eq!(
        plan(&workload, look.decision, &mut guard),
        CpuPlan::Nothing { reason: Reason::LimitsReleased }
    );
    workload.rearm();
    let look = step(&mut workload, &sample(200, 10, 2, 2));
    let CpuPlan::Write { from, to, reason, .. } = plan(&workload, look.decision, &mut guard) else {
        panic!("{look:?}")
    };
    assert_eq!((from, to, reason), (Cpus::milli(2000), Cpus::milli(2000), Reason::QuotaPutBack));
    workload.commit(to, reason, Instant(200_000_000));
    assert!(!workload.is_released());
    assert_eq!(step(&mut workload, &sample(300, 20, 3, 2)).decision.reason, Reason::Calm);
}

#[test]
fn what_is_found_is_written_only_when_it_is_out_of_bounds() {
    for (found, verb, milli) in [
        (Some(500), Verb::Hold, 500),
        (None, Verb::Shrink, 2000),
        (Some(4000), Verb::Shrink, 2000),
        (Some(50), Verb::Grow, 100),
    ] {
        let bounds = "0.1..2".parse().unwrap();
        let sample_found = sample(0, 900, 90, 9);
        let mut workload =
            CpuWorkload::adopt(bounds, CpuLaw::standard(), found.map(Cpus::milli), sample_found);
        let look = step(&mut workload, &sample(100, 901, 91, 9));
        assert_eq!((look.decision.verb, look.decision.want), (verb, Cpus::milli(milli)), "{found:?}");
    }
}

#[test]
fn looks_slow_down_and_a_rise_is_looked_at_sooner() {
    let mut workload = workload("1..2");
    let (mut ms, mut usage_ms, mut passed) = (0, 0, 0);
    // Use in the slice before the look, thousandths of a cpu; and the pause after it.
    for (used, pause) in [
        (0, 200),
        (100, 400),
        (100, 800),
        (100, 1000),
        (100, 1000),
        (300, 200), // 500 below what is hot, at 200 a slice
        (300, 1000),
        (810, 100),
        (100, 200),
    ] {
        ms += passed;
        usage_ms += passed * used / 1000;
        let look = step(&mut workload, &sample(ms, usage_ms, ms / 100, 0));
        assert_eq!(look.look_again.as_millis(), u128::from(pause), "at {ms} ms, after {used}");
        passed = pause;
    }
}

#[test]
fn an_overloaded_node_sheds_by_use_above_the_floor_over_weight() {
    let found = |floor: &str, law, milli, used_ms| {
        let mut workload = CpuWorkload::adopt(
            format!("{floor}..4").parse().unwrap(),
            law,
            Some(Cpus::milli(milli)),
            sample(0, 0, 0, 0),
        );
        let look = step(&mut workload, &sample(1000, used_ms, 10, 0));
        (workload, look.decision)
    };
    let fleet = [
        found("0.1", CpuLaw::latency(), 1500, 1400),
        found("0.1", CpuLaw::standard(), 1500, 1100),
        found("0.1", CpuLaw::batch(), 1500, 600),
        found("0.6", CpuLaw::batch(), 1500, 600),
    ];
    let mut guard = NodeGuard::new(Cpus::milli(4000), NodeLaw::default());
    for n in 0..5 {
        assert!(!guard.is_shedding(), "one busy tick is none");
        guard.observe(Instant(n * 100_000_000), Cpus::milli(3550));
    }
    assert!(guard.is_shedding());
    guard.share_out(fleet.iter().map(|(workload, _)| workload));
    let plans = fleet.each_ref().map(|(workload, decision)| match plan(workload, *decision, &mut guard) {
        CpuPlan::Write { verb: Verb::Shrink, to, reason, evidence, .. } => {
            assert_eq!(evidence.replay(workload.law()), to);
            (Some(to), reason)
        }
        CpuPlan::Write { .. } => panic!("a grow"),
        CpuPlan::Nothing { reason } => (None, reason),
    });
    // 350 to shed among 1000/100 and 500/20: 100 and 250.
    let shed = |milli| (Some(Cpus::milli(milli)), Reason::NodeOverloaded);
    assert_eq!(plans, [(None, Reason::RoomLeft), shed(1000), shed(350), (None, Reason::Calm)]);
}

#[test]
fn what_was_observed_long_ago_refuses_nobody() {
    let workload = workload("0.1..2");
    let evidence = workload.evidence(CpuRule::Grow);
    let (verb, want, reason) = (Verb::Grow, Cpus::milli(200), Reason::QuotaExhausted);
    let look = CpuDecision { verb, want, reason, evidence };
    let mut guard = NodeGuard::new(Cpus::milli(1000), NodeLaw::default());
    let mut ms = 0;
    let mut observe = |guard: &mut NodeGuard, after, milli| {
        ms += after;
        guard.observe(Instant(ms * 1_000_000), Cpus::milli(milli));
    };
    for _ in 0..5 {
        observe(&mut guard, 100, 1000);
    }
    observe(&mut guard, 200, 100);
    assert_eq!(plan(&workload, look, &mut guard), CpuPlan::Nothing { reason: Reason::NodeBusy });
    observe(&mut guard, 1000, 100);
    assert!(matches!(plan(&workload, look, &mut guard), CpuPlan::Write { .. }));
}
