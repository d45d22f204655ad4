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
//! Breaches lie 40 ms apart, so that each is heard as an event and not seen by a loop that looks hot anyway; so 20 ms have to be
//! calm for any growth, also one that these small steps do not keep ahead of (`calm_near_ms`). Of the agent only moves for
//! `tripwire_hit` count: the first look after calm. The first breach of each generator is not counted. Whatever finds no partner
//! is counted as missed, and told.
//!
//! # How it stays cheap
//! The agent runs with its own law set to steps of 256 KiB, as the floor has: the path is the same, and a breach costs a
//! hundred page faults instead of thousands. It may grant more than the machine has, since little of it is ever used.
//!
//! # With a thousand workloads
//! The agent governs 950 sleepers and a crew of 50 that breach in turn, and the floor listens to 50 cgroups of its own,
//! while two spinning processes keep both cpus busy. The agent goes on with its slow pass while the floor is measured; the
//! floor's thread has the same priority and a cpu of its own to go to.

use std::thread::sleep;

use anyhow::Context;

use crate::agent::Setup;
use crate::crew::{CALM, Generator};
use crate::floor::{Floor, Target};
use crate::governed::{Condition, Governed, Moved, PER_BLOCK, Reaction, SETTLE, breach_in_turn};
use crate::spinners::Spinners;
use crate::tree::Place;

/// A few more turns than needed make up for breaches that were missed.
const SPARE_BLOCKS: usize = 4;

pub(crate) const SETUP: Setup = Setup {
    name: "reaction",
    config: "[memory]\nstep_min = 262144\nstep_factor = 0.0\nrate_horizon_ms = 1\ncalm_near_ms = 20\n",
    flags: MORE_THAN_THERE_IS,
};
/// The agent may grant more than the machine has, since little of it is ever used.
pub(crate) const MORE_THAN_THERE_IS: &[&str] = &["--capacity", "64G", "--reserve", "1G"];

/// One workload, nothing else.
pub(crate) const ONE: Condition = Condition { crew: 1, sleepers: 0, life: 200, spinners: 0 };
/// A thousand workloads, both cpus busy.
pub(crate) const THOUSAND: Condition = Condition { crew: 50, sleepers: 950, life: 20, spinners: 2 };

/// Both sides under one condition.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) floor: Reaction,
    pub(crate) agent: Reaction,
}

/// Measures both sides under `condition`.
///
/// Takes turns until each side has `wanted` samples.
pub(crate) fn measure(place: &Place, condition: &Condition, wanted: usize) -> anyhow::Result<Pair> {
    let governed = Governed::start(place, &SETUP, condition)?;
    let mut spinners = Spinners::start(place, condition.spinners)?;
    let mut sides = Sides { place, governed, floor_crew: Vec::new(), targets: Vec::new(), made: 0 };
    let mut pair = Pair::default();
    for block in 0..wanted.div_ceil(PER_BLOCK) + SPARE_BLOCKS {
        let least = pair.floor.wake_to_write.len().min(pair.agent.wake_to_write.len());
        if least >= wanted {
            break;
        }
        sides.replace_spent(condition)?;
        sleep(SETTLE);
        sides.floor_block(&mut pair.floor).with_context(|| format!("floor, block {block}"))?;
        sides.governed.block(&mut pair.agent).with_context(|| format!("agent, block {block}"))?;
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
    governed: Governed<'a>,
    floor_crew: Vec<Generator>,
    targets: Vec<Target>,
    /// Cgroups made for the floor so far: their names.
    made: usize,
}

impl Sides<'_> {
    fn replace_spent(&mut self, condition: &Condition) -> anyhow::Result<()> {
        if !self.governed.replace_spent(condition)? {
            return Ok(());
        }
        for generator in self.floor_crew.drain(..) {
            generator.end(self.place)?;
        }
        self.targets.clear();
        for _ in 0..condition.crew {
            self.made += 1;
            let (generator, target) = Generator::under_floor(self.place, &format!("floor{}", self.made))?;
            self.floor_crew.push(generator);
            self.targets.push(target);
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

    fn end(self) -> anyhow::Result<()> {
        for generator in self.floor_crew {
            generator.end(self.place)?;
        }
        self.governed.end()
    }
}
