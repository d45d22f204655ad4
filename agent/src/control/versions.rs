//! Which laws govern a workload, by name: what its records carry, so that they can be replayed.
//!
//! A workload's laws follow from its class, so there are as many versions as classes. Whatever decides that in another way only
//! has to give [`super::registry::Entry::version`] another name, and to tell the journal what is behind it.

use std::sync::Arc;

use bellows_policies::{CpuLaw, Law};

use crate::journal::{Laws, Writer};
use crate::workload::spec::Class;

/// The version of each class.
#[derive(Debug)]
pub(super) struct Versions {
    latency: Arc<str>,
    standard: Arc<str>,
    batch: Arc<str>,
}

impl Versions {
    /// Names the laws of all classes, and tells the journal.
    pub(super) fn tell(journal: &Writer, memory: &Law) -> Self {
        let version = |class: Class| {
            let laws = Laws::new(class.as_str(), *memory, law_of(class));
            let version = Arc::clone(&laws.version);
            journal.tell(laws);
            version
        };
        Self {
            latency: version(Class::Latency),
            standard: version(Class::Standard),
            batch: version(Class::Batch),
        }
    }

    /// The version that governs `class`.
    pub(super) fn of(&self, class: Class) -> Arc<str> {
        Arc::clone(match class {
            Class::Latency => &self.latency,
            Class::Standard => &self.standard,
            Class::Batch => &self.batch,
        })
    }
}

/// The constants of the cpu law of a class.
pub(super) fn law_of(class: Class) -> CpuLaw {
    match class {
        Class::Latency => CpuLaw::latency(),
        Class::Standard => CpuLaw::standard(),
        Class::Batch => CpuLaw::batch(),
    }
}
