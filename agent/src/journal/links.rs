//! Links between records, made by the drain: the loops that act know no ids, and need not.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Record, What};

/// Workloads remembered; far more than run at a time. Ends take them out.
const MOST: usize = 64 * 1024;

/// The last records of one workload, zero for none.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    memory: u64,
    cpu: u64,
    squeezed: u64,
    moved: u64,
}

/// The last records of all workloads.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<Arc<str>, Last>);

impl Links {
    /// Fills in what came before `record`, and of which move it tells the outcome. What was read from disk keeps its own.
    pub(super) fn join(&mut self, record: &mut Record) {
        if record.workload.is_empty() {
            return;
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let last = self.0.entry(Arc::clone(&record.workload)).or_default();
        let before = match &mut record.what {
            What::LimitsMoved { .. } => {
                last.moved = record.id;
                std::mem::replace(&mut last.memory, record.id)
            }
            What::Held { .. }
            | What::WouldHave { .. }
            | What::ModeChanged { .. }
            | What::Adopted { .. }
            | What::Reclaimed { .. }
            | What::Launched { .. }
            | What::TakenOver { .. }
            | What::TakenBack { .. }
            | What::ForeignWrite { .. } => std::mem::replace(&mut last.memory, record.id),
            What::QuotaMoved { .. } | What::QuotaHeld { .. } => std::mem::replace(&mut last.cpu, record.id),
            What::OutcomeSeen { of, .. } => {
                *of = if *of == 0 { last.moved } else { *of };
                *of
            }
            What::Squeezed { .. } => std::mem::replace(&mut last.squeezed, record.id),
            What::Eased { .. } => last.squeezed,
            What::Incident(_) | What::WriteFailed { .. } | What::Ended { .. } | What::LetGo { .. } => {
                last.memory
            }
            What::QuotaFailed { .. } => last.cpu,
            What::AgentStarted { .. }
            | What::AgentStopping { .. }
            | What::LaunchFailed { .. }
            | What::Life(_)
            | What::SignalSent { .. }
            | What::SettingsChanged { .. }
            | What::Pinned { .. }
            | What::Unpinned { .. }
            | What::OrderRefused { .. }
            | What::Released {}
            | What::LeftoverRemoved { .. }
            | What::Trouble { .. }
            | What::PoliciesLoaded { .. }
            | What::PoliciesRefused { .. }
            | What::QueueOverflowed {}
            | What::ForeignCgroup { .. } => 0,
        };
        record.prior = record.prior.or((before > 0).then_some(before));
        if matches!(record.what, What::Ended { .. } | What::LetGo { .. }) {
            self.0.remove(&record.workload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::{Bytes, CpuEvidence, Cpus, Evidence, Limits, Reason, Verb};

    #[test]
    fn records_follow_those_of_their_workload_and_resource() {
        let (verb, reason, limits) = (Verb::Grow, Reason::TripwireHit, Limits::default());
        let (current, wake_to_write_us, evidence) = (Bytes::ZERO, 0, Evidence::default());
        let held = || What::Held { reason, limits, current, evidence };
        let moved = || What::LimitsMoved {
            verb,
            reason,
            from: limits,
            to: limits,
            current,
            wake_to_write_us,
            evidence,
        };
        let quota = || What::QuotaMoved {
            verb,
            reason,
            from: Cpus::ZERO,
            to: Cpus::ZERO,
            throttled: 0,
            wake_to_write_us,
            evidence: CpuEvidence::default(),
        };
        let seen = || What::OutcomeSeen {
            of: 0,
            verb,
            helped: true,
            over_ms: 1,
            hits: 0,
            waited: None,
            current,
            limits,
        };
        let table = [
            ("a/x", held(), None),
            ("a/x", moved(), Some(1)),
            ("a/y", moved(), None),
            ("a/x", quota(), None),
            ("a/x", seen(), Some(2)),
            ("a/x", held(), Some(2)),
            ("a/x", quota(), Some(4)),
            ("a/x", What::Ended { how: String::new(), code: 0 }, Some(6)),
            ("a/x", held(), None),
            ("", What::QueueOverflowed {}, None),
        ];
        let mut links = Links::default();
        for (id, (workload, what, prior)) in (1..).zip(table) {
            let workload = workload.into();
            let mut record = Record { id, unix_ns: 0, workload, version: None, prior: None, by: None, what };
            links.join(&mut record);
            assert_eq!(record.prior, prior, "record {id}");
        }
    }
}
