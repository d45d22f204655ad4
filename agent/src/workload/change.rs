//! What an operator changes of a running workload, by the rules of a launch and in its words.
//!
//! What is not changed stays as it is, and is not held against the class anew, which a reload may have made narrower since.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{Assignment, CpuBounds, Resources, Ruleset};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{Identity, Name};

/// The weights that the kernel takes.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// What is to be changed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// Between what its memory limit moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Setting<Bounds>>,
    /// Between what its cpu quota moves, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Setting<CpuBounds>>,
    /// Its share of memory and cpu beside others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Setting<u32>>,
    /// The most processes and threads that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<Setting<u64>>,
    /// The most of it that may be swapped out, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Setting<Bytes>>,
    /// Its share of the disks beside others of its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<Setting<u32>>,
    /// Lines of `io.max`: all that are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_max: Option<Setting<Vec<String>>>,
    /// The cpus that it runs on; `class` is all, since no class has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<Setting<String>>,
    /// The memory nodes that it allocates from, the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<Setting<String>>,
    /// The most huge pages of each size that is bounded, in bytes, the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugetlb: Option<Setting<BTreeMap<String, Bytes>>>,
}

/// A value that a workload can have of its class or of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Setting<T> {
    /// That of its class, which it follows.
    Class,
    /// Its own.
    Own(T),
}

impl<T: FromStr> FromStr for Setting<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "class" { Ok(Self::Class) } else { text.parse().map(Self::Own) }
    }
}

impl Change {
    /// Who a workload is after it, on a node of `capacity`; or why it cannot be that.
    pub fn of(&self, identity: &Identity, rules: &Ruleset, capacity: Bytes) -> Result<Identity, String> {
        let mut changed = identity.clone();
        let class = match &self.class {
            None => rules.class(identity.class.as_str()).map(Arc::clone),
            Some(asked) => {
                let Assignment { class, by, .. } = rules
                    .assign(identity.tenant.as_str(), identity.name.as_str(), Some(asked.as_str()))
                    .map_err(|e| e.to_string())?;
                if class.name != asked.as_str() {
                    return Err(format!(
                        "--class {asked} is refused: it has the class {} {by}, which forces it",
                        class.name
                    ));
                }
                changed.class = asked.clone();
                changed.assigned = Some(by);
                Ok(class)
            }
        };
        let class = class.map_err(|e| e.to_string())?;
        if self.class.is_some() || self.memory.is_some() {
            let own = wanted(self.memory, Some(identity.memory).filter(|_| !identity.by_class.memory));
            changed.memory = class.memory_bounds(own, capacity)?;
            changed.by_class.memory = own.is_none();
        }
        changed.resources = self.resources(&identity.resources);
        let judged = if self.class.is_some() {
            changed.resources.clone()
        } else {
            self.resources(&Resources::default())
        };
        if let Some(text) = judged.problem().or_else(|| judged.refused_by(&class)) {
            return Err(text);
        }
        if self.class.is_some() || self.cpu.is_some() {
            let own = wanted(self.cpu, identity.cpu.filter(|_| !identity.by_class.cpu));
            let bounds = class.cpu_bounds(own)?;
            if self.cpu.is_some() && bounds.is_some() != identity.cpu.is_some() {
                let text = "--cpu is refused: whether a workload has a quota is decided at its launch";
                return Err(text.to_owned());
            }
            // So a quota that the class gives or takes is for launches to come, as after a reload.
            changed.cpu = bounds.filter(|_| identity.cpu.is_some()).or(identity.cpu);
            changed.by_class.cpu = own.is_none();
        }
        changed.weight = wanted(self.weight, identity.weight);
        match changed.weight {
            Some(weight) if !WEIGHTS.contains(&weight) => {
                let (least, most) = (WEIGHTS.start(), WEIGHTS.end());
                Err(format!("--weight {weight} is refused: it has to be between {least} and {most}"))
            }
            Some(_) | None => Ok(changed),
        }
    }

    /// Whether the kernel has a word in it: of devices, cpus, memory nodes and huge pages it knows what there is.
    #[must_use]
    pub fn asks_the_kernel(&self) -> bool {
        let Self { io_weight, io_max, cpuset_cpus, cpuset_mems, hugetlb, .. } = self;
        let has_list = cpuset_cpus.is_some() || cpuset_mems.is_some();
        io_weight.is_some() || io_max.is_some() || has_list || hugetlb.is_some()
    }

