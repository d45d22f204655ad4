//! The report jobs: a burst of memory that comes and goes. Each runs once on its own; at month's end all start at once.
//!
//! A report takes its memory, works through it, holds it for some seconds and ends. One that the agent does not admit, since
//! its floor does not fit now, is tried again two seconds later, as any job queue does. One that is killed is lost.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bellows_tests::programs::child::Job;
use bellows_tests::programs::{stress_ng, with_log};

use crate::agent::REFUSED;
use crate::scenario::{REPORT_EVERY, REPORTS, RUSH_AT, TENANTS};
use crate::stage::Stage;

/// What a report takes, MiB; stress-ng itself needs some more.
const SIZE_MIB: u64 = 164;
/// How long it holds that, seconds.
const HOLD_S: u64 = 2;
/// Pause before one that was not admitted is tried again, seconds.
const RETRY_S: f64 = 2.0;
/// How many there are.
const COUNT: usize = TENANTS.len() - REPORTS;

/// Drives the reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    slots: [Slot; COUNT],
    /// How the last run of each ended.
    ends: [&'static str; COUNT],
    /// Of those that were to run on their own, how many were started.
    started: usize,
    rushed: bool,
    done: Done,
}

/// What there is to tell.
#[derive(Debug)]
pub(crate) enum News {
    /// As it goes.
    Course(String),
    /// A report was lost.
    Loss(String),
}

/// What became of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Reports that were finished.
    pub(crate) finished: u64,
    /// The longest that one of them took from when it was due, seconds.
    pub(crate) slowest: f64,
    /// Reports that were killed, and when, in seconds.
    pub(crate) killed: Vec<(usize, f64)>,
    /// Reports that had to wait until they were admitted, and for how long, in seconds.
    pub(crate) waited: Vec<(usize, f64)>,
}

impl Done {
    /// Reports that were not finished.
    pub(crate) fn lost(&self) -> u64 {
        Reports::ASKED.saturating_sub(self.finished)
    }

    /// The longest time that one had to wait until it was admitted, seconds.
    pub(crate) fn longest_wait(&self) -> f64 {
        self.waited.iter().map(|&(_, seconds)| seconds).fold(0.0, f64::max)
    }
}

/// What one tenant's report is doing.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    Idle,
    Running {
        job: Job,
        due: f64,
        since: f64,
    },
    Refused {
        due: f64,
        again: f64,
    },
}

impl Reports {
    /// Reports that are asked for.
    pub(crate) const ASKED: u64 = 2 * COUNT as u64;

    /// Starts what is due and takes in what ended; returns what there is to tell.
    pub(crate) fn tick(
        &mut self,
        now: f64,
        stage: &Stage,
        program: &Path,
        may_rush: bool,
    ) -> Result<Vec<News>> {
        let mut news = Vec::new();
        for at in 0..COUNT {
            self.look_after(at, now, stage, program, &mut news)?;
        }
        let is_idle = self.slots.iter().all(|slot| matches!(slot, Slot::Idle));
        let (first, every) = REPORT_EVERY;
        if is_idle && self.started < COUNT && now >= first + every * self.started as f64 {
            self.slots[self.started] = start(self.started, now, now, stage, program)?;
            self.started += 1;
        } else if is_idle && self.started == COUNT && !self.rushed && may_rush && now >= RUSH_AT {
            news.push(News::Course("month's end: all reports start at once".to_owned()));
            for (at, slot) in self.slots.iter_mut().enumerate() {
                *slot = start(at, now, now, stage, program)?;
            }
            self.rushed = true;
        }
        Ok(news)
    }

    /// Whether none is left.
    pub(crate) fn is_over(&self) -> bool {
        self.rushed && self.slots.iter().all(|slot| matches!(slot, Slot::Idle))
    }

    /// What the tenant's report is doing, for people.
    pub(crate) fn describe(&self, at: usize, is_there: bool) -> &'static str {
        match &self.slots[at] {
            Slot::Idle => self.ends[at],
            Slot::Running { due, since, .. } if since > due && !is_there => "waits",
            Slot::Running { .. } => "runs",
            Slot::Refused { .. } => "waits",
        }
    }

    /// Gives up what still runs.
    pub(crate) fn sum_up(self) -> Done {
        self.done
    }

    fn look_after(
        &mut self,
        at: usize,
        now: f64,
        stage: &Stage,
        program: &Path,
        news: &mut Vec<News>,
    ) -> Result<()> {
        let path = TENANTS[REPORTS + at].path();
        match &mut self.slots[at] {
            Slot::Running { job, due, since } => {
                let Some(status) = job.ended()? else { return Ok(()) };
                let (due, since) = (*due, *since);
                self.slots[at] = Slot::Idle;
                if stage.agent().is_some() && status.code() == Some(REFUSED) {
                    if since <= due {
                        news.push(News::Course(format!(
                            "{path} waits: its floor does not fit into what is free"
                        )));
                    }
                    self.slots[at] = Slot::Refused { due, again: now + RETRY_S };
                    return Ok(());
                }
                if since > due {
                    self.done.waited.push((at, since - due));
                }
                if status.success() {
                    self.done.finished += 1;
                    self.ends[at] = "done";
                    self.done.slowest = self.done.slowest.max(now - due);
                    news.push(News::Course(format!("{path} finished after {:.1} s", now - due)));
                } else {
                    self.done.killed.push((at, now));
                    self.ends[at] = "killed";
                    // By signal 9 itself, or as a shell and `bellows run` tell of it.
                    let is_killed = status.signal() == Some(9) || status.code() == Some(137);
                    let how = if is_killed { "was KILLED".to_owned() } else { format!("was LOST, {status}") };
                    news.push(News::Loss(format!("{path} {how}")));
                }
            }
            Slot::Refused { due, again } if now >= *again => {
                let due = *due;
                self.slots[at] = start(at, due, now, stage, program)?;
            }
            Slot::Idle | Slot::Refused { .. } => {}
        }
        Ok(())
    }
}

fn start(at: usize, due: f64, now: f64, stage: &Stage, program: &Path) -> Result<Slot> {
    let tenant = &TENANTS[REPORTS + at];
    let mut command: Command = stage.command(tenant);
    command.arg(program).args(stress_ng(SIZE_MIB, HOLD_S));
    let job = Job::start("a report", with_log(&mut command, &stage.log(tenant.owner))?)?;
    Ok(Slot::Running { job, due, since: now })
}
