//! `bench.json`, and a table for people with the bars beside the figures.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::cell::Cell;
use crate::generator::grown_mib;
use crate::governed::Reaction;
use crate::growth::{Growth, Growths};
use crate::hearing::Heard;
use crate::idle::Idle;
use crate::isolation::Isolation;
use crate::reaction::Pair;
use crate::scraped::{self, Scraped};
use crate::stats::{Samples, median};

/// The bars: ratios of the agent to the floor, or to no limits, that may not be exceeded.
const WAKE_P50: f64 = 2.0;
const WAKE_P99: f64 = 3.0;
const BREACH_P50: f64 = 1.3;
const GROWTH_TIME: f64 = 1.15;
/// Wake to write p99 while a shrink is stuck, against the same without.
const ISOLATION_P99: f64 = 1.2;
/// An agent with a thousand idle workloads: per cent of one cpu, and MiB resident.
const IDLE_CPU: f64 = 2.0;
const IDLE_RSS: f64 = 32.0;
/// What is aimed at beyond the bar.
const WAKE_P50_GOAL: f64 = 1.5;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Value,
    pub(crate) one: Option<Pair>,
    pub(crate) thousand: Option<Pair>,
    pub(crate) growth: Option<Growths>,
    pub(crate) hearing_one: Option<Vec<Heard>>,
    pub(crate) hearing_thousand: Option<Vec<Heard>>,
    pub(crate) idle: Option<Idle>,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) scraped: Option<Scraped>,
    pub(crate) stormed: Cell,
    pub(crate) shrink: Cell,
    pub(crate) squeeze: Cell,
    pub(crate) cpu: Cell,
    pub(crate) takeover: Cell,
    pub(crate) launch: Cell,
    pub(crate) density: Cell,
}

impl Report {
    pub(crate) fn new(machine: Value) -> Self {
        Self {
            machine,
            one: None,
            thousand: None,
            growth: None,
            hearing_one: None,
            hearing_thousand: None,
            idle: None,
            isolation: None,
            scraped: None,
            stormed: Cell::new("while a tenant storms"),
            shrink: Cell::new("taking back"),
            squeeze: Cell::new("fed by its neighbours"),
            cpu: Cell::new("cpu quotas"),
            takeover: Cell::new("kill -9, and another agent"),
            launch: Cell::new("a program in a box"),
            density: Cell::new("copies in one budget"),
        }
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
            "both": self.hearing_json("both"),
            "inotify": self.hearing_json("inotify"),
            "pollpri": self.hearing_json("pollpri"),
            "idle_1000": self.idle.as_ref().map(idle_json),
            "isolation": self.isolation.as_ref().map(isolation_json),
            "scraped": self.scraped.as_ref().map(Scraped::json),
            "stormed": self.stormed.json(),
            "shrink": self.shrink.json(),
            "squeeze": self.squeeze.json(),
            "cpu": self.cpu.json(),
            "takeover": self.takeover.json(),
            "launch": self.launch.json(),
            "density": self.density.json(),
        })
    }

    /// One way of hearing, with 1 workload and with 1000.
    fn hearing_json(&self, way: &str) -> Value {
        let of =
            |ways: &Option<Vec<Heard>>| ways.iter().flatten().find(|heard| heard.name == way).map(heard_json);
        json!({ "1": of(&self.hearing_one), "1000": of(&self.hearing_thousand) })
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
        let ways =
            [(&self.hearing_one, "1 workload each"), (&self.hearing_thousand, "1000 in all, busy cpus")];
        for (ways, condition) in ways {
            hearing_rows(&mut out, ways.as_deref().unwrap_or_default(), condition);
        }
        if let Some(idle) = &self.idle {
            idle_rows(&mut out, idle);
        }
        if let Some(isolation) = &self.isolation {
            isolation_rows(&mut out, isolation);
        }
        if let Some(scraped) = &self.scraped {
            let ratio = scraped.rows(&mut out);
            bar(&mut out, "wake to write p99, ratio", ratio, scraped::P99);
        }
        for cell in [
            &self.stormed,
            &self.shrink,
            &self.squeeze,
            &self.cpu,
            &self.takeover,
            &self.launch,
            &self.density,
        ] {
            out.push_str(&cell.table());
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

fn reaction_json(reaction: &Reaction) -> Value {
    json!({
        "wake_to_write": reaction.wake_to_write.json(),
        "breach_to_write": reaction.breach_to_write.json(),
        "missed": reaction.missed,
    })
}

fn heard_json(heard: &Heard) -> Value {
    let mut value = reaction_json(&heard.reaction);
    value["turns_per_breach"] = per(heard.turns, heard.breaches).into();
    value["cpu_us_per_breach"] = (per(heard.cost.cpu_ns, heard.breaches) / 1e3).into();
    value["control_loop"] = heard.cost.json(heard.time.as_secs_f64());
    value
}

fn per(count: u64, breaches: u64) -> f64 {
    count as f64 / breaches as f64
}

fn hearing_rows(out: &mut String, ways: &[Heard], condition: &str) {
    if ways.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:<28} {:>16} {:>16} {:>8} {:>8} {:>6} {:>6}",
        condition, "wake to write", "breach to write", "turns", "cpu us", "n", "missed"
    );
    for heard in ways {
        let both = |s: &Samples| format!("{:.0} / {:.0}", s.p50_us(), s.p99_us());
        let _ = writeln!(
            out,
            "  {:<26} {:>16} {:>16} {:>8.1} {:>8.0} {:>6} {:>6}",
            format!("{}, p50 / p99 us", heard.name),
            both(&heard.reaction.wake_to_write),
            both(&heard.reaction.breach_to_write),
            per(heard.turns, heard.breaches),
            per(heard.cost.cpu_ns, heard.breaches) / 1e3,
            heard.reaction.wake_to_write.len(),
            heard.reaction.missed
        );
    }
}

