//! Groups of one node on the simulator's plant, and the loop that governs them (`rig`): a grid of looks, early looks, the
//! node's guard. Time is a counter of 1 ms ticks; nothing sleeps, and all chance comes from one seed.

#![allow(dead_code, reason = "each test file uses a part of it")]

use bellows_policies::{CpuEvidence, CpuLaw, Cpus};

pub(crate) mod rig;

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub(crate) use bellows_simulator::plant::cpu as group;

/// The quota that comes of evidence alone, as a journal keeps it.
pub(crate) fn replayed(evidence: &CpuEvidence, law: &CpuLaw) -> Cpus {
    let text = serde_json::to_string(evidence).expect("plain values");
    serde_json::from_str::<CpuEvidence>(&text).expect("what was written").replay(law)
}

/// A source of chance: xorshift64*, which is enough for loads and jitter.
#[derive(Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // A state of zero would stay zero; the product keeps neighbouring seeds apart.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % end.max(1)
    }
}
