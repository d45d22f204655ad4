//! The ladder against a small world in which workloads hold memory and a waiter misses some: order, holds, and no cycles.

use bellows_policies::ladder::{Candidate, Grip, Ladder, LadderLaw, Lease, Leases, Waiter};
use bellows_policies::squeeze::Rung;
use bellows_policies::{Bytes, Instant};
use proptest::prelude::*;

/// Time between two looks, ms.
const STEP: u64 = 50;

#[derive(Clone, Debug)]
struct Member {
    candidate: Candidate,
    /// Whether its class has opted in to freeze and to kill.
    opted: [bool; 2],
    /// Steps of the cpu rung that it has left.
    quota: u32,
    leases: Leases,
    is_dead: bool,
}

/// What happened: when, ms, and what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Act(u64, Grip, usize, Lease),
    Ease(u64, Grip, usize),
}

struct World {
    ladder: Ladder,
    members: Vec<Member>,
    events: Vec<Event>,
    now: Instant,
}

fn ms(now: Instant) -> u64 {
    now.0 / 1_000_000
}

fn member(priority: u32, weight: u32, mib: u64, opted: [bool; 2]) -> Member {
    let candidate = Candidate { priority, weight, held: Bytes::mib(mib) };
    Member { candidate, opted, quota: 2, leases: Leases::default(), is_dead: false }
}

impl World {
    fn new(members: Vec<Member>) -> Self {
        Self { ladder: Ladder::new(LadderLaw::default()), members, events: Vec::new(), now: Instant(0) }
    }

    fn is_frozen(&self, index: usize) -> bool {
        !self.members[index].is_dead && self.members[index].leases.of(Grip::Freeze).is_some()
    }

    fn frozen(&self) -> usize {
        (0..self.members.len()).filter(|&index| self.is_frozen(index)).count()
    }

    fn may(&self, grip: Grip, index: usize, waiter: Waiter) -> bool {
        let member = &self.members[index];
        let is_free = match grip {
            Grip::Cpu => member.quota > 0,
            Grip::Freeze => member.opted[0] && !self.is_frozen(index),
            Grip::Kill => member.opted[1],
        };
        is_free && !member.is_dead && grip.may_take(member.candidate.priority, waiter.priority)
    }

    /// As the agent does: a grip on all of the lowest priority, or on the first one.
    fn act(&mut self, grip: Grip, waiter: Waiter) -> u32 {
        let mut chosen: Vec<usize> = (0..self.members.len()).filter(|&i| self.may(grip, i, waiter)).collect();
        if grip == Grip::Cpu {
            let lowest = chosen.iter().map(|&i| self.members[i].candidate.priority).min();
            chosen.retain(|&i| Some(self.members[i].candidate.priority) == lowest);
        } else {
            let first = chosen.iter().copied().reduce(|best, i| {
                if self.members[i].candidate.goes_before(&self.members[best].candidate) { i } else { best }
            });
            chosen = first.into_iter().collect();
        }
        for &index in &chosen {
            let order = self.ladder.next_order();
            let law = *self.ladder.law();
            let member = &mut self.members[index];
            let lease = member.leases.take(grip, &law, order, self.now);
            member.quota -= u32::from(grip == Grip::Cpu);
            member.is_dead |= grip == Grip::Kill;
            self.events.push(Event::Act(ms(self.now), grip, index, lease));
        }
        u32::try_from(chosen.len()).unwrap_or(u32::MAX)
    }

    /// One look: whoever waits is refused, and a milder rung gives something or not; then leases end.
    fn look(&mut self, waiter: Option<Waiter>, gives: bool) {
        self.now = Instant(self.now.0 + STEP * 1_000_000);
        if let Some(waiter) = waiter {
            self.ladder.refused(waiter, self.now);
            if gives {
                self.ladder.yielded(waiter.who, Rung::Slack, Bytes::MIB, self.now);
            } else {
                let mut next = self.ladder.unmet(waiter.who, self.now);
                while let Some(grip) = next {
                    let count = self.act(grip, waiter);
                    next = self.ladder.tried(grip, count, self.now);
                }
            }
        }
        if let Some(index) = self.last_over(Grip::Freeze) {
            self.ease(Grip::Freeze, index);
            self.ladder.thawed(self.now);
        }
        while self.frozen() == 0
            && let Some(index) = self.last_over(Grip::Cpu)
        {
            self.ease(Grip::Cpu, index);
            self.members[index].quota = 2;
        }
    }

