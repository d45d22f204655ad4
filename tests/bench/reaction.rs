//! How fast limits are moved: the floor and the agent in turns, breach by breach, in the same kernel.
//!
//! # What is measured
//! One breach at a time: a generator touches pages until its `high` counter rises, and tells when the crossing touch
//! began. *Breach to write* lasts from there until the limits are written; *wake to write* from the loop's return from its
//! wait. For the floor both ends are its own clock readings. For the agent they are what its journal says: the time of the
//! record, which is taken a little after the second write, and `wake_to_write_us`, which is cut to whole microseconds; so
//! the floor's is cut, too.
//!
//! # What is counted
//! Breaches lie 40 ms apart, so that each is heard as an event and not seen by a loop that looks hot anyway. Of the agent
//! only moves for `tripwire_hit` count: the first look after calm. The first breach of each generator is not counted.
//! Whatever finds no partner is counted as missed, and told.
//!
//! # How it stays cheap
//! The agent runs with its own law set to steps of 256 KiB, as the floor has: the path is the same, and a breach costs a
//! hundred page faults instead of thousands. It may grant more than the machine has, since little of it is ever used.
//!
//! # With a thousand workloads
//! The agent governs 950 sleepers and a crew of 50 that breach in turn, and the floor listens to 50 cgroups of its own,
//! while two spinning processes keep both cpus busy. The agent goes on with its slow pass while the floor is measured; the
//! floor's thread has the same priority and a cpu of its own to go to.

use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use bellows::journal::{Record, What};
use bellows::kernel::clock;
use bellows_policies::units::{Bounds, Instant};
use bellows_policies::{Reason, Verb};

use crate::agent::{Agent, Setup};
use crate::crew::{CALM, CEILING, FIRST_LIMIT, Generator};
use crate::floor::{Floor, Target};
use crate::stats::Samples;
use crate::tree::{self, Place};

/// Breaches of each side in one turn.
const PER_BLOCK: usize = 100;
/// A few more turns than needed make up for breaches that were missed.
const SPARE_BLOCKS: usize = 4;
/// After launches, and before the journal is read: it is drained every 50 ms.
const SETTLE: Duration = Duration::from_millis(200);

const SETUP: Setup = Setup {
    config: "[memory]\nstep_min = 262144\nstep_factor = 0.0\nrate_horizon_ms = 0\n",
    flags: &["--capacity", "64G", "--reserve", "1G"],
};

/// Under what condition.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Generators of each side.
    crew: usize,
    /// Workloads of the agent that sleep.
    sleepers: usize,
    /// Breaches of one generator before it is replaced, which bounds its memory.
    life: usize,
    /// Processes that take all cpu time they can get.
    spinners: usize,
}

/// One workload, nothing else.
pub(crate) const ONE: Condition = Condition { crew: 1, sleepers: 0, life: 200, spinners: 0 };
/// A thousand workloads, both cpus busy.
pub(crate) const THOUSAND: Condition = Condition { crew: 50, sleepers: 950, life: 20, spinners: 2 };

/// What was measured on one side.
#[derive(Debug, Default)]
pub(crate) struct Reaction {
    pub(crate) wake_to_write: Samples,
    pub(crate) breach_to_write: Samples,
    /// Breaches that no counted move answered.
    pub(crate) missed: usize,
}

/// Both sides under one condition.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) floor: Reaction,
    pub(crate) agent: Reaction,
}

/// One move of limits, of whichever side.
#[derive(Debug)]
struct Moved<'a> {
    name: &'a str,
    wake_to_write: Duration,
    wrote: Instant,
}

/// One breach: whose, and when.
type Breach = (String, Instant);

/// Measures both sides under `condition`.
///
/// Takes turns until each side has `wanted` samples.
pub(crate) fn measure(place: &Place, condition: &Condition, wanted: usize) -> anyhow::Result<Pair> {
    let mut agent = Agent::start(place, &SETUP)?;
    agent.pin()?;
    let asleep = Bounds::new(FIRST_LIMIT, CEILING).map_err(|e| anyhow::anyhow!("{e}"))?;
    agent.launch_idle(condition.sleepers, asleep).context("cannot start the sleepers")?;
    let mut spinners = Spinners::start(place, condition.spinners)?;
    let mut sides =
        Sides { place, agent, crew: Vec::new(), floor_crew: Vec::new(), targets: Vec::new(), made: 0 };
    let mut pair = Pair::default();
    for block in 0..wanted.div_ceil(PER_BLOCK) + SPARE_BLOCKS {
        let least = pair.floor.wake_to_write.len().min(pair.agent.wake_to_write.len());
        if least >= wanted {
            break;
        }
        sides.replace_spent(condition)?;
        sleep(SETTLE);
        sides.floor_block(&mut pair.floor).with_context(|| format!("floor, block {block}"))?;
        sides.agent_block(&mut pair.agent).with_context(|| format!("agent, block {block}"))?;
        eprintln!(
            "bellows-bench: {} workloads: {} of {wanted} samples",
            condition.crew + condition.sleepers,
            pair.agent.wake_to_write.len()
        );
    }
    spinners.stop();
    sides.end()?;
    Ok(pair)
}

