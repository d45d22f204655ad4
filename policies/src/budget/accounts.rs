//! Accounts: tenants and what bounds them, and the seats of their workloads.

use super::bounds::{BoundsError, TenantBounds};
use super::line::{Line, Link};
use super::node::Budget;
use crate::ruleset::Base;
use crate::units::Bytes;

/// A workload's place in the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seat(pub(super) u32);

impl Seat {
    /// A small number that no other workload has at the same time.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tenant's place in the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub(super) u32);

/// One tenant as the budget sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tenant {
    /// What it is promised and allowed.
    pub bounds: TenantBounds,
    /// The sum of its workloads' grants, bytes.
    pub granted: Bytes,
    /// The sums of their floors by class, bytes.
    pub floors: [Bytes; 3],
    /// How many there are.
    pub workloads: u32,
    pub(super) line: Line,
    /// What those in line want, by class.
    pub(super) wanted: [Bytes; 3],
}

/// A workload as the budget sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Member {
    pub(super) tenant: u32,
    pub(super) class: Base,
    pub(super) weight: u32,
    floor: Bytes,
    pub(super) granted: Bytes,
    /// How much more it waits for; nothing when it does not stand in line.
    pub(super) want: Bytes,
    /// Charged for it already, while it is its turn to ask again.
    pub(super) allowance: Bytes,
}

impl Tenant {
    /// How many of its workloads wait for more.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.line.count()
    }

    /// What is left of its guarantee.
    pub(super) fn owed(&self) -> Bytes {
        self.bounds.guarantee.saturating_sub(self.granted)
    }

    /// What is left below its cap.
    pub(super) fn below_cap(&self) -> Bytes {
        self.bounds.cap.map_or(Bytes(u64::MAX), |cap| cap.saturating_sub(self.granted))
    }
}

impl Budget {
    /// Opens an account for a tenant, without bounds of its own.
    pub fn open(&mut self) -> TenantId {
        TenantId(self.free_tenants.pop().unwrap_or_else(|| {
            self.tenants.push(Tenant::default());
            self.tenant_links.push(Link::default());
            self.tenant_shares.reserve(self.tenants.len());
            self.free_tenants.reserve(self.tenants.len());
            name(self.tenants.len() - 1)
        }))
    }

    /// Gives a tenant bounds, if they can be kept beside those of others. What it has been granted above a lower cap it keeps until it shrinks.
    pub fn set_bounds(&mut self, tenant: TenantId, bounds: TenantBounds) -> Result<(), BoundsError> {
        self.check(self.tenant(tenant).bounds.guarantee, bounds)?;
        self.bind(tenant.0 as usize, bounds);
        self.place(tenant.0 as usize);
        Ok(())
    }

    /// Closes the account of a tenant that has no workloads left.
    pub fn close(&mut self, tenant: TenantId) {
        debug_assert_eq!(self.tenant(tenant).workloads, 0, "its workloads are still there");
        self.bind(tenant.0 as usize, TenantBounds::default());
        self.free_tenants.push(tenant.0);
    }

    /// A tenant's sums.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> &Tenant {
        &self.tenants[tenant.0 as usize]
    }

    /// Whose workload it is.
    #[must_use]
    pub fn tenant_of(&self, seat: Seat) -> TenantId {
        TenantId(self.members[seat.index()].tenant)
    }

    /// Seats a workload of `tenant` that holds nothing yet. `weight`: its share of what its tenant is given, 1 or more.
    pub fn join(&mut self, tenant: TenantId, class: Base, weight: u32) -> Seat {
        let index = self.free_seats.pop().unwrap_or_else(|| {
            self.members.push(Member::default());
            self.seat_links.push(Link::default());
            let count = self.members.len();
            self.member_shares.reserve(count);
            self.served.reserve(count.saturating_sub(self.served.len()));
            self.free_seats.reserve(count);
            name(count - 1)
        });
        self.members[index as usize] =
            Member { tenant: tenant.0, class, weight: weight.max(1), ..Member::default() };
        self.tenants[tenant.0 as usize].workloads += 1;
        Seat(index)
    }

    /// A policy has changed what a seated workload is: its class, weight and floor. What it holds stays, and it stands in line
    /// anew when it asks again.
    pub fn regrade(&mut self, seat: Seat, class: Base, weight: u32, floor: Bytes) {
        self.withdraw(Some(seat));
        self.unprotect(seat);
        let member = &mut self.members[seat.index()];
        (member.class, member.weight) = (class, weight.max(1));
        self.protect(Some(seat), floor);
    }

    /// The workload is gone: what it held is given back.
    pub fn leave(&mut self, seat: Seat) {
        self.withdraw(Some(seat));
        self.unprotect(seat);
        let Member { tenant, granted, .. } = self.members[seat.index()];
        self.served.retain(|served| *served != seat);
        self.give_back(Some(seat), granted);
        self.tenants[tenant as usize].workloads -= 1;
        self.free_seats.push(seat.0);
    }

    fn unprotect(&mut self, seat: Seat) {
        let member = &mut self.members[seat.index()];
        let floor = std::mem::take(&mut member.floor);
        let floors = &mut self.tenants[member.tenant as usize].floors[member.class as usize];
        *floors = floors.saturating_sub(floor);
    }

    pub(super) fn protect(&mut self, seat: Option<Seat>, floor: Bytes) {
        let Some(index) = seat.map(Seat::index) else { return };
        let member = &mut self.members[index];
        member.floor = floor;
        let floors = &mut self.tenants[member.tenant as usize].floors[member.class as usize];
        *floors = floors.saturating_add(floor);
    }

    fn check(&self, before: Bytes, bounds: TenantBounds) -> Result<(), BoundsError> {
        let TenantBounds { guarantee, cap, weight } = bounds;
        let guaranteed = self.guaranteed.saturating_sub(before).saturating_add(guarantee);
        if let Some(cap) = cap.filter(|cap| *cap < guarantee) {
            return Err(BoundsError::GuaranteeAboveCap { guarantee, cap });
        }
        if weight == 0 {
            return Err(BoundsError::NoWeight);
        }
        let pool = self.pool();
        if guarantee > Bytes::ZERO && guaranteed > pool {
            return Err(BoundsError::GuaranteesExceedPool { guaranteed, pool });
        }
        Ok(())
    }

    /// Takes bounds over into the sums.
    fn bind(&mut self, index: usize, bounds: TenantBounds) {
        let tenant = &mut self.tenants[index];
        let (before, owed) = (tenant.bounds.guarantee, tenant.owed());
        tenant.bounds = bounds;
        self.guaranteed = self.guaranteed.saturating_sub(before).saturating_add(bounds.guarantee);
        self.owed = self.owed.saturating_sub(owed).saturating_add(tenant.owed());
        self.has_room = true;
    }
}

/// Far more would not fit in memory.
fn name(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
