//! A class: the bounds, the weight and the laws that workloads share.
//!
//! Three are built in, one for each base. A class of one's own inherits from another one, and so has a base in the end:
//! what cannot be set one by one, how the floor is protected and whether the node's cpu guard counts it, is the base's.

use std::sync::Arc;

use crate::cpu::{CpuBounds, CpuLaw, Cpus};
use crate::field::{Amount, Field, Kind, Pairs, fields};
use crate::ladder::Grip;
use crate::memory::Law;
use crate::ruleset::Defaults;
use crate::ruleset::words::{Base, CpuControl, Foreign, Mode};
use crate::squeeze::Rung;
use crate::units::{Bounds, Bytes, Limit};

/// The rungs of a squeeze, the mildest first.
pub const RUNGS: &[&str] = &[
    Rung::Slack.as_str(),
    Rung::Reclaim.as_str(),
    Grip::Cpu.as_str(),
    Grip::Freeze.as_str(),
    Grip::Kill.as_str(),
];
/// Those that a class has where it says nothing: to stand still, or to end, has to be opted in to.
const MILD_RUNGS: usize = 3;

/// A class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The built-in class that it descends from.
    pub base: Base,
    /// The class whose values it has where it sets none; none for a built-in one.
    pub inherits: Option<String>,
    /// Whom to take from first when there is not enough, the lowest first.
    pub priority: u32,
    /// Whether limits are moved, or only said to be.
    pub mode: Mode,
    /// What becomes of limits that somebody else writes.
    pub foreign: Foreign,
    /// Memory.
    pub memory: MemoryPart,
    /// Cpu.
    pub cpu: CpuPart,
    /// `pids.max`.
    pub pids: u64,
    /// I/O.
    pub io: Io,
    /// How far workloads may be squeezed.
    pub rungs: Vec<String>,
}

/// What a class says of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryPart {
    /// The least that is granted; protected as well.
    pub floor: Option<Amount>,
    /// The most that is granted.
    pub ceiling: Option<Amount>,
    /// `memory.swap.max`.
    pub swap_max: Limit,
    /// The law's constants.
    pub law: Law,
}

/// What a class says of the cpu.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuPart {
    /// The least quota.
    pub floor: Option<Cpus>,
    /// The greatest quota.
    pub ceiling: Option<Cpus>,
    /// What holds workloads back.
    pub control: CpuControl,
    /// The law's constants, the weight among them.
    pub law: CpuLaw,
}

/// What a class says of I/O. Nothing is written where nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Io {
    /// `io.weight`, 1 to 10 000.
    pub weight: Option<u32>,
    /// Lines of `io.max`.
    pub max: Vec<String>,
}

/// The built-in class standard.
impl Default for Class {
    fn default() -> Self {
        Self::built_in(Base::Standard, Defaults::default())
    }
}

impl Class {
    /// Pairs of keys of which the first may not be more than the second; those of the laws besides.
    pub const PAIRS: &Pairs = &[("cpu.floor", "cpu.ceiling")];

    /// A built-in class.
    #[must_use]
    pub fn built_in(base: Base, defaults: Defaults) -> Self {
        Self {
            name: base.as_str().to_owned(),
            base,
            inherits: None,
            priority: base.priority(),
            mode: Mode::Enforce,
            foreign: Foreign::Reassert,
            memory: MemoryPart { floor: None, ceiling: None, swap_max: Limit::Max, law: defaults.memory },
            cpu: CpuPart { floor: None, ceiling: None, control: CpuControl::Quota, law: base.cpu_law() },
            pids: defaults.pids,
            io: Io::default(),
            rungs: RUNGS[..MILD_RUNGS].iter().map(|&rung| rung.to_owned()).collect(),
        }
    }

    /// The same class with a weight of a workload's own, if it has one.
    #[must_use]
    pub fn weighing(self: &Arc<Self>, weight: Option<u32>) -> Arc<Self> {
        match weight.filter(|weight| *weight != self.cpu.law.weight) {
            None => Arc::clone(self),
            Some(weight) => {
                let law = CpuLaw { weight, ..self.cpu.law };
                Arc::new(Self { cpu: CpuPart { law, ..self.cpu }, ..Self::clone(self) })
            }
        }
    }

