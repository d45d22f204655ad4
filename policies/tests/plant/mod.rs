//! One workload on the simulator's plant, and the loop that governs it: the plant is the kernel's part, `rig` the loop's.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod rig;

use bellows_policies::{Budget, Bytes, Evidence, Law, Outcome, Plan, replay};
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub(crate) use bellows_simulator::plant::memory::{Demand, Plant, TICK_NS, mib};
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub(crate) use rig::Rig;

/// What a plan does comes of its evidence alone, as a journal keeps it.
pub(crate) fn replays(plan: &Plan, law: &Law) {
    let (evidence, outcome) = match plan {
        Plan::Write { evidence, to, .. } => (evidence, Outcome::Limits(*to)),
        Plan::Reclaim { evidence, bytes, .. } => (evidence, Outcome::Reclaim(*bytes)),
        Plan::Nothing { .. } => return,
    };
    let text = serde_json::to_string(evidence).expect("plain values");
    let read: Evidence = serde_json::from_str(&text).expect("what was written");
    assert_eq!(replay(&read, law), outcome, "{plan:?}\n{text}");
}

pub(crate) fn plenty() -> Budget {
    Budget::new(Bytes(64 << 30), Bytes::GIB)
}
