//! Reloads of the policies, in the two names that Prometheus has for its own configuration, and a count by result.

use prometheus::{Gauge, IntCounter};

use super::register::Register;

/// What became of the readings of policy files.
#[derive(Debug)]
pub struct Reloads {
    succeeded: IntCounter,
    failed: IntCounter,
    is_last_good: Gauge,
    last_good_at: Gauge,
}

impl Reloads {
    pub(super) fn register(register: &Register) -> prometheus::Result<Self> {
        let reloads = |result| register.counter_of("bellows_policy_reload_total", result);
        Ok(Self {
            succeeded: reloads("success")?,
            failed: reloads("failure")?,
            is_last_good: register.gauge("bellows_policy_last_reload_successful")?,
            last_good_at: register.gauge("bellows_policy_last_reload_success_timestamp_seconds")?,
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
