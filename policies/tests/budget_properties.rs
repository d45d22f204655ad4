//! Whatever is asked in whatever order: sums stay within budgets, guarantees are kept, what is free is not left lying while
//! somebody waits, shares are by weight, and nobody starves. Held against a model that keeps nothing but what each workload
//! holds and wants, and computes everything else from scratch.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test may panic, and its numbers are small"
)]

use bellows_policies::budget::LEAST_PART;
use bellows_policies::{Base, Budget, Bytes, Grant, Level, Overcommit, Seat, TenantBounds, TenantId};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

const POOL: Bytes = Bytes::mib(256);
type Checked<T = ()> = Result<T, TestCaseError>;

/// What a workload holds, and up to what it wants.
#[derive(Clone, Debug)]
struct Held {
    seat: Seat,
    tenant: usize,
    class: Base,
    granted: Bytes,
    want: Bytes,
    waits: bool,
}

#[derive(Clone, Debug)]
struct Model {
    budget: Budget,
    overcommit: Overcommit,
    tenants: Vec<(TenantId, TenantBounds)>,
    held: Vec<Held>,
    /// Granted above a cap that was lowered.
    excess: Vec<Bytes>,
}

/// One thing that happens: what, to whom, and how much.
type Event = (u8, usize, u64);

fn sum(bytes: impl Iterator<Item = Bytes>) -> Bytes {
    bytes.fold(Bytes::ZERO, Bytes::saturating_add)
}

fn open(budget: &mut Budget, bounds: TenantBounds) -> TenantId {
    let tenant = budget.open();
    budget.set_bounds(tenant, bounds).unwrap();
    tenant
}

impl Model {
    fn new(overcommit: Overcommit, bounds: &[TenantBounds]) -> Self {
        let mut budget = Budget::new(POOL, Bytes::ZERO).with_overcommit(overcommit);
        let tenants: Vec<_> = bounds.iter().map(|&bounds| (open(&mut budget, bounds), bounds)).collect();
        Self { budget, overcommit, excess: vec![Bytes::ZERO; tenants.len()], tenants, held: Vec::new() }
    }

    fn granted(&self, tenant: usize) -> Bytes {
        sum(self.held.iter().filter(|held| held.tenant == tenant).map(|held| held.granted))
    }

    fn owed(&self, tenant: usize) -> Bytes {
        self.tenants[tenant].1.guarantee.saturating_sub(self.granted(tenant))
    }

    fn all(&self) -> (Bytes, Bytes) {
        let tenants = 0..self.tenants.len();
        (sum(tenants.clone().map(|t| self.granted(t))), sum(tenants.map(|t| self.owed(t))))
    }

    fn pool(&self, class: Base) -> Bytes {
        POOL.scale(self.overcommit.ratio(class))
    }

    fn below_cap(&self, tenant: usize) -> Bytes {
        self.tenants[tenant].1.cap.map_or(Bytes(u64::MAX), |cap| cap.saturating_sub(self.granted(tenant)))
    }

    /// What there is for a workload, whoever else waits for it.
    fn room(&self, held: &Held) -> Bytes {
        let (granted, owed) = self.all();
        let own = self.owed(held.tenant);
        let common = self.pool(held.class).saturating_sub(granted).saturating_sub(owed.saturating_sub(own));
        common.max(own).min(self.below_cap(held.tenant))
    }

    fn most(&self, held: &Held) -> Bytes {
        let TenantBounds { guarantee, cap, .. } = self.tenants[held.tenant].1;
        let others = sum(self.tenants.iter().map(|(_, b)| b.guarantee)).saturating_sub(guarantee);
        let node = self.pool(held.class).saturating_sub(others).max(guarantee);
        node.min(cap.unwrap_or(node)).page_floor()
    }

