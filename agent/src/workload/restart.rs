//! Whether and when a workload is started again: pure.
//!
//! What fails at once would fail again at once. So each failure in a row doubles the wait, from [`FIRST`] to [`LONGEST`], and a
//! run that went well for longer than [`WELL`], and than it was waited for, ends the row. There is no last try: whatever was in its
//! way may go away, a try each five minutes costs nobody anything, and the count is told.

use std::time::Duration;

use super::life::Restart;
use super::lifecycle::State;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(5);
/// A run that went well for this long was no failure to start.
const WELL: Duration = Duration::from_secs(30);

/// How it has gone so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Runs in a row that ended too soon.
    pub failures: u32,
}

impl Row {
    /// Takes in an end: whether it is started again, and after how long. `was_told`: an operator told it to end.
    #[must_use]
    pub fn after(&mut self, rule: Restart, state: State, was_told: bool, ran: Duration) -> Option<Duration> {
        let has_failed = match state {
            State::Failed | State::Lost => true,
            State::Created
            | State::Starting
            | State::Running
            | State::Frozen
            | State::Stopping
            | State::Exited => false,
        };
        let is_wanted = match rule {
            Restart::Never => false,
            Restart::OnFailure => has_failed,
            Restart::Always => true,
        };
        if was_told || !is_wanted {
            self.failures = 0;
            return None;
        }
        if ran >= WELL.max(wait(self.failures)) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        Some(wait(self.failures))
    }
}

/// The wait after so many failures in a row.
fn wait(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    if failures == 0 { Duration::ZERO } else { FIRST.saturating_mul(1 << doublings).min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn failures_in_a_row_wait_longer_up_to_a_bound() {
        let mut row = Row::default();
        let waits: Vec<u128> = (0..14)
            .filter_map(|_| row.after(Restart::OnFailure, State::Failed, false, SHORT))
            .map(|wait| wait.as_millis())
            .collect();
        assert_eq!(waits[..4], [200, 400, 800, 1600]);
        assert_eq!(waits[11..], [300_000; 3]);
        // It waited five minutes, and ran for less: nothing has got better.
        let after = |row: &mut Row, ran| row.after(Restart::OnFailure, State::Failed, false, ran);
        assert_eq!(after(&mut row, Duration::from_mins(4)), Some(LONGEST));
        assert_eq!(after(&mut row, Duration::from_mins(6)), Some(FIRST), "it ran well");
    }

    #[test]
    fn who_is_started_again() {
        let table = [
            (Restart::Never, State::Failed, false, false),
            (Restart::OnFailure, State::Failed, false, true),
            (Restart::OnFailure, State::Lost, false, true),
            (Restart::OnFailure, State::Exited, false, false),
            (Restart::Always, State::Exited, false, true),
            (Restart::Always, State::Failed, true, false),
            (Restart::OnFailure, State::Failed, true, false),
        ];
        for (rule, state, was_told, again) in table {
            let wait = Row::default().after(rule, state, was_told, SHORT);
            assert_eq!(wait.is_some(), again, "{rule:?} {state:?} {was_told}");
        }
    }
}
