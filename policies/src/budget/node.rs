//! The sums of the budget: what is asked for, charged and given back. Who has an account is next door (`accounts`), and room
//! that has come is shared in `share`.
//!
//! Invariants: the grants of a tenant are the sum of those of its seats; all grants are those of the tenants and of whoever
//! has no seat; `owed` is the sum over tenants of what is left of their guarantees.

use std::collections::VecDeque;

use super::LEAST_PART;
use super::accounts::{Member, Seat, Tenant};
use super::answer::{Grant, Level, Refusal};
use super::bounds::{Overcommit, TenantBounds};
use super::line::{Line, Link};
use super::share::Share;
use crate::ruleset::Base;
use crate::units::Bytes;

/// What may be granted in sum, and what has been.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// What there is, bytes.
    pub capacity: Bytes,
    /// What is never granted, bytes: bands and the emergency pool live there.
    pub reserve: Bytes,
    overcommit: Overcommit,
    pub(super) granted: Bytes,
    /// What is kept from others: what is left of all guarantees.
    pub(super) owed: Bytes,
    pub(super) guaranteed: Bytes,
    pub(super) tenants: Vec<Tenant>,
    pub(super) free_tenants: Vec<u32>,
    pub(super) members: Vec<Member>,
    pub(super) free_seats: Vec<u32>,
    /// Tenants below their caps with somebody who waits.
    pub(super) line: Line,
    pub(super) tenant_links: Vec<Link>,
    pub(super) seat_links: Vec<Link>,
    /// Something was freed since room was shared last.
    pub(super) has_room: bool,
    /// Whose turn it is to ask again.
    pub(super) served: VecDeque<Seat>,
    pub(super) tenant_shares: Vec<Share>,
    pub(super) member_shares: Vec<Share>,
}

impl Budget {
    /// A budget with nothing granted, no tenants, and no overcommit.
    #[must_use]
    pub fn new(capacity: Bytes, reserve: Bytes) -> Self {
        Self { capacity, reserve, ..Self::default() }
    }

    /// The same budget with other ratios of overcommit.
    #[must_use]
    pub fn with_overcommit(self, overcommit: Overcommit) -> Self {
        Self { overcommit, ..self }
    }

    /// What there is to grant when nothing is promised twice: capacity less reserve.
    #[must_use]
    pub fn pool(&self) -> Bytes {
        self.capacity.saturating_sub(self.reserve)
    }

    /// All grants and guarantees have to fit in this when a class is given more.
    #[must_use]
    pub fn pool_of(&self, class: Base) -> Bytes {
        self.pool().scale(self.overcommit.ratio(class))
    }

    /// What is never exceeded: the largest pool.
    #[must_use]
    pub fn most(&self) -> Bytes {
        self.pool().scale(self.overcommit.most())
    }

    /// What is granted.
    #[must_use]
    pub const fn granted(&self) -> Bytes {
        self.granted
    }

    /// What is left of the largest pool; zero also when that has become smaller than what is granted.
    #[must_use]
    pub fn free(&self) -> Bytes {
        self.most().saturating_sub(self.granted)
    }

    /// What there is for a workload now: in the node, and below its tenant's cap. Those who stand in line may have it before.
    #[must_use]
    pub fn free_for(&self, seat: Option<Seat>) -> Bytes {
        let allowance = self.member(seat).map_or(Bytes::ZERO, |member| member.allowance);
        self.room(seat).0.saturating_add(allowance)
    }

    /// The sums of all floors by class.
    #[must_use]
    pub fn floors(&self) -> [Bytes; 3] {
        Base::ALL.map(|class| {
            let of = |tenant: &Tenant| tenant.floors[class as usize];
            self.tenants.iter().map(of).fold(Bytes::ZERO, Bytes::saturating_add)
        })
    }

