//! The life of a workload: one exhaustive match over state and event.
//!
//! ```text
//! starting -> running -> stopping -> ended
//! ```

use serde::Serialize;

/// Where a workload is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its cgroup is being made, its first process started.
    Starting,
    /// Its command runs.
    Running,
    /// It was told to end, or its first process has ended: what is left of it is being cleared away.
    Stopping,
    /// Nothing of it is left.
    Ended,
}

/// What can happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The command was executed.
    Started,
    /// The launch failed; everything was cleared away.
    StartFailed,
    /// Its first process ended.
    ProcessEnded,
    /// Its cgroup is gone, without our doing.
    Vanished,
    /// Everything was cleared away.
    Cleared,
}

impl State {
    /// All states, in the order of life.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Stopping, Self::Ended];

    /// The state after `event`; the same state where the event changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Starting, Event::Started) => Self::Running,
            (Self::Running, Event::ProcessEnded | Event::Vanished) => Self::Stopping,
            (Self::Starting, Event::StartFailed) | (Self::Stopping, Event::Cleared) => Self::Ended,
            // A launch in flight reports its own end; its process cannot be known yet.
            (Self::Starting, Event::ProcessEnded | Event::Vanished | Event::Cleared)
            // Late or doubled news.
            | (Self::Running, Event::Started | Event::StartFailed | Event::Cleared)
            | (Self::Stopping, Event::Started | Event::StartFailed | Event::ProcessEnded | Event::Vanished)
            | (Self::Ended, Event::Started | Event::StartFailed | Event::ProcessEnded | Event::Vanished | Event::Cleared) => self,
        }
    }

    /// The name that people and metrics see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        use std::fmt::Write as _;
        let events =
            [Event::Started, Event::StartFailed, Event::ProcessEnded, Event::Vanished, Event::Cleared];
        let mut table = String::new();
        for state in State::ALL {
            write!(table, "{:<9}", state.as_str()).unwrap();
            for event in events {
                let next = state.after(event);
                let cell = if next == state { "-" } else { next.as_str() };
                write!(table, " {event:?}:{cell}").unwrap();
            }
            table.push('\n');
        }
        println!("{table}");
        assert_eq!(
            table,
            "\
starting  Started:running StartFailed:ended ProcessEnded:- Vanished:- Cleared:-
running   Started:- StartFailed:- ProcessEnded:stopping Vanished:stopping Cleared:-
stopping  Started:- StartFailed:- ProcessEnded:- Vanished:- Cleared:ended
ended     Started:- StartFailed:- ProcessEnded:- Vanished:- Cleared:-
"
        );
    }
}
