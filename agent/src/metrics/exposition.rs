//! The exposition: the agent's own families by the `prometheus` crate, those of tenants and workloads from a snapshot, all
//! through one writer, in pieces. (A `GaugeVec` for 10 000 workloads takes 0.4-0.95 s and 327 MB; this, some milliseconds, and
//! whoever reads slowly makes nothing wait.)

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;

use super::catalogue::{self, Group, INFO, Metric, TENANT, Tier, WORKLOAD};
use super::page::{Exemplar, Format, Page};
use super::snapshot::{Place, Snapshot};
use super::{Metrics, Table, TenantTable};

/// Workloads that have series of their own; who has been there for longest.
pub const MOST_WORKLOADS: usize = 20_000;
/// From this size on a piece is full.
const PIECE: usize = 64 << 10;

/// What the agent knows of itself at the moment of a scrape, other than by its counters.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    /// Now, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// Cpu time that it has used, seconds.
    pub cpu_seconds: f64,
    /// Its resident memory, bytes.
    pub resident_bytes: u64,
    /// Records lost because the journal's queue was full.
    pub records_lost: u64,
    /// Records that are not on disk because it did not take them.
    pub records_unwritten: u64,
    /// Grows that the journal still has, oldest first; only OpenMetrics shows some.
    pub exemplars: Vec<Exemplar>,
}

/// An exposition of one moment, in pieces.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    /// Pieces that are written.
    head: Option<Vec<u8>>,
    /// What is still to be written, the last one first.
    rest: Vec<Snapshot>,
    place: Place,
    is_over: bool,
}

impl Exposition {
    /// Takes everything that is to be written, of these groups.
    #[must_use]
    pub fn new(
        metrics: &Metrics,
        workloads: &Table,
        tenants: &TenantTable,
        outside: &Outside,
        format: Format,
        groups: &BTreeSet<Group>,
    ) -> Self {
        let (live, ended) = workloads.with_ended(outside.unix_ns);
        let count = live.len();
        let exposed = &live[..count.min(MOST_WORKLOADS)];
        let mut page = Page { format, text: Vec::with_capacity(PIECE / 2) };
        fixed(&mut page, metrics, outside, groups, count);
        let mut rest = Vec::new();
        if groups.contains(&Group::Workload) && metrics.tier > Tier::Off {
            rest.push(Snapshot::of_workloads(&INFO, WORKLOAD, metrics.tier, exposed, &ended));
        }
        if groups.contains(&Group::Tenant) {
            let (live, ended) = tenants.with_ended(outside.unix_ns);
            rest.push(Snapshot::of_tenants(TENANT, &live, &ended));
        }
        Self { format, head: Some(page.text), rest, place: Place::default(), is_over: false }
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        let text = self.head.take().unwrap_or_else(|| Vec::with_capacity(PIECE + 1024));
        let mut page = Page { format: self.format, text };
        while let Some(snapshot) = self.rest.last() {
            if snapshot.write(&mut self.place, &mut page, PIECE) {
                return Some(page.text);
            }
            self.rest.pop();
            self.place = Place::default();
        }
        self.is_over = true;
        if self.format == Format::OpenMetrics {
            page.text.extend_from_slice(b"# EOF\n");
        }
        Some(page.text)
    }
}

/// The families of agent and node, in the order of the catalogue.
fn fixed(page: &mut Page, metrics: &Metrics, outside: &Outside, groups: &BTreeSet<Group>, workloads: usize) {
    let gathered = metrics.gather();
    let registered: HashMap<&str, _> = gathered.iter().map(|family| (family.name(), family)).collect();
    let fixed = |metric: &&Metric| matches!(metric.group, Group::Agent | Group::Node);
    for metric in catalogue::all().filter(fixed).filter(|metric| groups.contains(&metric.group)) {
        let mut one = |value: f64| {
            page.family(metric);
            page.line(metric.name, "", value);
        };
        match metric.name {
            "bellows_build_info" => {
                page.family(metric);
                page.line(metric.name, &label("version", env!("CARGO_PKG_VERSION")), 1.0);
            }
            "bellows_decisions_total" => {
                page.family(metric);
                for (labels, count) in metrics.decisions() {
                    page.line(metric.name, &labels, count as f64);
                }
            }
            "bellows_workloads" => one(workloads as f64),
            "bellows_workloads_unexposed" => one(workloads.saturating_sub(MOST_WORKLOADS) as f64),
            "bellows_journal_records_lost_total" => one(outside.records_lost as f64),
            "bellows_journal_records_unwritten_total" => one(outside.records_unwritten as f64),
            "process_cpu_seconds_total" => one(outside.cpu_seconds),
            "process_resident_memory_bytes" => one(outside.resident_bytes as f64),
            "process_start_time_seconds" => one(metrics.started_unix_ns as f64 / 1e9),
            name => {
                // A test sees to it that each is either registered or above.
                if let Some(family) = registered.get(name) {
                    let shows = name == "bellows_reaction_seconds";
                    page.registered(metric, family, if shows { &outside.exemplars } else { &[] });
                }
            }
        }
    }
}

fn label(name: &str, value: impl Display) -> String {
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests;
