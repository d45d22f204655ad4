//! The agent's fixed metrics, registered as the catalogue has them.

use prometheus::{Error, Gauge, Histogram, HistogramOpts, IntCounter, Opts, Registry, Result};

use super::catalogue::find;

/// 50 us to 1 s.
const BUCKETS: [f64; 14] =
    [50e-6, 100e-6, 200e-6, 350e-6, 500e-6, 750e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 100e-3, 0.5, 1.0];

/// Registers metrics by their names in the catalogue, at zero.
#[derive(Debug, Default)]
pub(super) struct Register {
    pub(super) registry: Registry,
}

impl Register {
    pub(super) fn counter(&self, name: &str) -> Result<IntCounter> {
        self.add(IntCounter::with_opts(options(name)?)?)
    }

    /// One with a value of its only label.
    pub(super) fn counter_of(&self, name: &str, value: &str) -> Result<IntCounter> {
        self.add(IntCounter::with_opts(labelled(name, value)?)?)
    }

    pub(super) fn gauge(&self, name: &str) -> Result<Gauge> {
        self.add(Gauge::with_opts(options(name)?)?)
    }

    pub(super) fn gauge_of(&self, name: &str, value: &str) -> Result<Gauge> {
        self.add(Gauge::with_opts(labelled(name, value)?)?)
    }

    pub(super) fn histogram(&self, name: &str) -> Result<Histogram> {
        let options = HistogramOpts::from(options(name)?).buckets(BUCKETS.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    fn add<T: prometheus::core::Collector + Clone + 'static>(&self, metric: T) -> Result<T> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

fn options(name: &str) -> Result<Opts> {
    let metric = find(name).ok_or_else(|| Error::Msg(format!("{name} is not in the catalogue")))?;
    Ok(Opts::new(name, metric.help))
}

fn labelled(name: &str, value: &str) -> Result<Opts> {
    let label = find(name).and_then(|metric| metric.labels.first());
    let label = label.ok_or_else(|| Error::Msg(format!("{name} has no label in the catalogue")))?;
    Ok(options(name)?.const_label(*label, value))
}
