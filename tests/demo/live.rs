//! What is seen while it runs: a line now and then, and each move of a limit as it happens.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bellows::journal::What;
use bellows_policies::units::Bytes;

use crate::group::Group;
use crate::journal::Follower;
use crate::redis::Client;

/// Time between two lines.
const PERIOD: Duration = Duration::from_millis(700);

/// Watches one way.
#[derive(Debug)]
pub(crate) struct Live {
    port: u16,
    client: Option<Client>,
    root: Group,
    redis: Group,
    reader: Group,
    follower: Option<Follower>,
    start: Instant,
    start_unix_ns: u64,
    next: Instant,
    /// When requests were last seen to be done.
    progress: Instant,
    looks: Vec<Look>,
}

/// What was seen at one time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// SETs that redis has carried out.
    pub(crate) requests: u64,
    /// Keys that redis has.
    pub(crate) keys: u64,
    /// What redis uses.
    pub(crate) used: Bytes,
    /// What redis is granted.
    pub(crate) granted: Bytes,
    /// Its `memory.max`.
    pub(crate) max: Bytes,
    /// OOM kills, of the reader too.
    pub(crate) kills: u64,
    /// What the reader uses.
    pub(crate) reader_used: Bytes,
    /// What the reader is granted.
    pub(crate) reader_granted: Bytes,
}

impl Live {
    /// Begins to watch `redis` and `reader` below `root`; `follower` tells of limits that move.
    pub(crate) fn new(
        port: u16,
        root: Group,
        redis: Group,
        reader: Group,
        follower: Option<Follower>,
    ) -> Self {
        println!(
            "{:>10}  {:>8}  {:>9}  {:>9}  {:>9}  {:>5}  {:>11}  {:>14}",
            "time", "requests", "used", "granted", "max", "kills", "reader used", "reader granted"
        );
        let start = Instant::now();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_unix_ns = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        Self {
            port,
            client: None,
            root,
            redis,
            reader,
            follower,
            start,
            start_unix_ns,
            next: start,
            progress: start,
            looks: Vec::new(),
        }
    }

    /// Tells of moves; when it is time, takes a look and prints it.
    pub(crate) fn look(&mut self) -> Result<()> {
        self.tell_moves();
        if Instant::now() >= self.next {
            self.look_now()?;
        }
        Ok(())
    }

    /// Takes a look and prints it.
    pub(crate) fn look_now(&mut self) -> Result<()> {
        let last = self.last();
        // A server that is dying, or throttled for long, does not answer: what it said last stands.
        let (requests, keys) = self.ask().unwrap_or_else(|_| {
            self.client = None;
            (last.requests, last.keys)
        });
        let (used, granted, max) = sizes(&self.redis)?;
        let (reader_used, reader_granted, _) = sizes(&self.reader)?;
        let kills = self.root.kills()?;
        let look = Look { requests, keys, used, granted, max, kills, reader_used, reader_granted };
        println!(
            "{:>8.1} s  {requests:>8}  {:>9}  {:>9}  {:>9}  {:>5}  {:>11}  {:>14}",
            self.start.elapsed().as_secs_f64(),
            mib(look.used),
            mib(look.granted),
            mib(look.max),
            look.kills,
            mib(look.reader_used),
            mib(look.reader_granted)
        );
        if requests > last.requests {
            self.progress = Instant::now();
        }
        self.looks.push(look);
        self.next = Instant::now() + PERIOD;
        Ok(())
    }

    /// Tells of the moves that have been heard of by now.
    pub(crate) fn tell_moves(&mut self) {
        let Some(follower) = &self.follower else { return };
        for record in follower.heard() {
            let What::LimitsMoved { verb, reason, from, to, current, wake_to_write_us } = &record.what else {
                continue;
            };
            let after_us = record.unix_ns.saturating_sub(self.start_unix_ns) / 1000;
            println!(
                "{:>3}.{:06} s  {} {verb}: {} -> {}, max {} -> {}, at a use of {}, in {wake_to_write_us} us: {reason}",
                after_us / 1_000_000,
                after_us % 1_000_000,
                record.workload,
                mib(from.high),
                mib(to.high),
                mib(from.max),
                mib(to.max),
                mib(*current),
            );
        }
    }

    /// For how long no request has been done.
    pub(crate) fn idle(&self) -> Duration {
        self.progress.elapsed()
    }

    /// The last look.
    pub(crate) fn last(&self) -> Look {
        self.looks.last().copied().unwrap_or_default()
    }

    /// The last look at redis while it was alive: a dead one uses nothing.
    pub(crate) fn last_in_use(&self) -> Look {
        self.looks.iter().rfind(|look| look.used >= Bytes::MIB).copied().unwrap_or_default()
    }

    /// What the reader was granted over time.
    pub(crate) fn reader_granted(&self) -> Vec<Bytes> {
        self.looks.iter().map(|look| look.reader_granted).collect()
    }

    fn ask(&mut self) -> Result<(u64, u64)> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::connect(self.port)?),
        };
        // In this order no key is seen whose SET is not.
        let keys = client.keys()?;
        Ok((client.sets()?, keys))
    }
}

/// Used, granted, max; zeroes for a workload that ended and whose cgroup the agent has removed.
fn sizes(group: &Group) -> Result<(Bytes, Bytes, Bytes)> {
    let read = || Ok((group.used()?, group.granted()?, group.max()?));
    match read() {
        Err(_) if !group.exists() => Ok(Default::default()),
        sizes => sizes,
    }
}

/// A size in MiB, or `max`.
pub(crate) fn mib(bytes: Bytes) -> String {
    if bytes.0 == u64::MAX {
        return "max".to_owned();
    }
    format!("{} MiB", (bytes.0 + Bytes::MIB.0 / 2) / Bytes::MIB.0)
}
