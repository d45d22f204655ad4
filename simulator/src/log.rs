//! What happened: the last records of each workload, to be read by whoever repeats a failing seed, and one hash of all of
//! them, which two runs of a seed have to share.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use bellows_policies::ladder::Grip;
use bellows_policies::{Bytes, Cpus, Limits, Reason, Verb};

/// Records kept of each workload.
const KEPT: usize = 30;
/// The name of records that are about the node.
pub(crate) const NODE: u64 = 0;

/// Why a call to the kernel fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Errno {
    /// ENODEV: the cgroup is gone.
    Gone,
    /// EINTR.
    Interrupted,
    /// EBUSY.
    Busy,
}

/// One thing that happened to a workload, or to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Launched(Limits),
    Adopted {
        found: Limits,
        governed: Limits,
    },
    Heard,
    Looked {
        verb: Verb,
        reason: Reason,
        current: Bytes,
    },
    DetailRead,
    Wrote {
        verb: Verb,
        reason: Reason,
        from: Limits,
        to: Limits,
        current: Bytes,
    },
    /// A plan for the slow lane.
    Handed {
        verb: Verb,
        reason: Reason,
        to: Limits,
    },
    Refused(Reason),
    Cancelled,
    Reclaimed {
        before: Bytes,
        after: Bytes,
    },
    WriteFailed(Errno),
    Opened,
    TakenBack,
    ForeignSeen,
    QuotaWrote {
        verb: Verb,
        reason: Reason,
        from: Cpus,
        to: Cpus,
    },
    QuotaFailed(Errno),
    Killed {
        current: Bytes,
        limits: Limits,
    },
    /// The ladder holds it, for whoever has this priority.
    Gripped {
        grip: Grip,
        waiter: u32,
    },
    /// A lease ended.
    Eased {
        grip: Grip,
        why: Ease,
    },
    GripFailed(Errno),
    Ended,
    Cleared,
    /// A fault that was injected.
    Fault(&'static str),
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ease {
    /// Nobody waits any more.
    PressureGone,
    /// Somebody else has thawed it.
    Elsewhere,
}

/// Who killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killer {
    Kernel,
    /// The ladder's last rung.
    Policy,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// When, nanoseconds of virtual time.
    pub at: u64,
    /// Which workload, or 0 for the node.
    pub id: u64,
    /// The rule, and what was seen.
    pub text: String,
}