    /// How many wait for more.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.tenants.iter().map(Tenant::waiting).sum()
    }

    /// Whether somebody's turn has come to ask again; see [`Budget::serve`].
    #[must_use]
    pub fn is_sharing(&self) -> bool {
        self.line.count() > 0 && self.has_room || !self.served.is_empty()
    }

    /// Whether a floor fits, of a workload that holds `granted` already.
    pub fn fits(&self, seat: Option<Seat>, granted: Bytes, floor: Bytes) -> Result<(), Refusal> {
        let (most, level) = self.most_for(seat);
        if floor > most {
            return Err(Refusal::Infeasible { level, floor, most });
        }
        let (room, level) = self.room(seat);
        let free = room.saturating_add(granted);
        if floor > free { Err(Refusal::Deferred { level, floor, free }) } else { Ok(()) }
    }

    /// Charges the floor of a launch, all or nothing.
    pub fn admit(&mut self, seat: Option<Seat>, floor: Bytes) -> Result<(), Refusal> {
        self.fits(seat, Bytes::ZERO, floor)?;
        self.charge(seat, floor);
        self.protect(seat, floor);
        Ok(())
    }

    /// Counts what a workload holds already, whether it fits or not: an adopted one has it whatever we say.
    pub fn adopt(&mut self, seat: Option<Seat>, floor: Bytes, granted: Bytes) {
        self.charge(seat, granted);
        self.protect(seat, floor);
    }

    /// Charges a grow of one workload from `now_granted` to `want`, or as much of it as there is. For the rest it stands in
    /// line, if it has a seat.
    pub fn request(&mut self, seat: Option<Seat>, now_granted: Bytes, want: Bytes) -> Grant {
        let allowance = self.take_allowance(seat);
        let (most, most_level) = self.most_for(seat);
        let more = want.saturating_sub(now_granted);
        let feasible = want.min(most).saturating_sub(now_granted);
        let (usable, level) = self.usable(seat, allowance);
        let given = if feasible <= usable { feasible } else { usable.page_floor() };
        let given = if given >= feasible.min(LEAST_PART) { given } else { Bytes::ZERO };
        self.charge(seat, given);
        self.has_room |= given < allowance;
        if given > Bytes::ZERO || allowance > Bytes::ZERO {
            // Whoever was given something goes to the end of the line.
            self.withdraw(seat);
        }
        if given > Bytes::ZERO || allowance == Bytes::ZERO {
            // Whoever cannot use what was kept for it is not offered the same once more.
            self.wait(seat, feasible.saturating_sub(given));
        }
        if given == more {
            Grant::Full
        } else if given > Bytes::ZERO {
            Grant::Partial(now_granted.saturating_add(given))
        } else if want > most {
            Grant::Infeasible(most_level)
        } else {
            Grant::Deferred(level)
        }
    }

    /// Takes back what was charged: a workload shrank, or its write failed. Without a seat, also that it ended.
    pub fn give_back(&mut self, seat: Option<Seat>, bytes: Bytes) {
        let held = seat.map_or(self.granted, |seat| self.members[seat.index()].granted);
        self.change(seat, Bytes::saturating_sub, bytes.min(held));
        self.has_room |= bytes > Bytes::ZERO;
    }

    /// The workload waits for nothing any more.
    pub fn withdraw(&mut self, seat: Option<Seat>) {
        let Some(index) = seat.map(Seat::index) else { return };
        let member = &mut self.members[index];
        let (tenant, class) = (member.tenant as usize, member.class);
        let want = std::mem::take(&mut member.want);
        if want == Bytes::ZERO {
            return;
        }
        let wanted = &mut self.tenants[tenant].wanted[class as usize];
        *wanted = wanted.saturating_sub(want);
        self.tenants[tenant].line.leave(&mut self.seat_links, index);
        self.place(tenant);
    }

    /// Stands in line for `more`; where it stands already, it keeps its place.
    fn wait(&mut self, seat: Option<Seat>, more: Bytes) {
        let Some(index) = seat.map(Seat::index) else { return };
        if more == Bytes::ZERO {
            return self.withdraw(seat);
        }
        let member = &mut self.members[index];
        let before = std::mem::replace(&mut member.want, more);
        let (tenant, class) = (member.tenant as usize, member.class);
        let wanted = &mut self.tenants[tenant].wanted[class as usize];
        *wanted = wanted.saturating_sub(before).saturating_add(more);
        self.tenants[tenant].line.enter(&mut self.seat_links, index);
        self.place(tenant);
    }

    /// What may be granted to it now, and which level bounds that.
    pub(super) fn room(&self, seat: Option<Seat>) -> (Bytes, Level) {
        let Some(member) = self.member(seat) else {
            let left = self.pool_of(Base::default()).saturating_sub(self.granted).saturating_sub(self.owed);
            return (left, Level::Node);
        };
        let tenant = &self.tenants[member.tenant as usize];
        let kept = self.owed.saturating_sub(tenant.owed());
        let left = self.pool_of(member.class).saturating_sub(self.granted).saturating_sub(kept);
        lower(left.max(self.guaranteed_room(tenant)), tenant.below_cap())
    }

    /// What is kept for a tenant. After a takeover of more than there is even that may be missing.
    fn guaranteed_room(&self, tenant: &Tenant) -> Bytes {
        tenant.owed().min(self.free())
    }

    /// What it may be granted at most, when nobody else is granted anything.
    fn most_for(&self, seat: Option<Seat>) -> (Bytes, Level) {
        let Some(member) = self.member(seat) else {
            return (self.pool_of(Base::default()).saturating_sub(self.guaranteed), Level::Node);
        };
        let TenantBounds { guarantee, cap, .. } = self.tenants[member.tenant as usize].bounds;
        let others = self.guaranteed.saturating_sub(guarantee);
        let most = self.pool_of(member.class).saturating_sub(others).max(guarantee);
        let (most, level) = lower(most, cap.unwrap_or(Bytes(u64::MAX)));
        // As the kernel will have it.
        (most.page_floor(), level)
    }

    /// Room, as far as those in line leave it: who comes later takes nothing that was freed for them, nor the crumbs that
    /// would have to add up to a part for the first of them. What is guaranteed is taken past the line.
    /// What was charged for it in advance it has, whatever was granted to others since.
    fn usable(&self, seat: Option<Seat>, allowance: Bytes) -> (Bytes, Level) {
        let (room, level) = self.room(seat);
        if !self.has_rivals(seat) {
            return (room.max(allowance), level);
        }
        let own = self.member(seat).map_or(Bytes::ZERO, |member| {
            self.guaranteed_room(&self.tenants[member.tenant as usize]).min(room)
        });
        if allowance > Bytes::ZERO {
            (allowance.max(own), level)
        } else if self.is_sharing() || room < LEAST_PART {
            (room.saturating_sub(self.wanted_in_line()).max(own), level)
        } else {
            (room, level)
        }
    }

    /// What those in line want, as far as caps let them have it: while room is shared, that is left for them.
    fn wanted_in_line(&self) -> Bytes {
        let (mut sum, mut next) = (Bytes::ZERO, self.line.first());
        while let Some(index) = next {
            next = self.tenant_links[index].next();
            let tenant = &self.tenants[index];
            let wanted = tenant.wanted.into_iter().fold(Bytes::ZERO, Bytes::saturating_add);
            sum = sum.saturating_add(wanted.min(tenant.below_cap()));
        }
        sum
    }

    /// Whether anybody else stands in line who could use what it asks for.
    fn has_rivals(&self, seat: Option<Seat>) -> bool {
        let Some(member) = self.member(seat) else { return self.line.count() > 0 };
        let tenant = member.tenant as usize;
        let is_in = self.tenant_links[tenant].is_in();
        let here = self.tenants[tenant].line.count();
        self.line.count() > u32::from(is_in) || (is_in && here > u32::from(member.want > Bytes::ZERO))
    }

    /// Its turn has come, and it asks, or it does not: what was charged for it is free again.
    pub(super) fn take_allowance(&mut self, seat: Option<Seat>) -> Bytes {
        let Some(index) = seat.map(Seat::index) else { return Bytes::ZERO };
        let allowance = std::mem::take(&mut self.members[index].allowance);
        self.change(seat, Bytes::saturating_sub, allowance);
        allowance
    }

    pub(crate) fn charge(&mut self, seat: Option<Seat>, bytes: Bytes) {
        self.change(seat, Bytes::saturating_add, bytes);
    }

    /// Changes the sums of all levels by `bytes`, and what is owed with them.
    fn change(&mut self, seat: Option<Seat>, by: impl Fn(Bytes, Bytes) -> Bytes, bytes: Bytes) {
        self.granted = by(self.granted, bytes);
        let Some(index) = seat.map(Seat::index) else { return };
        let member = &mut self.members[index];
        member.granted = by(member.granted, bytes);
        let index = member.tenant as usize;
        let tenant = &mut self.tenants[index];
        let before = tenant.owed();
        tenant.granted = by(tenant.granted, bytes);
        self.owed = self.owed.saturating_sub(before).saturating_add(tenant.owed());
        self.place(index);
    }

    /// A tenant stands in the node's line while somebody of it waits and a part would fit below its cap.
    pub(super) fn place(&mut self, index: usize) {
        let tenant = &self.tenants[index];
        let can_use = tenant.waiting() > 0 && tenant.below_cap() >= LEAST_PART;
        if can_use {
            self.line.enter(&mut self.tenant_links, index);
        } else {
            self.line.leave(&mut self.tenant_links, index);
        }
    }

    fn member(&self, seat: Option<Seat>) -> Option<&Member> {
        self.members.get(seat?.0 as usize)
    }
}

fn lower(node: Bytes, tenant: Bytes) -> (Bytes, Level) {
    if tenant < node { (tenant, Level::Tenant) } else { (node, Level::Node) }
}