    fn request(&mut self, index: usize) -> Checked {
        let before = self.held[index].clone();
        let (room, most) = (self.room(&before), self.most(&before));
        // What is offered to others of its tenant is charged already, and so owed no more.
        let of_tenant = self.held.iter().filter(|h| h.tenant == before.tenant && h.seat != before.seat);
        let own =
            self.owed(before.tenant).saturating_sub(sum(of_tenant.map(|h| self.budget.offered(h.seat))));
        let more = before.want.saturating_sub(before.granted);
        let offered = self.budget.offered(before.seat);
        let answer = self.budget.request(Some(before.seat), before.granted, before.want);
        let granted = match answer {
            Grant::Full => before.want.max(before.granted),
            Grant::Partial(high) => high,
            Grant::Deferred(_) | Grant::Infeasible(_) => before.granted,
        };
        let given = granted.saturating_sub(before.granted);
        prop_assert!(given <= room, "{answer:?} of {room} to {before:?}");
        let guaranteed = more.min(own).min(self.below_cap(before.tenant));
        let is_crumb = guaranteed < LEAST_PART && guaranteed < more;
        prop_assert!(
            is_crumb || given >= guaranteed.page_floor(),
            "{answer:?}, {own} are owed to {before:?}"
        );
        let others_wait = self.held.iter().enumerate().any(|(i, held)| i != index && held.waits);
        match answer {
            Grant::Full => {}
            Grant::Partial(high) => prop_assert!(given < more && (given >= LEAST_PART || high == most)),
            Grant::Deferred(Level::Tenant) => {
                prop_assert!(others_wait || self.below_cap(before.tenant) < more);
            }
            Grant::Deferred(Level::Node) => {
                prop_assert!(before.want <= most && (others_wait || room < more.min(LEAST_PART)));
            }
            Grant::Infeasible(_) => prop_assert!(before.want > most),
        }
        let is_spent = offered > Bytes::ZERO && given == Bytes::ZERO;
        let waits = before.want.min(most) > granted && !is_spent;
        self.held[index] = Held { granted, waits, ..before };
        self.check()
    }

    /// All whose turn it is ask again; then nothing is free that somebody waits for.
    fn serve(&mut self) -> Checked {
        while let Some(seat) = self.budget.serve() {
            let index = self.held.iter().position(|held| held.seat == seat).expect("who left is not served");
            prop_assert!(self.held[index].waits);
            self.request(index)?;
            self.budget.served(seat);
        }
        let (granted, owed) = self.all();
        for held in self.held.iter().filter(|held| held.waits && self.below_cap(held.tenant) >= LEAST_PART) {
            let common = self.pool(held.class).saturating_sub(granted).saturating_sub(owed);
            let most = common.max(self.owed(held.tenant));
            prop_assert!(most < LEAST_PART, "{most} are left lying, and {held:?} waits");
        }
        let waiting = self.held.iter().filter(|held| held.waits).count();
        prop_assert_eq!(self.budget.waiting() as usize, waiting);
        self.check()
    }

    fn check(&mut self) -> Checked {
        let (granted, owed) = self.all();
        // A part that is offered is charged until it was asked for.
        let charged = self.budget.granted();
        prop_assert!(granted <= charged && granted.saturating_add(owed) <= self.budget.most());
        prop_assert!(self.budget.is_sharing() || granted == charged, "{granted} are held, {charged} charged");
        for tenant in 0..self.tenants.len() {
            let (granted, excess) = (self.granted(tenant), self.excess[tenant]);
            let cap = self.tenants[tenant].1.cap.unwrap_or(Bytes(u64::MAX));
            prop_assert!(granted <= cap.max(excess), "tenant {tenant} holds {granted} of {cap}");
            self.excess[tenant] = granted;
        }
        Ok(())
    }