    /// What it has by the piece after it; `own` is what it has of its own so far.
    fn resources(&self, own: &Resources) -> Resources {
        let own = own.clone();
        Resources {
            pids: wanted(self.pids, own.pids),
            swap: wanted(self.swap, own.swap),
            io_weight: wanted(self.io_weight, own.io_weight),
            io_max: wanted(self.io_max.clone(), Some(own.io_max)).unwrap_or_default(),
            cpuset_cpus: wanted(self.cpuset_cpus.clone(), own.cpuset_cpus),
            cpuset_mems: wanted(self.cpuset_mems.clone(), own.cpuset_mems),
            hugetlb: wanted(self.hugetlb.clone(), Some(own.hugetlb)).unwrap_or_default(),
        }
    }
}

/// The value that is asked for, if it is the workload's own; `own` is that which it has of its own so far.
fn wanted<T>(setting: Option<Setting<T>>, own: Option<T>) -> Option<T> {
    match setting {
        Some(Setting::Own(value)) => Some(value),
        Some(Setting::Class) => None,
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::spec::ByClass;
    use bellows_policies::AssignedBy;
    use bellows_policies::field::Amount;
    use bellows_policies::ruleset::{Class, CpuControl, Defaults, Rule};
    use bellows_policies::units::Limit;

    fn rules() -> Ruleset {
        let mut rules = Ruleset::built_in(Defaults::default());
        let mut bounded = Class { name: "bounded".to_owned(), ..Class::default() };
        bounded.memory.floor = Some(Amount::Size(Bytes::mib(64)));
        bounded.memory.ceiling = Some(Amount::Size(Bytes::mib(256)));
        let mut weighed = Class { name: "weighed".to_owned(), ..Class::default() };
        weighed.cpu.control = CpuControl::WeightOnly;
        bounded.pids = 100;
        bounded.memory.swap_max = Limit::At(Bytes::mib(8));
        bounded.io.max = vec!["8:0 rbps=1000".to_owned()];
        for class in [bounded, weighed] {
            rules.classes.insert(class.name.clone(), class.into());
        }
        let rule =
            Rule { tenant: "kept".to_owned(), class: "batch".to_owned(), force: true, ..Rule::default() };
        rules.rules.push(rule);
        rules
    }

    fn identity(tenant: &str) -> Identity {
        Identity {
            tenant: tenant.parse().unwrap(),
            name: "web".parse().unwrap(),
            class: "standard".parse().unwrap(),
            assigned: Some(AssignedBy::Default),
            memory: "32M..512M".parse().unwrap(),
            cpu: Some("0.1..2".parse().unwrap()),
            weight: None,
            resources: Resources::default(),
            by_class: ByClass::default(),
        }
    }

    /// As a client writes it, what it becomes: class, memory, cpu, weight, and which bounds follow the class.
    fn become_of(tenant: &str, text: &str) -> Result<String, String> {
        let change: Change = serde_json::from_str(text).unwrap();
        let now = change.of(&identity(tenant), &rules(), Bytes::GIB)?;
        let ByClass { memory, cpu } = now.by_class;
        let quota = now.cpu.unwrap();
        Ok(format!("{} {} {quota} {:?} {memory} {cpu}", now.class, now.memory, now.weight))
    }

    #[test]
    fn what_is_changed_is_held_to_the_rules_of_a_launch() {
        let bounds = r#"{"floor":67108864,"ceiling":268435456}"#;
        let table = [
            ("acme", "{}".to_owned(), Ok("standard 32 MiB..512 MiB 0.1..2 None false false")),
            (
                "acme",
                format!(r#"{{"memory":{{"own":{bounds}}}}}"#),
                Ok("standard 64 MiB..256 MiB 0.1..2 None false false"),
            ),
            (
                "acme",
                r#"{"class":"latency","weight":{"own":300}}"#.to_owned(),
                Ok("latency 32 MiB..512 MiB 0.1..2 Some(300) false false"),
            ),
            (
                "acme",
                r#"{"class":"bounded"}"#.to_owned(),
                Err("--memory 32 MiB..512 MiB is refused: the class bounded has a floor of 64 MiB"),
            ),
            (
                "acme",
                r#"{"class":"bounded","memory":"class"}"#.to_owned(),
                Ok("bounded 64 MiB..256 MiB 0.1..2 None true false"),
            ),
            (
                "acme",
                r#"{"memory":"class"}"#.to_owned(),
                Err("--memory FLOOR..CEILING is needed: the class standard does not set both"),
            ),
            (
                "acme",
                r#"{"class":"weighed"}"#.to_owned(),
                Err("--cpu is refused: the class weighed has no quota, only a weight"),
            ),
            (
                "acme",
                r#"{"cpu":"class"}"#.to_owned(),
                Err("--cpu is refused: whether a workload has a quota is decided at its launch"),
            ),
            (
                "acme",
                r#"{"weight":{"own":0}}"#.to_owned(),
                Err("--weight 0 is refused: it has to be between 1 and 10000"),
            ),
            (
                "acme",
                r#"{"class":"gold"}"#.to_owned(),
                Err("there is no class `gold`: there are batch, bounded, latency, standard, weighed"),
            ),
            (
                "kept",
                r#"{"class":"latency"}"#.to_owned(),
                Err("--class latency is refused: it has the class batch by the rule , which forces it"),
            ),
        ];
        for (tenant, text, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(become_of(tenant, &text), expected, "{text}");
        }
    }

    #[test]
    fn processes_and_swap_are_within_what_the_class_allows() {
        let bounded = Identity { class: "bounded".parse().unwrap(), ..identity("acme") };
        let table = [
            (r#"{"pids":{"own":100},"swap":{"own":8388608}}"#, Ok((Some(100), Some(Bytes::mib(8))))),
            (r#"{"pids":"class"}"#, Ok((None, None))),
            (r#"{"pids":{"own":101}}"#, Err("--pids 101 is refused: the class bounded allows 100")),
            (r#"{"pids":{"own":0}}"#, Err("--pids has to be between 1 and 4194304")),
            (r#"{"swap":{"own":16777216}}"#, Err("--swap 16 MiB is refused: the class bounded allows 8 MiB")),
        ];
        for (text, expected) in table {
            let change: Change = serde_json::from_str(text).unwrap();
            let now = change.of(&bounded, &rules(), Bytes::GIB);
            let got = now.map(|now| (now.resources.pids, now.resources.swap));
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_rest_by_the_piece_is_set_whole_and_given_back() {
        let bounded = Identity { class: "bounded".parse().unwrap(), ..identity("acme") };
        let of = |identity: &Identity, text: &str| -> Result<(bool, Identity), String> {
            let change: Change = serde_json::from_str(text).unwrap();
            let now = change.of(identity, &rules(), Bytes::GIB)?;
            Ok((change.asks_the_kernel(), now))
        };
        let all = r#"{"io_weight":{"own":50},"io_max":{"own":["8:0 rbps=900","8:16 wbps=1"]},"cpuset_cpus":{"own":"0-3"},
                      "cpuset_mems":{"own":"0"},"hugetlb":{"own":{"2MB":4194304,"1GB":0}}}"#;
        let (asks, set) = of(&bounded, all).unwrap();
        assert!(asks && set.resources.files().len() == 9, "{:?}", set.resources);
        let (_, fewer) =
            of(&set, r#"{"io_max":{"own":["8:16 wbps=2"]},"hugetlb":{"own":{"2MB":0}}}"#).unwrap();
        assert_eq!((fewer.resources.io_max.len(), fewer.resources.hugetlb.len()), (1, 1), "in place of all");
        assert_eq!(fewer.resources.cpuset_cpus.as_deref(), Some("0-3"), "what is not named stays");
        let back = r#"{"io_weight":"class","io_max":"class","cpuset_cpus":"class","cpuset_mems":"class","hugetlb":"class"}"#;
        assert_eq!(of(&set, back), Ok((true, bounded.clone())));
        assert_eq!(of(&bounded, r#"{"pids":{"own":9}}"#).map(|(asks, _)| asks), Ok(false));
        for (text, said) in [
            (r#"{"io_weight":{"own":0}}"#, "--io-weight has to be between"),
            (r#"{"io_max":{"own":["8:0 rbps=1001"]}}"#, "the class bounded allows"),
            (r#"{"io_max":{"own":["8:0 bps=1"]}}"#, "--io-max"),
            (r#"{"cpuset_cpus":{"own":""}}"#, "--cpuset-cpus"),
            (r#"{"cpuset_mems":{"own":"0\n1"}}"#, "--cpuset-mems"),
            (r#"{"hugetlb":{"own":{"3MB":0}}}"#, "is no size of huge pages"),
        ] {
            let refused = of(&bounded, text).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_not_changed_is_not_held_against_the_class_anew() {
        let wide = Identity { class: "bounded".parse().unwrap(), ..identity("acme") };
        let change = Change { weight: Some(Setting::Own(7)), ..Change::default() };
        let now = change.of(&wide, &rules(), Bytes::GIB).unwrap();
        assert_eq!((now.memory, now.weight), (wide.memory, Some(7)));
        let many =
            Identity { resources: Resources { pids: Some(900), ..Resources::default() }, ..wide.clone() };
        let change = Change { swap: Some(Setting::Own(Bytes::MIB)), ..Change::default() };
        let now_of_many = change.of(&many, &rules(), Bytes::GIB).unwrap();
        assert_eq!((now_of_many.resources.pids, now_of_many.resources.swap), (Some(900), Some(Bytes::MIB)));
        let back = Change { weight: Some(Setting::Class), ..Change::default() };
        assert_eq!(back.of(&now, &rules(), Bytes::GIB), Ok(wide));
    }
}
