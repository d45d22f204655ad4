//! What a rule set holds beside classes: tenants, the node, and the rules that assign.

use crate::field::{Amount, Field, Kind, fields};
use crate::units::Bytes;

/// The owner of workloads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant {
    /// Its share beside the other tenants', 1 to 10 000.
    pub weight: u32,
    /// Memory that is kept for it.
    pub guarantee: Option<Amount>,
    /// The most memory that its workloads are granted in sum.
    pub cap: Option<Amount>,
}

/// The node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What there is to grant from, where the agent is not told otherwise.
    pub capacity: Option<Bytes>,
    /// What of it is never granted.
    pub reserve: Option<Amount>,
    /// How many times what there is may be promised to the class latency and its heirs.
    pub overcommit_latency: f64,
    /// The same for standard.
    pub overcommit_standard: f64,
    /// The same for batch.
    pub overcommit_batch: f64,
}

/// What assigns a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which tenants.
    pub tenant: String,
    /// Which of their workloads.
    pub workload: String,
    /// The class that they have.
    pub class: String,
    /// Also of a workload that asks for another one.
    pub force: bool,
    /// Where it stands: file and line.
    pub origin: String,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            capacity: None,
            reserve: None,
            overcommit_latency: 1.0,
            overcommit_standard: 1.0,
            overcommit_batch: 1.0,
        }
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            tenant: "*".to_owned(),
            workload: "*".to_owned(),
            class: String::new(),
            force: false,
            origin: String::new(),
        }
    }
}

impl Tenant {
    /// A tenant of which nothing is said.
    #[must_use]
    pub fn plain() -> Self {
        Self { weight: 100, ..Self::default() }
    }

    /// The section `[tenant.NAME]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        fields! { Tenant {
            /// Its share beside the other tenants'.
            "weight" weight: Kind::Count(1, 10_000), inert;
            /// Memory that is kept for its workloads.
            "memory.guarantee" guarantee: Kind::Amount(0), inert;
            /// The most memory that its workloads are granted in sum.
            "memory.cap" cap: Kind::Amount(1 << 20), inert;
        } }
    }
}

impl Node {
    /// The section `[node]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        fields! { Node {
            /// What there is to grant from, where neither flag nor configuration says so.
            "capacity" capacity: Kind::Size(1 << 20);
            /// What of the capacity is never granted, where neither flag nor configuration says so: bands and emergencies
            /// live there.
            "reserve" reserve: Kind::Amount(0);
            /// How many times what there is may be promised to workloads of the base latency.
            "overcommit.latency" overcommit_latency: Kind::Ratio(100.0), inert;
            /// How many times what there is may be promised to workloads of the base standard.
            "overcommit.standard" overcommit_standard: Kind::Ratio(100.0), inert;
            /// How many times what there is may be promised to workloads of the base batch.
            "overcommit.batch" overcommit_batch: Kind::Ratio(100.0), inert;
        } }
    }
}

impl Rule {
    /// The section `[[rule]]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        fields! { Rule {
            /// Which tenants; all when absent.
            "tenant" tenant: Kind::Pattern;
            /// Which of their workloads; all when absent.
            "workload" workload: Kind::Pattern;
            /// The class that these have.
            "class" class: Kind::Class;
            /// Whether a workload that asks for another class has this one all the same.
            "force" force: Kind::Flag;
        } }
    }
}
