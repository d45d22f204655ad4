//! The ways of hearing `memory.events.local`, against each other: three agents at the same time, breach by breach in turns.
//!
//! Each agent has its share of the workloads, so that a thousand are a thousand in all. The order of the three changes from
//! turn to turn. Beside the reaction it counts, over the same breaches, how often the control loop turned and how much cpu
//! time it took: a turn is a wake-up for an event, for a timer, or for the slow pass ten times a second.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use crate::agent::Setup;
use crate::cpu::CONTROL;
use crate::governed::{Condition, Governed, PER_BLOCK, Reaction, SETTLE};
use crate::reaction::MORE_THAN_THERE_IS;
use crate::spinners::Spinners;
use crate::threads::{self, Cost};
use crate::tree::Place;

/// Configurations that differ in this one key.
macro_rules! ways {
    ($($name:literal),*) => {
        [$(Setup {
            name: $name,
            config: concat!(
                "[agent]\nhearing = \"", $name, "\"\n",
                "[memory]\nstep_min = 262144\nstep_factor = 0.0\nrate_horizon_ms = 1\ncalm_near_ms = 20\n"
            ),
            flags: MORE_THAN_THERE_IS,
        }),*]
    };
}
const WAYS: [Setup; 3] = ways!["both", "inotify", "pollpri"];

/// One workload for each agent, nothing else.
pub(crate) const ONE: Condition = Condition { crew: 1, sleepers: 0, life: 200, spinners: 0 };
/// A third of a thousand for each agent, both cpus busy.
pub(crate) const THOUSAND: Condition = Condition { crew: 20, sleepers: 313, life: 20, spinners: 2 };

/// One way of hearing.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) name: &'static str,
    pub(crate) reaction: Reaction,
    /// Turns of the control loop.
    pub(crate) turns: u64,
    /// What its thread cost.
    pub(crate) cost: Cost,
    /// Over this many breaches.
    pub(crate) breaches: u64,
    /// In this time.
    pub(crate) time: Duration,
}

/// Measures all ways until each has `wanted` samples.
pub(crate) fn measure(place: &Place, condition: &Condition, wanted: usize) -> anyhow::Result<Vec<Heard>> {
    let mut agents = Vec::new();
    for way in &WAYS {
        let governed = Governed::start(place, way, condition).with_context(|| way.name)?;
        agents.push((governed, Heard { name: way.name, ..Heard::default() }));
    }
    let mut spinners = Spinners::start(place, condition.spinners)?;
    for block in 0..wanted.div_ceil(PER_BLOCK) {
        for (governed, _) in &mut agents {
            governed.replace_spent(condition)?;
        }
        sleep(SETTLE);
        agents.rotate_left(1);
        for (governed, heard) in &mut agents {
            one_block(governed, heard).with_context(|| format!("{}, block {block}", heard.name))?;
        }
        eprintln!("bellows-bench: ways of hearing: {} of {wanted} breaches", (block + 1) * PER_BLOCK);
    }
    spinners.stop();
    let mut all = Vec::new();
    for (governed, heard) in agents {
        governed.end()?;
        all.push(heard);
    }
    all.sort_unstable_by_key(|heard| heard.name);
    Ok(all)
}

fn one_block(governed: &mut Governed<'_>, heard: &mut Heard) -> anyhow::Result<()> {
    let pid = governed.agent.pid()?;
    let control = || anyhow::Ok(threads::costs(pid)?.get(CONTROL).copied().unwrap_or_default());
    let (start, turns, cost) = (std::time::Instant::now(), governed.agent.turns()?, control()?);
    governed.block(&mut heard.reaction)?;
    heard.turns += governed.agent.turns()?.saturating_sub(turns);
    heard.cost.add(control()?.since(cost));
    heard.breaches += PER_BLOCK as u64;
    heard.time += start.elapsed();
    Ok(())
}
