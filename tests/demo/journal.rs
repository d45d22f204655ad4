//! The agent's journal, through `bellows events`: followed while the demo runs, read as a whole at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellows::journal::{Record, What};
use bellows_policies::decision::Verb;
use bellows_tests::programs::child::Job;

/// How long `bellows events` may take for what is there.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// `bellows events --follow`.
#[derive(Debug)]
pub(crate) struct Follower {
    records: Receiver<Record>,
    _job: Job,
}

/// How limits moved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moves {
    /// How often, up and down.
    pub(crate) count: u64,
    /// Of those that went up, from the loop's wake-up to the return of the last write, in microseconds, in order.
    wake_to_write_us: Vec<u64>,
    /// How often cpu quotas went up and down.
    pub(crate) quotas: (u64, u64),
}

impl Follower {
    /// Begins with the first record that the agent has kept.
    pub(crate) fn start(mut events: Command) -> Result<Self> {
        events.args(["events", "--follow", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped());
        // Its complaint that the agent ended is how it ends.
        let mut job = Job::start("bellows events", events.stderr(Stdio::null()))?;
        let output = BufReader::new(job.take_output()?);
        let (sender, records) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                match serde_json::from_str::<Record>(&line) {
                    Ok(record) => {
                        if sender.send(record).is_err() {
                            return;
                        }
                    }
                    Err(error) => eprintln!("bellows-demo: not understood: {line}: {error}"),
                }
            }
        });
        Ok(Self { records, _job: job })
    }

    /// What came since this was last asked.
    pub(crate) fn heard(&self) -> impl Iterator<Item = Record> + '_ {
        self.records.try_iter()
    }
}

/// All records that the agent has kept, as lines of JSON in `file` and parsed.
pub(crate) fn read_all(mut events: Command, file: &Path) -> Result<Vec<Record>> {
    let output = std::fs::File::create(file).with_context(|| format!("cannot make {}", file.display()))?;
    let mut job = Job::start("bellows events", events.args(["events", "--json"]).stdout(output))?;
    let status = job.wait(READ_PATIENCE)?;
    ensure!(status.success(), "bellows events failed, {status}");
    let text = std::fs::read_to_string(file)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

impl Moves {
    /// Of all workloads.
    pub(crate) fn of(records: &[Record]) -> Self {
        let mut moves = Self::default();
        for record in records {
            if let What::LimitsMoved { verb, wake_to_write_us, .. } = record.what {
                moves.count += 1;
                if verb == Verb::Grow {
                    moves.wake_to_write_us.push(wake_to_write_us);
                }
            }
            if let What::QuotaMoved { verb, .. } = record.what {
                let (up, down) = &mut moves.quotas;
                *(if verb == Verb::Grow { up } else { down }) += 1;
            }
        }
        moves.wake_to_write_us.sort_unstable();
        moves
    }

    /// How often they went up.
    pub(crate) fn grows(&self) -> usize {
        self.wake_to_write_us.len()
    }

    /// The time that `percent` of the moves up did not exceed (nearest rank).
    pub(crate) fn wake_to_write_us(&self, percent: usize) -> Option<u64> {
        let rank = (self.grows() * percent).div_ceil(100);
        self.wake_to_write_us.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let moves = |times: std::ops::RangeInclusive<u64>| Moves {
            wake_to_write_us: times.collect(),
            ..Moves::default()
        };
        assert_eq!(moves(1..=100).wake_to_write_us(50), Some(50));
        assert_eq!(moves(1..=100).wake_to_write_us(99), Some(99));
        assert_eq!(moves(7..=7).wake_to_write_us(99), Some(7));
        assert_eq!(moves(1..=3).wake_to_write_us(50), Some(2));
        assert_eq!(Moves::default().wake_to_write_us(50), None);
    }
}
