//! What an earlier agent left in the tree: the tree is the database.
//!
//! ```text
//! identity, birth, a living init      it runs: to be governed again
//! identity, birth, empty or dying     it ended while no agent ran: to be told and cleared away
//! identity, no birth                  a launch that the agent's death cut short: what is left of it is ended and removed
//! no identity (or not understood)     half-made when empty: removed
//! anything else that lives            not certain to be ours: adopted where policy says so; else left alone, told, counted
//! ```
//! Nothing else is asked: no file of the agent's own could disagree with the kernel. Empty tenants are removed too, here
//! only: later a launch may be about to use one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellows_policies::Pin;
use bellows_policies::units::{Bytes, Limit};

use super::adoption;
use super::frozen;
use super::isolation::Isolation;
use super::life::{self, Life};
use super::pins;
use super::records::Witness;
use super::spec::{Identity, Name};
use super::stated;
use super::stops::{self, Stop};
use super::supervisor::{Birth, Ground, IDENTITY, INIT, Running, remove};
use super::walls;
use super::yielded;
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::spawn::Process;
use crate::kernel::{adopt, parse, thread};

/// How long what has lost its init, or a launch that was cut short, may take to end by itself. Less than the watchdog's patience.
const DYING: Duration = Duration::from_secs(1);

/// A workload of an earlier agent.
#[derive(Debug)]
pub struct Found {
    /// Who it is.
    pub identity: Identity,
    /// Its cgroup, and its init if that lives.
    pub running: Arc<Running>,
    /// When it was started, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// The operator's word about them, over or not.
    pub pin: Option<Pin>,
    /// For whom it was frozen, if it was; it may run by now.
    pub frozen: Option<frozen::Note>,
    /// An operator has frozen it; it may have been thawed meanwhile.
    pub is_paused: bool,
    /// Its limits are somebody else's.
    pub is_yielded: bool,
    /// It was told to end.
    pub stop: Option<Stop>,
    /// How it is to live.
    pub life: Life,
    /// What its command has given up.
    pub isolation: Isolation,
    /// What was written of its limits that no law moves.
    pub stated: Option<String>,
}

/// A populated cgroup that is none of ours.
#[derive(Debug)]
pub struct Foreign {
    /// `tenant/name`.
    pub name: String,
    /// Its cgroup's id.
    pub id: u64,
    /// What it may use: its `memory.max`, nothing where that is unlimited.
    pub held: Bytes,
    /// An earlier agent had adopted it, and written its `memory.high`.
    pub was_adopted: bool,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Workloads, running or ended.
    pub workloads: Vec<Found>,
    /// What is left alone.
    pub foreign: Vec<Foreign>,
    /// Half-made cgroups that were removed, as `tenant/name`.
    pub removed: Vec<String>,
    /// What could not be looked at or removed, and why.
    pub trouble: Vec<String>,
}

impl Findings {
    fn add(&mut self, part: Self) {
        let Self { workloads, foreign, removed, trouble } = part;
        self.workloads.extend(workloads);
        self.foreign.extend(foreign);
        self.removed.extend(removed);
        self.trouble.extend(trouble);
    }

    /// The ids of the cgroups that are there.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        let ours = self.workloads.iter().map(|found| found.running.cgroup.id());
        ours.chain(self.foreign.iter().map(|foreign| foreign.id)).collect()
    }
}

/// What one cgroup turned out to be.
enum Kind {
    Ours(Box<Found>),
    Foreign,
    HalfMade,
    /// Empty, and not of our making.
    Nothing,
}

/// Walks the tree. What fails for one workload is told, and does not keep the others from being taken over. `beat` is called
/// between workloads: somebody may be waiting for a sign of life. `adopts`: whether what somebody else makes in a tenant's is
/// adopted; nothing of that is removed, empty or not. `is_logged`: whether the output of `tenant/name` goes to a log.
pub fn find(
    ground: &Ground,
    adopts: impl Fn(&str) -> bool,
    is_logged: impl Fn(&str) -> bool + Sync,
    beat: impl FnMut() + Send,
) -> Result<Findings, CgroupError> {
    let depth = adopt::depth();
    let beat = Mutex::new(beat);
    let mut findings = Findings::default();
    for tenant in ground.workloads.children()? {
        let Ok(directory) = ground.workloads.child(&tenant) else { continue };
        let adopts = adopts(&tenant);
        let walk = |names: &[String]| {
            let mut part = Findings::default();
            for name in names {
                beat.lock().unwrap_or_else(PoisonError::into_inner)();
                let label = format!("{tenant}/{name}");
                let looked = directory.child(name).and_then(|cgroup| {
                    let kind = look(ground, &cgroup, (&tenant, name), depth, adopts, is_logged(&label))?;
                    sort(&mut part, kind, &directory, &cgroup, &label)
                });
                match looked {
                    Err(e) if e.is_gone() => {}
                    Err(e) => part.trouble.push(format!("{label} is not taken over: {e}")),
                    Ok(()) => {}
                }
            }
            part
        };
        for part in thread::share(&directory.children()?, walk) {
            findings.add(part);
        }
        if !adopts && tenant.parse::<Name>().is_ok() && directory.children().is_ok_and(|left| left.is_empty())
        {
            // Refused when somebody else lives in it.
            let _ = ground.workloads.remove_child(&tenant);
        }
    }
    Ok(findings)
}

