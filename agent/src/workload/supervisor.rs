//! Launch and teardown: slow work that may block, done by a small pool of threads, never by the control loop.
//!
//! A launch writes every limit before the first process exists. A launch that fails leaves nothing behind. A teardown kills
//! what is left, waits until the cgroup is empty, reads the last counters (they vanish with the directory) and removes it.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bellows_policies::Cpus;
use bellows_policies::sample::MemoryEvents;
use bellows_policies::units::Bytes;
use serde::{Deserialize, Serialize};

use super::blame::{self, LaunchError};
use super::ids::Ranges;
use super::life;
use super::logs::{self, Stdio};
use super::nest::Nest;
use super::records::{Ended, Last, Records};
use super::spec::{Identity, Name, Spec};
use super::{parts, rootless, stated, truth, walls};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::cpu::quota_text;
use crate::kernel::spawn::{self, Launch, Process, Program, SpawnError, Users};
use crate::kernel::support::{OPTIONAL_CONTROLLERS, REQUIRED_CONTROLLERS};
use crate::kernel::{adopt, clock, parse, privilege};

/// The extended attribute with a workload's identity, as JSON.
pub const IDENTITY: &str = "identity";
/// The extended attribute with the `memory.max` that a dead agent's watchdog opens the workload to, in bytes as digits.
pub const FAILSAFE: &str = "failsafe";
/// The extended attribute with the `cpu.max` that the watchdog opens the workload to, as the kernel spells it, for example
/// `200000 100000`. Absent where no quota is governed.
pub const FAILSAFE_CPU: &str = "failsafe-cpu";
/// The extended attribute with a workload's [`Birth`], as JSON. It is there before the command is.
pub const INIT: &str = "init";

/// How long a killed workload may take to become empty before the teardown is given up (and tried again).
const EMPTY_DEADLINE: Duration = Duration::from_secs(20);
/// How long the log of a workload that has ended may take for what is in its pipe.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The governed part of the tree, and what a launch needs besides.
#[derive(Debug)]
pub struct Ground {
    /// The delegated root.
    pub root: Cgroup,
    /// `<root>/workloads`.
    pub workloads: Cgroup,
    /// Where exit records are kept.
    pub records: Records,
    /// The user ids of tenants.
    pub ids: Ranges,
    /// The loaded `bellows-init`.
    pub init: Program,
}

/// A launch that the control loop has admitted.
#[derive(Debug)]
pub struct LaunchOrder {
    /// What is to run.
    pub spec: Arc<Spec>,
    /// Standard input, output and error of the command.
    pub stdio: Stdio,
    /// Limit files and values of its tenant's cgroup. One that is refused is told, and keeps nobody from starting.
    pub tenant_limits: Vec<(&'static str, String)>,
    /// Limit files and values, in the order of writing.
    pub limits: Vec<(&'static str, String)>,
    /// What of them no law moves: see [`stated`].
    pub stated: String,
    /// The failsafe `memory.max`.
    pub failsafe: Bytes,
    /// The failsafe quota, where one is governed.
    pub failsafe_cpu: Option<Cpus>,
}

/// When and as what a workload was born: what the next agent finds its init by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Pid of its init as the agent saw it.
    pub pid: i32,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// When, as [`adopt::began`] says it: of an init that is not known by being PID 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
}

/// A workload that runs, or that has ended and is not cleared away yet.
#[derive(Debug)]
pub struct Running {
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its first process; none when that had ended before this agent came.
    pub process: Option<Process>,
    /// What writes its log, if it was started here.
    logger: Option<Process>,
    /// How many commands are about to enter it.
    pub entering: AtomicUsize,
    /// Its output goes to a log: what it said last is still to be written when it has ended.
    is_logged: bool,
    /// How that ended: the kernel tells once, and a teardown may be tried again.
    ended: OnceLock<Option<spawn::Ended>>,
}

impl Running {
    /// What was launched here, or found.
    #[must_use]
    pub fn new(cgroup: Cgroup, process: Option<Process>) -> Self {
        Self {
            cgroup,
            process,
            logger: None,
            entering: AtomicUsize::new(0),
            is_logged: false,
            ended: OnceLock::new(),
        }
    }

    /// The same of a detached one. `logger` is what writes its log, where it is a child of this process.
    #[must_use]
    pub fn logged(self, logger: Option<Process>) -> Self {
        Self { logger, is_logged: true, ..self }
    }

    /// Pid of its init as the agent sees it; 0 when it has none.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, |process| process.pid)
    }

    /// How its init ended, where the kernel tells: it does so only the parent, and an agent is not that of what it took over.
    fn wait(&self) -> Option<spawn::Ended> {
        let ask = || spawn::wait(&self.process.as_ref()?.pidfd).ok().flatten();
        *self.ended.get_or_init(ask)
    }
}

