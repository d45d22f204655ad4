//! Decisions: what a law wants, and the past fact that made it want that.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::units::Bytes;

/// The two limits of a governed workload. `high` is what is granted, the thing that budgets add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// `memory.high`, bytes: the tripwire.
    pub high: Bytes,
    /// `memory.max`, bytes: a band above the tripwire.
    pub max: Bytes,
}

/// What is to be done with the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Raise; on the fast lane. Never lowers either limit.
    Grow,
    /// Lower; on the slow lane. Never raises either limit.
    Shrink,
    /// Take memory that is cold, by `memory.reclaim`; on the slow lane. Moves no limit.
    Reclaim,
    /// Leave as it is.
    Hold,
    /// Move the tripwire out of the way (`memory.high` = `memory.max`), so that the kernel ends the workload cleanly
    /// instead of throttling it for ever. Where the kernel does not (`thrashed_at_limit`), it is ended.
    Fail,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident, $label:literal, $sentence:literal;)+) => {
        /// Why: a fact of the past. A closed set; metrics, journal and views share it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The label of metrics and of the wire: `snake_case`, stable.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }

        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$name => $sentence,)+ })
            }
        }
    };
}

reasons! {
    /// The limits of a launch were set.
    Launched, "launched", "the workload was launched at its floor";
    /// A charge crossed `memory.high` after a calm spell.
    TripwireHit, "tripwire_hit", "a charge crossed memory.high";
    /// Use went on growing towards a limit that had just been raised.
    GrowthContinued, "growth_continued", "use went on growing";
    /// Memory that cannot be reclaimed grew, or fills half of what is granted.
    NeedGrew, "need_grew", "memory that cannot be reclaimed grew";
    /// Pages came back soon after they were reclaimed.
    RefaultsRose, "refaults_rose", "reclaimed pages came back";
    /// Tasks waited for memory and reclaim did not help.
    StallRose, "stall_rose", "tasks waited for memory that reclaim did not find";
    /// What grew was clean page cache, which the kernel reclaims cheaply.
    CacheHeld, "cache_held", "only page cache grew, which reclaims cheaply";
    /// A step that went to page cache was taken back.
    CacheTakenBack, "cache_taken_back", "the last step went to page cache and was taken back";
    /// Use had left room below `memory.high` for a whole hold.
    SlackTaken, "slack_taken", "room that use had left below memory.high was taken back";
    /// Room below `memory.high` was given at once, since another workload waited for a grant.
    SlackSqueezed, "slack_squeezed", "room below memory.high was given to another workload";
    /// Cold page cache was given, since another workload waited for a grant.
    CacheSqueezed, "cache_squeezed", "cold page cache was given up for another workload";
    /// Memory of a frozen workload was given, since another one waited for a grant.
    FrozenReclaimed, "frozen_reclaimed", "memory of the frozen workload was given up for another one";
    /// `memory.max` stood higher than a band above `memory.high`.
    BandTaken, "band_taken", "memory.max was brought down to a band above memory.high";
    /// Nobody had waited for memory or I/O, and cold memory was asked for.
    ColdReclaimed, "cold_reclaimed", "nobody had waited for memory, and cold memory was reclaimed";
    /// Reclaim had been stopped as wasteful, and was tried once more.
    ReclaimProbed, "reclaim_probed", "reclaim had been wasteful, and was tried once more";
    /// The limit stood at the ceiling already.
    CeilingReached, "ceiling_reached", "the ceiling was reached";
    /// The node's budget had nothing to give; it may have later.
    BudgetDeferred, "budget_deferred", "the node's budget had nothing left to give";
    /// The request is larger than the whole budget.
    BudgetInfeasible, "budget_infeasible", "the node's budget can never give that much";
    /// The tenant's cap left nothing to give; it may later.
    TenantDeferred, "tenant_deferred", "the tenant's cap left nothing to give";
    /// The request is larger than the tenant's cap.
    TenantInfeasible, "tenant_infeasible", "the tenant's cap can never give that much";
    /// The workload made no progress at a limit that could not be raised.
    StalledAtLimit, "stalled_at_limit", "the workload stalled at a limit that could not be raised";
    /// Its page cache was taken and read back many times a second at `memory.max`, and nothing could be swapped out.
    ThrashedAtLimit, "thrashed_at_limit", "the workload thrashed at its memory.max, and the kernel did not end it";
    /// Room is left below the limit while growth is watched.
    RoomLeft, "room_left", "there was room left below the limit";
    /// The look into `memory.stat` had not come back yet.
    VerdictAwaited, "verdict_awaited", "what had grown was not known yet";
    /// Nothing happened.
    Calm, "calm", "nothing happened";
    /// The sample was overtaken, or belonged to another cgroup.
    SignalsStale, "signals_stale", "the sample was stale";
    /// The limits had been released; nobody is governed.
    LimitsReleased, "limits_released", "the limits had been released";
    /// The tripwire was put back after a release or a failure.
    Rearmed, "rearmed", "the tripwire was put back";
    /// A policy was changed, and the limit stood outside its bounds.
    PolicyChanged, "policy_changed", "a policy was changed, and the limit stood below its floor";
    /// An operator pinned the limit: it was put there, or was in the way and stayed.
    LimitPinned, "limit_pinned", "an operator pinned the limit";
    /// The cpu quota ran out after a time in which it had not.
    QuotaExhausted, "quota_exhausted", "the cpu quota ran out";
    /// The cpu quota ran out in more periods than is borne.
    ThrottlingWentOn, "throttling_went_on", "too many periods were throttled";
    /// The cpu quota ran out soon after it had been lowered.
    ThrottledAfterShrink, "throttled_after_shrink", "the cpu quota ran out soon after it was lowered";
    /// The cpu quota ran out in no more periods than is borne.
    ThrottlingTolerated, "throttling_tolerated", "few enough periods were throttled";
    /// The cpu quota was put back after a release, or for the first time on a workload found running.
    QuotaPutBack, "quota_put_back", "the cpu quota was put back";
    /// The cpu quota had been changed a moment before.
    JustChanged, "just_changed", "the cpu quota had just been changed";
    /// More than the ceiling had been used, since each change refills the cpu quota.
    CeilingOverdrawn, "ceiling_overdrawn", "more cpu time than the ceiling had been used";
    /// Part of the cpu quota had not been used for some seconds.
    QuotaUnused, "quota_unused", "part of the cpu quota was not used";
    /// The node's cpus were too busy for growth.
    NodeBusy, "node_busy", "the node's cpus were too busy to give more";
    /// The node's cpus were so busy that quota was taken back.
    NodeOverloaded, "node_overloaded", "the node's cpus were overloaded";
    /// The cpu quota was lowered under a lease, since another workload or the node was short.
    CpuSqueezed, "cpu_squeezed", "part of the cpu quota was lent, since somebody more important was short";
    /// The lease on part of the cpu quota ended.
    CpuGivenBack, "cpu_given_back", "the part of the cpu quota that had been lent was given back";
}

