//! What a rule set holds beside classes: tenants, the node, and the rules that assign.

use super::words::Adopt;
use crate::budget::{Overcommit, TenantBounds};
use crate::field::{Amount, Field, Kind, fields};
use crate::ladder::{LadderLaw, PressureLaw};
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
    /// The class of its workloads that ask for none and match no rule.
    pub class: Option<String>,
    /// What is done with cgroups that somebody else makes in its own.
    pub adopt: Adopt,
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// What there is to grant from, where the agent is not told otherwise.
    pub capacity: Option<Bytes>,
    /// What of it is never granted.
    pub reserve: Option<Amount>,
    /// How often the pool may be granted to each class.
    pub overcommit: Overcommit,
    /// When the ladder of a squeeze is climbed, and descended.
    pub ladder: LadderLaw,
    /// When the node itself is short of memory.
    pub pressure: PressureLaw,
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

    /// What the budget takes, on a node of `capacity`.
    #[must_use]
    pub fn bounds(&self, capacity: Bytes) -> TenantBounds {
        let bytes = |amount: Amount| amount.of(capacity).page_floor();
        TenantBounds {
            guarantee: self.guarantee.map_or(Bytes::ZERO, bytes),
            cap: self.cap.map(bytes),
            weight: self.weight,
        }
    }

    /// The section `[tenant.NAME]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        fields! { Tenant {
            /// Its share of memory that others want too, and of the cpu.
            "weight" weight: Kind::Count(1, 10_000);
            /// Memory that is kept for its workloads.
            "memory.guarantee" guarantee: Kind::Amount(0);
            /// The most memory that its workloads are granted in sum.
            "memory.cap" cap: Kind::Amount(1 << 20);
            /// The class of its workloads that ask for none and match no rule; standard when absent.
            "class" class: Kind::Class;
            /// What is done with a cgroup that somebody else makes in the tenant's: it is left alone, observed, or governed as
            /// its class says.
            "adopt" adopt: Kind::Choice(Adopt::WORDS);
        } }
    }
}

impl Node {
    /// The section `[node]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        let mut all = fields! { Node {
            /// What there is to grant from, where neither flag nor configuration says so.
            "capacity" capacity: Kind::Size(1 << 20);
            /// What of the capacity is never granted, where neither flag nor configuration says so: bands and emergencies
            /// live there.
            "reserve" reserve: Kind::Amount(0);
            /// How many times what there is may be granted to workloads of the base latency: 1.0 promises nothing twice.
            "overcommit.latency" overcommit.latency: Kind::Ratio(100.0);
            /// How many times what there is may be granted to workloads of the base standard: 1.0 promises nothing twice.
            "overcommit.standard" overcommit.standard: Kind::Ratio(100.0);
            /// How many times what there is may be granted to workloads of the base batch: 1.0 promises nothing twice.
            "overcommit.batch" overcommit.batch: Kind::Ratio(100.0);
        } };
        let ladder = LadderLaw::fields().into_iter();
        all.extend(ladder.map(|field| field.within("squeeze", |n: &Self| &n.ladder, |n| &mut n.ladder)));
        let pressure = PressureLaw::fields().into_iter();
        all.extend(
            pressure.map(|field| field.within("pressure", |n: &Self| &n.pressure, |n| &mut n.pressure)),
        );
        all
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