/// What a teardown found.
#[derive(Debug, Clone)]
pub struct Remains {
    /// How the workload ended.
    pub ended: Ended,
    /// Its last counters, as far as they count for its end (`truth::of_its_end`).
    pub events: MemoryEvents,
}

/// Notes who a workload is on its cgroup: the next agent governs it as that.
pub fn identify(cgroup: &Cgroup, identity: &Identity) -> Result<(), CgroupError> {
    cgroup.set_attribute(IDENTITY, &serde_json::to_vec(identity).unwrap_or_default())
}

/// Makes the cgroup, limits it, and starts the command in it.
pub fn launch(ground: &Ground, order: LaunchOrder) -> Result<Running, LaunchError> {
    let identity = &order.spec.identity;
    let tenant = ground.workloads.ensure_child(identity.tenant.as_str())?;
    enable_controllers(&tenant)?;
    for (file, value) in &order.tenant_limits {
        if let Err(error) = tenant.write(file, value) {
            crate::kernel::tell(&format!("tenant {}: {error}", identity.tenant));
        }
    }
    parts::hand_on(&identity.resources, [&ground.root, &ground.workloads, &tenant])?;
    let cgroup = fresh_child(&tenant, &identity.name)?;
    let result = furnish(&cgroup, &order).and_then(|()| {
        let (path, file) = ground.records.create(cgroup.id());
        let record = file.map_err(|source| LaunchError::Record { path, source })?;
        let nest = order.spec.isolation.nested.then(|| Nest::lay_out(&cgroup)).transpose()?;
        start(ground, (&tenant, &cgroup, nest), order, record)
            .inspect_err(|_| ground.records.discard(cgroup.id()))
    });
    match result {
        Ok((process, None)) => Ok(Running::new(cgroup, Some(process))),
        Ok((process, logger)) => Ok(Running::new(cgroup, Some(process)).logged(logger)),
        Err(error) => {
            let error = blame::explain(error, &cgroup);
            if let Err(e) = clear(&cgroup, &tenant, cgroup_name(&cgroup)) {
                crate::kernel::tell(&format!("after a failed launch: {e}"));
            }
            Err(error)
        }
    }
}

/// Ends and removes what is left of a workload. Blocks until it is empty.
pub fn tear_down(
    ground: &Ground,
    identity: &Identity,
    running: &Running,
    last: Last,
) -> Result<Remains, CgroupError> {
    let process = running.wait();
    let cgroup = &running.cgroup;
    if running.is_logged {
        // What it said last is written by then. Whatever happens here is found again by the kill.
        let _ = cgroup.wait_empty(LAST_WORDS);
    }
    // What dies under a quota takes as long as what lives: whoever waits behind this worker would wait for it.
    let _ = cgroup.write("cpu.max", "max");
    kill_and_wait(cgroup)?;
    if let Some(logger) = &running.logger {
        let _ = spawn::wait(&logger.pidfd);
    }
    let counted = |file| match cgroup.read(file) {
        Ok(text) => Ok(parse::memory_events(text.as_bytes())),
        Err(e) if e.is_gone() => Ok(MemoryEvents::default()),
        Err(e) => Err(e),
    };
    let events = truth::of_its_end(counted("memory.events")?, counted("memory.events.local")?);
    let exit = truth::how_it_ended(ground.records.witness(cgroup.id()), events, process);
    let ended = last.ended(exit, identity.memory.ceiling).of(&identity.tenant);
    // Before anything is removed: an agent that dies from here on has told how it ended.
    if let Err(error) = ground.records.keep(cgroup.id(), &ended) {
        crate::kernel::tell(&format!("cannot keep how {identity} ended: {error}"));
    }
    let removed = match ground.workloads.child(identity.tenant.as_str()) {
        Ok(tenant) => remove(&tenant, identity.name.as_str()),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.is_gone() => {}
        other => other?,
    }
    ground.records.discard(cgroup.id());
    Ok(Remains { ended, events })
}

/// Enables every controller that is there for the children of `cgroup`, one write each, so that one that is refused does not
/// take the others with it. Returns the optional ones that were refused.
pub fn enable_controllers(cgroup: &Cgroup) -> Result<Vec<&'static str>, CgroupError> {
    let enabled = cgroup.read("cgroup.subtree_control")?;
    let missing = |name: &&&str| !enabled.split_whitespace().any(|e| e == **name);
    for name in REQUIRED_CONTROLLERS.iter().filter(missing) {
        cgroup.write("cgroup.subtree_control", &format!("+{name}"))?;
    }
    let refused = |name: &&&str| cgroup.write("cgroup.subtree_control", &format!("+{name}")).is_err();
    Ok(OPTIONAL_CONTROLLERS.iter().filter(missing).filter(refused).copied().collect())
}

