//! Room that has come is poured out among those who wait, as water into vessels: weighted max-min, first over tenants, then
//! over the workloads of each.
//!
//! # How
//! What is left of a tenant's guarantee is its own. The rest goes to the first tenants in line, as many as a
//! [`LEAST_PART`] each would serve, up to a common level: what a tenant is given is its weight times the level, at least
//! the least part, and at most what its workloads want and its cap allows. What it is given is poured out among the first
//! of its workloads in the same way. Each is charged at once, so that nobody else takes it, and stands in a list of those
//! whose turn it is to ask again: what they want now decides, and what they leave is shared once more.
//!
//! Classes of different pools are served in turn, the smallest pool first: what is left of it is part of the next.
//!
//! # Why so
//! The cost follows what was freed, not how many wait: a MiB serves one. Where nobody is served (a least part is not there)
//! the crumbs are left to add up. Rejected: a share for each that waits, which for many is too small to be worth a write,
//! and a queue without weights, which a tenant with many workloads would fill.

use super::LEAST_PART;
use super::accounts::Seat;
use super::node::Budget;
use crate::ruleset::Base;
use crate::units::Bytes;

/// One vessel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    index: usize,
    weight: u32,
    /// What it is given before the others are given more than that.
    least: Bytes,
    /// What it can take.
    most: Bytes,
    /// What it has without sharing.
    own: Bytes,
}

impl Budget {
    /// Whose turn it is to ask again, since room has come: look at it now, then call [`Budget::served`]. `None`: nobody's.
    /// Does not allocate.
    pub fn serve(&mut self) -> Option<Seat> {
        while self.served.is_empty() && self.has_room && self.line.count() > 0 {
            self.share();
        }
        self.served.pop_front()
    }

    /// What is kept for a workload whose turn it is, bytes; with it are charged.
    #[must_use]
    pub fn offered(&self, seat: Seat) -> Bytes {
        self.members[seat.0 as usize].allowance
    }

    /// Its turn is over, whether it asked or not.
    pub fn served(&mut self, seat: Seat) {
        self.has_room |= self.take_allowance(Some(seat)) > Bytes::ZERO;
    }

    fn share(&mut self) {
        let before = self.served.len();
        let mut is_done = [false; 3];
        loop {
            let left = Base::ALL.into_iter().filter(|class| !is_done[*class as usize]);
            let Some(pool) = left.map(|class| self.pool_of(class)).min() else { break };
            let classes = Base::ALL.map(|class| !is_done[class as usize] && self.pool_of(class) == pool);
            self.share_pool(pool, classes);
            is_done.iter_mut().zip(classes).for_each(|(done, now)| *done |= now);
        }
        // What was left where workloads want little is shared once more.
        self.has_room = self.served.len() > before;
    }

    fn share_pool(&mut self, pool: Bytes, classes: [bool; 3]) {
        let common = pool.saturating_sub(self.granted).saturating_sub(self.owed);
        let (mut left, mut kept, mut is_short) = (common, self.free(), false);
        let mut shares = std::mem::take(&mut self.tenant_shares);
        shares.clear();
        let mut next = self.line.first();
        while let Some(index) = next {
            next = self.tenant_links[index].next();
            let tenant = &self.tenants[index];
            let wanted = Base::ALL.into_iter().filter(|class| classes[*class as usize]);
            let wanted = wanted.fold(Bytes::ZERO, |sum, c| sum.saturating_add(tenant.wanted[c as usize]));
            let want = wanted.min(tenant.below_cap());
            let own = want.min(tenant.owed()).min(kept);
            let least = want.min(LEAST_PART).saturating_sub(own);
            // Nobody behind the first who has to go without is given of what is common.
            is_short |= least > left;
            if want == Bytes::ZERO || (is_short && least > Bytes::ZERO) {
                continue;
            }
            kept = kept.saturating_sub(own);
            left = left.saturating_sub(least);
            let most = if is_short { Bytes::ZERO } else { want.saturating_sub(own) };
            shares.push(Share { index, weight: tenant.bounds.weight, least, most, own });
        }
        let level = level(&shares, common);
        for share in &shares {
            self.serve_tenant(share.index, share.own.saturating_add(share.at(level)), classes);
        }
        self.tenant_shares = shares;
    }

    fn serve_tenant(&mut self, tenant: usize, room: Bytes, classes: [bool; 3]) {
        let mut left = room;
        let mut shares = std::mem::take(&mut self.member_shares);
        shares.clear();
        let mut next = self.tenants[tenant].line.first();
        while let Some(index) = next {
            next = self.seat_links[index].next();
            let member = &self.members[index];
            if !classes[member.class as usize] {
                continue;
            }
            let (most, least) = (member.want, member.want.min(LEAST_PART));
            if least > left {
                break;
            }
            left = left.saturating_sub(least);
            shares.push(Share { index, weight: member.weight, least, most, own: Bytes::ZERO });
        }
        let level = level(&shares, room);
        for share in &shares {
            let (part, seat) = (share.pages_at(level), Seat(u32::try_from(share.index).unwrap_or(u32::MAX)));
            self.withdraw(Some(seat));
            self.charge(Some(seat), part);
            self.members[share.index].allowance = part;
            self.served.push_back(seat);
        }
        if !shares.is_empty() {
            // Those of its workloads that still wait wait behind other tenants.
            self.line.leave(&mut self.tenant_links, tenant);
            self.place(tenant);
        }
        self.member_shares = shares;
    }
}

impl Share {
    /// What it holds at a level, which is in bytes by weight.
    fn at(&self, level: f64) -> Bytes {
        Bytes(u64::from(self.weight)).scale(level).max(self.least).min(self.most)
    }

    /// The same in whole pages, unless it is all that is wanted.
    fn pages_at(&self, level: f64) -> Bytes {
        let part = self.at(level);
        if part == self.most { part } else { part.page_floor() }
    }
}

/// The level up to which `room` fills all, by halving: to the byte after 52 times.
fn level(shares: &[Share], room: Bytes) -> f64 {
    let filled = |level: f64| shares.iter().fold(Bytes::ZERO, |sum, s| sum.saturating_add(s.at(level)));
    // No weight is less than one: at this level each would hold all.
    let (mut low, mut high) = (0.0, room.0 as f64);
    if filled(high) <= room {
        return high;
    }
    for _ in 0..52 {
        let middle = f64::midpoint(low, high);
        if filled(middle) <= room { low = middle } else { high = middle }
    }
    low
}
