//! For each reason: what it means, what would have prevented it, and what to try next. One honest sentence each; the figures of a
//! case are put in where it is told.

use bellows_policies::Reason;

/// What there is to say about a reason, whatever the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advice {
    /// What it means.
    pub(crate) means: &'static str,
    /// What would have prevented it; nothing where nothing should.
    pub(crate) prevents: &'static str,
    /// The command to try next; `{workload}` is put in.
    pub(crate) next: &'static str,
}

const FOLLOW: &str = "bellows events -f --workload {workload}";
const PS: &str = "bellows ps";
const TENANTS: &str = "bellows tenants";
const EXPLAIN: &str = "bellows explain {workload}";
const NOTHING: &str = "nothing should: it is how limits breathe";

/// What there is to say about `reason`.
#[expect(clippy::too_many_lines, reason = "a table of three columns")]
pub(crate) const fn advice(reason: Reason) -> Advice {
    let (means, prevents, next) = match reason {
        Reason::Launched => ("a workload begins at its floor, whatever it will need", NOTHING, FOLLOW),
        Reason::TripwireHit => (
            "use crossed memory.high, where the kernel begins to throttle; the first step is granted at once",
            "a floor at what it needs from its beginning",
            FOLLOW,
        ),
        Reason::GrowthContinued => (
            "use came near the limit that had just been raised",
            "a higher floor, if it always grows so",
            FOLLOW,
        ),
        Reason::NeedGrew => (
            "what grew cannot be reclaimed without swap or I/O, so the limit follows it",
            "a higher floor, if it always needs that much",
            FOLLOW,
        ),
        Reason::RefaultsRose => (
            "pages came back soon after they were reclaimed: the limit was below the working set",
            "a floor at its working set",
            FOLLOW,
        ),
        Reason::StallRose => (
            "tasks waited for memory and reclaim found little: more was the only help",
            "a floor at its working set",
            FOLLOW,
        ),
        Reason::CacheHeld => (
            "what grew is clean page cache, which the kernel reclaims for next to nothing: it is well where it is",
            "a higher floor, where the cache is worth its memory",
            EXPLAIN,
        ),
        Reason::CacheTakenBack => (
            "a step was granted before it was known that page cache took it, and is taken back",
            NOTHING,
            EXPLAIN,
        ),
        Reason::SlackTaken => (
            "what was granted was not used for a whole hold; should it be needed again soon, the next hold is longer",
            "a higher floor, which stays granted",
            FOLLOW,
        ),
        Reason::SlackSqueezed => (
            "another workload waited for a grant, and was given room that this one did not use",
            "a higher floor, which stays granted, or a class whose squeeze.rungs are empty",
            FOLLOW,
        ),
        Reason::CacheSqueezed => (
            "another workload of no lower priority waited for a grant: cold page cache was given up for it",
            "a class of higher priority, or one whose squeeze.rungs do not say reclaim",
            FOLLOW,
        ),
        Reason::FrozenReclaimed => (
            "it was frozen for a workload of higher priority, and what it does not touch meanwhile is taken",
            "a class whose squeeze.rungs do not say freeze",
            EXPLAIN,
        ),
        Reason::BandTaken => {
            ("memory.max stood higher than growth can need while it is reacted to", NOTHING, FOLLOW)
        }
        Reason::ColdReclaimed => (
            "nobody waited for memory or I/O, so a little of what is cold was taken",
            "memory.reclaim_factor = 0 in the configuration",
            EXPLAIN,
        ),
        Reason::ReclaimProbed => (
            "reclaim had been wasteful; a little was taken to see whether it still is",
            "memory.reclaim_factor = 0 in the configuration",
            EXPLAIN,
        ),
        Reason::CeilingReached => (
            "policy allows no more: it is throttled here, and ended if it cannot do with it",
            "a higher ceiling",
            PS,
        ),
        Reason::BudgetDeferred => (
            "the node has nothing left to grant now; it is asked again 20 times a second",
            "more budget, or less granted to others",
            PS,
        ),
        Reason::BudgetInfeasible => (
            "more than the whole budget was asked for: waiting does not help",
            "a larger node.capacity, or a lower ceiling that says so beforehand",
            PS,
        ),
        Reason::TenantDeferred => (
            "its tenant's cap leaves nothing to grant now; it is asked again 20 times a second",
            "a higher cap of its tenant, or less granted to the tenant's other workloads",
            TENANTS,
        ),
        Reason::TenantInfeasible => (
            "more than its tenant's whole cap was asked for: waiting does not help",
            "a higher cap of its tenant, or a lower ceiling that says so beforehand",
            TENANTS,
        ),
        Reason::StalledAtLimit => (
            "it made no progress at a limit that could not be raised, and is not left parked: the kernel ends it",
            "a higher ceiling, or more budget",
            EXPLAIN,
        ),
        Reason::ThrashedAtLimit => (
            "page cache at memory.max was taken and read back many times a second, the kernel saw no end, and bellows ended it",
            "a higher ceiling, more budget, or swap",
            EXPLAIN,
        ),
        Reason::RoomLeft => ("there is room below the limit, so nothing is to be done", NOTHING, FOLLOW),
        Reason::VerdictAwaited => {
            ("what grows is being looked at; the answer comes within milliseconds", NOTHING, FOLLOW)
        }
        Reason::Calm => ("nothing happened", NOTHING, FOLLOW),
        Reason::SignalsStale => {
            ("the counters were overtaken or another cgroup's: nothing is decided by them", NOTHING, FOLLOW)
        }
        Reason::LimitsReleased => (
            "its limits stand open and nobody governs it",
            "not releasing it; a restart of the agent governs again",
            PS,
        ),
        Reason::Rearmed => (
            "its limits had been opened, by a release, a watchdog or somebody else, and are governed again",
            "an agent that is not held up, and nobody else who writes its limits",
            "bellows events --workload {workload}",
        ),
        Reason::PolicyChanged => (
            "a policy was changed, and its floor is now above what was granted",
            "nothing should: the policy says so",
            "bellows policy show",
        ),
        Reason::LimitPinned => (
            "an operator's word stands above the law: what wants more is throttled here until the pin ends",
            "`bellows unpin`, or a pin at more",
            EXPLAIN,
        ),
        Reason::QuotaExhausted => (
            "the cpu quota ran out after a time in which it had not: the first relief comes at once",
            "a higher cpu floor, if its bursts are short",
            FOLLOW,
        ),
        Reason::ThrottlingWentOn => {
            ("more periods were throttled than its class bears", "a higher cpu floor", FOLLOW)
        }
        Reason::ThrottledAfterShrink => (
            "the quota had been lowered too far: it is taken back, and the next shrink waits longer",
            "a higher cpu floor",
            FOLLOW,
        ),
        Reason::ThrottlingTolerated => ("few enough periods were throttled for its class", NOTHING, FOLLOW),
        Reason::QuotaPutBack => {
            ("its quota stood open, after a release or a takeover, and is governed again", NOTHING, FOLLOW)
        }
        Reason::JustChanged => {
            ("each change of the quota gives a refill away: it rests for a period", NOTHING, FOLLOW)
        }
        Reason::CeilingOverdrawn => (
            "refills gave it more cpu time than its ceiling: it waits until that is used up",
            "a higher cpu ceiling",
            FOLLOW,
        ),
        Reason::QuotaUnused => {
            ("part of the quota was not used for five seconds", "a higher cpu floor, which stays", FOLLOW)
        }
        Reason::NodeBusy => (
            "the node's cpus are too busy for growth: the class latency goes first",
            "fewer workloads on the node, or the class latency for this one",
            PS,
        ),
        Reason::NodeOverloaded => (
            "the node's cpus are overloaded, and quota is taken back by weight",
            "fewer workloads on the node, the class latency for this one, or cpu.stop_at = 1.0",
            PS,
        ),
        Reason::CpuSqueezed => (
            "somebody more important, or the node, was short: part of the quota is lent for a time",
            "a class of another base than batch, or one whose squeeze.rungs do not say cpu",
            EXPLAIN,
        ),
        Reason::CpuGivenBack => (
            "nobody more important is short any more: the quota is what it was before it was lent",
            NOTHING,
            FOLLOW,
        ),
    };
    Advice { means, prevents, next }
}
