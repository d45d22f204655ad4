//! A cell of figures: each goes into `bench.json` and into the table at once, so that neither has what the other lacks.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::stats::Samples;

/// Figures that belong together.
#[derive(Debug)]
pub(crate) struct Cell {
    title: &'static str,
    values: Map<String, Value>,
    rows: String,
}

impl Cell {
    /// An empty one.
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, values: Map::new(), rows: String::new() }
    }

    /// Samples; shown in milliseconds or microseconds, as the end of `text` has it.
    pub(crate) fn samples(&mut self, key: &str, text: &str, samples: &Samples) {
        let unit = if text.ends_with(" ms") { 1000.0 } else { 1.0 };
        let shown = |share| samples.percentile_us(share) / unit;
        let (p50, p99, max, n) = (shown(0.5), shown(0.99), shown(1.0), samples.len());
        let _ = writeln!(self.rows, "  {text:<38} {p50:>12.1} {p99:>12.1} {max:>12.1} {n:>6}");
        self.values.insert(key.to_owned(), samples.json());
    }

    /// One figure.
    pub(crate) fn figure(&mut self, key: &str, text: &str, value: f64) {
        let _ = writeln!(self.rows, "  {text:<38} {value:>12.2}");
        self.values.insert(key.to_owned(), json!(value));
    }

    /// One figure, and the most that it may be.
    pub(crate) fn bar(&mut self, key: &str, text: &str, value: f64, most: f64) {
        self.judged(key, text, value, ("<=", most), value <= most);
    }

    /// One figure, and the least that it has to be.
    pub(crate) fn least(&mut self, key: &str, text: &str, value: f64, least: f64) {
        self.judged(key, text, value, (">=", least), value >= least);
    }

    fn judged(&mut self, key: &str, text: &str, value: f64, (sign, bar): (&str, f64), passed: bool) {
        let verdict = if passed { "PASS" } else { "miss" };
        let shown = format!("{sign} {bar}");
        let _ = writeln!(self.rows, "  {text:<38} {value:>12.2} {shown:>12} {verdict:>12}");
        self.values.insert(key.to_owned(), json!({ "value": value, "bar": bar, "passed": passed }));
    }

    /// Nothing where nothing was measured.
    pub(crate) fn json(&self) -> Value {
        if self.values.is_empty() { Value::Null } else { Value::Object(self.values.clone()) }
    }

    pub(crate) fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        format!("\n{:<40} {:>12} {:>12} {:>12} {:>6}\n{}", self.title, "p50", "p99", "max", "n", self.rows)
    }
}
