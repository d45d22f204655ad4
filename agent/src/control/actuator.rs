//! The actuator: the only writer of memory limits.
//!
//! | what | where | why |
//! |---|---|---|
//! | raise both | here and now, `memory.max` first | the band between the two is never closed |
//! | lower `memory.high`, reclaim | slow lane | both can block in reclaim |
//! | lower `memory.max` | here and now, after `memory.high` has settled | a lane's write could come after the grow that overtook it, and the kernel kills at a `memory.max` below use |

use std::io;

use bellows_policies::units::{Bytes, Limit};
use bellows_policies::{Limits, Plan, Reason, Verb};

use super::lanes::Lanes;
use super::registry::{Entry, Open};
use super::shrinker::{Act, Shrink};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::cpu::quota_text;
use crate::kernel::parse;
use crate::workload::spec::Spec;

/// How a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Both limits are raised, or the tripwire moved away.
    Raise,
    /// `memory.max` is lowered.
    Narrow,
    /// By the slow lane.
    Slowly(Act),
}

/// How the write of a plan is carried out. To put a tripwire back lowers it from `max`, whatever it is for the law.
pub(super) fn way(verb: Verb, reason: Reason, from: Limits, to: Limits) -> Way {
    if reason == Reason::Rearmed || to.high < from.high {
        Way::Slowly(Act::LowerHigh(to.high))
    } else if verb == Verb::Shrink {
        Way::Narrow
    } else {
        Way::Raise
    }
}

/// Raises both limits: two writes, neither of which can block.
pub(super) fn raise(open: &Open, to: Limits) -> io::Result<()> {
    open.max.write(Limit::At(to.max))?;
    open.high.write(Limit::At(to.high))
}

/// Lowers `memory.max`, which this turn's sample has found to be well above use, so that the write finds nothing to reclaim
/// and returns at once. False when use has come near meanwhile, less than half of the band being left: then the limit is as
/// it was before.
pub(super) fn narrow(open: &Open, from: Limits, to: Limits) -> io::Result<bool> {
    open.max.write(Limit::At(to.max))?;
    let half = Bytes(to.max.saturating_sub(to.high).0 / 2);
    if open.current()?.saturating_add(half) <= to.max {
        return Ok(true);
    }
    open.max.write(Limit::At(from.max)).map(|()| false)
}

/// Takes the tripwire out of the way and opens the limit to the failsafe: what a workload needs to live without an agent.
pub(super) fn open_up(open: &Open, failsafe: Bytes) -> io::Result<()> {
    open.max.write(Limit::At(failsafe))?;
    open.high.write(Limit::Max)
}

/// Hands work to the slow lane; false when one is on its way, or the lane is full.
pub(super) fn slowly(lanes: &Lanes, entry: &mut Entry, act: Act, plan: Plan) -> bool {
    let Some(open) = entry.open.as_ref().filter(|_| entry.shrink.is_none()) else { return false };
    let shrink = Shrink::new(entry.key, &open.slow, act, plan);
    let taken = lanes.shrink(&shrink);
    if taken {
        entry.shrink = Some(shrink);
    }
    taken
}

/// Everything that is written to a workload's cgroup before its first process: memory limits from the launch plan, the
/// floor's protection, and what keeps it from harming the host.
pub(super) fn launch_limits(spec: &Spec, limits: Limits, pids: u64) -> Vec<(&'static str, String)> {
    let identity = &spec.identity;
    let mut files = vec![
        ("memory.max", limits.max.0.to_string()),
        ("memory.high", limits.high.0.to_string()),
        (identity.class.protection(), identity.memory.floor.0.to_string()),
        // A workload lives or dies as a whole: half of one is a riddle to its owner.
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", pids.to_string()),
        ("cpu.weight", identity.class.weight().to_string()),
    ];
    if let Some(bounds) = identity.cpu {
        // The cpu loop takes over when the command runs; init's work before that is not the workload's.
        files.push(("cpu.max", quota_text(bounds.ceiling)));
        files.push(("cpu.max.burst", bounds.floor.quota_us().to_string()));
    }
    files
}

/// Cgroups that a tenant may have below its own, workloads included, and how deep they may be nested: what makes them costs
/// the kernel memory that no limit counts.
const DESCENDANTS: u32 = 4096;
const DEPTH: u32 = 8;

/// Everything that is written to a tenant's cgroup at each launch in it, since that may be older than its bounds. No
/// `memory.max`: ARCHITECTURE.md says why.
pub(super) fn tenant_limits(weight: u32) -> Vec<(&'static str, String)> {
    vec![
        ("cpu.weight", weight.clamp(1, 10_000).to_string()),
        ("cgroup.max.descendants", DESCENDANTS.to_string()),
        ("cgroup.max.depth", DEPTH.to_string()),
    ]
}

/// Protects the sums of floors in an ancestor of workloads, by class: as much `memory.min` and `memory.low` as they have.
pub(super) fn protect(cgroup: &Cgroup, floors: [Bytes; 3]) -> Result<(), CgroupError> {
    protections(floors).into_iter().try_for_each(|(file, floor)| cgroup.write(file, &floor.0.to_string()))
}

/// The same where somebody else may have set more, which stays.
pub(super) fn protect_at_least(cgroup: &Cgroup, floors: [Bytes; 3]) -> Result<(), CgroupError> {
    for (file, floor) in protections(floors) {
        let present = parse::limit(cgroup.read(file)?.as_bytes());
        if present.is_none_or(|present| present < Limit::At(floor)) {
            cgroup.write(file, &floor.0.to_string())?;
        }
    }
    Ok(())
}

fn protections([latency, standard, batch]: [Bytes; 3]) -> [(&'static str, Bytes); 2] {
    [("memory.min", latency), ("memory.low", standard.saturating_add(batch))]
}
