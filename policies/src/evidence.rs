//! Evidence: what a decision about memory was made from. Plain values, small, copied; nothing of a workload's state is
//! needed beside them and the constants of its law to make the same decision again.
//!
//! The last step of every law is a function of this ([`Evidence::decide`], then [`crate::replay`]), and the loop calls the
//! same function: there is no second formula that a journal could be checked against and be wrong. What led to that step (which
//! phase, which gate) is state, and is told by the reason and by the values that the gates looked at.
//!
//! On the wire zeros are left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::Limits;
use crate::units::{Bounds, Bytes};

/// Which formula decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemoryLaw {
    /// None: the limits stay.
    #[default]
    #[serde(rename = "memory.hold")]
    Hold,
    /// The limits of a launch.
    #[serde(rename = "memory.launch")]
    Launch,
    /// A step above use.
    #[serde(rename = "memory.grow")]
    Grow,
    /// The same for who waits, whatever its rate: what grows is cache, and would fill any step.
    #[serde(rename = "memory.relieve")]
    Relieve,
    /// Back to where need was last certain.
    #[serde(rename = "memory.take_back")]
    TakeBack,
    /// `memory.high` to the peak of the hold.
    #[serde(rename = "memory.slack")]
    Slack,
    /// `memory.max` to a band above `memory.high`.
    #[serde(rename = "memory.band")]
    Band,
    /// `memory.high` down by room that somebody else waits for.
    #[serde(rename = "memory.squeeze_slack")]
    SqueezeSlack,
    /// `memory.high` down by cold cache that somebody else waits for.
    #[serde(rename = "memory.squeeze_cache")]
    SqueezeCache,
    /// Memory of a frozen workload, which does not come back before it is thawed.
    #[serde(rename = "memory.squeeze_frozen")]
    SqueezeFrozen,
    /// Up to a floor that a policy raised.
    #[serde(rename = "memory.floor")]
    Floor,
    /// To where an operator pinned it.
    #[serde(rename = "memory.pin")]
    Pin,
    /// Cold memory, a share of use.
    #[serde(rename = "memory.reclaim")]
    Reclaim,
    /// Cold memory, as much as tells whether there is any.
    #[serde(rename = "memory.probe")]
    Probe,
    /// The tripwire to where it was.
    #[serde(rename = "memory.rearm")]
    Rearm,
    /// The tripwire to a step above use, which stands above where it was.
    #[serde(rename = "memory.rearm_above")]
    RearmAbove,
    /// The tripwire out of the way, for the kernel to end the workload.
    #[serde(rename = "memory.stall")]
    Stall,
    /// The tripwire is out of the way, and the kernel did not end the workload.
    #[serde(rename = "memory.thrash")]
    Thrash,
}

