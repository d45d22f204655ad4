//! An agent with a crew of generators, breach by breach: what it did about each.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, ensure};
use bellows::journal::{Record, What};
use bellows::kernel::clock;
use bellows_policies::units::Instant;
use bellows_policies::{Reason, Verb};

use crate::agent::{Agent, Range, Setup};
use crate::crew::{CALM, CEILING, FIRST_LIMIT, Generator};
use crate::stats::Samples;
use crate::tree::Place;

/// Breaches of each side in one turn.
pub(crate) const PER_BLOCK: usize = 100;
/// After launches, and before the journal is read: it is drained every 200 ms at least.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

/// Under what condition.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Generators of each side.
    pub(crate) crew: usize,
    /// Workloads of the agent that sleep.
    pub(crate) sleepers: usize,
    /// Breaches of one generator before it is replaced, which bounds its memory.
    pub(crate) life: usize,
    /// Processes that take all cpu time they can get.
    pub(crate) spinners: usize,
}

impl Condition {
    /// Breaches of one generator in one turn.
    pub(crate) fn each(&self) -> usize {
        PER_BLOCK.div_ceil(self.crew)
    }
}

/// What was measured on one side.
#[derive(Debug, Default)]
pub(crate) struct Reaction {
    pub(crate) wake_to_write: Samples,
    pub(crate) breach_to_write: Samples,
    /// Breaches that no counted move answered.
    pub(crate) missed: usize,
}

/// One move of limits, of whichever side.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) name: &'a str,
    pub(crate) wake_to_write: Duration,
    pub(crate) wrote: Instant,
}

/// One breach: whose, and when.
pub(crate) type Breach = (String, Instant);

impl Reaction {
    /// Finds for each breach the one move that answered it: the same workload's, before the next breach.
    pub(crate) fn count(&mut self, breaches: &[Breach], moves: &[Moved<'_>]) {
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

/// The agent, its crew, its sleepers.
pub(crate) struct Governed<'a> {
    place: &'a Place,
    pub(crate) agent: Agent<'a>,
    crew: Vec<Generator>,
}

impl<'a> Governed<'a> {
    /// Starts the agent and its sleepers, on the measured path's cpu.
    pub(crate) fn start(place: &'a Place, setup: &Setup, condition: &Condition) -> anyhow::Result<Self> {
        let agent = Agent::start(place, setup)?;
        agent.pin()?;
        let asleep = Range::of_memory(FIRST_LIMIT, CEILING)?;
        agent.launch_idle(0..condition.sleepers, asleep).context("cannot start the sleepers")?;
        Ok(Self { place, agent, crew: Vec::new() })
    }

    /// Replaces a crew that has not enough breaches left for one more block; false when it has.
    pub(crate) fn replace_spent(&mut self, condition: &Condition) -> anyhow::Result<bool> {
        if self.crew.first().is_some_and(|g| g.has_left(condition.each(), condition.life)) {
            return Ok(false);
        }
        for generator in self.crew.drain(..) {
            generator.end(self.place)?;
        }
        for _ in 0..condition.crew {
            self.crew.push(Generator::under_agent(self.place, &mut self.agent)?);
        }
        Ok(true)
    }

    /// One block of breaches.
    pub(crate) fn block(&mut self, reaction: &mut Reaction) -> anyhow::Result<()> {
        self.agent.records()?;
        let breaches = breach_in_turn(&mut self.crew);
        sleep(SETTLE);
        let records = self.agent.records()?;
        let breaches = breaches.with_context(|| told(&records))?;
        let ahead = clock::unix_nanoseconds().saturating_sub(clock::now().0);
        let moves: Vec<Moved<'_>> = records.iter().filter_map(|record| moved(record, ahead)).collect();
        reaction.count(&breaches, &moves);
        Ok(())
    }

    /// Ends the crew, the sleepers and the agent.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        for generator in self.crew {
            generator.end(self.place)?;
        }
        self.agent.stop()
    }
}

/// What the agent told last.
pub(crate) fn told(records: &[Record]) -> String {
    let last = &records[records.len().saturating_sub(16)..];
    last.iter().filter_map(|record| Some(serde_json::to_string(record).ok()? + "\n")).collect()
}

/// Breaches of a crew, one after the other.
pub(crate) fn breach_in_turn(crew: &mut [Generator]) -> anyhow::Result<Vec<Breach>> {
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

/// Whole microseconds, as the journal has them; in nanoseconds.
fn cut(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).saturating_mul(1000)
}
