//! Fills redis: rounds of redis-benchmark, until enough is in it or it dies.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::child::{Job, TICK, wait_for};
use crate::live::Live;
use crate::redis::Client;

/// SETs in all: about 230 MiB.
pub(crate) const REQUESTS: u64 = 16_000;
/// SETs of a round: about 27 MiB.
const ROUND: u64 = 2000;
/// Size of a value. Large, since a translated guest pays by the request; with its header it just fits the largest class
/// (14 KiB) for which the allocator of redis adds no page of its own.
pub(crate) const VALUE_BYTES: usize = 14_000;
/// Keys are random below this, so nearly all are distinct: in eight fills of 16 000 one is drawn twice.
const KEYSPACE: &str = "1000000000";
/// Share of distinct keys below which something was lost on the way, not drawn twice.
const DISTINCT: f64 = 0.999;
/// How long the whole fill may take. It takes some seconds, in a translated guest half a minute.
const FILL_PATIENCE: Duration = Duration::from_secs(100);
/// How long no request may be done. A server at its limit may live on and do nothing but reclaim.
const STUCK_PATIENCE: Duration = Duration::from_secs(20);
/// How long a server whose connections broke may take to be seen dead.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum End {
    /// All requests were acknowledged.
    #[default]
    Done,
    /// The server died.
    Died,
    /// It lives, but does nothing any more.
    Stuck,
    /// Time was up.
    TooSlow,
}

/// What was done. A server that dies takes the count of its last moments with it: the last look counts then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filled {
    /// Requests that were carried out.
    pub(crate) requests: u64,
    /// Distinct keys that were acknowledged.
    pub(crate) keys: u64,
    /// Whole rounds.
    pub(crate) rounds: Vec<Round>,
    /// How it ended.
    pub(crate) end: End,
}

/// What redis-benchmark measured in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Round {
    requests_per_s: f64,
    p99_ms: f64,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "took all",
            Self::Died => "died",
            Self::Stuck => "got stuck",
            Self::TooSlow => "was too slow",
        })
    }
}

impl Filled {
    /// Requests per second while a round ran; every round has as many requests.
    pub(crate) fn requests_per_s(&self) -> Option<f64> {
        let seconds: f64 = self.rounds.iter().map(|round| 1.0 / round.requests_per_s).sum();
        (!self.rounds.is_empty()).then(|| self.rounds.len() as f64 / seconds)
    }

    /// The 99th percentile of latency in the worst round: percentiles do not add up.
    pub(crate) fn p99_ms(&self) -> Option<f64> {
        self.rounds.iter().map(|round| round.p99_ms).reduce(f64::max)
    }

    /// Whether as many keys are distinct as random ones must be.
    pub(crate) fn are_keys_plausible(&self) -> bool {
        self.keys as f64 >= self.requests as f64 * DISTINCT
    }
}

/// Runs rounds against the server that `job` runs.
pub(crate) fn fill(benchmark: &Path, port: u16, job: &mut Job, live: &mut Live) -> Result<Filled> {
    let deadline = Instant::now() + FILL_PATIENCE;
    let mut filled = Filled::default();
    while filled.requests < REQUESTS {
        let number = filled.rounds.len();
        match run_round(benchmark, port, number, job, live, deadline)? {
            Ok(round) => filled.rounds.push(round),
            Err(end) => {
                filled.end = end;
                break;
            }
        }
        filled.requests = ROUND * filled.rounds.len() as u64;
        // All are acknowledged. A server that cannot answer now shows in the next round.
        filled.keys = Client::connect(port).and_then(|mut c| c.keys()).unwrap_or(filled.keys);
    }
    // Within the last round, only the looks know.
    let seen = live.last();
    filled.requests = filled.requests.max(seen.requests);
    filled.keys = filled.keys.max(seen.keys);
    Ok(filled)
}

fn run_round(
    benchmark: &Path,
    port: u16,
    number: usize,
    job: &mut Job,
    live: &mut Live,
    deadline: Instant,
) -> Result<Result<Round, End>> {
    let mut command = Command::new(benchmark);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-r", KEYSPACE, "--csv"]);
    command.args(["-n", &ROUND.to_string(), "-c", "4", "-P", "2"]);
    // The round's number is in the key: redis-benchmark seeds its keys by time and pid, which two rounds may share.
    command.args(["SET", &format!("fill:{number}:__rand_int__"), &"x".repeat(VALUE_BYTES)]);
    // Two lines: they fit the pipe, so that nobody has to read while it runs.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut round = Job::start("redis-benchmark", &mut command)?;
    let mut output = round.take_output()?;
    loop {
        live.look()?;
        if let Some(status) = round.ended()? {
            let mut text = String::new();
            output.read_to_string(&mut text)?;
            if status.success() {
                return parse_csv(&text).map(Ok);
            }
            // A client may see a dying server before its parent does.
            return match wait_for(DEATH_PATIENCE, || job.ended()) {
                Ok(_) => Ok(Err(End::Died)),
                Err(_) => bail!("redis-benchmark failed, {status}, though redis lives: {}", text.trim()),
            };
        }
        if job.ended()?.is_some() {
            return Ok(Err(End::Died));
        }
        if live.idle() >= STUCK_PATIENCE {
            return Ok(Err(End::Stuck));
        }
        if Instant::now() >= deadline {
            return Ok(Err(End::TooSlow));
        }
        thread::sleep(TICK);
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
        let filled = Filled { rounds: vec![round(1000.0, 1.0), round(3000.0, 5.0)], ..Filled::default() };
        assert_eq!(filled.requests_per_s(), Some(1500.0));
        assert_eq!(filled.p99_ms(), Some(5.0));
        assert_eq!(Filled::default().requests_per_s(), None);
    }
}