/// Both crews.
struct Sides<'a> {
    place: &'a Place,
    agent: Agent<'a>,
    crew: Vec<Generator>,
    floor_crew: Vec<Generator>,
    targets: Vec<Target>,
    /// Cgroups made for the floor so far: their names.
    made: usize,
}

impl Sides<'_> {
    fn replace_spent(&mut self, condition: &Condition) -> anyhow::Result<()> {
        let needed = PER_BLOCK.div_ceil(condition.crew);
        if self.crew.first().is_some_and(|g| g.has_left(needed, condition.life)) {
            return Ok(());
        }
        for generator in self.crew.drain(..).chain(self.floor_crew.drain(..)) {
            generator.end(self.place)?;
        }
        self.targets.clear();
        for _ in 0..condition.crew {
            self.made += 1;
            let (generator, target) = Generator::under_floor(self.place, &format!("floor{}", self.made))?;
            self.floor_crew.push(generator);
            self.targets.push(target);
            self.crew.push(Generator::under_agent(self.place, &mut self.agent)?);
        }
        Ok(())
    }

    fn floor_block(&mut self, reaction: &mut Reaction) -> anyhow::Result<()> {
        let floor = Floor::start(std::mem::take(&mut self.targets), 2 * PER_BLOCK)?;
        sleep(CALM);
        let breaches = breach_in_turn(&mut self.floor_crew);
        // Whatever happened, the thread is ended.
        let (targets, moves) = floor.finish()?;
        self.targets = targets;
        let moves: Vec<Moved<'_>> = moves
            .iter()
            .filter_map(|m| {
                let name = &self.floor_crew.get(m.target)?.name;
                Some(Moved { name, wake_to_write: m.wrote.since(m.woke), wrote: m.wrote })
            })
            .collect();
        reaction.count(&breaches?, &moves);
        Ok(())
    }

    fn agent_block(&mut self, reaction: &mut Reaction) -> anyhow::Result<()> {
        self.agent.records()?;
        let breaches = breach_in_turn(&mut self.crew)?;
        sleep(SETTLE);
        let records = self.agent.records()?;
        let ahead = clock::unix_nanoseconds().saturating_sub(clock::now().0);
        let moves: Vec<Moved<'_>> = records.iter().filter_map(|record| moved(record, ahead)).collect();
        reaction.count(&breaches, &moves);
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        for generator in self.crew.into_iter().chain(self.floor_crew) {
            generator.end(self.place)?;
        }
        self.agent.stop()
    }
}

impl Reaction {
    /// Finds for each breach the one move that answered it: the same workload's, before the next breach.
    fn count(&mut self, breaches: &[Breach], moves: &[Moved<'_>]) {
        for (number, (name, at)) in breaches.iter().enumerate() {
            let next = breaches.get(number + 1).map_or(Instant(u64::MAX), |(_, next)| *next);
            let answer = moves.iter().find(|m| m.name == name && (*at..next).contains(&m.wrote));
            let Some(answer) = answer else {
                self.missed += 1;
                continue;
            };
            self.wake_to_write.push(cut(answer.wake_to_write));
            self.breach_to_write.push(answer.wrote.0 - at.0);
        }
    }
}

/// A record that counts as an answer, its time as `CLOCK_MONOTONIC`; `ahead` is how far the other clock is ahead.
fn moved(record: &Record, ahead: u64) -> Option<Moved<'_>> {
    let What::LimitsMoved { verb: Verb::Grow, reason: Reason::TripwireHit, wake_to_write_us, .. } =
        record.what
    else {
        return None;
    };
    Some(Moved {
        name: &record.workload,
        wake_to_write: Duration::from_micros(wake_to_write_us),
        wrote: Instant(record.unix_ns.saturating_sub(ahead)),
    })
}

fn breach_in_turn(crew: &mut [Generator]) -> anyhow::Result<Vec<Breach>> {
    ensure!(!crew.is_empty(), "there is nobody to breach");
    let mut breaches = Vec::with_capacity(PER_BLOCK);
    for number in 0..PER_BLOCK {
        let turn = number % crew.len();
        let generator = &mut crew[turn];
        let at = generator.breach()?;
        breaches.push((generator.name.clone(), at));
        sleep(CALM);
    }
    Ok(breaches)
}

/// Whole microseconds, as the journal has them; in nanoseconds.
fn cut(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(1000)
}

/// Processes that keep cpus busy, in a cgroup of their own.
struct Spinners<'a> {
    place: &'a Place,
    running: Vec<Child>,
}

const SPINNING: &str = "spin";

impl<'a> Spinners<'a> {
    fn start(place: &'a Place, count: usize) -> anyhow::Result<Self> {
        let mut spinners = Self { place, running: Vec::new() };
        if count > 0 {
            let path = place.cgroup.create_child(SPINNING)?.path().display().to_string();
            for _ in 0..count {
                spinners.running.push(place.start(&["spin", &path])?);
            }
        }
        Ok(spinners)
    }

    fn stop(&mut self) {
        if self.running.is_empty() {
            return;
        }
        for mut spinner in self.running.drain(..) {
            let _ = spinner.kill();
            let _ = spinner.wait();
        }
        if let Err(error) = tree::clear(&self.place.cgroup, SPINNING) {
            eprintln!("bellows-bench: {error:#}");
        }
    }
}

impl Drop for Spinners<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
