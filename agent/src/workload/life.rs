//! How a workload is to live: how it is told to end, whether it is started again, and where its output goes. Part of its spec.
//!
//! Kept on its cgroup, so that whoever takes it over ends it as it wants to be ended.

use std::str::FromStr;
use std::time::Duration;

use bellows_policies::units::Bytes;
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::cgroup::{Cgroup, CgroupError};

/// The extended attribute that holds it, as JSON.
const LIFE: &str = "life";
/// The longest grace: an operator waits for it, and so may a shutdown.
pub(crate) const LONGEST_GRACE: u64 = 3600;
/// The numbers of signals: signal(7) ends with SIGRTMAX.
pub(crate) const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
/// Sizes of a log file: less is not worth a file, and more is no bound.
const LOG_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;
/// Files of a log.
pub(crate) const LOG_FILES: std::ops::RangeInclusive<u32> = 1..=100;

/// What it says of its life. Everything that is absent is as of a plain `bellows run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Life {
    /// The signal that asks its command to end.
    #[schemars(range(min = *SIGNALS.start(), max = *SIGNALS.end()))]
    pub stop_signal: i32,
    /// How long it may take to end after that, in seconds, before everything in its cgroup is killed.
    #[schemars(range(max = LONGEST_GRACE))]
    pub grace_seconds: u64,
    /// Whether it is started again when it has ended. Only of a detached one: else its client is there to do that.
    pub restart: Restart,
    /// Bounds of its log. Only a detached one has a log.
    pub log: LogBounds,
    /// Whether its output goes to the system's journal instead of a log of its own. Only of a detached one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub journal: bool,
    /// Whether it has a terminal: its client's, or one that is kept for who attaches.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

/// When a workload is started again that has ended of itself. One that was told to end stays so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    Never,
    /// When it has failed: it returned an error, was killed, could not be started, or nobody knows how it ended.
    OnFailure,
    /// Whenever it has ended.
    Always,
}

/// How large the log of a workload may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogBounds {
    /// The most that a file of it holds.
    #[schemars(range(min = *LOG_BYTES.start(), max = *LOG_BYTES.end()))]
    pub bytes: Bytes,
    /// How many files there are, the current one included.
    #[schemars(range(min = *LOG_FILES.start(), max = *LOG_FILES.end()))]
    pub files: u32,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            stop_signal: libc::SIGTERM,
            grace_seconds: 10,
            restart: Restart::default(),
            log: LogBounds::default(),
            journal: false,
            terminal: false,
        }
    }
}

impl Default for LogBounds {
    fn default() -> Self {
        // Often in memory, and then on the workload's account.
        Self { bytes: Bytes::MIB, files: 4 }
    }
}

impl Restart {
    /// As it is written everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

impl FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Never, Self::OnFailure, Self::Always]
            .into_iter()
            .find(|rule| rule.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a restart rule: never, on-failure, always"))
    }
}

/// A signal, by name or number.
#[derive(Debug, Clone, Copy)]
pub struct SignalNumber(pub i32);

impl FromStr for SignalNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let named = Signal::from_str(&full).ok().map(|s| s as i32);
        let numbered = text.parse().ok().filter(|n| SIGNALS.contains(n));
        named.or(numbered).map(Self).ok_or_else(|| format!("{text:?} is not a signal: TERM, KILL, HUP, 15"))
    }
}

/// Why this is no signal, if it is none.
#[must_use]
pub fn signal_problem(signal: i32) -> Option<String> {
    let (first, last) = (SIGNALS.start(), SIGNALS.end());
    let text = || format!("{signal} is not a signal: use a number from {first} to {last}");
    (!SIGNALS.contains(&signal)).then(text)
}

impl Life {
    /// What cannot be, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(text) = signal_problem(self.stop_signal) {
            return Some(text);
        }
        if self.grace_seconds > LONGEST_GRACE {
            return Some(format!(
                "a grace of {} s is too long: {LONGEST_GRACE} s at most",
                self.grace_seconds
            ));
        }
        if self.journal && self.terminal {
            return Some("what a terminal shows is kept in a log: it cannot go to the journal".to_owned());
        }
        let LogBounds { bytes, files } = self.log;
        if !LOG_BYTES.contains(&bytes.0) {
            let (least, most) = (Bytes(*LOG_BYTES.start()), Bytes(*LOG_BYTES.end()));
            return Some(format!(
                "a log file of {bytes} is refused: it has to be between {least} and {most}"
            ));
        }
        let (least, most) = (LOG_FILES.start(), LOG_FILES.end());
        (!LOG_FILES.contains(&files))
            .then(|| format!("a log of {files} files is refused: it has to be between {least} and {most}"))
    }

    /// How long it may take to end.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// Notes it, where it is not the usual one, over an older note.
pub fn write(cgroup: &Cgroup, life: &Life) -> Result<(), CgroupError> {
    if *life == Life::default() {
        return cgroup.remove_attribute(LIFE);
    }
    cgroup.set_attribute(LIFE, &serde_json::to_vec(life).unwrap_or_default())
}

/// What is noted; the usual one where nothing is, or nothing that is understood.
pub fn read(cgroup: &Cgroup) -> Result<Life, CgroupError> {
    let noted = cgroup.attribute(LIFE)?.and_then(|json| serde_json::from_slice(&json).ok());
    Ok(noted.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_the_usual() {
        let read: Life = serde_json::from_str(r#"{"grace_seconds":3}"#).unwrap();
        assert_eq!(read, Life { grace_seconds: 3, ..Life::default() });
        assert!(serde_json::from_str::<Life>(r#"{"grace":3}"#).is_err(), "a field that does not exist");
    }

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [("TERM", 15), ("sigkill", 9), ("1", 1), ("64", 64)] {
            assert_eq!(text.parse::<SignalNumber>().unwrap().0, number);
        }
        for bad in ["", "0", "65", "NOPE"] {
            assert!(bad.parse::<SignalNumber>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(Life::default().problem(), None);
        for life in [
            Life { stop_signal: 0, ..Life::default() },
            Life { stop_signal: 65, ..Life::default() },
            Life { grace_seconds: LONGEST_GRACE + 1, ..Life::default() },
            Life { journal: true, terminal: true, ..Life::default() },
            Life { log: LogBounds { bytes: Bytes(1), files: 1 }, ..Life::default() },
            Life { log: LogBounds { files: 0, ..LogBounds::default() }, ..Life::default() },
        ] {
            assert!(life.problem().is_some(), "{life:?}");
        }
    }
}
