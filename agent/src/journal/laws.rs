//! The laws that decisions were made by, under the name that records carry. With them a record's evidence can be replayed, and
//! its thresholds shown, also by a later agent that is configured otherwise.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellows_policies::{CpuLaw, Law};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Versions that are remembered: more than are ever in force at a time.
const VERSIONS: usize = 64;

/// The constants of both laws, under one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Laws {
    /// Their name: the class, the rule set's version, and a hash of the constants, as in `web@built-in.1f0c9a2e`. The hash,
    /// since a class follows from the agent's configuration as well, which no rule set's version covers.
    pub version: Arc<str>,
    /// Of memory.
    pub memory: Law,
    /// Of the cpu.
    pub cpu: CpuLaw,
}

impl Laws {
    /// Names laws after `class`, the rule set that they are of, and what is in them.
    #[must_use]
    pub fn new(class: &str, rules: &str, memory: Law, cpu: CpuLaw) -> Self {
        let text = serde_json::to_string(&(memory, cpu)).unwrap_or_default();
        Self { version: format!("{class}@{rules}.{:08x}", fnv1a(text.as_bytes())).into(), memory, cpu }
    }
}

/// FNV-1a, folded to 32 bits: it has to be the same on every machine and in every release, and nobody attacks it.
fn fnv1a(bytes: &[u8]) -> u32 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or_default()
}

/// All versions known, shared by whoever tells them and whoever asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Versions(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    all: VecDeque<Arc<Laws>>,
    /// How many were ever added.
    added: u64,
}

impl Versions {
    /// Adds one that is not known yet; the oldest is forgotten for it. Whether it was new.
    pub(super) fn add(&self, laws: Laws) -> bool {
        let mut known = self.known();
        if known.all.iter().any(|other| other.version == laws.version) {
            return false;
        }
        if known.all.len() == VERSIONS {
            known.all.pop_front();
        }
        known.all.push_back(Arc::new(laws));
        known.added += 1;
        true
    }

    pub(super) fn find(&self, version: &str) -> Option<Arc<Laws>> {
        self.known().all.iter().find(|laws| *laws.version == *version).cloned()
    }

    /// All that are known, if any was added since `seen` had been.
    pub(super) fn news(&self, seen: &mut u64) -> Option<Vec<Arc<Laws>>> {
        let known = self.known();
        (std::mem::replace(seen, known.added) != known.added).then(|| known.all.iter().cloned().collect())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_the_constants() {
        let laws = |law| Laws::new("standard", "built-in", law, CpuLaw::standard()).version;
        assert_eq!(laws(Law::default()), laws(Law::default()));
        assert_ne!(laws(Law::default()), laws(Law { hot_poll_ms: 3, ..Law::default() }));
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4 ^ 0x8422_2325);
        let versions = Versions::default();
        for n in 0..VERSIONS as u64 + 5 {
            let law = Law { stall_ms: n, ..Law::default() };
            assert!(versions.add(Laws::new("x", "1", law, CpuLaw::standard())));
        }
        let mut seen = 0;
        assert_eq!(versions.news(&mut seen).map(|all| all.len()), Some(VERSIONS));
        assert_eq!(versions.news(&mut seen), None);
    }
}
