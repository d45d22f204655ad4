//! The slow lane, as in `agent/src/control/shrinker.rs`: two threads that lower `memory.high` and reclaim, in their own
//! time; a shrink can be cancelled, by a signal that may come a moment too early.

use bellows_policies::{Bytes, Plan, Reason, Verb};

use super::Answer;
use crate::check;
use crate::faults::MS;
use crate::load::SECOND;
use crate::log::{Errno, What};
use crate::node::Node;

const THREADS: usize = 2;

/// What the slow lane does to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    LowerHigh(Bytes),
    Reclaim(Bytes),
}

/// Use before and after a reclaim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reclaimed {
    pub(super) before: Bytes,
    pub(super) after: Bytes,
}

/// A shrink on its way.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) plan: Plan,
    pub(super) is_cancelled: bool,
    number: u64,
    act: Act,
    stage: Stage,
    is_interrupted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    /// A thread has it, has seen that it is not cancelled, and enters the kernel at this instant.
    Entering(u64),
    /// The value is written, and reclaim goes on until this instant.
    Blocked(u64),
    Done,
}

/// The slow lane's queue and threads.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) jobs: Vec<Job>,
    handed: u64,
}

impl Lanes {
    pub(super) fn hand_over(&mut self, id: u64, act: Act, plan: &Plan) -> u64 {
        self.handed += 1;
        let number = self.handed;
        let (is_cancelled, is_interrupted) = (false, false);
        self.jobs.push(Job {
            id,
            plan: *plan,
            is_cancelled,
            number,
            act,
            stage: Stage::Queued,
            is_interrupted,
        });
        number
    }

    pub(super) fn is_cancelled(&self, number: u64) -> bool {
        self.jobs.iter().any(|job| job.number == number && job.is_cancelled)
    }

    /// Marks it, and signals its thread. Before the thread is in the kernel that has no effect, and after it another job of
    /// that thread may be hit.
    pub(super) fn cancel(&mut self, number: u64, node: &mut Node) {
        let is_lost = node.chance.one_in(node.faults.signal_lost);
        let mut strays = false;
        for job in self.jobs.iter_mut().filter(|job| job.number == number) {
            job.is_cancelled = true;
            job.is_interrupted |= matches!(job.stage, Stage::Blocked(_)) && !is_lost;
            strays = job.stage == Stage::Done;
        }
        if strays && is_lost {
            let other = self.jobs.iter_mut().find(|job| matches!(job.stage, Stage::Blocked(_)));
            if let Some(other) = other {
                node.log.record(node.now, other.id, What::Fault("stray signal"));
                other.is_interrupted = true;
            }
        }
    }

    /// Whoever would take the answer in is gone, with all that was charged.
    pub(super) fn abandon(&mut self, number: u64) {
        for job in self.jobs.iter_mut().filter(|job| job.number == number) {
            job.plan = Plan::Nothing { reason: Reason::Calm };
        }
    }

    /// The answer has come: the job.
    pub(super) fn take(&mut self, number: u64) -> Option<Job> {
        let index = self.jobs.iter().position(|job| job.number == number)?;
        Some(self.jobs.remove(index))
    }

    /// What grows under way have been charged for a workload.
    pub(crate) fn charged(&self, id: u64) -> Bytes {
        self.jobs.iter().filter(|job| job.id == id).fold(Bytes::ZERO, |sum, job| match job.plan {
            Plan::Write { verb: Verb::Grow, from, to, .. } => {
                sum.saturating_add(to.high.saturating_sub(from.high))
            }
            Plan::Write { .. } | Plan::Reclaim { .. } | Plan::Nothing { .. } => sum,
        })
    }

    /// Whether a thread has something to do, or to wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.jobs.iter().any(|job| job.stage != Stage::Done)
    }

    /// Lets the threads work.
    pub(super) fn run(&mut self, node: &mut Node, answers: &mut Vec<(u64, Answer)>) {
        if self.jobs.is_empty() {
            return;
        }
        let is_busy = |job: &&Job| matches!(job.stage, Stage::Entering(_) | Stage::Blocked(_));
        let mut busy = self.jobs.iter().filter(is_busy).count();
        for job in &mut self.jobs {
            if job.stage == Stage::Queued && busy < THREADS {
                busy += 1;
                job.stage = Stage::Entering(node.now + node.chance.below(MS));
                if job.is_cancelled {
                    job.finish(node, answers, Ok(None));
                }
            }
            if let Stage::Entering(at) = job.stage
                && at <= node.now
            {
                match job.enter(node) {
                    Ok(()) => job.stage = Stage::Blocked(node.now + job.duration(node)),
                    Err(errno) => job.finish(node, answers, Err(errno)),
                }
            }
            if let Stage::Blocked(until) = job.stage {
                if job.is_interrupted {
                    job.finish(node, answers, Err(Errno::Interrupted));
                } else if until <= node.now {
                    let result = job.leave(node);
                    job.finish(node, answers, result);
                }
            }
        }
    }
}

impl Job {
    /// The value of a limit counts from the beginning of the write; reclaim comes after it.
    fn enter(&self, node: &mut Node) -> Result<(), Errno> {
        match self.act {
            Act::LowerHigh(high) => node.write_high(self.id, high),
            Act::Reclaim(_) => node.groups.get(&self.id).map(|_| ()).ok_or(Errno::Gone),
        }
    }

    fn duration(&self, node: &mut Node) -> u64 {
        if node.chance.one_in(node.faults.slow) {
            node.log.record(node.now, self.id, What::Fault("slow reclaim"));
            let time = node.chance.below(10 * SECOND);
            // The value counts already, and the law does not know: need that meets it waits for the writer.
            check::delay(node, self.id, time);
            return time;
        }
        node.chance.below(2 * MS)
    }

    fn leave(&self, node: &mut Node) -> Result<Option<Reclaimed>, Errno> {
        node.stir(self.id);
        let group = node.groups.get_mut(&self.id).ok_or(Errno::Gone)?;
        let before = group.current();
        match self.act {
            Act::LowerHigh(high) => group.memory.reclaim_to(high),
            Act::Reclaim(bytes) => {
                group.memory.take(bytes.0);
            }
        }
        Ok(Some(Reclaimed { before, after: group.current() }))
    }

    fn finish(
        &mut self,
        node: &mut Node,
        answers: &mut Vec<(u64, Answer)>,
        result: Result<Option<Reclaimed>, Errno>,
    ) {
        self.stage = Stage::Done;
        answers.push((node.now + node.chance.below(MS), Answer::Shrink(self.id, self.number, result)));
    }
}
