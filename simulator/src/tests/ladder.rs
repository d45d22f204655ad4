//! The ladder's upper rungs in traces: by whom, in which order, and for how long.

use std::sync::Arc;

use bellows_policies::ladder::Grip;
use bellows_policies::ruleset::Defaults;
use bellows_policies::{Bounds, Bytes, Class, CpuBounds, Cpus, Ruleset};

use crate::deed::Deed;
use crate::load::SECOND;
use crate::outcome::Outcome;
use crate::play::{Options, Place, play};
use crate::trace::{Life, Row, Trace};

/// A hog of class batch, which a web server of class latency finds no room beside for a while.
const HOG: usize = 0;
const ENDS: u64 = 150 * SECOND;

fn row(at_s: u64, need_mib: u64, milli: u64) -> Row {
    Row { at: at_s * SECOND, need: Bytes::mib(need_mib), cores: Cpus::milli(milli), ..Row::default() }
}

fn life(name: &str, class: &str, rows: Vec<Row>) -> Life {
    Life {
        tenant: "acme".to_owned(),
        name: name.to_owned(),
        class: Some(class.to_owned()),
        memory: Some(Bounds { floor: Bytes::mib(32), ceiling: Bytes::mib(900) }),
        cpu: Some(CpuBounds { floor: Cpus::milli(100), ceiling: Cpus::milli(2000) }),
        rows: rows.into(),
        ends: None,
    }
}

/// The outcome where the hog's class allows these rungs.
fn beside_a_hog(rungs: &[&str]) -> Outcome {
    let mut rules = Ruleset::built_in(Defaults::default());
    for class in rules.classes.values_mut().filter(|class| class.name == "batch") {
        let rungs = rungs.iter().map(|&rung| rung.to_owned()).collect();
        *class = Arc::new(Class { rungs, ..Class::clone(class) });
    }
    let hog = life("hog", "batch", vec![row(0, 700, 1000)]);
    let web = life("web", "latency", vec![row(0, 48, 100), row(40, 500, 100), row(100, 48, 100)]);
    let place = Place { capacity: Bytes::mib(1024), reserve: Bytes::mib(100), cpus: 4 };
    let options = Options { keep_records: true, check: true, ..Options::default() };
    let trace = Trace { lives: vec![hog, web], ends: ENDS };
    let outcome = play(&trace, &rules, place, options).expect("the classes allow it");
    assert!(outcome.broken.is_none(), "{:?}", outcome.broken);
    outcome
}

/// What the ladder did to the hog, and when.
fn grips(outcome: &Outcome) -> Vec<(u64, Deed)> {
    let told = outcome.told.iter().filter(|told| told.life == HOG);
    let is_held = |deed: &Deed| matches!(deed, Deed::Gripped(_) | Deed::Eased(_));
    told.filter(|told| is_held(&told.deed)).map(|told| (told.at, told.deed)).collect()
}

#[test]
fn the_mildest_rung_that_a_class_allows_comes_first() {
    let outcome = beside_a_hog(&["slack", "reclaim", "cpu", "freeze", "kill"]);
    let grips = grips(&outcome);
    let first = |grip| grips.iter().position(|(_, deed)| *deed == Deed::Gripped(grip));
    let order = [Grip::Cpu, Grip::Freeze, Grip::Kill].map(first);
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{grips:?}");
    let (report, hog) = (&outcome.report, &outcome.stories[HOG]);
    assert!(report.all.policy_kills > 0 && hog.starts > 1, "{report:?}");
    assert!(report.all.lent_cpu_s > 0.0, "{report:?}");
    let web = &outcome.stories[1];
    assert_eq!((web.kills, web.policy_kills), (0, 0), "whoever waits is served: {report:?}");
}

#[test]
fn whoever_is_frozen_stands_still_until_nobody_waits() {
    let outcome = beside_a_hog(&["slack", "reclaim", "freeze"]);
    let grips = grips(&outcome);
    let [(frozen, Deed::Gripped(Grip::Freeze)), (thawed, Deed::Eased(Grip::Freeze)), ..] = grips[..] else {
        panic!("{grips:?}")
    };
    assert!(thawed - frozen >= 10 * SECOND, "a hold is ten seconds at least: {grips:?}");
    let hog = &outcome.stories[HOG];
    let still = hog.points.iter().filter(|point| frozen < point.at + SECOND && point.at < thawed + SECOND);
    let used: Vec<u64> = still.filter(|point| point.is_frozen).map(|point| point.used_us).collect();
    assert!(used.len() >= 9 && used.iter().all(|us| *us == used[0]), "{used:?}");
    assert!(hog.frozen_s >= 9.0 && hog.policy_kills == 0 && hog.lent_cpu_s == 0.0, "{hog:?}");
}

#[test]
fn nobody_is_frozen_or_killed_whose_class_does_not_allow_it() {
    for rungs in [&["slack", "reclaim"][..], &["slack", "reclaim", "cpu"][..]] {
        let outcome = beside_a_hog(rungs);
        let is_hard = |deed: &Deed| matches!(deed, Deed::Gripped(Grip::Freeze | Grip::Kill));
        assert!(!grips(&outcome).iter().any(|(_, deed)| is_hard(deed)), "{rungs:?}");
        let report = &outcome.report;
        assert_eq!((report.all.policy_kills, report.all.frozen_s), (0, 0.0), "{report:?}");
    }
}