    fn last_over(&self, grip: Grip) -> Option<usize> {
        let over = self.members.iter().enumerate().filter_map(|(index, member)| {
            let lease = member.leases.of(grip).filter(|_| !member.is_dead)?;
            let is_over = self.ladder.is_over(grip, &lease, member.candidate.priority, self.now);
            is_over.then_some((lease.order, index))
        });
        over.max().map(|(_, index)| index)
    }

    fn ease(&mut self, grip: Grip, index: usize) {
        assert!(self.members[index].leases.give_back(grip, self.now).is_some());
        self.events.push(Event::Ease(ms(self.now), grip, index));
    }

    fn run(&mut self, for_ms: u64, waiter: Option<Waiter>, gives: bool) {
        for _ in 0..for_ms / STEP {
            self.look(waiter, gives);
        }
    }

    fn acts(&self, wanted: Grip) -> Vec<(u64, usize, Lease)> {
        let of = |event: &Event| match *event {
            Event::Act(at, grip, index, lease) if grip == wanted => Some((at, index, lease)),
            Event::Act(..) | Event::Ease(..) => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    fn thaws(&self) -> Vec<(u64, usize)> {
        let of = |event: &Event| match *event {
            Event::Ease(at, Grip::Freeze, index) => Some((at, index)),
            Event::Ease(..) | Event::Act(..) => None,
        };
        self.events.iter().filter_map(of).collect()
    }
}

const LATENCY: Waiter = Waiter { who: 1, priority: 300 };

#[test]
fn rung_by_rung_up_and_in_reverse_down() {
    let opted = [true, false];
    let mut world = World::new(vec![
        member(100, 100, 50, opted),
        member(100, 100, 90, opted),
        member(100, 300, 100, opted),
        member(200, 100, 500, opted),
        member(300, 100, 500, opted),
    ]);
    world.run(12_000, Some(LATENCY), false);
    let acts: Vec<(Grip, usize)> = world
        .events
        .iter()
        .map(|event| match *event {
            Event::Act(_, grip, index, _) => (grip, index),
            Event::Ease(..) => panic!("{event:?}"),
        })
        .collect();
    let cpu = |indices: &[usize]| indices.iter().map(|&index| (Grip::Cpu, index)).collect::<Vec<_>>();
    let mut expected = cpu(&[0, 1, 2]);
    // Of equals whoever holds most for its weight; the higher priority last; equals of the waiter never.
    expected.extend([1, 0, 2, 3].map(|index| (Grip::Freeze, index)));
    assert_eq!(acts, expected);

    world.events.clear();
    world.run(60_000, None, false);
    let eased: Vec<usize> = world.thaws().iter().map(|(_, index)| *index).collect();
    assert_eq!(eased, [3, 2, 0, 1], "the last one first");
    let gaps: Vec<u64> = world.thaws().windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| *gap >= LadderLaw::default().thaw_gap_ms), "{gaps:?}");
    let last = world.thaws().last().copied().unwrap().0;
    let early = |event: &Event| matches!(*event, Event::Ease(at, Grip::Cpu, _) if at < last);
    assert!(!world.events.iter().any(early), "quotas after the frozen: {:?}", world.events);
    assert_eq!(world.events.len(), 7, "{:?}", world.events);
}

#[test]
fn nothing_is_climbed_while_a_milder_rung_gives_nor_before_it_had_time() {
    let law = LadderLaw::default();
    let mut world = World::new(vec![member(100, 100, 50, [true, true])]);
    world.run(20_000, Some(LATENCY), true);
    assert_eq!(world.events, []);
    world.run(20_000, Some(LATENCY), false);
    let times: Vec<u64> = world
        .events
        .iter()
        .map(|event| match *event {
            Event::Act(at, ..) | Event::Ease(at, ..) => at,
        })
        .collect();
    assert!(times[0] >= 20_000 + law.climb_ms, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= law.climb_ms), "{times:?}");
    assert_eq!(world.acts(Grip::Kill).len(), 1);
}

