//! A snapshot of all workloads, or all tenants, by columns: what a scrape writes is of one moment, and each family is written
//! from memory that lies together. At 10 000 workloads it takes some 3 MB; walking through the workloads once for each family
//! instead would be thirty walks through all of them.

use std::fmt::Write;
use std::sync::Arc;

use bellows_policies::AssignedBy;

use super::catalogue::{Kind, Metric, Scale, Series, Tier};
use super::page::Page;
use super::{Published, PublishedTenant};

/// What is written of many, by family.
#[derive(Debug)]
pub(super) struct Snapshot {
    labels: Labels,
    columns: Vec<Column>,
}

/// The labels of all rows, one after the other.
#[derive(Debug, Default)]
struct Labels {
    text: String,
    ends: Vec<usize>,
}

/// The values of one metric.
#[derive(Debug)]
struct Column {
    metric: &'static Metric,
    scale: Scale,
    /// A gauge has none of those who have ended, who are the last ones.
    values: Vec<u64>,
    /// Other labels than everybody's.
    labels: Option<Labels>,
}

/// Where writing has come to.
#[derive(Debug, Default)]
pub(super) struct Place {
    column: usize,
    row: usize,
}

impl Snapshot {
    pub(super) fn of_tenants(
        series: &'static [Series<PublishedTenant>],
        live: &[Arc<PublishedTenant>],
        ended: &[Arc<PublishedTenant>],
    ) -> Self {
        let mut labels = Labels::default();
        for tenant in live.iter().chain(ended) {
            // Names need no escape in a label.
            labels.add(|text| write!(text, "tenant=\"{}\"", tenant.tenant));
        }
        Self { labels, columns: columns(series, Tier::Full, live, ended) }
    }

    pub(super) fn of_workloads(
        info: &'static Metric,
        series: &'static [Series<Published>],
        tier: Tier,
        live: &[Arc<Published>],
        ended: &[Arc<Published>],
    ) -> Self {
        let (mut labels, mut infos) = (Labels::default(), Labels::default());
        for workload in live.iter().chain(ended) {
            labels.add(|text| text.write_str(&workload.labels));
        }
        for workload in live {
            let mode = if workload.would_be().is_some() { "observe" } else { "enforce" };
            infos.add(|text| {
                workload.read_terms(|terms| {
                    write!(text, "{},class=\"{}\",mode=\"{mode}\",policy=\"", workload.labels, terms.class)?;
                    match &terms.assigned {
                        // The path of a file may hold anything.
                        Some(AssignedBy::Rule(place)) => escape(text, place)?,
                        Some(AssignedBy::Asked) => text.write_str("asked")?,
                        Some(AssignedBy::Tenant) => text.write_str("tenant")?,
                        Some(AssignedBy::Default) => text.write_str("default")?,
                        None => {}
                    }
                    text.write_char('"')
                })
            });
        }
        let info =
            Column { metric: info, scale: Scale::Whole, values: vec![1; live.len()], labels: Some(infos) };
        let mut columns = columns(series, tier, live, ended);
        columns.insert(0, info);
        Self { labels, columns }
    }

    /// Writes rows from `place` on until the page has `most` bytes; false when there are no more.
    pub(super) fn write(&self, place: &mut Place, page: &mut Page, most: usize) -> bool {
        while let Some(column) = self.columns.get(place.column) {
            if place.row == 0 {
                page.family(column.metric);
            }
            let labels = column.labels.as_ref().unwrap_or(&self.labels);
            while let Some(value) = column.values.get(place.row) {
                page.row(column.metric.name, labels.get(place.row), *value, column.scale);
                place.row += 1;
                if page.text.len() >= most {
                    return true;
                }
            }
            *place = Place { column: place.column + 1, row: 0 };
        }
        false
    }
}

fn columns<T>(series: &'static [Series<T>], tier: Tier, live: &[Arc<T>], ended: &[Arc<T>]) -> Vec<Column> {
    let wanted: Vec<&'static Series<T>> = series.iter().filter(|series| series.metric.tier <= tier).collect();
    let room = live.len() + ended.len();
    let mut columns: Vec<Column> = wanted
        .iter()
        .map(|s| Column { metric: &s.metric, scale: s.scale, values: Vec::with_capacity(room), labels: None })
        .collect();
    for (published, is_over) in live.iter().map(|p| (p, false)).chain(ended.iter().map(|p| (p, true))) {
        for (column, series) in columns.iter_mut().zip(&wanted) {
            if !is_over || series.metric.kind == Kind::Counter {
                column.values.push((series.get)(published));
            }
        }
    }
    columns
}

impl Labels {
    fn add(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        // Into a String it cannot fail.
        let _ = write(&mut self.text);
        self.ends.push(self.text.len());
    }

    fn get(&self, row: usize) -> &str {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..self.ends[row]]
    }
}

fn escape(text: &mut String, value: &str) -> std::fmt::Result {
    for c in value.chars() {
        match c {
            '\\' => text.write_str("\\\\")?,
            '"' => text.write_str("\\\"")?,
            '\n' => text.write_str("\\n")?,
            _ => text.write_char(c)?,
        }
    }
    Ok(())
}