fn fresh_child(tenant: &Cgroup, name: &Name) -> Result<Cgroup, LaunchError> {
    match tenant.create_child(name.as_str()) {
        Err(e) if e.is_taken() => {
            let leftover = tenant.child(name.as_str())?;
            if leftover.is_populated()? {
                return Err(LaunchError::Occupied(leftover.path().to_owned()));
            }
            if leftover.attribute(IDENTITY)?.is_none() {
                return Err(LaunchError::NotOurs(leftover.path().to_owned()));
            }
            // A leftover carries limits and counters: a new directory carries none.
            remove(tenant, name.as_str())?;
            Ok(tenant.create_child(name.as_str())?)
        }
        other => Ok(other?),
    }
}

fn furnish(cgroup: &Cgroup, order: &LaunchOrder) -> Result<(), LaunchError> {
    for (file, value) in &order.limits {
        cgroup.write(file, value).map_err(|error| parts::refused(file, error))?;
    }
    parts::check(&order.spec.identity.resources, cgroup)?;
    identify(cgroup, &order.spec.identity)?;
    life::write(cgroup, &order.spec.life)?;
    walls::write(cgroup, &order.spec.isolation)?;
    cgroup.set_attribute(FAILSAFE, order.failsafe.0.to_string().as_bytes())?;
    if let Some(quota) = order.failsafe_cpu {
        cgroup.set_attribute(FAILSAFE_CPU, quota_text(quota).as_bytes())?;
    }
    stated::write(cgroup, &order.stated)?;
    Ok(())
}

fn start(
    ground: &Ground,
    (tenant, cgroup, nest): (&Cgroup, &Cgroup, Option<Nest>),
    order: LaunchOrder,
    record: File,
) -> Result<(Process, Option<Process>), LaunchError> {
    let isolation = &order.spec.isolation;
    let name = order.spec.identity.tenant.as_str();
    let mut words = isolation.words();
    let users = if privilege::is_rootless() {
        if let Some(what) = rootless::missing(isolation) {
            return Err(LaunchError::Rootless(what));
        }
        words.extend(rootless::words(isolation));
        Some(Users::Own)
    } else if isolation.has_own_users() {
        Some(Users::Range(ground.ids.of(&ground.workloads, tenant, name)?))
    } else {
        None
    };
    let failed = |e| LaunchError::Spawn { error: SpawnError::Channel(e), met: None };
    let mounts = ground.init.cgroup_mounts().map_err(failed)?;
    let points: Vec<String> = mounts.iter().map(|m| m.point.display().to_string()).collect();
    let (stdio, logger) =
        logs::connect(&ground.init, nest.as_ref().map_or(cgroup, |nest| &nest.keeper), order.stdio)
            .map_err(failed)?;
    words.extend(order.spec.life.terminal.then(|| spawn::TERMINAL.to_owned()));
    let launch = Launch {
        cgroup: nest.as_ref().map_or(cgroup, |nest| &nest.payload),
        hostname: isolation.hostname.as_deref().unwrap_or(order.spec.identity.name.as_str()),
        cwd: &order.spec.cwd,
        cgroup_mounts: &points,
        hidden_mounts: &points,
        users,
        isolation: words,
        argv: &order.spec.argv,
        env: &order.spec.env,
        stdio,
        record,
    };
    // Before the command is started: whoever finds it running finds its init.
    let announce = |pid, stage1: &Process| {
        let began = (!isolation.namespaces.pid.is_new()).then(|| adopt::began(pid)).flatten();
        let birth = Birth { pid, unix_ns: clock::unix_nanoseconds(), began };
        let text = serde_json::to_vec(&birth).unwrap_or_default();
        cgroup.set_attribute(INIT, &text).map_err(io::Error::other)?;
        let Some((nest, users)) = nest.as_ref().zip(users) else { return Ok(()) };
        // Where controllers are enabled none may live, and stage 1 was born there: throttled, it takes its time to end.
        spawn::dismiss(stage1);
        nest.hand_over(pid, users.first()).map_err(io::Error::other)
    };
    match spawn::start(&ground.init, launch, announce) {
        Ok(process) => Ok((process, logger)),
        Err(error) => {
            // The kill of a failed launch has ended it, or the end of its pipe.
            let _ = logger.map(|logger| spawn::wait(&logger.pidfd));
            Err(LaunchError::Spawn { error, met: None })
        }
    }
}

fn kill_and_wait(cgroup: &Cgroup) -> Result<(), CgroupError> {
    match cgroup.kill().and_then(|()| cgroup.wait_empty(EMPTY_DEADLINE)) {
        Err(e) if e.is_gone() => Ok(()),
        other => other.map(drop),
    }
}

fn clear(cgroup: &Cgroup, tenant: &Cgroup, name: &str) -> Result<(), CgroupError> {
    kill_and_wait(cgroup)?;
    remove(tenant, name)
}

fn cgroup_name(cgroup: &Cgroup) -> &str {
    cgroup.path().file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// Removes a child with all that is below.
pub(super) fn remove(parent: &Cgroup, name: &str) -> Result<(), CgroupError> {
    parent.remove_tree(name)
}