/// The values that a decision was made from: sizes in bytes, rates in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// The formula.
    pub law: MemoryLaw,
    /// The bounds of `memory.high`.
    pub floor: Bytes,
    /// Its upper bound.
    pub ceiling: Bytes,
    /// `memory.high` as it was governed.
    pub high: Bytes,
    /// `memory.max` as it was governed.
    pub max: Bytes,
    /// Use.
    pub current: Bytes,
    /// What does not reclaim cheaply, as of the last look into `memory.stat`; zero before the first.
    #[serde(skip_serializing_if = "is_default")]
    pub need: Bytes,
    /// Clean page cache, as of the same look.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: Bytes,
    /// What of it is swapped out, as of the same look.
    #[serde(skip_serializing_if = "is_default")]
    pub swapped: Bytes,
    /// What more can be; absent where there is no swap for it.
    #[serde(skip_serializing_if = "is_default")]
    pub swap_room: Bytes,
    /// Thousandths of what is swapped out that are in RAM still, compressed.
    #[serde(skip_serializing_if = "is_default")]
    pub swap_kept_permille: u16,
    /// The part of the cache that the kernel holds to be cold; for a squeeze.
    #[serde(skip_serializing_if = "is_default")]
    pub cold: Bytes,
    /// How old that look was, ms; absent before the first.
    #[serde(skip_serializing_if = "is_default")]
    pub detail_age_ms: Option<u64>,
    /// What it said of the growth since the look before.
    #[serde(skip_serializing_if = "is_default")]
    pub growth: Option<Growth>,
    /// The fastest growth of the last second.
    #[serde(skip_serializing_if = "is_default")]
    pub rate: u64,
    /// The fastest growth in memory: that, or an earlier one, half forgotten each minute.
    #[serde(skip_serializing_if = "is_default")]
    pub fastest: u64,
    /// Further presses in a row before this one.
    #[serde(skip_serializing_if = "is_default")]
    pub streak: u32,
    /// Threads, each of which may have a charge under way.
    pub threads: u64,
    /// Time since a limit was last met, ms; absent when it never was.
    #[serde(skip_serializing_if = "is_default")]
    pub hit_age_ms: Option<u64>,
    /// Time for which a request has waited that could not be granted, ms.
    #[serde(skip_serializing_if = "is_default")]
    pub waited_ms: u64,
    /// Time on the stall clock, ms.
    #[serde(skip_serializing_if = "is_default")]
    pub stalled_ms: u64,
    /// The highest use since the hold began.
    #[serde(skip_serializing_if = "is_default")]
    pub peak: Bytes,
    /// How long the hold has lasted, ms, and how long it had to.
    #[serde(skip_serializing_if = "is_default")]
    pub held_ms: u64,
    /// How long it had to, ms.
    #[serde(skip_serializing_if = "is_default")]
    pub hold_ms: u64,
    /// `memory.high` when need was last certain.
    #[serde(skip_serializing_if = "is_default")]
    pub base: Bytes,
    /// Need when the verdict said that the rest was cache.
    #[serde(skip_serializing_if = "is_default")]
    pub base_need: Bytes,
    /// The share of time in which some task waited for memory or I/O, over 10 s or 60 s, the larger; for reclaim.
    #[serde(skip_serializing_if = "is_default")]
    pub waits: f64,
    /// What could be spared for somebody who waits; for a squeeze.
    #[serde(skip_serializing_if = "is_default")]
    pub spare: Bytes,
    /// What was asked for on their behalf; for a pin, the `memory.high` that the operator asked for.
    #[serde(skip_serializing_if = "is_default")]
    pub asked: Bytes,
    /// The `memory.high` that the law wanted.
    #[serde(skip_serializing_if = "is_default")]
    pub want: Bytes,
    /// What was free for it when the budget was asked, below its tenant's cap too; only where it was asked.
    #[serde(skip_serializing_if = "is_default")]
    pub free: Option<Bytes>,
    /// The `memory.high` that the budget left of a grow; absent when it gave everything, or was not asked.
    #[serde(skip_serializing_if = "is_default")]
    pub granted: Option<Bytes>,
}

/// What a look into `memory.stat` says about growth: the values that the verdict, need or cache, is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Growth {
    /// The limit then.
    pub high: Bytes,
    /// What does not reclaim cheaply.
    pub need: Bytes,
    /// How much of it came since the last verdict.
    pub need_grew: Bytes,
    /// How much of everything came since then.
    pub grew: Bytes,
    /// The time since the look before.
    #[serde(flatten)]
    pub time: Interval,
}

/// How the time between two looks into `memory.stat` was spent. Shares of one; zero where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Interval {
    /// Length, ms.
    pub ms: f64,
    /// Share of the time in which some task waited.
    pub some: f64,
    /// Share of the time in which all tasks waited.
    pub full: f64,
    /// Pages that reclaim looked at.
    pub scanned: u64,
    /// Pages freed per page looked at; zero when none was. What zswap holds of a page that was taken is not freed.
    pub efficiency: f64,
    /// Pages of files that came back, per page taken; zero when none was.
    pub refaults: f64,
    /// Anonymous pages that came back.
    pub refaults_anon: u64,
}

impl MemoryLaw {
    /// The name on the wire: `memory.grow` and its like.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "memory.hold",
            Self::Launch => "memory.launch",
            Self::Grow => "memory.grow",
            Self::Relieve => "memory.relieve",
            Self::TakeBack => "memory.take_back",
            Self::Slack => "memory.slack",
            Self::Band => "memory.band",
            Self::SqueezeSlack => "memory.squeeze_slack",
            Self::SqueezeCache => "memory.squeeze_cache",
            Self::SqueezeFrozen => "memory.squeeze_frozen",
            Self::Floor => "memory.floor",
            Self::Pin => "memory.pin",
            Self::Reclaim => "memory.reclaim",
            Self::Probe => "memory.probe",
            Self::Rearm => "memory.rearm",
            Self::RearmAbove => "memory.rearm_above",
            Self::Stall => "memory.stall",
            Self::Thrash => "memory.thrash",
        }
    }
}

impl Evidence {
    /// The governed limits at the time.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits { high: self.high, max: self.max }
    }

    /// The bounds at the time.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        Bounds { floor: self.floor, ceiling: self.ceiling }
    }
}

/// For serde: what need not be told.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