    /// The bounds of memory of a workload that asks for `asked`, on a node of `capacity`; or why it cannot have them. What
    /// it asks for may be narrower than its class, never wider.
    pub fn memory_bounds(&self, asked: Option<Bounds>, capacity: Bytes) -> Result<Bounds, String> {
        let [floor, ceiling] = [self.memory.floor, self.memory.ceiling]
            .map(|amount| amount.map(|a| a.of(capacity).page_floor()));
        let asked = asked.map(|bounds| (bounds.floor, bounds.ceiling));
        let (floor, ceiling) = self.narrow("memory", asked, floor, ceiling)?.ok_or_else(|| {
            format!("--memory FLOOR..CEILING is needed: the class {} does not set both", self.name)
        })?;
        Bounds::new(floor, ceiling).map_err(|e| format!("the class {}: {e}", self.name))
    }

    /// The bounds of the cpu quota, as [`Self::memory_bounds`]; `None` where the weight alone decides.
    pub fn cpu_bounds(&self, asked: Option<CpuBounds>) -> Result<Option<CpuBounds>, String> {
        if self.cpu.control == CpuControl::WeightOnly {
            return match asked {
                None => Ok(None),
                Some(_) => {
                    Err(format!("--cpu is refused: the class {} has no quota, only a weight", self.name))
                }
            };
        }
        let asked = asked.map(|bounds| (bounds.floor, bounds.ceiling));
        let bounds = self.narrow("cpu", asked, self.cpu.floor, self.cpu.ceiling)?;
        let new = |(floor, ceiling)| {
            CpuBounds::new(floor, ceiling).map_err(|e| format!("the class {}: {e}", self.name))
        };
        bounds.map(new).transpose()
    }

    /// The bounds of a workload that has its class's: `memory` and `cpu` are those that it had, which stay where the class
    /// gives none any more.
    #[must_use]
    pub fn bounds_again(
        &self,
        memory: Bounds,
        cpu: Option<CpuBounds>,
        capacity: Bytes,
    ) -> (Bounds, Option<CpuBounds>) {
        (self.memory_bounds(None, capacity).unwrap_or(memory), self.cpu_bounds(None).unwrap_or(cpu))
    }

    fn narrow<T: Ord + Copy + std::fmt::Display>(
        &self,
        what: &str,
        asked: Option<(T, T)>,
        floor: Option<T>,
        ceiling: Option<T>,
    ) -> Result<Option<(T, T)>, String> {
        let Some((low, high)) = asked else { return Ok(floor.zip(ceiling)) };
        if let Some(floor) = floor.filter(|floor| low < *floor) {
            return Err(format!(
                "--{what} {low}..{high} is refused: the class {} has a floor of {floor}",
                self.name
            ));
        }
        if let Some(ceiling) = ceiling.filter(|ceiling| high > *ceiling) {
            return Err(format!(
                "--{what} {low}..{high} is refused: the class {} has a ceiling of {ceiling}",
                self.name
            ));
        }
        Ok(Some((low, high)))
    }

