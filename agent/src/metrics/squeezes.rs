//! What the squeeze does, by rung: acts, bytes, leases in force; and the node's own shortage.

use bellows_policies::ladder::Grip;
use bellows_policies::squeeze::Rung;
use bellows_policies::units::Bytes;
use prometheus::{Gauge, IntCounter};

use super::register::Register;

/// Counters of the ladder.
#[derive(Debug)]
pub struct Squeezes {
    given: [IntCounter; 2],
    given_bytes: [IntCounter; 2],
    acts: [IntCounter; 3],
    leases: [Gauge; 2],
    node_missing: Gauge,
    /// Times that it was not known whether the node is short of memory.
    pub node_unknown: IntCounter,
}

impl Squeezes {
    pub(super) fn register(register: &Register) -> prometheus::Result<Self> {
        let acts = |rung| register.counter_of("bellows_squeeze_acts_total", rung);
        let bytes = |rung| register.counter_of("bellows_squeeze_bytes_total", rung);
        let leases = |rung| register.gauge_of("bellows_squeeze_leases", rung);
        let [slack, reclaim] = Rung::ALL.map(Rung::as_str);
        let [cpu, freeze, kill] = Grip::ALL.map(Grip::as_str);
        Ok(Self {
            given: [acts(slack)?, acts(reclaim)?],
            given_bytes: [bytes(slack)?, bytes(reclaim)?],
            acts: [acts(cpu)?, acts(freeze)?, acts(kill)?],
            leases: [leases(cpu)?, leases(freeze)?],
            node_missing: register.gauge("bellows_node_memory_missing_bytes")?,
            node_unknown: register.counter("bellows_node_memory_unknown_total")?,
        })
    }

    /// A workload was asked to give memory.
    pub fn gave(&self, rung: Rung, bytes: Bytes) {
        self.given[rung as usize].inc();
        self.given_bytes[rung as usize].inc_by(bytes.0);
    }

    /// A workload is held.
    pub fn acted(&self, grip: Grip) {
        self.acts[grip as usize].inc();
    }

    /// How many are held: by part of their quota, and frozen.
    pub fn leases(&self, held: [u32; 2]) {
        for (gauge, count) in self.leases.iter().zip(held) {
            gauge.set(f64::from(count));
        }
    }

    /// What the node lacks, where that is known.
    pub fn node(&self, missing: Option<Bytes>) {
        self.node_missing.set(missing.map_or(f64::NAN, |bytes| bytes.0 as f64));
    }
}
