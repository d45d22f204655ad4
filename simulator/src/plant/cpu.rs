//! A group under `cpu.max`, as the kernel's CFS bandwidth control treats it (`kernel/sched/fair.c`).
//!
//! Modelled: the timer runs only while the group does, and one period more; at its end unused quota is kept up to the burst,
//! the period is counted, and counted as throttled when the group waits; a write refills at once and lets a throttled group
//! run on. Left out: that cpus take the quota in slices of 5 ms and may strand some, and that a tick may overrun it, which
//! is paid back later.

use bellows_policies::cpu::units::PERIOD_US;
use bellows_policies::{CpuSample, Cpus, Instant};

/// The finest tick, microseconds.
pub const TICK_US: u64 = 1000;

/// What a workload would use.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// Work that arrives. What cannot be done waits, up to 100 ms of all threads; more is lost.
    pub rate: Cpus,
    /// How many cpus it can use at once.
    pub threads: u64,
}

/// A cgroup's cpu.
#[derive(Clone, Debug)]
pub struct Group {
    /// The quota of a period, microseconds.
    pub quota_us: u64,
    /// It waits for a refill.
    pub is_throttled: bool,
    /// The counters; `at` is set by [`Group::sample`].
    pub stat: CpuSample,
    burst_us: u64,
    runtime_us: u64,
    backlog_us: u64,
    wanted_us: u64,
    /// When the period ends, while the timer runs.
    period_ends: Option<u64>,
    is_idle: bool,
    phase_us: u64,
    tick_us: u64,
}

impl Demand {
    /// No work.
    pub const NONE: Self = Self { rate: Cpus::ZERO, threads: 0 };

    /// All that `threads` can use.
    #[must_use]
    pub fn hog(threads: u64) -> Self {
        Self { rate: Cpus(threads * Cpus::ONE.0), threads }
    }

    /// Work on four threads.
    #[must_use]
    pub fn milli(milli: u64) -> Self {
        Self { rate: Cpus::milli(milli), threads: 4 }
    }
}

impl Group {
    /// A group whose periods end `phase_us` after the full tenth of a second, in ticks of [`TICK_US`].
    #[must_use]
    pub fn new(quota: Cpus, burst: Cpus, phase_us: u64) -> Self {
        Self::with_tick(quota, burst, phase_us, TICK_US)
    }

    /// The same in ticks of `tick_us`, which divide a period.
    #[must_use]
    pub fn with_tick(quota: Cpus, burst: Cpus, phase_us: u64, tick_us: u64) -> Self {
        Self {
            quota_us: quota.quota_us(),
            is_throttled: false,
            stat: CpuSample::default(),
            burst_us: burst.quota_us(),
            runtime_us: quota.quota_us(),
            backlog_us: 0,
            wanted_us: 0,
            period_ends: None,
            is_idle: true,
            phase_us,
            tick_us,
        }
    }

    /// Begins a tick: ends a period that is over, takes in work, and tells how much cpu time it can use.
    pub fn begin(&mut self, now_us: u64, demand: Demand) -> u64 {
        if self.period_ends.is_some_and(|ends| now_us >= ends) {
            self.end_period();
        }
        let most = demand.threads * PERIOD_US;
        self.backlog_us = (self.backlog_us + demand.rate.0 * self.tick_us / 1_000_000).min(most);
        self.wanted_us = self.backlog_us.min(demand.threads * self.tick_us);
        if self.wanted_us > 0 {
            self.is_idle = false;
            if self.period_ends.is_none() {
                let since = (now_us + PERIOD_US - self.phase_us) % PERIOD_US;
                self.period_ends = Some(now_us + PERIOD_US - since);
            }
        }
        self.wanted_us.min(self.runtime_us)
    }

    /// Ends the tick: runs for what the node gave it of that, throttled if its quota was too little.
    pub fn run(&mut self, given_us: u64) {
        self.is_throttled = self.wanted_us > self.runtime_us;
        self.runtime_us -= given_us;
        self.backlog_us -= given_us;
        self.stat.usage_us += given_us;
        if self.is_throttled {
            self.stat.throttled_us += self.tick_us;
        }
    }

    /// A write to `cpu.max`: refills, whatever the value.
    ///
    /// # Panics
    /// At a quota below the burst, which the kernel would refuse.
    pub fn write(&mut self, quota: Cpus) {
        assert!(quota.quota_us() >= self.burst_us, "the kernel would refuse it: EINVAL");
        self.quota_us = quota.quota_us();
        self.refill();
        self.is_throttled = false;
    }

    /// What the agent reads.
    #[must_use]
    pub fn sample(&self, now_us: u64) -> CpuSample {
        CpuSample { at: Instant(now_us * 1000), ..self.stat }
    }

    fn end_period(&mut self) {
        self.stat.nr_periods += 1;
        self.refill();
        if self.is_idle && !self.is_throttled {
            self.period_ends = None;
            return;
        }
        if self.is_throttled {
            self.stat.nr_throttled += 1;
            self.is_throttled = false;
        } else {
            self.is_idle = true;
        }
        self.period_ends = self.period_ends.map(|ends| ends + PERIOD_US);
    }

    fn refill(&mut self) {
        self.runtime_us = (self.runtime_us + self.quota_us).min(self.quota_us + self.burst_us);
    }
}
