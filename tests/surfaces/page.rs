//! `docs/metrics.md`: every metric, by group.

use std::fmt::Write;

use bellows::metrics::catalogue::{self, Group, Tier};

const HEAD: &str = "\
# Metrics

Generated from the catalogue in `agent/src/metrics/catalogue` by `make surfaces`; do not edit.

`/metrics` is written as Prometheus' text format 0.0.4, or as OpenMetrics 1.0.0 where the scraper asks for it (`Accept`); then the
buckets of `bellows_reaction_seconds` carry the `decision_id` of a decision that they count, for `bellows explain`. With
`Accept-Encoding: gzip` it is compressed. `?collect[]=agent` leaves out all other groups; the parameter may be repeated. No scrape
touches the control loop: it reads what was published by the last look.

Sizes are bytes, times seconds, cpus cores; unlimited is `+Inf`. All counters begin at zero with the agent. The series are
bounded: 1000 tenants, 20000 workloads, and of each as many as the table shows.
";

/// The whole page.
pub(super) fn text() -> String {
    let mut text = HEAD.to_owned();
    for group in Group::ALL {
        let (title, about) = match group {
            Group::Agent => ("The agent", "What it costs, how fast it is, and what it has lost."),
            Group::Node => {
                ("The node", "The budget, and what was decided on it. Counters go on when workloads end.")
            }
            Group::Tenant => (
                "Each tenant",
                "Published ten times a second. A tenant that policy does not name has series while it has workloads; its counters stay \
                 for an hour after the last one, and go on where it comes back.",
            ),
            Group::Workload => (
                "Each workload",
                "`metrics.workloads` of the configuration says how much: `off`, `core` or `full`, which is the default. The counters of one that \
                 has ended stay for five minutes (a thousand of them at most), so that its last ones are scraped; its gauges end with it. \
                 Series of the quota are there where one is governed, those of would-be limits while it is only observed.",
            ),
        };
        let _ = write!(text, "\n## {title}\n\n`collect[]={}`. {about}\n\n", group.as_str());
        let has_tiers = group == Group::Workload;
        let _ = writeln!(text, "| name | type | {}meaning |", if has_tiers { "tier | " } else { "" });
        let _ = writeln!(text, "|---|---|---|{}", if has_tiers { "---|" } else { "" });
        let everybody: &[&str] = match group {
            Group::Agent | Group::Node => &[],
            Group::Tenant => &["tenant"],
            Group::Workload => &["tenant", "workload"],
        };
        for metric in catalogue::all().filter(|metric| metric.group == group) {
            let own: Vec<&str> = metric.labels.iter().copied().filter(|l| !everybody.contains(l)).collect();
            let labels = if own.is_empty() { String::new() } else { format!("{{{}}}", own.join(",")) };
            let tier = match metric.tier {
                Tier::Off => "",
                Tier::Core => "core | ",
                Tier::Full => "full | ",
            };
            let _ = writeln!(
                text,
                "| `{}{labels}` | {} | {tier}{} |",
                metric.name,
                metric.kind.as_str(),
                metric.help
            );
        }
        if !everybody.is_empty() {
            let _ = writeln!(text, "\nLabels of all: `{}`.", everybody.join("`, `"));
        }
    }
    text
}
