//! Slow work, off the control thread: reads that flush statistics, writes that reclaim, launches and teardowns. Each lane is
//! fed through a bounded queue and answers with a command.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bellows_policies::sample::{Detail, Pressure, Swap};
use bellows_policies::units::{Bytes, Instant, Limit};

use super::exec::Execution;
use super::handle::{Command, Handle};
use super::incidents::{self, Seen};
use super::registry::{Later, Open};
use super::shrinker::{self, Shrink};
use crate::journal::Writer;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::swap::{self, Swaps};
use crate::kernel::watch::Key;
use crate::kernel::{clock, parse};
use crate::workload::adoption;
use crate::workload::parts::Giving;
use crate::workload::records::Last;
use crate::workload::rewrite::Rewrite;
use crate::workload::spec::{Name, Spec};
use crate::workload::supervisor::{self, Ground, LaunchOrder, Running};

/// Looks into `memory.stat` that may wait. More are dropped and counted; the next look asks again.
const DETAILS: usize = 1024;
/// Launches and teardowns that may wait.
const JOBS: usize = 1024;
/// Threads for launches and teardowns: they sleep in the kernel more than they compute.
const WORKERS: usize = 4;

/// A job was not taken: its lane is full (or gone, at the end). It comes back.
#[derive(Debug)]
pub(super) struct Full<T>(pub(super) T);

/// The open files of the dear reads.
#[derive(Debug)]
pub(super) struct DetailFiles {
    stat: File,
    /// Both absent where pressure is not accounted.
    pressure: Option<File>,
    io: Option<File>,
    threads: File,
    /// What is swapped out, and its limit; absent where the kernel knows no swap.
    swap: Option<(File, File)>,
}

impl DetailFiles {
    pub(super) fn open(cgroup: &Cgroup) -> Result<Self, CgroupError> {
        Ok(Self {
            stat: cgroup.open_read("memory.stat")?,
            pressure: cgroup.open_read("memory.pressure").ok(),
            io: cgroup.open_read("io.pressure").ok(),
            threads: cgroup.open_read("pids.current")?,
            swap: cgroup.open_read("memory.swap.current").ok().zip(cgroup.open_read("memory.swap.max").ok()),
        })
    }

    /// All but swap.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Detail> {
        let length = self.stat.read_at(buffer, 0)?;
        let stat = parse::memory_stat(&buffer[..length]);
        let pressure = read_pressure(self.pressure.as_ref(), buffer);
        let io = read_pressure(self.io.as_ref(), buffer);
        let length = self.threads.read_at(buffer, 0)?;
        let threads = parse::number(&buffer[..length]).unwrap_or(0);
        Ok(Detail { at: clock::now(), stat, pressure, io, threads, ..Detail::default() })
    }

    /// Nothing is read of it on a machine that has none.
    fn read_swap(&self, buffer: &mut [u8], swaps: &mut Swaps, at: Instant) -> Option<Swap> {
        let (machine, shared) = swaps.at(at);
        let (current, max) = self.swap.as_ref().filter(|_| machine.size() > Bytes::ZERO)?;
        let length = current.read_at(buffer, 0).ok()?;
        let used = Bytes(parse::number(&buffer[..length])?);
        let length = max.read_at(buffer, 0).ok()?;
        let own = swap::room(parse::limit(&buffer[..length])?, used);
        Some(Swap { used, room: own.min(shared), zram_permille: machine.zram_permille() })
    }
}

/// Nothing where it is not accounted. Switched off at boot, it opens but does not read.
fn read_pressure(file: Option<&File>, buffer: &mut [u8]) -> Pressure {
    let read = file.and_then(|file| file.read_at(buffer, 0).ok());
    read.map(|length| parse::pressure(&buffer[..length])).unwrap_or_default()
}