fn idle_json(idle: &Idle) -> Value {
    let memory = idle.memory;
    json!({
        "workloads": idle.workloads,
        "seconds": idle.seconds,
        "cpu_percent": idle.cpu_percent(),
        "supervisor_cpu_percent": idle.supervisor_ns as f64 / idle.seconds / 1e7,
        "turns_per_s": idle.turns as f64 / idle.seconds,
        "pressure_read_ms": idle.pressure_read_ms,
        "rss_mib": mib(memory.rss),
        "anonymous_mib": mib(memory.anonymous),
        "pss_mib": mib(memory.pss),
        "threads": idle.threads.iter().map(|(name, cost)| (name.clone(), cost.json(idle.seconds))).collect::<Map<_, _>>(),
    })
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn idle_rows(out: &mut String, idle: &Idle) {
    let condition = format!("{} idle workloads", idle.workloads);
    let _ = writeln!(
        out,
        "\n{condition:<28} {:>20} {:>20} {:>15}",
        "% of a cpu", "wakes / s", "reads, writes / s"
    );
    for (name, cost) in &idle.threads {
        let share = |count: u64| count as f64 / idle.seconds;
        let _ = writeln!(
            out,
            "  {name:<26} {:>20.2} {:>20.1} {:>15.0}",
            share(cost.cpu_ns) / 1e7,
            share(cost.wakes),
            share(cost.reads_writes)
        );
    }
    let _ = writeln!(out, "  {:<26} {:>9.2}", "cpu.pressure of all, ms", idle.pressure_read_ms);
    bar(out, "cpu, % of one", idle.cpu_percent(), IDLE_CPU);
    bar(out, "resident, MiB", mib(idle.memory.rss), IDLE_RSS);
    let _ = writeln!(
        out,
        "  of which anonymous {:.1} MiB; proportional {:.1} MiB; with the watchdog {:.2} % of a cpu",
        mib(idle.memory.anonymous),
        mib(idle.memory.pss),
        idle.supervisor_ns as f64 / idle.seconds / 1e7
    );
}

fn isolation_json(isolation: &Isolation) -> Value {
    let ratio = isolation.stuck.wake_to_write.p99_us() / isolation.free.wake_to_write.p99_us();
    json!({
        "free": reaction_json(&isolation.free),
        "stuck": reaction_json(&isolation.stuck),
        "held_seconds": isolation.held.as_secs_f64(),
        "threads": isolation.threads,
        "ratio_p99": ratio,
    })
}

fn isolation_rows(out: &mut String, isolation: &Isolation) {
    let Isolation { free, stuck, held, threads } = isolation;
    let _ = writeln!(
        out,
        "\n{:<28} {:>20} {:>20} {:>7} {:>7}",
        "a shrink that is stuck", "free p50 / p99", "stuck p50 / p99", "n", "missed"
    );
    for (name, free, stuck_one) in [
        ("wake to write, us", &free.wake_to_write, &stuck.wake_to_write),
        ("breach to write, us", &free.breach_to_write, &stuck.breach_to_write),
    ] {
        let both = |s: &Samples| format!("{:.0} / {:.0}", s.p50_us(), s.p99_us());
        let missed = isolation.free.missed + stuck.missed;
        let _ = writeln!(
            out,
            "  {name:<26} {:>20} {:>20} {:>7} {missed:>7}",
            both(free),
            both(stuck_one),
            stuck_one.len()
        );
    }
    let _ = writeln!(out, "  {threads} thread(s) held for {:.0} s in all", held.as_secs_f64());
    let ratio = stuck.wake_to_write.p99_us() / free.wake_to_write.p99_us();
    bar(out, "wake to write p99, ratio", ratio, ISOLATION_P99);
}

fn bar(out: &mut String, name: &str, value: f64, most: f64) {
    let verdict = if value <= most { "PASS" } else { "miss" };
    let _ = writeln!(out, "  {name:<26} {value:>20.2} {:>20} {verdict:>7}", format!("<= {most}"));
}