    /// The section `[class.NAME]`.
    #[must_use]
    pub fn fields() -> Vec<Field<Self>> {
        let mut all = fields! { Class {
            /// The class whose values it has where it sets none; standard when absent. A built-in class has none.
            "inherits" inherits: Kind::Class;
            /// `cpu.weight`: its share beside others when the cpus are busy, and the less it is, the more of its quota is shed.
            "weight" cpu.law.weight: Kind::Count(1, 10_000);
            /// Whom to take from first when there is not enough, the lowest first.
            "priority" priority: Kind::Count(0, 1000);
            /// Whether limits are moved, or only said to be.
            "mode" mode: Kind::Choice(Mode::WORDS);
            /// What becomes of a limit that somebody else writes: it is put back, or left to them, the workload being only observed
            /// from then on.
            "foreign" foreign: Kind::Choice(Foreign::WORDS);
            /// `pids.max` of each workload: what a fork bomb stops at.
            "pids" pids: Kind::Count(1, 4_194_304);
            /// The least that a workload is granted; protected as well.
            "memory.floor" memory.floor: Kind::Amount(1 << 20);
            /// The most that a workload is granted.
            "memory.ceiling" memory.ceiling: Kind::Amount(1 << 20);
            /// `memory.swap.max`.
            "memory.swap_max" memory.swap_max: Kind::SizeOrMax;
            /// The least cpu quota; the burst too.
            "cpu.floor" cpu.floor: Kind::Cores(10);
            /// The greatest cpu quota.
            "cpu.ceiling" cpu.ceiling: Kind::Cores(10);
            /// What holds it back: a quota that moves between floor and ceiling, or its weight alone.
            "cpu.law" cpu.control: Kind::Choice(CpuControl::WORDS);
            /// `io.weight`; left alone when absent.
            "io.weight" io.weight: Kind::Count(1, 10_000);
            /// Lines of `io.max`, one for each device.
            "io.max" io.max: Kind::IoMax;
            /// How far it may be squeezed for others who wait: room that it does not use, cold page cache, part of its cpu quota
            /// (of the base batch only); and where they are named, its being frozen, and its being killed.
            "squeeze.rungs" rungs: Kind::Choices(RUNGS);
        } };
        let memory = Law::fields().into_iter();
        all.extend(
            memory.map(|field| field.within("memory", |c: &Self| &c.memory.law, |c| &mut c.memory.law)),
        );
        // The weight is the class's, and whom the guard spares is the base's.
        let cpu = CpuLaw::fields().into_iter().filter(|f| f.key != "weight" && f.key != "is_guarded");
        all.extend(cpu.map(|field| field.within("cpu", |c: &Self| &c.cpu.law, |c| &mut c.cpu.law)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read_as_it_was_set() {
        let from = Class::built_in(Base::Latency, Defaults::default());
        let mut to = Class::built_in(Base::Batch, Defaults { pids: 7, ..Defaults::default() });
        for field in Class::fields() {
            assert!(!field.doc.is_empty(), "{field:?}");
            let value = (field.get)(&from);
            assert_eq!(field.kind.problem(&value), None, "{field:?}");
            (field.set)(&mut to, value.clone());
            assert_eq!((field.get)(&to), value, "{field:?}");
        }
        let base = Class { name: to.name.clone(), base: to.base, ..from };
        assert_eq!(
            to,
            Class { cpu: CpuPart { law: CpuLaw { is_guarded: true, ..base.cpu.law }, ..base.cpu }, ..base }
        );
    }

    #[test]
    fn what_is_asked_for_is_narrower_than_the_class_or_refused() {
        let mut class = Class::built_in(Base::Standard, Defaults::default());
        let bounds = |text: &str| text.parse::<Bounds>().unwrap();
        let capacity = Bytes::mib(1000);
        assert!(
            class.memory_bounds(None, capacity).unwrap_err().contains("--memory FLOOR..CEILING is needed")
        );
        assert_eq!(class.memory_bounds(Some(bounds("64M..1G")), capacity), Ok(bounds("64M..1G")));
        class.memory.floor = Some(Amount::Size(Bytes::mib(64)));
        class.memory.ceiling = Some(Amount::Percent(50.0));
        for (asked, expected) in [
            (None, Ok(bounds("64M..500M"))),
            (Some("64M..256M"), Ok(bounds("64M..256M"))),
            (
                Some("32M..256M"),
                Err("--memory 32 MiB..256 MiB is refused: the class standard has a floor of 64 MiB"),
            ),
            (
                Some("64M..501M"),
                Err("--memory 64 MiB..501 MiB is refused: the class standard has a ceiling of 500 MiB"),
            ),
        ] {
            let found = class.memory_bounds(asked.map(bounds), capacity);
            assert_eq!(found, expected.map_err(str::to_owned));
        }
        assert_eq!(class.cpu_bounds(None), Ok(None));
        let cpu: CpuBounds = "0.1..2".parse().unwrap();
        assert_eq!(class.cpu_bounds(Some(cpu)), Ok(Some(cpu)));
        class.cpu.control = CpuControl::WeightOnly;
        assert_eq!(class.cpu_bounds(None), Ok(None));
        assert!(class.cpu_bounds(Some(cpu)).unwrap_err().contains("only a weight"));
    }
}
