//! Percentiles, exact from sorted samples.

use serde_json::{Value, json};

/// Nanoseconds, one per sample.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn push(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    /// Takes in all of `others`.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// How many are above this, milliseconds.
    pub(crate) fn above_ms(&self, ms: f64) -> usize {
        self.0.iter().filter(|&&nanoseconds| nanoseconds as f64 / 1e6 > ms).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The least sample that `share` of all samples do not exceed (nearest rank), in microseconds.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 1 and the number of samples"
        )]
        let rank = ((share * sorted.len() as f64).ceil() as usize).max(1);
        sorted.get(rank - 1).map_or(f64::NAN, |&ns| ns as f64 / 1000.0)
    }

    pub(crate) fn p50_us(&self) -> f64 {
        self.percentile_us(0.5)
    }

    pub(crate) fn p99_us(&self) -> f64 {
        self.percentile_us(0.99)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "p50_us": self.p50_us(),
            "p99_us": self.p99_us(),
            "n": self.len(),
            "p10_us": self.percentile_us(0.1),
            "p90_us": self.percentile_us(0.9),
            "max_us": self.percentile_us(1.0),
        })
    }
}

/// The middle of some figures; the upper one of two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
