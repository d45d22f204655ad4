//! Which records a reader wants.

use bellows_policies::Reason;

use super::Record;

/// All of these have to hold; the default wants everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only records after the one with this id.
    pub after: u64,
    /// Only records before the one with this id.
    pub before: Option<u64>,
    /// Only records from this instant on, in nanoseconds since the Unix epoch.
    pub from_unix_ns: u64,
    /// Only those of this workload, `tenant/name`.
    pub workload: Option<String>,
    /// Only those of workloads of these tenants.
    pub tenants: Option<Vec<String>>,
    /// Only those with this reason.
    pub reason: Option<Reason>,
}

impl Filter {
    /// Whether it wants `record`.
    #[must_use]
    pub fn wants(&self, record: &Record) -> bool {
        record.id > self.after
            && self.before.is_none_or(|before| record.id < before)
            && record.unix_ns >= self.from_unix_ns
            && self.workload.as_deref().is_none_or(|workload| *workload == *record.workload)
            && self.tenants.as_ref().is_none_or(|tenants| {
                record
                    .workload
                    .split_once('/')
                    .is_some_and(|(of, _)| tenants.iter().any(|tenant| tenant == of))
            })
            && self.reason.is_none_or(|reason| record.what.reason() == Some(reason))
    }
}
