//! The load of redis: rounds of redis-benchmark at fixed times, first to fill it, then to keep it busy.
//!
//! What is offered does not depend on how redis fares: a round is due whether the one before it was slow or not, and what
//! redis does not serve is counted as lost.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bellows_tests::programs::child::Job;
use bellows_tests::programs::redis::Probe;

/// SETs of a round.
pub(crate) const ROUND: u64 = 250;
/// Rounds that bring new keys: 12 x 250 x 57 000 bytes are 163 MiB.
pub(crate) const FILLING: usize = 12;
/// All rounds; the later ones set the same few keys again and again.
pub(crate) const ROUNDS: usize = 24;
/// Time from one round to the next, seconds.
const EVERY: f64 = 2.0;
/// Size of a value. Large, since a translated guest pays by the request; with its header it just fits a class of the
/// allocator of redis (56 KiB).
pub(crate) const VALUE_BYTES: usize = 57_000;
/// Random keys of a filling round are below this, so nearly all are distinct.
const MANY_KEYS: &str = "1000000000";
/// Keys of the later rounds.
const FEW_KEYS: &str = "64";
/// Share of distinct keys below which something was lost on the way, not drawn twice.
const DISTINCT: f64 = 0.999;

/// Drives redis-benchmark.
#[derive(Debug)]
pub(crate) struct Rounds {
    port: u16,
    running: Option<Job>,
    done: Vec<Round>,
    died_at: Option<f64>,
}

/// What redis-benchmark measured in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Round {
    requests_per_s: f64,
    p99_ms: f64,
}

/// What became of it all.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    /// SETs that were carried out. A server that dies takes the count of its last moments with it: the last look counts.
    pub(crate) requests: u64,
    /// Distinct keys that were acknowledged.
    pub(crate) keys: u64,
    /// Of those, keys that are served with a whole value in the end.
    pub(crate) kept: u64,
    /// Whole rounds.
    pub(crate) rounds: Vec<Round>,
    /// When the server died, in seconds.
    pub(crate) died_at: Option<f64>,
}

impl Rounds {
    /// Of a server at `port`.
    pub(crate) fn new(port: u16) -> Self {
        Self { port, running: None, done: Vec::new(), died_at: None }
    }

    /// Starts the next round when it is due, and takes the result of the last one.
    pub(crate) fn tick(&mut self, now: f64, benchmark: &Path, server: &mut Job) -> Result<()> {
        if self.died_at.is_none() && server.ended()?.is_some() {
            self.died_at = Some(now);
            self.running = None;
        }
        if self.is_over() {
            return Ok(());
        }
        if let Some(round) = &mut self.running {
            let Some(status) = round.ended()? else { return Ok(()) };
            // Two lines: they fit the pipe, so that nobody had to read while it ran.
            let mut text = String::new();
            round.take_output()?.read_to_string(&mut text)?;
            self.running = None;
            if status.success() {
                self.done.push(parse_csv(&text)?);
            }
            // A client may see a dying server before its parent does: then the round is tried again, or death seen.
        }
        if self.done.len() < ROUNDS && now >= EVERY * self.done.len() as f64 {
            self.running = Some(self.start(benchmark)?);
        }
        Ok(())
    }

    /// Whether redis holds all that it is to hold, or never will.
    pub(crate) fn is_filled(&self) -> bool {
        self.done.len() >= FILLING || self.died_at.is_some()
    }

    /// Whether no round is left.
    pub(crate) fn is_over(&self) -> bool {
        self.done.len() >= ROUNDS || self.died_at.is_some()
    }

    /// Whether the server died.
    pub(crate) fn died_at(&self) -> Option<f64> {
        self.died_at
    }

    /// Sums up; `kept` as counted by walking through all keys.
    pub(crate) fn sum_up(self, probe: &Probe, kept: u64) -> Served {
        let finished = ROUND * self.done.len() as u64;
        Served {
            requests: probe.sets().max(finished),
            keys: probe.keys().max(kept),
            kept,
            rounds: self.done,
            died_at: self.died_at,
        }
    }

    fn start(&self, benchmark: &Path) -> Result<Job> {
        let number = self.done.len();
        // The round's number is in the key: redis-benchmark seeds its keys by time and pid, which two rounds may share.
        let (key, keys) = match number {
            0..FILLING => (format!("fill:{number}:__rand_int__"), MANY_KEYS),
            _ => ("hot:__rand_int__".to_owned(), FEW_KEYS),
        };
        let mut command = Command::new(benchmark);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-r", keys, "--csv"]);
        command.args(["-n", &ROUND.to_string(), "-c", "4", "-P", "2", "SET", &key, &"x".repeat(VALUE_BYTES)]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Job::start("redis-benchmark", &mut command)
    }
}

impl Served {
    /// SETs that were offered.
    pub(crate) const OFFERED: u64 = ROUND * ROUNDS as u64;