fn look(
    ground: &Ground,
    cgroup: &Cgroup,
    name: (&str, &str),
    depth: usize,
    adopts: bool,
    is_logged: bool,
) -> Result<Kind, CgroupError> {
    let identity = attribute::<Identity>(cgroup, IDENTITY)?
        .filter(|identity| (identity.tenant.as_str(), identity.name.as_str()) == name);
    let birth = attribute::<Birth>(cgroup, INIT)?;
    let (Some(identity), Some(birth)) = (&identity, birth) else {
        if identity.is_none() && (adopts || adoption::noted(cgroup)?.is_some()) {
            return Ok(Kind::Foreign);
        }
        let is_empty = if identity.is_some() {
            // Init has not been given the word and would end by itself, but when is a matter of the machine's load.
            cgroup.kill()?;
            cgroup.wait_empty(DYING)?
        } else {
            !cgroup.is_populated()?
        };
        if !is_empty {
            return Ok(Kind::Foreign);
        }
        let ours =
            [name.0, name.1].iter().all(|n| n.parse::<Name>().is_ok()) && cgroup.children()?.is_empty();
        return Ok(if ours { Kind::HalfMade } else { Kind::Nothing });
    };
    let process = find_init(cgroup, birth, depth)?;
    if process.is_none() {
        if birth.began.is_some() {
            // Not having been PID 1, it has taken nobody with it.
            cgroup.kill()?;
        }
        let is_empty = cgroup.wait_empty(DYING)?;
        let witness = ground.records.witness(cgroup.id());
        if !is_empty && !is_dying(cgroup, witness, is_logged)? {
            return Ok(Kind::Foreign);
        }
        if is_empty && witness == Witness::Unstarted {
            return Ok(Kind::HalfMade);
        }
    }
    let running = Running::new(cgroup.clone(), process);
    let running = Arc::new(if is_logged { running.logged(None) } else { running });
    Ok(Kind::Ours(Box::new(Found {
        identity: identity.clone(),
        running,
        started_unix_ns: birth.unix_ns,
        pin: pins::read(cgroup)?,
        frozen: frozen::read(cgroup)?,
        is_paused: frozen::is_paused(cgroup)?,
        is_yielded: yielded::is_noted(cgroup)?,
        stop: stops::read(cgroup)?,
        life: life::read(cgroup)?,
        isolation: walls::read(cgroup)?,
        stated: stated::read(cgroup)?,
    })))
}

/// Whether what is left of it, without its init, is on its way out: that has told how its command ended, or all there are dying, but for
/// who writes its log until they are gone. Where there are cgroups below, some could move among them.
fn is_dying(cgroup: &Cgroup, witness: Witness, is_logged: bool) -> Result<bool, CgroupError> {
    if matches!(witness, Witness::Told(_)) {
        return Ok(true);
    }
    let left: Vec<i32> = cgroup.processes()?.into_iter().filter(|pid| !adopt::is_dying(*pid)).collect();
    let is_gone = match left[..] {
        [] => true,
        [pid] => is_logged && adopt::is_of_init(pid),
        _ => false,
    };
    Ok(is_gone && cgroup.below()?.next().is_none())
}

/// Cgroups are looked at one after the other, so who has made more and moves among them could always be in another one: it is held still for a
/// second look.
fn find_init(cgroup: &Cgroup, birth: Birth, depth: usize) -> Result<Option<Process>, CgroupError> {
    let find = || adopt::init(cgroup, birth.pid, depth, birth.began);
    let found = find()?;
    let may_move =
        || Ok(cgroup.is_populated()? && cgroup.below()?.next().is_some() && !frozen::is_frozen(cgroup)?);
    if found.is_none() && may_move()? { frozen::still(cgroup, find) } else { Ok(found) }
}

fn sort(
    findings: &mut Findings,
    kind: Kind,
    tenant: &Cgroup,
    cgroup: &Cgroup,
    label: &str,
) -> Result<(), CgroupError> {
    match kind {
        Kind::Ours(found) => findings.workloads.push(*found),
        Kind::Foreign => {
            let limit = cgroup.read("memory.max").ok().and_then(|text| parse::limit(text.as_bytes()));
            let held = match limit {
                Some(Limit::At(bytes)) => bytes,
                Some(Limit::Max) | None => Bytes::ZERO,
            };
            let was_adopted = adoption::noted(cgroup)?.is_some();
            findings.foreign.push(Foreign { name: label.to_owned(), id: cgroup.id(), held, was_adopted });
        }
        Kind::HalfMade => {
            let name = label.rsplit('/').next().unwrap_or_default();
            remove(tenant, name)?;
            findings.removed.push(label.to_owned());
        }
        Kind::Nothing => {}
    }
    Ok(())
}

fn attribute<T: serde::de::DeserializeOwned>(cgroup: &Cgroup, name: &str) -> Result<Option<T>, CgroupError> {
    Ok(cgroup.attribute(name)?.and_then(|json| serde_json::from_slice(&json).ok()))
}