/// What a law wants. Not yet allowed: budget and guard come after it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub verb: Verb,
    /// The limits wanted; the present ones for a hold and a reclaim.
    pub want: Limits,
    /// What to take by `memory.reclaim`, bytes; none but for a reclaim.
    pub reclaim: Bytes,
    /// Why.
    pub reason: Reason,
    /// From what: [`Evidence::decide`] gives this very decision.
    pub evidence: Evidence,
}

/// The outcome of one look: a decision, and when and how to look next.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub decision: Decision,
    /// When to take a sample again although no event comes. `None`: wait for one.
    pub look_again: Option<Duration>,
    /// Whether a [`crate::Detail`] should be read now, off the control thread. Requests may be merged.
    pub read_detail: bool,
}

impl Verb {
    /// Every verb, in order of declaration.
    pub const ALL: [Self; 5] = [Self::Grow, Self::Shrink, Self::Reclaim, Self::Hold, Self::Fail];

    /// The label of metrics and of the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
            Self::Reclaim => "reclaim",
            Self::Hold => "hold",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "high {}, max {}", self.high, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_all_there_in_order() {
        for (index, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, index, "{verb}");
        }
        assert_eq!(Verb::ALL.len(), Verb::Fail as usize + 1);
    }

    #[test]
    fn labels_are_distinct_snake_case() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            let label = reason.as_str();
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
            let written: String = format!("{reason:?}")
                .char_indices()
                .flat_map(|(at, c)| {
                    let gap = (at > 0 && c.is_ascii_uppercase()).then_some('_');
                    gap.into_iter().chain(std::iter::once(c.to_ascii_lowercase()))
                })
                .collect();
            assert_eq!(label, written);
            assert!(Reason::ALL[index + 1..].iter().all(|other| other.as_str() != label), "{label}");
        }
    }
}
