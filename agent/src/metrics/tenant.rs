//! What the control loop publishes of each tenant, ten times a second: plain atomics, read by scrapes and `bellows tenants`.

use std::sync::atomic::{AtomicU64, Ordering};

use bellows_policies::budget::Tenant;
use bellows_policies::units::Bytes;

/// One tenant as everybody outside the control loop sees it.
#[derive(Debug)]
pub struct PublishedTenant {
    /// Its name.
    pub tenant: String,
    /// In the order of [`TenantView`]'s fields.
    values: [AtomicU64; 6],
}

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
    /// A tenant that nothing is known of yet.
    #[must_use]
    pub fn new(tenant: String) -> Self {
        Self { tenant, values: [const { AtomicU64::new(0) }; 6] }
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
