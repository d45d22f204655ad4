//! `bench.json`, and a table for people with the bars beside the figures.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::generator::grown_mib;
use crate::growth::{Growth, Growths};
use crate::reaction::Pair;
use crate::stats::{Samples, median};

/// The bars: ratios of the agent to the floor, or to no limits, that may not be exceeded.
const WAKE_P50: f64 = 2.0;
const WAKE_P99: f64 = 3.0;
const BREACH_P50: f64 = 1.3;
const GROWTH_TIME: f64 = 1.15;
/// What is aimed at beyond the bar.
const WAKE_P50_GOAL: f64 = 1.5;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Value,
    pub(crate) one: Option<Pair>,
    pub(crate) thousand: Option<Pair>,
    pub(crate) growth: Option<Growths>,
}

impl Report {
    pub(crate) fn new(machine: Value) -> Self {
        Self { machine, one: None, thousand: None, growth: None }
    }

    pub(crate) fn json(&self) -> Value {
        let (mut wake, mut breach, mut missed) = (Map::new(), Map::new(), Map::new());
        let pairs = [(&self.one, "floor", "agent_1"), (&self.thousand, "floor_1000", "agent_1000")];
        for (pair, floor, agent) in pairs {
            let Some(pair) = pair else { continue };
            for (side, name) in [(&pair.floor, floor), (&pair.agent, agent)] {
                wake.insert(name.to_owned(), side.wake_to_write.json());
                breach.insert(name.to_owned(), side.breach_to_write.json());
                missed.insert(name.to_owned(), side.missed.into());
            }
            for (map, floor, side) in [
                (&mut wake, &pair.floor.wake_to_write, &pair.agent.wake_to_write),
                (&mut breach, &pair.floor.breach_to_write, &pair.agent.breach_to_write),
            ] {
                let (p50, p99) = ratios(floor, side);
                map.insert(format!("ratio_{agent}"), json!({ "p50": p50, "p99": p99 }));
            }
        }
        json!({
            "machine": self.machine,
            "wake_to_write": wake,
            "breach_to_write": breach,
            "missed": missed,
            "growth": self.growth.as_ref().map(growths_json),
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let machine = |key: &str| self.machine[key].to_string().replace('"', "");
        let _ = writeln!(
            out,
            "Linux {}, {} cpus, {}, clock {}",
            machine("kernel"),
            machine("cpus"),
            machine("kind"),
            machine("clocksource")
        );
        for (pair, condition) in [(&self.one, "1 workload"), (&self.thousand, "1000 workloads, busy cpus")] {
            let Some(pair) = pair else { continue };
            reaction_rows(&mut out, pair, condition);
        }
        if let Some(growths) = &self.growth {
            growth_rows(&mut out, growths);
        }
        out
    }
}

fn ratios(floor: &Samples, agent: &Samples) -> (f64, f64) {
    (agent.p50_us() / floor.p50_us(), agent.p99_us() / floor.p99_us())
}

fn growths_json(growths: &Growths) -> Value {
    let worse = worse(growths);
    json!({
        "runs": growths.touch.runs + growths.populate.runs,
        "kills": growths.touch.kills + growths.populate.kills,
        "time_ratio": worse.time_ratio(),
        "mib_per_s": growth_json(worse)["mib_per_s"],
        "touch": growth_json(&growths.touch),
        "populate": growth_json(&growths.populate),
    })
}

/// The way of growing that suffers more from the agent: its figures stand for both.
fn worse(growths: &Growths) -> &Growth {
    let touch_is_worse = growths.touch.time_ratio() > growths.populate.time_ratio();
    if touch_is_worse { &growths.touch } else { &growths.populate }
}

fn growth_json(growth: &Growth) -> Value {
    let (agent, unlimited) = speeds(growth);
    json!({
        "runs": growth.runs,
        "kills": growth.kills,
        "time_ratio": growth.time_ratio(),
        "mib_per_s": { "agent": agent, "unlimited": unlimited },
        "seconds": { "agent": growth.agent, "unlimited": growth.unlimited },
    })
}

fn speeds(growth: &Growth) -> (f64, f64) {
    (grown_mib() / median(growth.agent.clone()), grown_mib() / median(growth.unlimited.clone()))
}

fn reaction_rows(out: &mut String, pair: &Pair, condition: &str) {
    let _ = writeln!(
        out,
        "\n{condition:<28} {:>20} {:>20} {:>7} {:>7}",
        "floor p50 / p99", "agent p50 / p99", "n", "missed"
    );
    for (name, floor, agent) in [
        ("wake to write, us", &pair.floor.wake_to_write, &pair.agent.wake_to_write),
        ("breach to write, us", &pair.floor.breach_to_write, &pair.agent.breach_to_write),
    ] {
        let both = |s: &Samples| format!("{:.0} / {:.0}", s.p50_us(), s.p99_us());
        let _ = writeln!(
            out,
            "  {name:<26} {:>20} {:>20} {:>7} {:>7}",
            both(floor),
            both(agent),
            agent.len(),
            pair.agent.missed + pair.floor.missed
        );
    }
    let (p50, p99) = ratios(&pair.floor.wake_to_write, &pair.agent.wake_to_write);
    bar(out, "wake to write p50, ratio", p50, WAKE_P50);
    bar(out, "  the same, its goal", p50, WAKE_P50_GOAL);
    bar(out, "wake to write p99, ratio", p99, WAKE_P99);
    let (p50, _) = ratios(&pair.floor.breach_to_write, &pair.agent.breach_to_write);
    bar(out, "breach to write p50, ratio", p50, BREACH_P50);
}

fn growth_rows(out: &mut String, growths: &Growths) {
    let _ =
        writeln!(out, "\n{:<28} {:>20} {:>20} {:>7}", "growth 32 to 512 MiB", "unlimited", "agent", "runs");
    for (name, growth) in [("touched", &growths.touch), ("populated", &growths.populate)] {
        let (agent, unlimited) = speeds(growth);
        let runs = growth.runs;
        let _ = writeln!(out, "  {:<26} {unlimited:>20.0} {agent:>20.0} {runs:>7}", format!("{name}, MiB/s"));
    }
    for (name, growth) in [("touched", &growths.touch), ("populated", &growths.populate)] {
        bar(out, &format!("{name}, time ratio"), growth.time_ratio(), GROWTH_TIME);
        bar(out, &format!("{name}, kills"), growth.kills as f64, 0.0);
    }
}

fn bar(out: &mut String, name: &str, value: f64, most: f64) {
    let verdict = if value <= most { "PASS" } else { "miss" };
    let _ = writeln!(out, "  {name:<26} {value:>20.2} {:>20} {verdict:>7}", format!("<= {most}"));
}