    /// Requests that were not served, and keys that were and are gone.
    pub(crate) fn lost(&self) -> u64 {
        Self::OFFERED.saturating_sub(self.requests) + self.keys.saturating_sub(self.kept)
    }

    /// Requests per second while a round ran; every round has as many requests.
    pub(crate) fn requests_per_s(&self) -> Option<f64> {
        let seconds: f64 = self.rounds.iter().map(|round| 1.0 / round.requests_per_s).sum();
        (!self.rounds.is_empty()).then(|| self.rounds.len() as f64 / seconds)
    }

    /// The 99th percentile of latency, ms, in the median of the filling rounds: percentiles do not add up, and a server that
    /// died was spared the later ones.
    pub(crate) fn p99_filling_ms(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.rounds.iter().take(FILLING).map(|round| round.p99_ms).collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// The 99th percentile of latency, ms, in the worst of all rounds.
    pub(crate) fn p99_worst_ms(&self) -> Option<f64> {
        self.rounds.iter().map(|round| round.p99_ms).reduce(f64::max)
    }

    /// Whether as many keys are distinct as random ones must be.
    pub(crate) fn are_keys_plausible(&self) -> bool {
        let filled = ROUND * self.rounds.len().min(FILLING) as u64;
        self.keys as f64 >= filled as f64 * DISTINCT
    }
}

/// One line of names, one of values, all of them in quotes.
fn parse_csv(text: &str) -> Result<Round> {
    let fields = |line: &str| {
        line.split(',').map(|field| field.trim().trim_matches('"').to_owned()).collect::<Vec<_>>()
    };
    let mut lines = text.lines();
    let (names, values) = lines
        .find(|line| line.starts_with("\"test\""))
        .and_then(|names| Some((fields(names), fields(lines.next()?))))
        .with_context(|| format!("redis-benchmark wrote no CSV: `{}`", text.trim()))?;
    let value = |name: &str| {
        let field = names.iter().position(|n| n == name).and_then(|at| values.get(at));
        let number = field.and_then(|field| field.parse::<f64>().ok());
        number.with_context(|| format!("redis-benchmark's CSV has no {name} (redis 7 or later is needed)"))
    };
    let round = Round { requests_per_s: value("rps")?, p99_ms: value("p99_latency_ms")? };
    if round.requests_per_s <= 0.0 {
        bail!("redis-benchmark measured {} requests per second", round.requests_per_s);
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(rounds: Vec<Round>) -> Served {
        Served { requests: 0, keys: 0, kept: 0, rounds, died_at: None }
    }

    #[test]
    fn csv_of_redis_benchmark_is_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n\
                    \"SET\",\"2500.50\",\"0.1\",\"3.375\",\"9.0\"\n";
        assert_eq!(parse_csv(text).unwrap(), Round { requests_per_s: 2500.5, p99_ms: 3.375 });
        assert!(parse_csv("Could not connect").is_err());
        assert!(parse_csv("\"test\",\"rps\"\n\"SET\",\"1\"\n").is_err());
    }

    #[test]
    fn rounds_add_up_by_time() {
        let round = |requests_per_s, p99_ms| Round { requests_per_s, p99_ms };
        let three = served(vec![round(1000.0, 1.0), round(3000.0, 5.0), round(1500.0, 9.0)]);
        assert_eq!(three.requests_per_s(), Some(1500.0));
        assert_eq!((three.p99_filling_ms(), three.p99_worst_ms()), (Some(5.0), Some(9.0)));
        assert_eq!(served(Vec::new()).requests_per_s(), None);
        assert_eq!(served(Vec::new()).p99_filling_ms(), None);
        let late = [vec![round(1.0, 1.0); FILLING], vec![round(1.0, 9.0); 2 * FILLING]].concat();
        assert_eq!(served(late).p99_filling_ms(), Some(1.0));
    }

    #[test]
    fn what_was_not_served_and_what_is_gone_is_lost() {
        let all = Served { requests: Served::OFFERED, keys: 100, kept: 100, ..served(Vec::new()) };
        assert_eq!(all.lost(), 0);
        assert_eq!(Served { kept: 0, ..all.clone() }.lost(), 100);
        assert_eq!(Served { requests: Served::OFFERED - 7, ..all }.lost(), 7);
    }
}
