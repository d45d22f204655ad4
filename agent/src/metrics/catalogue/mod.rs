//! The catalogue: every metric there is, with its type, unit, help, labels and tier. What is exposed, `docs/metrics.md`, the
//! dashboards, the rules and their checks come from it, so that none of them can name what is not there.
//!
//! Names follow cAdvisor and node_exporter: base units, the unit last in the name, `_total` on counters.

mod agent;
mod node;
mod tenant;
mod workload;

use serde::{Deserialize, Serialize};

pub(super) use tenant::TENANT;
pub(super) use workload::{INFO, WORKLOAD};

/// A metric, as everybody sees it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with `_total` for a counter.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it is about.
    pub group: Group,
    /// From which tier on it is exposed.
    pub tier: Tier,
}

/// The types that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, and begins at zero when the agent does.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

/// The units that there are: base units only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Cpus.
    Cores,
}

/// What a metric is about. A scrape may ask for some of them: `?collect[]=node`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The agent itself.
    Agent,
    /// The node: its budget, and what was decided on it.
    Node,
    /// Each tenant.
    Tenant,
    /// Each workload.
    Workload,
}

/// How much is exposed of each workload. All other groups are always whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing.
    Off,
    /// What the alerts and the tenant's dashboard need.
    Core,
    /// Everything.
    #[default]
    Full,
}

/// A metric of many of the same kind, and where its value is found.
pub(super) struct Series<T> {
    pub(super) metric: Metric,
    pub(super) scale: Scale,
    pub(super) get: fn(&T) -> u64,
}

/// What a value is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Whole units.
    Whole,
    /// Millionths: the kernel's times, and cpus.
    Millionths,
}

/// No limit: `+Inf`.
pub(super) const UNLIMITED: u64 = u64::MAX;
/// No such series.
pub(super) const ABSENT: u64 = u64::MAX - 1;

/// All metrics, by group and in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let agent = agent::AGENT.iter().chain(node::NODE);
    let tenant = TENANT.iter().map(|series| &series.metric);
    agent.chain(tenant).chain([&INFO]).chain(WORKLOAD.iter().map(|series| &series.metric))
}

/// The metric of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.name == name)
}

impl Kind {
    /// As the formats spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// As a name ends with it; empty for a number of things.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Cores => "cores",
        }
    }
}

impl Group {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Node, Self::Tenant, Self::Workload];

    /// As a scrape names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Node => "node",
            Self::Tenant => "tenant",
            Self::Workload => "workload",
        }
    }
}

impl Metric {
    /// The name of its family, as OpenMetrics has it: that of a counter is without `_total`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }

    const fn new(
        kind: Kind,
        group: Group,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, unit, help, labels, group, tier: Tier::Off }
    }

    const fn of_tier(self, tier: Tier) -> Self {
        Self { tier, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_type_and_unit() {
        let mut names = BTreeSet::new();
        for metric in all() {
            assert!(names.insert(metric.family()), "{} is there twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.family().ends_with(metric.unit.as_str()), "{}: {:?}", metric.name, metric.unit);
            assert!(
                metric.help.ends_with('.') && !metric.help.contains(['\\', '\n', '"']),
                "{}",
                metric.name
            );
            let is_standard = metric.name.starts_with("process_");
            assert!(is_standard || metric.name.starts_with("bellows_"), "{}", metric.name);
            // What is not said of a workload is said always.
            assert_eq!(metric.tier != Tier::Off, metric.group == Group::Workload, "{}", metric.name);
        }
    }
}
