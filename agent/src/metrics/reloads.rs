//! Reloads of the policies, in the two names that Prometheus has for its own configuration, and a count by result.

use prometheus::{Gauge, IntCounter, Opts, Registry};

/// What became of the readings of policy files.
#[derive(Debug)]
pub struct Reloads {
    succeeded: IntCounter,
    failed: IntCounter,
    is_last_good: Gauge,
    last_good_at: Gauge,
}

impl Reloads {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |result: &str| -> prometheus::Result<IntCounter> {
            let options = Opts::new("bellows_policy_reload_total", "Reloads of the policies, by result.");
            let counter = IntCounter::with_opts(options.const_label("result", result))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let gauge = Gauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            succeeded: counter("success")?,
            failed: counter("failure")?,
            is_last_good: gauge(
                "bellows_policy_last_reload_successful",
                "Whether the last reading of the policies succeeded.",
            )?,
            last_good_at: gauge(
                "bellows_policy_last_reload_success_timestamp_seconds",
                "When the policies were last read with success, in seconds since the Unix epoch.",
            )?,
        })
    }

    /// The agent has started with sound policies, at nanoseconds since the Unix epoch.
    pub fn begun(&self, unix_ns: u64) {
        self.is_last_good.set(1.0);
        self.last_good_at.set((unix_ns / 1_000_000_000) as f64);
    }

    /// They were reloaded.
    pub fn loaded(&self, unix_ns: u64) {
        self.succeeded.inc();
        self.begun(unix_ns);
    }

    /// They were to be reloaded, and the old ones stay.
    pub fn refused(&self) {
        self.failed.inc();
        self.is_last_good.set(0.0);
    }

    /// Whether the policies in force are those of the files, as far as is known.
    #[must_use]
    pub fn are_current(&self) -> bool {
        self.is_last_good.get() > 0.0
    }
}
