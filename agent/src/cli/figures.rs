//! What came of simulated traces, as text: one report as a table by class, several side by side.

use crate::api::words::text::table;
use bellows_simulator::{Part, Place, Slack, TraceReport};

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn slack(slack: Slack) -> String {
    format!("{} ({})", percent(slack.mean), percent(slack.p99))
}

/// One report.
pub(super) fn report(report: &TraceReport, place: Place) -> String {
    let row = |name: &str, part: &Part| {
        vec![
            name.to_owned(),
            part.lives.to_string(),
            part.kills.to_string(),
            format!("{:.1} s", part.stalled_s),
            format!("{} s", part.waited_s),
            part.refused_launches.to_string(),
            slack(part.memory_slack),
            part.cpu_slack.map_or_else(|| "-".to_owned(), slack),
            percent(part.throttled),
            format!("{:.3}", part.fairness),
        ]
    };
    let rows = report.classes.iter().map(|(class, part)| row(class, part));
    let head = [
        "CLASS",
        "LIVES",
        "KILLS",
        "STALLED",
        "WAITED",
        "REFUSED",
        "MEMORY SLACK (P99)",
        "CPU SLACK (P99)",
        "THROTTLED",
        "FAIRNESS",
    ];
    let TraceReport { seconds, density, granted_most, deferred, infeasible, steps, ticks, faults, .. } =
        report;
    let Place { capacity, reserve, cpus } = place;
    format!(
        "{seconds} s on {capacity}, of which {reserve} are kept aside, and {cpus} cpus\n\n{}\n\
         density        {density:.2}: limits at the peaks of all would take so much more than the {granted_most} granted at most\n\
         writes         {:.1} limits and {:.1} quotas a minute\n\
         refused grows  {deferred} for now, {infeasible} for ever\n\
         held           {:.1} cpu seconds of quota lent, {:.0} s frozen, {} killed by policy\n\
         simulated      {steps} steps of the agent, {ticks} ticks of cgroups, {faults} faults\n",
        table(&head, rows.chain([row("all", &report.all)])),
        report.limit_writes_per_minute,
        report.quota_writes_per_minute,
        report.all.lent_cpu_s,
        report.all.frozen_s,
        report.all.policy_kills,
    )
}

/// Reports side by side, and what changes from the first of two to the second.
pub(super) fn print_columns(columns: &[(String, TraceReport)], json: bool) -> anyhow::Result<()> {
    if json {
        let members = columns.iter().map(|(name, report)| Ok((name.clone(), serde_json::to_value(report)?)));
        let members = members.collect::<Result<serde_json::Map<_, _>, serde_json::Error>>()?;
        println!("{}", serde_json::Value::Object(members));
        return Ok(());
    }
    let figures: Vec<Vec<(String, f64, Unit)>> = columns.iter().map(|(_, report)| figures(report)).collect();
    let mut head = vec![""];
    head.extend(columns.iter().map(|(name, _)| name.as_str()));
    if columns.len() == 2 {
        head.push("CHANGE");
    }
    let mut names: Vec<(&str, Unit)> = Vec::new();
    for (name, _, unit) in figures.iter().flatten() {
        if !names.iter().any(|(known, _)| known == name) {
            names.push((name, *unit));
        }
    }
    let rows = names.iter().map(|(name, unit)| {
        let value =
            |column: &Vec<(String, f64, Unit)>| column.iter().find(|(known, ..)| known == name).map(|f| f.1);
        let values: Vec<Option<f64>> = figures.iter().map(value).collect();
        let mut row = vec![(*name).to_owned()];
        row.extend(values.iter().map(|value| value.map_or_else(|| "-".to_owned(), |value| unit.show(value))));
        if let [Some(old), Some(new)] = values[..] {
            let sign = if new > old { "+" } else { "" };
            row.push(if unit.show(old) == unit.show(new) {
                String::new()
            } else {
                format!("{sign}{}", unit.show(new - old))
            });
        } else if values.len() == 2 {
            row.push(String::new());
        }
        row
    });
    print!("{}", table(&head, rows));
    Ok(())
}

/// How a figure is shown.
#[derive(Clone, Copy)]
enum Unit {
    Count,
    Seconds,
    Percent,
    Times,
    Mib,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Seconds => format!("{value:.1} s"),
            Self::Percent => percent(value),
            Self::Times => format!("{value:.2}"),
            Self::Mib => format!("{:.0} MiB", value / f64::from(1 << 20)),
        }
    }
}

fn figures(report: &TraceReport) -> Vec<(String, f64, Unit)> {
    let mut all = vec![
        ("density".to_owned(), report.density, Unit::Times),
        ("granted at most".to_owned(), report.granted_most.0 as f64, Unit::Mib),
        ("limits written a minute".to_owned(), report.limit_writes_per_minute, Unit::Times),
        ("quotas written a minute".to_owned(), report.quota_writes_per_minute, Unit::Times),
        ("grows deferred".to_owned(), report.deferred as f64, Unit::Count),
        ("grows infeasible".to_owned(), report.infeasible as f64, Unit::Count),
    ];
    let parts = report.classes.iter().map(|(class, part)| (class.as_str(), part));
    for (class, part) in [("all", &report.all)].into_iter().chain(parts) {
        let mut add = |what: &str, value, unit| all.push((format!("{class}: {what}"), value, unit));
        add("kills", part.kills as f64, Unit::Count);
        // Of whom nothing was ever held, nothing is told.
        let held = [
            ("killed by policy", part.policy_kills as f64, Unit::Count),
            ("frozen", part.frozen_s, Unit::Seconds),
            ("cpu time lent", part.lent_cpu_s, Unit::Seconds),
        ];
        held.into_iter()
            .filter(|(_, value, _)| *value > 0.0)
            .for_each(|(what, value, unit)| add(what, value, unit));
        add("stalled", part.stalled_s, Unit::Seconds);
        add("waited to run", part.waited_s as f64, Unit::Seconds);
        add("memory slack", part.memory_slack.mean, Unit::Percent);
        add("memory slack, p99", part.memory_slack.p99, Unit::Percent);
        if let Some(slack) = part.cpu_slack {
            add("cpu slack", slack.mean, Unit::Percent);
            add("cpu slack, p99", slack.p99, Unit::Percent);
            add("cpu slack above floors", part.cpu_slack_above_floors.unwrap_or_default(), Unit::Percent);
            add("periods throttled", part.throttled, Unit::Percent);
        }
        add("fairness", part.fairness, Unit::Times);
    }
    all
}