    fn happen(&mut self, (what, who, how_much): Event) -> Checked {
        let size = Bytes(how_much << 12);
        if what == 0 || self.held.is_empty() {
            let tenant = who % self.tenants.len();
            let class = Base::ALL[how_much as usize % 3];
            let seat = self.budget.join(self.tenants[tenant].0, class, 1 + how_much as u32 % 300);
            let mut held = Held { seat, tenant, class, granted: Bytes::ZERO, want: size, waits: false };
            let floor = Bytes(size.0 / 16);
            let fits = self.budget.admit(Some(seat), floor);
            prop_assert_eq!(fits.is_ok(), floor <= self.room(&held).min(self.most(&held)), "{:?}", fits);
            if fits.is_ok() {
                held.granted = floor;
                self.held.push(held);
            } else {
                self.budget.leave(seat);
            }
            return self.check();
        }
        let index = who % self.held.len();
        match what {
            1 => {
                self.budget.leave(self.held[index].seat);
                self.held.remove(index);
            }
            2 => {
                let held = &mut self.held[index];
                let back = Bytes(held.granted.0 / 8 * (how_much % 9)).page_floor();
                self.budget.give_back(Some(held.seat), back);
                held.granted = held.granted.saturating_sub(back);
            }
            3 => {
                let held = &mut self.held[index];
                self.budget.withdraw(Some(held.seat));
                held.waits = false;
            }
            4 => {
                let tenant = who % self.tenants.len();
                let (id, bounds) = &mut self.tenants[tenant];
                bounds.cap = (how_much % 4 > 0).then(|| bounds.guarantee.saturating_add(size));
                self.budget.set_bounds(*id, *bounds).unwrap();
                self.excess[tenant] = self.granted(tenant);
            }
            _ => {
                self.held[index].want = size;
                return self.request(index);
            }
        }
        self.check()
    }
}

fn tenants() -> impl Strategy<Value = Vec<TenantBounds>> {
    let one =
        (0..80_u64, proptest::option::of(0..160_u64), 1..400_u32).prop_map(|(guarantee, cap, weight)| {
            let guarantee = Bytes::mib(guarantee.saturating_sub(20));
            TenantBounds { guarantee, cap: cap.map(|cap| guarantee.saturating_add(Bytes::mib(cap))), weight }
        });
    proptest::collection::vec(one, 1..4)
}

fn overcommit() -> impl Strategy<Value = Overcommit> {
    let ratio = || prop_oneof![3 => Just(1.0), 1 => 0.5..3.0_f64];
    (ratio(), ratio(), ratio()).prop_map(|(latency, standard, batch)| Overcommit { latency, standard, batch })
}

