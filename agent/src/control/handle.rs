//! What the rest of the agent may ask of the control loop, and the bounded queue that carries it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bellows_policies::Ruleset;
use bellows_policies::sample::Detail;
use bellows_policies::units::Instant;
use crossbeam_queue::ArrayQueue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::apply::Planned;
use super::exec::Attended;
use super::grips::Done;
use super::operate::Order;
use super::registry::Open;
use super::shrinker::Reclaimed;
use crate::journal::{Caller, Journal, What, Writer};
use crate::kernel::cgroup::CgroupError;
use crate::kernel::clock;
use crate::kernel::enter::Beside;
use crate::kernel::watch::{Key, Waker};
use crate::metrics::{Metrics, Table, TenantTable};
use crate::watchdog::Opened;
use crate::workload::apply::ApplyPlan;
use crate::workload::blame::LaunchError;
use crate::workload::parts::PartsError;
pub use crate::workload::records::Ended;
use crate::workload::shelf::Kept;
use crate::workload::spec::{Asked, Name, Spec};
use crate::workload::supervisor::{Remains, Running};

/// Commands that may wait for the control loop.
pub(super) const QUEUE: usize = 4096;

/// Something that another thread wants of the control loop, or tells it.
#[derive(Debug)]
pub enum Command {
    /// Start a workload.
    Launch {
        /// What.
        spec: Box<Spec<Asked>>,
        /// Its standard input, output and error; none of a detached one.
        stdio: Option<[OwnedFd; 3]>,
        /// Who asks.
        by: Arc<Caller>,
        /// Where the answer goes, when the command has been executed.
        reply: oneshot::Sender<Result<Launched, Refused>>,
    },
    /// Tell when a workload has ended.
    Wait {
        /// Its id.
        id: u64,
        /// Only if it is of one of these tenants.
        whose: Option<Vec<String>>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Ended, Refused>>,
    },
    /// Carry out an operator's order about a workload.
    Operate {
        /// Its owner.
        tenant: Name,
        /// Its name.
        name: Name,
        /// What is asked for.
        order: Order,
        /// Who asks.
        by: Arc<Caller>,
        /// Where the answer goes: what the journal is told of it.
        reply: oneshot::Sender<Result<What, Refused>>,
    },
    /// Tell what is to be done so that a detached workload is as it is asked for.
    Plan {
        /// As what.
        spec: Box<Spec<Asked>>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Planned, Refused>>,
    },
    /// Start a command beside a workload.
    Exec {
        /// The workload's owner.
        tenant: Name,
        /// Its name.
        name: Name,
        /// What.
        command: Box<Beside>,
        /// Only if nothing of the host can be had in there: its box is whole.
        only_boxed: bool,
        /// Who asks.
        by: Arc<Caller>,
        /// Where the answer goes, when the command has been executed.
        reply: oneshot::Sender<Result<Attended, Refused>>,
    },
    /// A detached workload that runs is asked for as this from now on.
    Adjust {
        /// As what.
        spec: Box<Spec<Asked>>,
        /// What differs.
        differences: Vec<String>,
        /// Who asks.
        by: Arc<Caller>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<What, Refused>>,
    },
    /// Open all limits and stop governing.
    Release {
        /// Who asks.
        by: Arc<Caller>,
        /// Where the number of opened workloads goes.
        reply: oneshot::Sender<Opened>,
    },
    /// Let go of everything and end the loop.
    Shutdown {
        /// Whether workloads are ended too.
        end_workloads: bool,
    },
    /// Govern by other policies.
    Policies {
        /// All of them.
        rules: Arc<Ruleset>,
    },
    /// Other policies were wrong: only tell.
    PoliciesRefused {
        /// The first error.
        error: String,
        /// How many there are.
        problems: usize,
    },
    /// Files that a change of policy touched have been written.
    Rewritten {
        /// What failed, and of which workload.
        troubles: Vec<(Arc<str>, String)>,
    },
    /// What a workload is to be given by the piece has been tried.
    Given {
        /// Which.
        key: Key,
        /// Whether it has it.
        result: Result<(), PartsError>,
    },
    /// A tenant's cgroup has been made ready for adoption.
    Furnished {
        /// Whose.
        tenant: Name,
        /// With what result.
        result: Result<(), CgroupError>,
    },
    /// What somebody else made in a tenant's cgroup has been opened.
    Adopted {
        /// Whose.
        tenant: Name,
        /// What it is called.
        name: Name,
        /// With what result.
        result: Result<Box<Open>, CgroupError>,
    },
    /// A launch has been carried out.
    LaunchDone {
        /// Which.
        key: Key,
        /// With what result.
        result: Result<Box<Open>, LaunchError>,
    },
    /// A teardown has been carried out.
    ClearDone {
        /// Which.
        key: Key,
        /// With what result; the handles come back with a failed one.
        result: Result<Remains, (CgroupError, Arc<Running>)>,
    },
    /// A look into `memory.stat` has been taken; `None` when it failed.
    DetailRead {
        /// Of which workload.
        key: Key,
        /// What was found.
        detail: Option<Detail>,
    },
    /// A freeze, a thaw or a kill has been carried out.
    Gripped {
        /// Of which workload.
        key: Key,
        /// What was done, or why not.
        result: Result<Done, String>,
    },
    /// A freeze or a thaw by an operator's order has been carried out.
    Paused {
        /// Of which workload.
        key: Key,
        /// Which of both.
        is_freeze: bool,
        /// Whether it stands still, or why nothing could be done.
        result: Result<bool, String>,
    },
    /// A shrink has been carried out, or was cancelled.
    ShrinkDone {
        /// Of which workload.
        key: Key,
        /// What a reclaim found, or the kernel's error number.
        result: Result<Option<Reclaimed>, i32>,
    },
}