/// A job for the workers.
#[derive(Debug)]
pub(super) enum Job {
    /// Start a workload.
    Launch(Key, Box<LaunchOrder>),
    /// Clear away what is left of one.
    Clear(Key, Arc<Spec>, Arc<Running>, Last),
    /// Start a command beside one, on a thread of its own: it is as slow as its tenant has made the workload.
    Exec(Box<Execution>),
    /// Make a tenant's cgroup ready for adoption, with these limits.
    Furnish(Name, Vec<(&'static str, String)>),
    /// Open what somebody else made in a tenant's cgroup.
    Adopt(Name, Name),
    /// Write what a change of policy touched.
    Rewrite(Vec<(Arc<str>, Rewrite)>),
    /// Try what one is given by the piece.
    Give(Key, Box<Giving>),
}

/// All lanes. Their threads end when this is dropped and their queues are empty.
#[derive(Debug)]
pub(super) struct Lanes {
    details: SyncSender<(Key, Arc<Later<DetailFiles>>)>,
    shrinks: SyncSender<Arc<Shrink>>,
    incidents: SyncSender<Seen>,
    jobs: SyncSender<Job>,
}

impl Lanes {
    pub(super) fn start(handle: &Handle, ground: &Arc<Ground>, journal: &Writer) -> io::Result<Self> {
        let (details, queue) = sync_channel(DETAILS);
        let (answers, swaps) = (handle.clone(), Swaps::new(ground.root.path()));
        spawn("bellows-detail", move || read_details(&queue, &answers, swaps))?;

        let shrinks = shrinker::start(handle)?;
        let (jobs, queue) = sync_channel(JOBS);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..WORKERS {
            let (answers, queue, ground) = (handle.clone(), Arc::clone(&queue), Arc::clone(ground));
            spawn("bellows-worker", move || work(&queue, &answers, &ground))?;
        }
        let incidents = incidents::start(journal)?;
        Ok(Self { details, shrinks, incidents, jobs })
    }

    /// The way to the workers, for whoever hands on what he has prepared.
    pub(super) fn jobs(&self) -> SyncSender<Job> {
        self.jobs.clone()
    }

    /// Asks for a look into `memory.stat`; false when the queue is full.
    pub(super) fn read_detail(&self, key: Key, files: &Arc<Later<DetailFiles>>) -> bool {
        self.details.try_send((key, Arc::clone(files))).is_ok()
    }

    /// Has somebody look at an incident; false when the queue is full.
    pub(super) fn look_inside(&self, seen: Seen) -> bool {
        self.incidents.try_send(seen).is_ok()
    }

    /// Hands a shrink over; false when the queue is full.
    pub(super) fn shrink(&self, shrink: &Arc<Shrink>) -> bool {
        self.shrinks.try_send(Arc::clone(shrink)).is_ok()
    }

    /// Hands a launch or a teardown to the workers.
    pub(super) fn submit(&self, job: Job) -> Result<(), Full<Job>> {
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => Full(job),
        })
    }
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn read_details(queue: &Receiver<(Key, Arc<Later<DetailFiles>>)>, answers: &Handle, mut swaps: Swaps) {
    let mut buffer = vec![0_u8; 16 * 1024];
    while let Ok((key, files)) = queue.recv() {
        let detail = files.get().ok().and_then(|files| {
            let detail = files.read(&mut buffer).ok()?;
            let swap = files.read_swap(&mut buffer, &mut swaps, detail.at).unwrap_or_default();
            Some(Detail { swap, ..detail })
        });
        deliver(answers, Command::DetailRead { key, detail });
    }
}

fn work(queue: &Mutex<Receiver<Job>>, answers: &Handle, ground: &Arc<Ground>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let answer = match job {
            Ok(Job::Launch(key, order)) => {
                let spec = Arc::clone(&order.spec);
                let result = supervisor::launch(ground, *order).and_then(|running| {
                    let running = Arc::new(running);
                    Open::new(&running, spec.identity.cpu.is_some()).map(Box::new).map_err(|error| {
                        // It runs, and could not be governed: then it does not run. The teardown waits for the end of its first process.
                        let _ = running.cgroup.kill();
                        let _ = supervisor::tear_down(ground, &spec.identity, &running, Last::default());
                        error.into()
                    })
                });
                Command::LaunchDone { key, result }
            }
            Ok(Job::Clear(key, spec, running, last)) => {
                let result =
                    supervisor::tear_down(ground, &spec.identity, &running, last).map_err(|e| (e, running));
                Command::ClearDone { key, result }
            }
            Ok(Job::Exec(execution)) => {
                let ground = Arc::clone(ground);
                // Without a thread it is dropped, and whoever waits is told as at the agent's end.
                let _ = spawn("bellows-exec", move || execution.carry_out(&ground.init));
                continue;
            }
            Ok(Job::Furnish(tenant, limits)) => {
                let result = adoption::furnish(ground, &tenant, &limits);
                Command::Furnished { tenant, result }
            }
            Ok(Job::Adopt(tenant, name)) => {
                let result = adoption::open(ground, &tenant, &name).and_then(|running| {
                    let before = adoption::noted(&running.cgroup)?;
                    Open::adopt(&running, before.unwrap_or(Limit::Max)).map(Box::new)
                });
                Command::Adopted { tenant, name, result }
            }
            Ok(Job::Rewrite(rewrites)) => {
                let told = |(name, rewrite): &(Arc<str>, Rewrite)| {
                    let name = Arc::clone(name);
                    rewrite.carry_out().into_iter().map(move |text| (Arc::clone(&name), text))
                };
                Command::Rewritten { troubles: rewrites.iter().flat_map(told).collect() }
            }
            Ok(Job::Give(key, giving)) => Command::Given { key, result: giving.carry_out(ground) },
            Err(_) => return,
        };
        deliver(answers, answer);
    }
}

/// A lane's answer must arrive: it waits for room rather than be lost.
pub(super) fn deliver(answers: &Handle, answer: Command) {
    let mut answer = Some(answer);
    while let Some(command) = answer.take() {
        answer = answers.send_or_return(command);
        if answer.is_some() {
            thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