#[test]
fn kills_are_one_at_a_time() {
    let mut world = World::new((0..5).map(|n| member(100, 100, n, [false, true])).collect());
    world.run(60_000, Some(LATENCY), false);
    let kills = world.acts(Grip::Kill);
    assert_eq!(kills.iter().map(|(_, index, _)| *index).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    assert!(kills.windows(2).all(|pair| pair[1].0 - pair[0].0 >= LadderLaw::default().kill_gap_ms));
}

#[test]
fn a_constant_pressure_is_no_cycle() {
    // It stays although somebody is frozen: nobody is thawed.
    let mut world = World::new(vec![member(100, 100, 50, [true, false])]);
    world.run(3_600_000, Some(LATENCY), false);
    assert_eq!((world.acts(Grip::Freeze).len(), world.thaws().len()), (1, 0));

    // It goes away by the freezing alone, and comes back with the thaw: ever longer holds, so few of them.
    let mut world = World::new(vec![member(100, 100, 50, [true, false])]);
    for _ in 0..3_600_000 / STEP {
        let waiter = (world.frozen() == 0).then_some(LATENCY);
        world.look(waiter, false);
    }
    let holds: Vec<u64> = world.acts(Grip::Freeze).iter().map(|(_, _, lease)| lease.hold_ms / 1000).collect();
    assert_eq!(holds[..6], [10, 20, 40, 80, 160, 300], "{holds:?}");
    assert!(holds.len() < 18, "{holds:?}");
}

#[test]
fn a_lease_is_not_kept_by_whom_it_could_not_have_been_taken_for() {
    let mut world = World::new(vec![member(100, 100, 50, [true, false])]);
    world.run(5_000, Some(LATENCY), false);
    assert_eq!(world.frozen(), 1);
    // An equal waits for ever.
    world.run(60_000, Some(Waiter { who: 2, priority: 100 }), false);
    assert_eq!(world.frozen(), 0);
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let one = (prop::sample::select(vec![100_u32, 200, 300]), 1_u32..500, 0_u64..900, any::<[bool; 2]>())
        .prop_map(|(priority, weight, mib, opted)| member(priority, weight, mib, opted));
    prop::collection::vec(one, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Waiters come and go, and milder rungs give or do not, at random.
    #[test]
    fn whatever_happens(
        members in members(),
        script in prop::collection::vec((0_u64..4, any::<bool>(), 1_u64..15_000), 1..30),
    ) {
        let mut world = World::new(members);
        let waiter = |who: u64| (who > 0).then(|| Waiter { who, priority: 100 * (1 + u32::try_from(who).unwrap()) });
        for (who, gives, for_ms) in script {
            world.run(for_ms, waiter(who), gives);
        }
        let law = *world.ladder.law();
        let (mut tried, mut last_kill) = (false, None);
        for event in &world.events {
            let Event::Act(at, grip, index, lease) = *event else { continue };
            let one = &world.members[index];
            // Never without consent, and never who is as important as anybody.
            prop_assert!(grip == Grip::Cpu || one.opted[grip as usize - 1]);
            prop_assert!(one.candidate.priority < 400);
            prop_assert!(lease.hold_ms >= law.hold_ms && lease.hold_ms <= law.hold_most_ms);
            // The first act of all is the mildest: all of them have a quota to lend of.
            prop_assert!(std::mem::replace(&mut tried, true) || grip == Grip::Cpu);
            if grip == Grip::Kill {
                prop_assert!(last_kill.is_none_or(|before| at - before >= law.kill_gap_ms));
                last_kill = Some(at);
            }
        }
        // Once nobody waits, every lease ends.
        let living = world.members.len() as u64;
        world.run(2 * law.hold_most_ms + living * law.thaw_gap_ms + 1000, None, false);
        let held = |m: &Member| !m.is_dead && (m.leases.of(Grip::Freeze).is_some() || m.leases.of(Grip::Cpu).is_some());
        prop_assert!(!world.members.iter().any(held));
    }

    /// Of two who may both be held, the less important one is, whatever their weights: latency never before batch.
    #[test]
    fn priority_goes_before_everything(members in members()) {
        let mut world = World::new(members);
        world.run(120_000, Some(Waiter { who: 9, priority: u32::MAX }), false);
        for grip in [Grip::Freeze, Grip::Kill] {
            let order: Vec<u32> =
                world.acts(grip).iter().map(|(_, index, _)| world.members[*index].candidate.priority).collect();
            prop_assert!(order.is_sorted(), "{grip:?} {order:?}");
        }
    }
}