/// Weighted max-min by trying every level at which somebody is filled or rises above the least part.
fn poured(room: f64, vessels: &[(f64, f64)]) -> Vec<f64> {
    let least = LEAST_PART.0 as f64;
    let at = |level: f64| -> Vec<f64> {
        vessels.iter().map(|(weight, most)| (weight * level).max(least).min(*most)).collect()
    };
    let mut levels: Vec<f64> =
        vessels.iter().flat_map(|(weight, most)| [most / weight, least / weight]).collect();
    levels.sort_by(f64::total_cmp);
    let Some(above) = levels.iter().position(|&level| at(level).iter().sum::<f64>() > room) else {
        return vessels.iter().map(|(_, most)| *most).collect();
    };
    let low = if above == 0 { 0.0 } else { levels[above - 1] };
    // Between two such levels what is held rises in a straight line.
    let (a, b) = (at(low).iter().sum::<f64>(), at(levels[above]).iter().sum::<f64>());
    at(low + (levels[above] - low) * (room - a) / (b - a))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// And the same happens again when the same happens again.
    #[test]
    fn sums_guarantees_and_caps_hold_and_nothing_lies_idle(
        overcommit in overcommit(),
        tenants in tenants(),
        events in proptest::collection::vec((0..9_u8, 0..64_usize, 0..50_000_u64), 1..120),
    ) {
        let mut model = Model::new(overcommit, &tenants);
        let mut again = model.clone();
        for event in events {
            model.happen(event)?;
            // Not every turn ends before the next request comes.
            if event.1 % 3 > 0 {
                model.serve()?;
            }
            again.happen(event)?;
            if event.1 % 3 > 0 {
                again.serve()?;
            }
            prop_assert_eq!(format!("{:?}", model.held), format!("{:?}", again.held));
        }
        model.serve()?;
        for held in std::mem::take(&mut model.held) {
            model.budget.leave(held.seat);
        }
        prop_assert_eq!((model.budget.granted(), model.budget.waiting()), (Bytes::ZERO, 0));
    }

    /// Enough for all in line: each is given its share, to the page.
    #[test]
    fn shares_are_weighted_max_min(
        tenants in proptest::collection::vec(
            (1..1000_u32, 0..100_u64, proptest::collection::vec((1..1000_u32, 2..60_u64), 1..5)), 1..5),
        freed in 20..200_u64,
    ) {
        let mut budget = Budget::new(POOL, Bytes::ZERO);
        let holder = budget.open();
        let holder = budget.join(holder, Base::Standard, 1);
        budget.admit(Some(holder), POOL).unwrap();
        let mut seats = Vec::new();
        let mut vessels = Vec::new();
        for (weight, cap, workloads) in tenants {
            let cap = Bytes::mib(cap.max(workloads.len() as u64));
            let bounds = TenantBounds { cap: Some(cap), weight, ..TenantBounds::default() };
            let tenant = open(&mut budget, bounds);
            let mut wants = Vec::new();
            for (weight, want) in workloads {
                let seat = budget.join(tenant, Base::Standard, weight);
                let want = Bytes::mib(want).min(cap);
                let _ = budget.request(Some(seat), Bytes::ZERO, want);
                seats.push(seat);
                wants.push((f64::from(weight), want.0 as f64));
            }
            vessels.push((f64::from(weight), wants.iter().map(|w| w.1).sum::<f64>().min(cap.0 as f64), wants));
        }
        budget.give_back(Some(holder), Bytes::mib(freed));
        let room = Bytes::mib(freed).0 as f64;
        let outer: Vec<_> = vessels.iter().map(|(weight, most, _)| (*weight, *most)).collect();
        let mut served = Vec::new();
        for ((_, _, wants), room) in vessels.iter().zip(poured(room, &outer)) {
            // Where a tenant's part is too small for all of its own, who comes last in line waits.
            let first = wants.len().min((room / LEAST_PART.0 as f64 + 1e-9) as usize);
            served.extend(poured(room, &wants[..first]));
            served.extend(vec![0.0; wants.len() - first]);
        }
        // Of the first round only: what pages leave is shared once more.
        for (seat, share) in seats.iter().zip(served).filter(|(_, share)| *share > 0.0) {
            prop_assert_eq!(budget.serve(), Some(*seat));
            let part = budget.offered(*seat);
            prop_assert!((part.0 as f64 - share).abs() <= 4096.0 + 2.0, "{part} instead of {share}");
        }
    }

    /// Each free of one least part serves one, and after a bounded number of them everybody has been served, whatever the
    /// weights, and however often others ask.
    #[test]
    fn nobody_starves(
        workloads in proptest::collection::vec((0..4_usize, 1..1000_u32), 2..24),
        greedy in 0..24_usize,
    ) {
        let mut budget = Budget::new(POOL, Bytes::ZERO);
        let bounds = |weight| TenantBounds { weight, ..TenantBounds::default() };
        let tenants = [1, 10, 100, 1000].map(|weight| open(&mut budget, bounds(weight)));
        let holder = budget.join(tenants[0], Base::Standard, 1);
        budget.admit(Some(holder), POOL).unwrap();
        let seats: Vec<Seat> =
            workloads.iter().map(|&(tenant, weight)| budget.join(tenants[tenant], Base::Standard, weight)).collect();
        for seat in &seats {
            let _ = budget.request(Some(*seat), Bytes::ZERO, POOL);
        }
        let mut given = vec![Bytes::ZERO; seats.len()];
        // At worst each tenant's turn comes after all others', and of its workloads one is served at a time.
        for _ in 0..4 * seats.len() {
            budget.give_back(Some(holder), LEAST_PART);
            let greedy = greedy % seats.len();
            let refused = budget.request(Some(seats[greedy]), given[greedy], POOL);
            prop_assert!(matches!(refused, Grant::Deferred(_)), "{refused:?} past the line");
            while let Some(seat) = budget.serve() {
                let index = seats.iter().position(|other| *other == seat).unwrap();
                if let Grant::Partial(high) = budget.request(Some(seat), given[index], POOL) {
                    given[index] = high;
                }
                budget.served(seat);
            }
        }
        prop_assert!(given.iter().all(|given| *given >= LEAST_PART), "{given:?}");
    }
}
