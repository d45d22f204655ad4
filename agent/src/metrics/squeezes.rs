//! What the squeeze does, by rung: acts, bytes, leases in force; and the node's own shortage.

use bellows_policies::ladder::Grip;
use bellows_policies::squeeze::Rung;
use bellows_policies::units::Bytes;
use prometheus::{Gauge, IntCounter, Opts, Registry};

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
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, rung: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::with_opts(Opts::new(name, help).const_label("rung", rung))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let acts = |rung: &str| {
            counter(
                "bellows_squeeze_acts_total",
                "Times that something was taken from a workload, by rung.",
                rung,
            )
        };
        let bytes = |rung: &str| {
            counter("bellows_squeeze_bytes_total", "Memory that was taken from workloads, by rung.", rung)
        };
        let leases = |rung: &str| -> prometheus::Result<Gauge> {
            let options =
                Opts::new("bellows_squeeze_leases", "Workloads that are held for somebody else, by rung.");
            let gauge = Gauge::with_opts(options.const_label("rung", rung))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let node_missing = Gauge::new(
            "bellows_node_memory_missing_bytes",
            "What the node itself lacks of available memory; NaN when that is not known.",
        )?;
        registry.register(Box::new(node_missing.clone()))?;
        let node_unknown = IntCounter::new(
            "bellows_node_memory_unknown_total",
            "Times that it became unknown whether the node is short of memory.",
        )?;
        registry.register(Box::new(node_unknown.clone()))?;
        let [slack, reclaim] = Rung::ALL.map(Rung::as_str);
        let [cpu, freeze, kill] = Grip::ALL.map(Grip::as_str);
        Ok(Self {
            given: [acts(slack)?, acts(reclaim)?],
            given_bytes: [bytes(slack)?, bytes(reclaim)?],
            acts: [acts(cpu)?, acts(freeze)?, acts(kill)?],
            leases: [leases(cpu)?, leases(freeze)?],
            node_missing,
            node_unknown,
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
