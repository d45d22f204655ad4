//! What a policy says in one word of a few.

use crate::cpu::CpuLaw;
use crate::field::{Settable, Value};

/// Types with a word for each variant.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])+ $variant:ident = $word:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])+ $variant,)+ }

        impl $name {
            /// All, in order.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];
            /// Their words.
            pub const WORDS: &[&str] = &[$($word),+];

            /// As a policy spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }

        impl Settable for $name {
            fn value(&self) -> Value {
                Value::Word(self.as_str().to_owned())
            }

            fn set(&mut self, value: Value) {
                if let Value::Word(word) = value
                    && let Some(found) = Self::ALL.into_iter().find(|it| it.as_str() == word)
                {
                    *self = found;
                }
            }
        }
    )+ };
}
words! {
    /// The built-in classes.
    #[derive(Default)]
    Base {
        /// Answers people: its floor is protected absolutely, and the node's cpu guard spares it.
        Latency = "latency",
        /// Neither.
        #[default]
        Standard = "standard",
        /// Can wait.
        Batch = "batch",
    }
    /// Whether a class is acted upon.
    Mode {
        /// What would be done is only told.
        Observe = "observe",
        /// It is done.
        Enforce = "enforce",
    }
    /// What becomes of limits that somebody else writes.
    Foreign {
        /// They are put back.
        Reassert = "reassert",
        /// They are left to whoever wrote them: the workload is only observed from then on.
        Yield = "yield",
    }
    /// What is done with a cgroup that somebody else makes in a tenant's.
    #[derive(Default)]
    Adopt {
        /// It is left alone.
        #[default]
        No = "no",
        /// It is observed, whatever the mode of its class.
        Observe = "observe",
        /// It is governed as its class says.
        Enforce = "enforce",
    }
    /// What holds a workload's cpu use back.
    CpuControl {
        /// `cpu.max`, which moves between floor and ceiling.
        Quota = "quota",
        /// `cpu.weight` alone.
        WeightOnly = "weight-only",
    }
}

impl Base {
    /// The file that protects the floor.
    #[must_use]
    pub const fn protection(self) -> &'static str {
        match self {
            Self::Latency => "memory.min",
            Self::Standard | Self::Batch => "memory.low",
        }
    }

    /// The cpu law that its class begins with, the weight among its constants.
    #[must_use]
    pub const fn cpu_law(self) -> CpuLaw {
        match self {
            Self::Latency => CpuLaw::latency(),
            Self::Standard => CpuLaw::standard(),
            Self::Batch => CpuLaw::batch(),
        }
    }

    pub(super) const fn priority(self) -> u32 {
        match self {
            Self::Latency => 300,
            Self::Standard => 200,
            Self::Batch => 100,
        }
    }
}
