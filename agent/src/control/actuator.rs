//! The actuator: the only writer of limits. Grows are written here and now, on the control thread; shrinks go to the slow
//! lane. A grow raises `memory.max` first, so that the band between the two is never closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bellows_policies::units::{Bytes, Limit};
use bellows_policies::{Limits, Plan};

use super::lanes::{Lanes, Shrink};
use super::registry::{Entry, Open};
use crate::workload::spec::Spec;

/// Raises both limits: two writes, neither of which can block.
pub(super) fn raise(open: &Open, to: Limits) -> io::Result<()> {
    open.max.write(Limit::At(to.max))?;
    open.high.write(Limit::At(to.high))
}

/// Takes the tripwire out of the way and opens the limit to the failsafe: what a workload needs to live without an agent.
pub(super) fn open_up(open: &Open, failsafe: Bytes) -> io::Result<()> {
    open.max.write(Limit::At(failsafe))?;
    open.high.write(Limit::Max)
}

/// Hands a plan that lowers `memory.high` in the kernel to the slow lane; false when the lane is full.
pub(super) fn lower(lanes: &Lanes, entry: &mut Entry, plan: Plan) -> bool {
    let (Some(open), Plan::Write { to, .. }) = (&entry.open, plan) else { return false };
    let shrink = Arc::new(Shrink {
        key: entry.key,
        high: Arc::clone(&open.slow_high),
        plan,
        to,
        cancelled: AtomicBool::new(false),
    });
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
    vec![
        ("memory.max", limits.max.0.to_string()),
        ("memory.high", limits.high.0.to_string()),
        (identity.class.protection(), identity.memory.floor.0.to_string()),
        // A workload lives or dies as a whole: half of one is a riddle to its owner.
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", pids.to_string()),
        ("cpu.weight", identity.class.cpu_weight().to_string()),
    ]
}
