//! The reports of all copies: each runs once at some time, and all of them on the hour, as timers have it.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bellows::control::Ended;
use bellows_tests::programs::child::Job;

use super::copy::Programs;
use super::way::Stage;

/// When the first ones start, and over how long they are spread, seconds.
const SOME_TIME: (f64, f64) = (3.0, 16.0);
/// The same for the hour.
const HOUR: (f64, f64) = (22.0, 1.0);
/// A floor that does not fit is asked for again by a job queue, after this long, seconds.
const AGAIN: f64 = 1.0;

/// Drives them.
#[derive(Debug)]
pub(super) struct Reports(Vec<Report>);

#[derive(Debug)]
struct Report {
    copy: usize,
    due: f64,
    state: State,
}

/// A report under way.
#[derive(Debug)]
pub(super) enum Run {
    /// A process of our own.
    Own(Job),
    /// A workload: an agent was asked for it. By its API, as a job queue does; a client process for each report would cost the
    /// servers more of an emulated cpu than the report.
    Asked(Option<JoinHandle<Result<Option<Ended>>>>),
}

/// What came of it.
enum Came {
    Finished,
    Refused,
    Failed,
}

impl Run {
    fn ended(&mut self) -> Result<Option<Came>> {
        let success = |is_success| if is_success { Came::Finished } else { Came::Failed };
        match self {
            Self::Own(job) => Ok(job.ended()?.map(|status| success(status.success()))),
            Self::Asked(asked) => {
                let Some(thread) = asked.take_if(|thread| thread.is_finished()) else { return Ok(None) };
                let ended = thread.join().map_err(|_| anyhow!("who waits for a report panicked"))?;
                let ended = ended.context("a report")?;
                Ok(Some(ended.map_or(Came::Refused, |ended| success(ended.code == 0))))
            }
        }
    }
}

#[derive(Debug)]
enum State {
    Waiting,
    Running(Run),
    Finished,
    Lost,
}

impl Reports {
    /// Two for each copy, at times that are the same in each way.
    pub(super) fn of(copies: usize) -> Self {
        let of_copy = |copy| {
            [SOME_TIME, HOUR].into_iter().enumerate().map(move |(at, (first, spread))| Report {
                copy,
                due: first + spread * phase(2 * copy + at),
                state: State::Waiting,
            })
        };
        Self((0..copies).flat_map(of_copy).collect())
    }

    /// Starts what is due, and takes in what has ended.
    pub(super) fn tick(&mut self, now: f64, stage: &Stage<'_>, programs: &Programs) -> Result<()> {
        for at in 0..self.0.len() {
            // A timer does not start what still runs.
            let is_busy = self
                .0
                .iter()
                .any(|other| other.copy == self.0[at].copy && matches!(other.state, State::Running(_)));
            let report = &mut self.0[at];
            match &mut report.state {
                State::Waiting if now >= report.due && !is_busy => {
                    report.state = State::Running(stage.report(report.copy, programs)?);
                }
                State::Running(run) => match run.ended()? {
                    None => {}
                    Some(Came::Finished) => report.state = State::Finished,
                    Some(Came::Refused) => {
                        report.due = now + AGAIN;
                        report.state = State::Waiting;
                    }
                    Some(Came::Failed) => report.state = State::Lost,
                },
                State::Waiting | State::Finished | State::Lost => {}
            }
        }
        Ok(())
    }

    /// Whether none is left.
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|report| matches!(report.state, State::Finished | State::Lost))
    }

    /// How many were not finished.
    pub(super) fn lost(&self) -> usize {
        self.0.iter().filter(|report| !matches!(report.state, State::Finished)).count()
    }
}

/// A number from 0 to 1 that looks random and is the same each time (the golden ratio spreads evenly).
pub(super) fn phase(number: usize) -> f64 {
    (number as f64 * 0.618_033_988_75).fract()
}

/// The last report is due then.
pub(super) const LENGTH: Duration = Duration::from_secs(30);
