//! What can happen, and a record of it. One set for the ring, the disk, the API and every reader of them.

use std::sync::Arc;

use bellows_policies::decision::{Limits, Reason, Verb};
use bellows_policies::ladder::{Grip, GripEvidence};
use bellows_policies::units::Bytes;
use bellows_policies::{AssignedBy, CpuEvidence, Cpus, Evidence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Conditions};
use super::deed::Deed;
use super::grounds::Ease;
use super::incident::Incident;

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Counts up from 1, and goes on after a restart where the journal on disk ends.
    pub id: u64,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// To whom, as `tenant/name`; empty when to the node.
    pub workload: Arc<str>,
    /// The laws by which it was decided: those that were told under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The record of the same workload and resource that this one follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<u64>,
    /// Who asked for it; absent when the agent did it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Caller>>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The agent took its subtree over.
    AgentStarted {
        /// The delegated root.
        root: String,
    },
    /// The agent lets go.
    AgentStopping {
        /// Whether workloads are ended too.
        workloads_end: bool,
    },
    /// A command runs.
    Launched {
        /// Pid of its init.
        pid: i32,
        /// Its class; empty in a record of old.
        #[serde(default)]
        class: String,
        /// What gave it that class.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assigned: Option<AssignedBy>,
        /// Its limits.
        limits: Limits,
        /// From admission to execution, in microseconds.
        took_us: u64,
        /// What the limits come of.
        #[serde(default)]
        evidence: Evidence,
        /// It stands open, and these would be its limits.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observed: bool,
    },
    /// A launch was refused or failed.
    LaunchFailed {
        /// Why.
        error: String,
    },
    /// A limit was moved.
    LimitsMoved {
        /// Up, down, or out of the way.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// Limits before.
        from: Limits,
        /// Limits after.
        to: Limits,
        /// Memory use that the decision saw.
        current: Bytes,
        /// From the loop's wake-up to the return of the last write, in microseconds.
        wake_to_write_us: u64,
        /// What it was decided by.
        #[serde(default)]
        evidence: Evidence,
    },
    /// What would have been done to a workload that is only observed. Nothing was written.
    WouldHave {
        /// What; a hold where its limits would have stayed.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// What its limits would have been before.
        from: Limits,
        /// What they would be from now on.
        to: Limits,
        /// What would have been reclaimed.
        #[serde(default, skip_serializing_if = "is_none")]
        bytes: Bytes,
        /// Memory use, as it is: the evidence has it as it would have been.
        current: Bytes,
        /// What it was decided by.
        #[serde(default)]
        evidence: Evidence,
    },
    /// Its decisions are carried out from now on, or only told.
    ModeChanged {
        /// They are only told.
        observed: bool,
        /// Its limits are left to somebody else who wrote one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        yielded: bool,
        /// The governed limits, or those that would be.
        limits: Limits,
    },
    /// The workload asked for more, or seemed to, and its limits stayed.
    Held {
        /// Why.
        reason: Reason,
        /// The limits that stay.
        limits: Limits,
        /// Memory use that the decision saw.
        current: Bytes,
        /// What it was decided by.
        #[serde(default)]
        evidence: Evidence,
    },
    /// The cpu quota was moved.
    QuotaMoved {
        /// Up or down.
        verb: Verb,
        /// Why.
        reason: Reason,
        /// The quota before, in millionths of a cpu.
        from: Cpus,
        /// The quota after.
        to: Cpus,
        /// Periods since the last look in which it was throttled.
        throttled: u64,
        /// From the loop's wake-up to the return of the write, in microseconds.
        wake_to_write_us: u64,
        /// What it was decided by.
        #[serde(default)]
        evidence: CpuEvidence,
    },
    /// The workload was throttled at its quota, and that stayed.
    QuotaHeld {
        /// Why.
        reason: Reason,
        /// The quota that stays, in millionths of a cpu.
        quota: Cpus,
        /// What it was decided by.
        #[serde(default)]
        evidence: CpuEvidence,
    },
    /// The kernel refused a quota.
    QuotaFailed {
        /// The quota that was to be.
        to: Cpus,
        /// The kernel's error number.
        errno: i32,
    },
    /// Memory that was not needed was reclaimed.
    Reclaimed {
        /// Why.
        reason: Reason,
        /// How much was asked for.
        bytes: Bytes,
        /// Use before.
        before: Bytes,
        /// Use after.
        after: Bytes,
        /// What it was decided by.
        #[serde(default)]
        evidence: Evidence,
    },
    /// What came of a move of the limits, some time after it.
    OutcomeSeen {
        /// The record of the move.
        of: u64,
        /// Up, down, or out of the way.
        verb: Verb,
        /// Whether it did what it was to do: after a grow nobody met the limit any more, after a shrink use stayed below.
        helped: bool,
        /// For how long it was looked at, in milliseconds.
        over_ms: u64,
        /// Times in which a limit was met meanwhile.
        hits: u64,
        /// Time in which some task waited for memory, as a share, where it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waited: Option<f64>,
        /// Memory use at the end of it.
        current: Bytes,
        /// The limits then.
        limits: Limits,
    },
    /// A workload gives way to somebody who waits: part of its quota is lent, it is frozen, or it was killed.
    Squeezed {
        /// Which of them.
        grip: Grip,
        /// For whom, as `tenant/name`; empty for the node.
        waiter: Arc<str>,
        /// How long it is to last at least, in milliseconds. What was killed stays so.
        hold_ms: u64,
        /// What it was decided by.
        evidence: GripEvidence,
    },
    /// It gives way no more: the lease has ended.
    Eased {
        /// On what.
        grip: Grip,
        /// Why.
        why: Ease,
        /// How long it lasted, in milliseconds.
        held_ms: u64,
    },
    /// A limit was in the way of a workload, or ended it: with what it looked like inside.
    Incident(Box<Incident>),
    /// The kernel refused a limit.
    WriteFailed {
        /// The limits that were to be.
        to: Limits,
        /// The kernel's error number.
        errno: i32,
    },
    /// A step in its life.
    Life(Deed),
    /// An operator sent a signal.
    SignalSent {
        /// Its number.
        signal: i32,
    },
    /// An operator has set what a workload is governed by.
    SettingsChanged {
        /// As it was.
        from: Conditions,
        /// As it is.
        to: Conditions,
    },
    /// An operator has pinned limits: no law moves them.
    Pinned {
        /// The `memory.high` that stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        high: Option<Bytes>,
        /// The cpu quota before, and that which stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu: Option<(Cpus, Cpus)>,
        /// Until when, in nanoseconds since the Unix epoch, unless the wall clock is set meanwhile.
        until_unix_ns: u64,
    },
    /// A pin has ended: the laws move the limits again.
    Unpinned {
        /// Its time was over; else it was lifted.
        expired: bool,
    },
    /// Something that somebody asked for was refused, and nothing was changed.
    OrderRefused {
        /// What was asked for.
        order: String,
        /// Why it was refused.
        error: String,
    },
    /// The limits were opened and are no longer governed.
    Released {},
    /// The limits are governed again after the agent had been held up and its watchdog had opened them.
    TakenBack {
        /// For how long the agent had not run, in milliseconds.
        gap_ms: u64,
    },
    /// A workload of an earlier agent is governed again.
    TakenOver {
        /// Pid of its init.
        pid: i32,
        /// `memory.high` as it was found; absent when it stood open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found_high: Option<Bytes>,
        /// `memory.max` as it was found; absent when it was unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found_max: Option<Bytes>,
        /// The limits that are governed from now on.
        limits: Limits,
        /// It stands open, and these would be its limits.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        observed: bool,
    },
    /// What somebody else made in a tenant's cgroup is looked at from now on; observed at first.
    Adopted {
        /// Its class.
        class: String,
        /// `memory.high` as it was found; absent when it stood open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found_high: Option<Bytes>,
        /// What its limits would be.
        limits: Limits,
    },
    /// What somebody else made is not looked at any more.
    LetGo {
        /// It was removed; else it was given back as it was.
        gone: bool,
    },
    /// Somebody else wrote a limit; the governed ones are put back, unless the class yields.
    ForeignWrite {
        /// The file.
        file: String,
        /// What was governed, as the kernel spells it.
        expected: String,
        /// What was found.
        found: String,
        /// It is left as it was found.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        yielded: bool,
    },
    /// A launch that an earlier agent's death cut short was cleared away.
    LeftoverRemoved {
        /// The cgroup's name.
        name: String,
    },
    /// The workload ended.
    Ended {
        /// In words.
        how: String,
        /// As a shell would see it.
        code: i32,
    },
    /// Something failed that the loop can live with.
    Trouble {
        /// What.
        text: String,
    },
    /// Other policies are in force.
    PoliciesLoaded {
        /// Their version; not called so, since a record has a field of that name beside this one.
        ruleset: String,
        /// How many classes there are.
        classes: usize,
        /// How many rules there are.
        rules: usize,
        /// Workloads that are governed differently from now on.
        changed: usize,
    },
    /// Other policies were wrong; the old ones stay.
    PoliciesRefused {
        /// The first error, with its place.
        error: String,
        /// How many there are.
        problems: usize,
    },
    /// The kernel's event queue overflowed; everything was looked at again.
    QueueOverflowed {},
    /// Somebody else made a cgroup among ours, or one was found that is not certain to be ours. It is left alone.
    ForeignCgroup {
        /// Its name.
        name: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_none(bytes: &Bytes) -> bool {
    *bytes == Bytes::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_back_from_json() {
        let record = Record {
            id: 7,
            unix_ns: 1,
            workload: "acme/web".into(),
            version: None,
            prior: None,
            by: None,
            what: What::Ended { how: "exited with code 3".to_owned(), code: 3 },
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"id":7,"unix_ns":1,"workload":"acme/web","event":"ended","how":"exited with code 3","code":3}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap().id, 7);
        let what = What::PoliciesLoaded { ruleset: "1f".to_owned(), classes: 3, rules: 1, changed: 2 };
        let text = serde_json::to_string(&Record { what, ..record }).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert!(matches!(&read.what, What::PoliciesLoaded { ruleset, .. } if ruleset == "1f"), "{text}");
    }
}
