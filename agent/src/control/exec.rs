//! Commands beside a workload: admitted and told here, started and waited for by a thread each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::control_loop::Control;
use super::handle::Refused;
use super::lanes::Job;
use crate::journal::{Caller, Deed, What};
use crate::kernel::enter::{Beside, enter};
use crate::kernel::spawn::{self, Ended, Program};
use crate::kernel::{CgroupError, adopt, clock};
use crate::workload::lifecycle::State;
use crate::workload::spec::Name;
use crate::workload::supervisor::Running;
use crate::workload::walls;

/// Characters of a command's name that the journal tells.
const TOLD: usize = 128;

/// Commands that may be about to enter a workload: each holds a thread until it executes, and the tenant can have that last for as long as an
/// answer is waited for.
const ENTERING: usize = 8;

/// One of these.
#[derive(Debug)]
struct Entering(Arc<Running>);

impl Entering {
    fn begin(running: &Arc<Running>) -> Option<Self> {
        // Only this thread adds.
        let is_free = running.entering.load(Ordering::Relaxed) < ENTERING;
        is_free.then(|| {
            running.entering.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(running))
        })
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.0.entering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A command that is to be started.
#[derive(Debug)]
pub(super) struct Execution {
    running: Entering,
    command: Beside,
    reply: oneshot::Sender<Result<Attended, Refused>>,
}

impl Execution {
    /// Starts it, tells so, and waits for its end.
    pub(super) fn carry_out(self, program: &Program) {
        let Self { running: entering, command, reply } = self;
        let running = &entering.0;
        let ended = || Refused::Failed("it has ended".to_owned());
        let started = running.process.as_ref().ok_or_else(ended).and_then(|first| {
            let failed = |error: CgroupError| Refused::Failed(error.to_string());
            let place = adopt::place(&running.cgroup, first.pid).map_err(failed)?.ok_or_else(ended)?;
            enter(program, &place, first, command).map_err(|error| Refused::Failed(error.to_string()))
        });
        drop(entering);
        let process = match started {
            Ok(process) => Arc::new(process.pidfd),
            Err(refused) => {
                let _ = reply.send(Err(refused));
                return;
            }
        };
        let (over, ended) = oneshot::channel();
        // Where whoever asked has gone meanwhile it is dropped, which ends the command.
        let _ = reply.send(Ok(Attended { process: Arc::clone(&process), ended, is_left: false }));
        let _ = over.send(spawn::wait(&process));
    }
}

/// A command that was started and is waited for. Dropped before its end, it is killed: nobody is there any more for what it says.
#[derive(Debug)]
pub struct Attended {
    process: Arc<OwnedFd>,
    ended: oneshot::Receiver<io::Result<Option<Ended>>>,
    is_left: bool,
}

impl Attended {
    /// Its process, outside.
    #[must_use]
    pub fn process(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.process)
    }

    /// Waits for its end; `None` when somebody else has.
    pub async fn wait(&mut self) -> io::Result<Option<Ended>> {
        let ended = (&mut self.ended).await;
        self.is_left = true;
        ended.map_err(io::Error::other)?
    }

    /// Leaves it to its client.
    pub fn leave(&mut self) {
        self.is_left = true;
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if !self.is_left {
            let _ = spawn::signal(&self.process, libc::SIGKILL);
        }
    }
}

impl Control {
    /// Has a command started beside a workload; the answer is the worker's.
    pub(super) fn exec(
        &mut self,
        (tenant, name): (&Name, &Name),
        mut command: Beside,
        only_boxed: bool,
        by: &Arc<Caller>,
        reply: oneshot::Sender<Result<Attended, Refused>>,
    ) {
        let full: Arc<str> = format!("{tenant}/{name}").into();
        let told =
            command.argv.first().map(|program| program.chars().take(TOLD).collect()).unwrap_or_default();
        let found = self.registry.find(tenant, name);
        let allowed = match found {
            Some(entry) if entry.adopted.is_some() => Err(Refused::NotAllowed(format!(
                "{full} was not started by bellows: whoever made it enters it"
            ))),
            // What stands still would be joined by what stands still.
            Some(entry) if !entry.is_moving() || entry.state != State::Running => {
                let state = if entry.is_moving() { entry.state } else { State::Frozen };
                Err(Refused::NotAllowed(format!("{full} is {}", state.as_str())))
            }
            Some(entry) if only_boxed && !walls::are_whole(&entry.spec.isolation) => {
                let text = "is in no whole box: only operators may enter it, since it leads to the host";
                Err(Refused::NotAllowed(format!("{full} {text}")))
            }
            Some(entry) => match &entry.open {
                Some(open) => {
                    command.isolation = walls::words(&entry.spec.isolation);
                    Entering::begin(&open.running).ok_or(Refused::Busy)
                }
                None => Err(Refused::NotFound(full.to_string())),
            },
            None => Err(Refused::NotFound(full.to_string())),
        };
        let (what, result) = match allowed {
            Ok(running) => {
                let what = What::Life(Deed::Executed { command: told });
                let job = Job::Exec(Box::new(Execution { running, command, reply }));
                // With the job the reply is dropped, which whoever waits takes for an agent that ends.
                if self.lanes.submit(job).is_err() {
                    return;
                }
                (what, None)
            }
            Err(refused) => {
                let what = What::OrderRefused { order: "exec".to_owned(), error: refused.to_string() };
                (what, Some((reply, refused)))
            }
        };
        self.journal.ordered(clock::unix_nanoseconds(), &full, Some(by), what);
        if let Some((reply, refused)) = result {
            let _ = reply.send(Err(refused));
        }
    }
}