/// The records of a run.
#[derive(Debug)]
pub(crate) struct Log {
    hash: DefaultHasher,
    kept: BTreeMap<u64, VecDeque<(u64, What)>>,
    /// The first rule that did not hold.
    pub(crate) broken: Option<Broken>,
    /// Limit writes and quota writes by the laws, and kills.
    pub(crate) writes: u64,
    pub(crate) quotas: u64,
    pub(crate) kills: u64,
    /// How often each fault was injected.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Grows that were refused for now, and for ever.
    pub(crate) deferred: u64,
    pub(crate) infeasible: u64,
    /// Who was killed, and by whom; for whoever takes it.
    pub(crate) killed: Vec<(u64, Killer)>,
    /// Freezes and kills by the ladder.
    pub(crate) frozen: u64,
    pub(crate) sacrificed: u64,
    /// Rules are for the agent: whoever else sets limits is not held to them.
    pub(crate) forgives: bool,
    /// All records, where they are asked for.
    all: Option<Vec<(u64, u64, What)>>,
    held: BTreeMap<u64, Reason>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            hash: DefaultHasher::new(),
            kept: BTreeMap::new(),
            broken: None,
            writes: 0,
            quotas: 0,
            kills: 0,
            faults: BTreeMap::new(),
            deferred: 0,
            infeasible: 0,
            killed: Vec::new(),
            frozen: 0,
            sacrificed: 0,
            forgives: false,
            all: None,
            held: BTreeMap::new(),
        }
    }

    /// Keeps all records, or only the last of each workload.
    pub(crate) fn keep(&mut self, all: bool) {
        self.all = all.then(Vec::new);
    }

    /// All records that were kept, in the order of time.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, u64, What)> {
        self.all.iter().flatten().copied()
    }

    pub(crate) fn record(&mut self, at: u64, id: u64, what: What) {
        (at, id, what).hash(&mut self.hash);
        if let Some(all) = &mut self.all {
            // Of looks that hold only those for another reason than before.
            let is_news = match what {
                What::Looked { verb: Verb::Hold, reason, .. } => self.held.insert(id, reason) != Some(reason),
                _ => true,
            };
            if is_news {
                all.push((at, id, what));
            }
        }
        match what {
            What::Wrote { .. } => self.writes += 1,
            What::QuotaWrote { .. } => self.quotas += 1,
            What::Killed { .. } => {
                self.kills += 1;
                self.killed.push((id, Killer::Kernel));
            }
            What::Gripped { grip: Grip::Kill, .. } => {
                self.sacrificed += 1;
                self.killed.push((id, Killer::Policy));
            }
            What::Gripped { grip: Grip::Freeze, .. } => self.frozen += 1,
            What::Refused(Reason::BudgetInfeasible | Reason::TenantInfeasible) => self.infeasible += 1,
            What::Refused(_) => self.deferred += 1,
            What::Fault(name) => *self.faults.entry(name).or_default() += 1,
            // A look that holds is in the hash; it would push everything else out of the records.
            What::Looked { verb: Verb::Hold, .. } | What::Heard | What::DetailRead => return,
            What::Launched(_)
            | What::Adopted { .. }
            | What::Looked { .. }
            | What::Handed { .. }
            | What::Cancelled
            | What::Reclaimed { .. }
            | What::WriteFailed(_)
            | What::Opened
            | What::TakenBack
            | What::ForeignSeen
            | What::QuotaFailed(_)
            | What::Gripped { grip: Grip::Cpu, .. }
            | What::Eased { .. }
            | What::GripFailed(_)
            | What::Ended
            | What::Cleared => {}
        }
        let kept = self.kept.entry(id).or_default();
        // The same again and again would push everything else out.
        if id != NODE
            && matches!(what, What::Fault(_) | What::Looked { .. } | What::Refused(_))
            && kept.iter().rev().take(6).any(|(_, before)| *before == what)
        {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((at, what));
    }

    /// Takes in that a rule does not hold, if it is the first.
    pub(crate) fn breaks(&mut self, at: u64, id: u64, text: String) {
        if !self.forgives {
            self.broken.get_or_insert(Broken { at, id, text });
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The last records of a workload and of the node, in order of time.
    pub(crate) fn last(&self, id: u64) -> String {
        let mut lines: Vec<(u64, u64, What)> = Vec::new();
        for id in [NODE, id] {
            lines.extend(self.kept.get(&id).into_iter().flatten().map(|(at, what)| (*at, id, *what)));
        }
        lines.sort_by_key(|(at, ..)| *at);
        lines.dedup();
        lines.iter().fold(String::new(), |text, (at, id, what)| {
            text + &format!("{:>12.1} ms  #{id:<4} {what}\n", *at as f64 / 1e6)
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launched(limits) => write!(f, "launched: {limits}"),
            Self::Adopted { found, governed } => write!(f, "adopted: found {found}; governed {governed}"),
            Self::Looked { verb, reason, current } => {
                write!(f, "look: {verb}, {}, use {current}", reason.as_str())
            }
            Self::Wrote { verb, reason, from, to, current } => {
                write!(f, "{verb}, {}: {from} -> {to}, use {current}", reason.as_str())
            }
            Self::Handed { verb, reason, to } => {
                write!(f, "to the slow lane: {verb}, {}: {to}", reason.as_str())
            }
            Self::Refused(reason) => write!(f, "refused: {}", reason.as_str()),
            Self::Reclaimed { before, after } => write!(f, "reclaimed: use {before} -> {after}"),
            Self::QuotaWrote { verb, reason, from, to } => {
                write!(f, "quota {verb}, {}: {from} -> {to}", reason.as_str())
            }
            Self::Killed { current, limits } => write!(f, "killed at {limits}, use {current}"),
            Self::Gripped { grip, waiter } => write!(f, "held by {}, for priority {waiter}", grip.as_str()),
            Self::Eased { grip, why } => write!(f, "let go of {}: {why:?}", grip.as_str()),
            Self::Fault(name) => write!(f, "fault: {name}"),
            Self::Heard
            | Self::DetailRead
            | Self::Cancelled
            | Self::WriteFailed(_)
            | Self::Opened
            | Self::TakenBack
            | Self::ForeignSeen
            | Self::QuotaFailed(_)
            | Self::GripFailed(_)
            | Self::Ended
            | Self::Cleared => write!(f, "{self:?}"),
        }
    }
}