/// A workload that has been started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct Launched {
    /// The id of its cgroup, unique on this machine until it reboots.
    pub id: u64,
    /// Pid of its init as the agent sees it.
    pub pid: i32,
}

/// A command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A workload of that name exists.
    #[error("{0} exists already: choose another name, or end it with `bellows kill`")]
    Exists(String),
    /// No such workload.
    #[error("there is no workload {0}: `bellows ps` lists them")]
    NotFound(String),
    /// The floor does not fit the budget now.
    #[error("{0}; end or shrink other workloads, or choose a lower floor")]
    NoRoomNow(String),
    /// The floor never fits the budget.
    #[error("{0}; choose a lower floor or a larger node.capacity")]
    NoRoomEver(String),
    /// The policies do not allow it.
    #[error("{0}")]
    NotAllowed(String),
    /// A queue is full.
    #[error("the agent has too much to do: try again in a moment")]
    Busy,
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
    /// The launch failed.
    #[error("{0}")]
    Failed(String),
}

/// The way into the control loop. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) queue: Arc<ArrayQueue<Command>>,
    pub(super) waker: Waker,
    /// When the loop last turned, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) turned: Arc<AtomicU64>,
    /// The agent's own metrics.
    pub metrics: Arc<Metrics>,
    /// The published state of all workloads.
    pub table: Table,
    /// The published state of all tenants.
    pub tenants: TenantTable,
    /// The detached workloads, ended ones too.
    pub kept: Table<Kept>,
    /// What has happened.
    pub journal: Journal,
    pub(super) teller: Writer,
}

impl Handle {
    /// Queues a command and wakes the loop.
    pub fn send(&self, command: Command) -> Result<(), Refused> {
        if self.queue.push(command).is_err() {
            self.metrics.commands_refused.inc();
            return Err(Refused::Busy);
        }
        self.waker.wake();
        Ok(())
    }

    /// For how long the loop has not turned.
    #[must_use]
    pub fn idle(&self) -> Duration {
        clock::now().since(Instant(self.turned.load(Ordering::Relaxed)))
    }

    /// Like [`Handle::send`], but gives the command back when the queue is full.
    pub(super) fn send_or_return(&self, command: Command) -> Option<Command> {
        let refused = self.queue.push(command).err();
        self.waker.wake();
        refused
    }

    /// Starts a workload and returns when its command has been executed.
    pub async fn launch(
        &self,
        spec: Spec<Asked>,
        stdio: Option<[OwnedFd; 3]>,
        by: Arc<Caller>,
    ) -> Result<Launched, Refused> {
        self.ask(|reply| Command::Launch { spec: Box::new(spec), stdio, by, reply }).await?
    }

    /// Waits until the workload with this id has ended.
    pub async fn wait(&self, id: u64) -> Result<Ended, Refused> {
        self.wait_among(id, None).await
    }

    /// The same for who sees only what is of these tenants: there is nothing else.
    pub async fn wait_among(&self, id: u64, whose: Option<Vec<String>>) -> Result<Ended, Refused> {
        self.ask(|reply| Command::Wait { id, whose, reply }).await?
    }

    /// Has the journal told of an order that was refused because of who gave it, before it came here.
    pub fn tell_refused(&self, workload: &str, by: &Arc<Caller>, order: &str, error: &str) {
        let what = What::OrderRefused { order: order.to_owned(), error: error.to_owned() };
        self.teller.ordered(clock::unix_nanoseconds(), &workload.into(), Some(by), what);
    }

    /// Has an order about a workload carried out; what the journal was told of it.
    pub async fn operate(
        &self,
        tenant: Name,
        name: Name,
        order: Order,
        by: Arc<Caller>,
    ) -> Result<What, Refused> {
        self.ask(|reply| Command::Operate { tenant, name, order, by, reply }).await?
    }

    /// What is to be done so that a detached workload is as `spec`, and the class that it has then. Waits for an end that is under way:
    /// how it ends decides.
    pub async fn plan(&self, spec: &Spec<Asked>) -> Result<(ApplyPlan, Name), Refused> {
        loop {
            let spec = Box::new(spec.clone());
            match self.ask(|reply| Command::Plan { spec, reply }).await?? {
                Planned::Now(plan, class) => return Ok((plan, class)),
                Planned::After(cgroup) => self.wait(cgroup).await.map(drop)?,
            }
        }
    }

    /// Starts a command beside a workload and returns when it has been executed.
    pub async fn exec(
        &self,
        tenant: Name,
        name: Name,
        command: Beside,
        only_boxed: bool,
        by: Arc<Caller>,
    ) -> Result<Attended, Refused> {
        let command = Box::new(command);
        self.ask(|reply| Command::Exec { tenant, name, command, only_boxed, by, reply }).await?
    }

    /// Has a detached workload that runs be asked for as `spec` from now on.
    pub async fn adjust(
        &self,
        spec: Spec<Asked>,
        differences: Vec<String>,
        by: Arc<Caller>,
    ) -> Result<What, Refused> {
        self.ask(|reply| Command::Adjust { spec: Box::new(spec), differences, by, reply }).await?
    }

    /// Opens all limits; returns how many workloads were opened.
    pub async fn release(&self, by: Arc<Caller>) -> Result<Opened, Refused> {
        self.ask(|reply| Command::Release { by, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        // The loop drops a reply only when it ends.
        answer.await.map_err(|_| Refused::Stopping)
    }
}
