//! Whether a plan comes of its evidence alone, written to JSON and read back, as a journal keeps it.

use bellows_policies::{CpuEvidence, CpuLaw, CpuPlan, Evidence, Law, Outcome, Plan, replay};

/// Whether the plan's limits, or its reclaim, come of its evidence and `law`.
pub(crate) fn agrees(plan: &Plan, law: &Law) -> bool {
    let (evidence, outcome) = match plan {
        Plan::Write { evidence, to, .. } => (evidence, Outcome::Limits(*to)),
        Plan::Reclaim { evidence, bytes, .. } => (evidence, Outcome::Reclaim(*bytes)),
        Plan::Nothing { .. } => return true,
    };
    let text = serde_json::to_string(evidence).unwrap_or_default();
    serde_json::from_str::<Evidence>(&text).is_ok_and(|read| replay(&read, law) == outcome)
}

/// The same of a quota.
pub(crate) fn agrees_quota(plan: &CpuPlan, law: &CpuLaw) -> bool {
    let CpuPlan::Write { evidence, to, .. } = plan else { return true };
    let text = serde_json::to_string(evidence).unwrap_or_default();
    serde_json::from_str::<CpuEvidence>(&text).is_ok_and(|read| read.replay(law) == *to)
}
