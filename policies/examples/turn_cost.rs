//! What a turn costs: step, plan, settle and commit of one workload of a thousand, with the budget's line empty, and with
//! everybody else in it; and a round of a squeeze over all of them, which one of 50 ms may add to a turn.
//!
//! `cargo run --release -p bellows-policies --example turn_cost`
//!
//! A figure to look at, not a test: time depends on the machine and on who else uses it.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::unwrap_used, reason = "an example has nobody to tell")]

use std::hint::black_box;
use std::time::Instant as Clock;

use bellows_policies::memory::Spare;
use bellows_policies::squeeze::{Round, Rung};
use bellows_policies::{
    Base, Budget, Bytes, Instant, Law, Limits, MemoryEvents, Sample, TenantId, Workload, launch, plan,
    settle, step,
};

const WORKLOADS: usize = 1000;
const TENANTS: usize = 100;
const ROUNDS: u64 = 200;

struct Fleet {
    budget: Budget,
    workloads: Vec<Workload>,
    events: u64,
}

impl Fleet {
    fn new(pool: u64) -> Self {
        let mut budget = Budget::new(Bytes::mib(pool), Bytes::ZERO);
        let tenants: Vec<TenantId> = (0..TENANTS).map(|_| budget.open()).collect();
        let workloads = (0..WORKLOADS).map(|n| {
            let seat = budget.join(tenants[n % TENANTS], Base::Standard, 100);
            let workload = Workload::new("32M..1G".parse().unwrap(), Law::default()).seated(seat);
            settle(&launch(&workload, &mut budget).unwrap(), &mut budget);
            workload
        });
        let workloads = workloads.collect();
        Self { budget, workloads, events: 0 }
    }

    /// A hit, a decision and a plan; what it was granted is taken back at once.
    fn turn(&mut self, index: usize, ms: u64) {
        self.events += 1;
        let events = MemoryEvents { high: self.events, ..MemoryEvents::default() };
        let workload = &mut self.workloads[index];
        let at = Instant(ms * 1_000_000);
        let look = step(workload, &Sample { at, current: workload.limits().high, events });
        let decided = plan(workload, look.decision, &mut self.budget);
        if let bellows_policies::Plan::Write { to, .. } = decided {
            settle(&decided, &mut self.budget);
            workload.commit(to, at);
        }
        let _ = black_box(look);
    }

    /// A workload gives back what it has above its floor, and whoever is next asks again.
    fn free(&mut self, index: usize, ms: u64) -> u64 {
        let workload = &mut self.workloads[index];
        let low = workload.launch_limits();
        let freed = workload.granted().saturating_sub(low.high);
        workload.commit(Limits { high: low.high, max: workload.limits().max }, Instant(ms * 1_000_000));
        let seat = workload.seat();
        self.budget.give_back(seat, freed);
        let mut served = 0;
        while let Some(seat) = self.budget.serve() {
            let index = self.workloads.iter().position(|w| w.seat() == Some(seat)).unwrap();
            self.workloads[index].ask_again();
            self.turn(index, ms);
            self.budget.served(seat);
            served += 1;
        }
        served
    }
}

/// One round: what all can spare is counted, and each gives its part.
fn squeeze(fleet: &Fleet, round: &mut Round, missing: u64) -> Bytes {
    let at = Instant(1_000_000_000_000);
    let spare = |workload: &Workload| match workload.spare(Rung::Slack, at) {
        Spare::Known(bytes) => bytes,
        Spare::AfterDetail => Bytes::ZERO,
    };
    let rank = |index: usize| (100 * (1 + u32::try_from(index % 3).unwrap()), 100);
    round.begin(Bytes::mib(missing));
    for (index, workload) in fleet.workloads.iter().enumerate() {
        let (priority, weight) = rank(index);
        round.count(priority, weight, spare(workload));
    }
    let _ = round.close();
    let parts = fleet.workloads.iter().enumerate().map(|(index, workload)| {
        let (priority, weight) = rank(index);
        round.part(priority, weight, spare(workload))
    });
    parts.fold(Bytes::ZERO, Bytes::saturating_add)
}

fn main() {
    for (name, pool) in [("room for all", 1_000_000), ("all but the floors is sold", 32_000 + 64)] {
        let mut fleet = Fleet::new(pool);
        let (mut turns, mut served, mut ms) = (0_u64, 0, 1000);
        let mut worst = 0.0_f64;
        let start = Clock::now();
        for _ in 0..ROUNDS {
            for index in 0..WORKLOADS {
                let one = Clock::now();
                fleet.turn(index, ms);
                worst = worst.max(one.elapsed().as_secs_f64());
                turns += 1;
            }
            ms += 100;
        }
        let each = start.elapsed().as_secs_f64() / turns as f64;
        println!("{name}: {:.2} us a turn, {:.1} us at worst", each * 1e6, worst * 1e6);
        let waiting = fleet.budget.waiting();
        let start = Clock::now();
        for index in 0..WORKLOADS {
            ms += 100;
            served += fleet.free(index, ms);
        }
        let each = start.elapsed().as_secs_f64() / WORKLOADS as f64;
        println!(
            "  room that comes: {:.2} us, {served} looks for {WORKLOADS} times, {waiting} in line",
            each * 1e6
        );
        let (mut round, start) = (Round::default(), Clock::now());
        for missing in 0..ROUNDS {
            black_box(squeeze(&fleet, &mut round, missing));
        }
        println!("  a round of a squeeze: {:.2} us", start.elapsed().as_secs_f64() / ROUNDS as f64 * 1e6);
    }
}
