//! What the control loop publishes of each tenant, ten times a second, and sums over its workloads that outlive them: plain
//! atomics, read by scrapes and `bellows tenants`.
//!
//! A sum grows by what a workload's counter has grown since the last look at it, in that very look: added up by a scrape, it
//! would fall with each end of a workload, and a counter that falls is taken for a restart.

use std::sync::atomic::{AtomicU64, Ordering};

use bellows_policies::budget::Tenant;
use bellows_policies::units::Bytes;
use prometheus::IntCounter;

/// One tenant as everybody outside the control loop sees it.
#[derive(Debug)]
pub struct PublishedTenant {
    /// Its name.
    pub tenant: String,
    /// In the order of [`TenantView`]'s fields.
    values: [AtomicU64; 6],
    /// The sum of `memory.current`.
    current: AtomicU64,
    /// In the order of [`Sum`].
    sums: [AtomicU64; SUMS],
    oom_kills_of_node: IntCounter,
}

/// A counter of all workloads of a tenant, gone ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// Workloads that ended.
    Ended,
    /// `oom_kill`.
    OomKills,
    /// Charges that crossed `memory.high`.
    High,
    /// Moves of memory limits.
    Moves,
    /// Cpu time used, microseconds.
    CpuUsage,
    /// Time that cpus were throttled, microseconds.
    CpuThrottled,
}

const SUMS: usize = 6;

/// A reading of [`PublishedTenant`]. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantView {
    /// The sum of its workloads' grants.
    pub granted: Bytes,
    /// What is kept for it.
    pub guarantee: Bytes,
    /// What its grants never exceed, if anything.
    pub cap: Option<Bytes>,
    /// The sum of its workloads' floors.
    pub floors: Bytes,
    /// Its workloads.
    pub workloads: u64,
    /// How many of them wait for more.
    pub waiting: u64,
}

impl PublishedTenant {
    /// A tenant that nothing is known of yet; its OOM kills are those of the node, too.
    #[must_use]
    pub fn new(tenant: String, oom_kills_of_node: IntCounter) -> Self {
        Self {
            tenant,
            values: [const { AtomicU64::new(0) }; 6],
            current: AtomicU64::new(0),
            sums: [const { AtomicU64::new(0) }; SUMS],
            oom_kills_of_node,
        }
    }

    /// The use of one of its workloads has changed.
    pub(super) fn uses(&self, before: u64, now: u64) {
        // Modulo 2^64: less is more by a great deal.
        self.current.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// A counter of one of its workloads has risen.
    pub(super) fn add(&self, sum: Sum, more: u64) {
        self.sums[sum as usize].fetch_add(more, Ordering::Relaxed);
        if sum == Sum::OomKills {
            self.oom_kills_of_node.inc_by(more);
        }
    }

    /// The sum of what its workloads use.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// One of its counters.
    #[must_use]
    pub fn sum(&self, sum: Sum) -> u64 {
        self.sums[sum as usize].load(Ordering::Relaxed)
    }

    /// Publishes its sums.
    pub fn publish(&self, tenant: &Tenant) {
        let floors = tenant.floors.into_iter().fold(Bytes::ZERO, Bytes::saturating_add);
        let values = [
            tenant.granted.0,
            tenant.bounds.guarantee.0,
            tenant.bounds.cap.map_or(u64::MAX, |cap| cap.0),
            floors.0,
            tenant.workloads.into(),
            tenant.waiting().into(),
        ];
        for (cell, value) in self.values.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// What was published last.
    #[must_use]
    pub fn view(&self) -> TenantView {
        let [granted, guarantee, cap, floors, workloads, waiting] =
            self.values.each_ref().map(|cell| cell.load(Ordering::Relaxed));
        TenantView {
            granted: Bytes(granted),
            guarantee: Bytes(guarantee),
            cap: (cap != u64::MAX).then_some(Bytes(cap)),
            floors: Bytes(floors),
            workloads,
            waiting,
        }
    }
}
