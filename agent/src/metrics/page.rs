//! Lines of the exposition, in both formats: text 0.0.4, and OpenMetrics 1.0.0 where its names of counters, its units and its
//! exemplars differ.

use std::io::Write;

use prometheus::proto::MetricFamily;

use super::catalogue::{ABSENT, Kind, Metric, Scale, UNLIMITED, Unit};

/// How the exposition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// A decision that shows what a bucket of the reaction histogram counts.
#[derive(Debug, Clone, Copy)]
pub struct Exemplar {
    /// Its id in the journal.
    pub decision_id: u64,
    /// What it took, in microseconds.
    pub took_us: u64,
    /// When it was recorded, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

impl Format {
    /// The media type of it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Part of an exposition. Writing into memory cannot fail, so that results are dropped.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) format: Format,
    pub(super) text: Vec<u8>,
}

impl Page {
    /// The head of a family.
    pub(super) fn family(&mut self, metric: &Metric) {
        let name = match self.format {
            Format::Text => metric.name,
            Format::OpenMetrics => metric.family(),
        };
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind.as_str());
        if self.format == Format::OpenMetrics && metric.unit != Unit::None {
            let _ = writeln!(self.text, "# UNIT {name} {}", metric.unit.as_str());
        }
    }

    /// A line with a value that is not one of thousands; `labels` as they are between the braces.
    pub(super) fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = write!(self.text, "{name}");
        if !labels.is_empty() {
            let _ = write!(self.text, "{{{labels}}}");
        }
        self.text.push(b' ');
        self.number(value);
        self.text.push(b'\n');
    }

    /// A line of a workload or a tenant. Written by hand: formatting by `write!` takes three times as long.
    pub(super) fn row(&mut self, name: &str, labels: &str, value: u64, scale: Scale) {
        if value == ABSENT {
            return;
        }
        let text = &mut self.text;
        text.extend_from_slice(name.as_bytes());
        text.push(b'{');
        text.extend_from_slice(labels.as_bytes());
        text.extend_from_slice(b"} ");
        if value == UNLIMITED {
            text.extend_from_slice(b"+Inf");
        } else if scale == Scale::Whole {
            digits(text, value);
        } else {
            digits(text, value / 1_000_000);
            millionths(text, value % 1_000_000);
        }
        text.push(b'\n');
    }

    /// A family of the `prometheus` crate.
    pub(super) fn registered(&mut self, metric: &Metric, family: &MetricFamily, exemplars: &[Exemplar]) {
        self.family(metric);
        for one in family.get_metric() {
            let labels: Vec<String> =
                one.get_label().iter().map(|pair| format!("{}=\"{}\"", pair.name(), pair.value())).collect();
            let labels = labels.join(",");
            match metric.kind {
                Kind::Counter => self.line(metric.name, &labels, one.get_counter().get_value()),
                Kind::Gauge => self.line(metric.name, &labels, one.get_gauge().get_value()),
                Kind::Histogram => self.histogram(metric.name, one.get_histogram(), exemplars),
            }
        }
    }

    fn histogram(&mut self, name: &str, histogram: &prometheus::proto::Histogram, exemplars: &[Exemplar]) {
        let mut below = 0.0;
        let count = histogram.get_sample_count();
        let buckets = histogram.get_bucket().iter().map(|b| (b.upper_bound(), b.cumulative_count()));
        for (bound, count) in buckets.chain([(f64::INFINITY, count)]) {
            let _ = write!(self.text, "{name}_bucket{{le=\"");
            self.number(bound);
            let _ = write!(self.text, "\"}} {count}");
            let is_inside = |e: &&Exemplar| below < seconds(e.took_us) && seconds(e.took_us) <= bound;
            if self.format == Format::OpenMetrics
                && let Some(newest) = exemplars.iter().rev().find(is_inside)
            {
                let (took, at) = (seconds(newest.took_us), newest.unix_ns as f64 / 1e9);
                let _ = write!(self.text, " # {{decision_id=\"{}\"}} {took} {at:.3}", newest.decision_id);
            }
            self.text.push(b'\n');
            below = bound;
        }
        self.line(&format!("{name}_sum"), "", histogram.get_sample_sum());
        self.line(&format!("{name}_count"), "", count as f64);
    }

    fn number(&mut self, value: f64) {
        let _ = if value == f64::INFINITY {
            write!(self.text, "+Inf")
        } else {
            // Not a number is spelt `NaN`.
            write!(self.text, "{value}")
        };
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn digits(text: &mut Vec<u8>, mut value: u64) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        // A digit: it fits.
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend_from_slice(&buffer[at..]);
}

/// The digits after the point, as many as there are.
fn millionths(text: &mut Vec<u8>, mut value: u64) {
    if value == 0 {
        return;
    }
    text.push(b'.');
    let mut unit = 100_000;
    while value > 0 {
        text.push(b'0' + (value / unit % 10) as u8);
        value %= unit;
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_whole_and_exact() {
        for (value, scale, expected) in [
            (0, Scale::Whole, "x{l} 0\n"),
            (18_446_744_073_709_551_613, Scale::Whole, "x{l} 18446744073709551613\n"),
            (250_000, Scale::Millionths, "x{l} 0.25\n"),
            (1, Scale::Millionths, "x{l} 0.000001\n"),
            (12_000_000, Scale::Millionths, "x{l} 12\n"),
            (10_050_000, Scale::Millionths, "x{l} 10.05\n"),
            (UNLIMITED, Scale::Millionths, "x{l} +Inf\n"),
            (ABSENT, Scale::Whole, ""),
        ] {
            let mut page = Page { format: Format::Text, text: Vec::new() };
            page.row("x", "l", value, scale);
            assert_eq!(String::from_utf8(page.text).unwrap(), expected);
        }
    }
}
