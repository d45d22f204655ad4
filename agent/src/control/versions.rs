//! Which laws govern a workload, by name: what its records carry, so that they can be replayed.
//!
//! A workload's laws follow from its class, and a class from the rule set; so there is a name for each class of each rule set
//! that is made use of. The journal is told what is behind a name when it is first given to a workload, and not of classes that
//! nobody has. A workload whose class a reload leaves as it is keeps its name.

use std::collections::HashMap;
use std::sync::Arc;

use bellows_policies::{Class, Law};

use crate::journal::{Laws, Writer};

/// The versions of the rule set that is in force.
#[derive(Debug)]
pub(super) struct Versions {
    rules: String,
    /// By class and weight: a workload may have one of its own.
    told: HashMap<(String, u32), Arc<str>>,
}

impl Versions {
    /// Those of the rule set of this version.
    pub(super) fn new(rules: &str) -> Self {
        Self { rules: rules.to_owned(), told: HashMap::new() }
    }

    /// The version that governs `class`, with `memory` as its memory law; told to the journal when it is new.
    pub(super) fn of(&mut self, journal: &Writer, class: &Class, memory: &Law) -> Arc<str> {
        let key = (class.name.clone(), class.cpu.law.weight);
        if let Some(version) = self.told.get(&key) {
            return Arc::clone(version);
        }
        let laws = Laws::new(&class.name, &self.rules, *memory, class.cpu.law);
        let version = Arc::clone(&laws.version);
        journal.tell(laws);
        self.told.insert(key, Arc::clone(&version));
        version
    }
}
