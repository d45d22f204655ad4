//! What a change of policy writes to a running workload besides the limits that laws move. Done by a worker: it opens files.

use std::sync::Arc;

use bellows_policies::{Bytes, Cpus};

use super::supervisor::{FAILSAFE, FAILSAFE_CPU, Running};
use super::{parts, stated};
use crate::kernel::cgroup::CgroupError;
use crate::kernel::cpu::quota_text;

/// What is to be written.
#[derive(Debug)]
pub struct Rewrite {
    /// Where.
    pub running: Arc<Running>,
    /// Files and values, in the order of writing.
    pub files: Vec<(&'static str, String)>,
    /// The failsafe `memory.max`; none of what somebody else made.
    pub failsafe: Option<Bytes>,
    /// The failsafe quota, where one is governed.
    pub failsafe_cpu: Option<Cpus>,
    /// What is noted when all of that is written; nothing on what somebody else made.
    pub stated: Option<String>,
}

impl Rewrite {
    /// Writes all; what failed, in words. A workload that is gone needs nothing.
    #[must_use]
    pub fn carry_out(&self) -> Vec<String> {
        let cgroup = &self.running.cgroup;
        let files = self.files.iter().map(|(file, value)| parts::write(cgroup, file, value));
        let failsafe =
            self.failsafe.map(|bytes| cgroup.set_attribute(FAILSAFE, bytes.0.to_string().as_bytes()));
        let quota = match self.failsafe_cpu {
            Some(cpus) => cgroup.set_attribute(FAILSAFE_CPU, quota_text(cpus).as_bytes()),
            None => cgroup.remove_attribute(FAILSAFE_CPU),
        };
        let failed = files.chain(failsafe).chain([quota]).filter_map(Result::err);
        let mut failed: Vec<CgroupError> = failed.filter(|error| !error.is_gone()).collect();
        if failed.is_empty()
            && let Some(Err(error)) = self.stated.as_ref().map(|text| stated::write(cgroup, text))
            && !error.is_gone()
        {
            failed.push(error);
        }
        failed.iter().map(CgroupError::to_string).collect()
    }
}
