//! The life of a workload: one exhaustive match over state and event.
//!
//! ```text
//! created -> starting -> running <-> frozen        by an operator's order
//!                 \          \         |
//!                  \          `-> stopping -> exited | failed | lost -> starting   again: by its restart rule, or by order
//!                   `-> failed
//! ```
//! What the ladder freezes for somebody else runs on by this table: it is a lease of the agent's own, and no state of life.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::Exit;

/// Where a workload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was admitted, and waits for somebody to start it.
    Created,
    /// Its cgroup is being made, its first process started.
    Starting,
    /// Its command runs.
    Running,
    /// It stands still by an operator's order.
    Frozen,
    /// It was told to end, or its first process has ended: what is left of it is being cleared away.
    Stopping,
    /// Nothing of it is left: it has done what it was to do, or was told to end.
    Exited,
    /// Nothing of it is left: it could not be started, returned an error, or was killed.
    Failed,
    /// Nothing of it is left, and nobody knows how it ended.
    Lost,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is being started.
    LaunchBegun,
    /// The command was executed.
    Started,
    /// The launch failed; everything was cleared away.
    StartFailed,
    /// It stands still, by order.
    StoodStill,
    /// It runs again, by order.
    Thawed,
    /// It was told to end.
    StopOrdered,
    /// Its first process ended.
    ProcessEnded,
    /// Its cgroup is gone, without our doing.
    Vanished,
    /// Everything was cleared away: it had ended well, or as it was told to.
    ClearedWell,
    /// Everything was cleared away: it had failed.
    ClearedFailed,
    /// Everything was cleared away, and how it ended cannot be found out.
    ClearedUnknown,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 11] = [
        Self::LaunchBegun,
        Self::Started,
        Self::StartFailed,
        Self::StoodStill,
        Self::Thawed,
        Self::StopOrdered,
        Self::ProcessEnded,
        Self::Vanished,
        Self::ClearedWell,
        Self::ClearedFailed,
        Self::ClearedUnknown,
    ];

    /// The end of clearing away what ended so. What was told to end has ended well, whatever it said to that.
    #[must_use]
    pub fn cleared(exit: Exit, was_told: bool) -> Self {
        match exit {
            Exit::Vanished => Self::ClearedUnknown,
            Exit::Exited { code: 0 } => Self::ClearedWell,
            Exit::Exited { .. } | Exit::Signaled { .. } | Exit::OutOfMemory => {
                if was_told {
                    Self::ClearedWell
                } else {
                    Self::ClearedFailed
                }
            }
        }
    }
}

impl State {
    /// All states, in the order of life.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Frozen,
        Self::Stopping,
        Self::Exited,
        Self::Failed,
        Self::Lost,
    ];

    /// The state after `event`; the same state where the event changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        use Event as E;
        match (self, event) {
            (Self::Created | Self::Exited | Self::Failed | Self::Lost, E::LaunchBegun) => Self::Starting,
            (Self::Starting, E::Started) | (Self::Frozen, E::Thawed) => Self::Running,
            // Also of one that nobody got around to start.
            (Self::Created | Self::Starting, E::StartFailed) | (Self::Stopping, E::ClearedFailed) => Self::Failed,
            (Self::Running, E::StoodStill) => Self::Frozen,
            // A frozen one is thawed for it: it could not hear otherwise.
            (Self::Running | Self::Frozen, E::StopOrdered | E::ProcessEnded | E::Vanished) => Self::Stopping,
            (Self::Stopping, E::ClearedWell) => Self::Exited,
            (Self::Stopping, E::ClearedUnknown) => Self::Lost,
            // Nothing of it is there to stand still or to end.
            (
                Self::Created,
                E::Started | E::StoodStill | E::Thawed | E::StopOrdered | E::ProcessEnded | E::Vanished
                | E::ClearedWell | E::ClearedFailed | E::ClearedUnknown,
            )
            // A launch in flight reports its own end; its process cannot be known yet.
            | (
                Self::Starting,
                E::LaunchBegun | E::StoodStill | E::Thawed | E::StopOrdered | E::ProcessEnded | E::Vanished
                | E::ClearedWell | E::ClearedFailed | E::ClearedUnknown,
            )
            // Late or doubled news.
            | (
                Self::Running,
                E::LaunchBegun | E::Started | E::StartFailed | E::Thawed
                | E::ClearedWell | E::ClearedFailed | E::ClearedUnknown,
            )
            | (
                Self::Frozen,
                E::LaunchBegun | E::Started | E::StartFailed | E::StoodStill
                | E::ClearedWell | E::ClearedFailed | E::ClearedUnknown,
            )
            // A freeze that was under way when it was told to end: that comes after it.
            | (
                Self::Stopping,
                E::LaunchBegun | E::Started | E::StartFailed | E::StoodStill | E::Thawed | E::StopOrdered
                | E::ProcessEnded | E::Vanished,
            )
            | (
                Self::Exited | Self::Failed | Self::Lost,
                E::Started | E::StartFailed | E::StoodStill | E::Thawed | E::StopOrdered | E::ProcessEnded
                | E::Vanished | E::ClearedWell | E::ClearedFailed | E::ClearedUnknown,
            ) => self,
        }
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Exited | Self::Failed | Self::Lost => true,
            Self::Created | Self::Starting | Self::Running | Self::Frozen | Self::Stopping => false,
        }
    }

    /// The name that people and metrics see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        use std::fmt::Write as _;
        let mut table = String::from("                ");
        for state in State::ALL {
            write!(table, "{:<9}", state.as_str()).unwrap();
        }
        for event in Event::ALL {
            write!(table, "\n{:<16}", format!("{event:?}")).unwrap();
            for state in State::ALL {
                let next = state.after(event);
                let cell = if next == state { "-" } else { next.as_str() };
                write!(table, "{cell:<9}").unwrap();
            }
        }
        let table: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        println!("{table}");
        assert_eq!(
            table,
            "                created  starting running  frozen   stopping exited   failed   lost
LaunchBegun     starting -        -        -        -        starting starting starting
Started         -        running  -        -        -        -        -        -
StartFailed     failed   failed   -        -        -        -        -        -
StoodStill      -        -        frozen   -        -        -        -        -
Thawed          -        -        -        running  -        -        -        -
StopOrdered     -        -        stopping stopping -        -        -        -
ProcessEnded    -        -        stopping stopping -        -        -        -
Vanished        -        -        stopping stopping -        -        -        -
ClearedWell     -        -        -        -        exited   -        -        -
ClearedFailed   -        -        -        -        failed   -        -        -
ClearedUnknown  -        -        -        -        lost     -        -        -
"
        );
    }

    #[test]
    fn an_end_is_well_failed_or_unknown() {
        let killed = Exit::Signaled { signal: 9 };
        let table = [
            (Exit::Exited { code: 0 }, false, Event::ClearedWell),
            (Exit::Exited { code: 3 }, false, Event::ClearedFailed),
            (Exit::Exited { code: 3 }, true, Event::ClearedWell),
            (killed, false, Event::ClearedFailed),
            (killed, true, Event::ClearedWell),
            (Exit::OutOfMemory, false, Event::ClearedFailed),
            (Exit::Vanished, true, Event::ClearedUnknown),
        ];
        for (exit, was_told, event) in table {
            assert_eq!(Event::cleared(exit, was_told), event, "{exit:?} {was_told}");
        }
    }
}
