//! The visitors of the web server.
//!
//! Requests are due at fixed times, and latency counts from when a request was due, not from when it could be sent: a server
//! that stalls is not spared the requests that would have come meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use bellows_policies::units::Bytes;
use bellows_tests::programs::child::TICK;
use bellows_tests::programs::nginx::{Site, Visitor};

use crate::scenario::LENGTH;

/// Files of the site: with nginx itself they just fit the floor.
const FILES: u64 = 128;
/// Size of each.
const FILE: Bytes = Bytes(256 << 10);
/// Visitors, each with a connection of its own.
const VISITORS: u64 = 2;
/// Time between two requests of one visitor, ms.
const EVERY_MS: u64 = 160;

/// The visitors, at work.
#[derive(Debug)]
pub(crate) struct Visitors {
    served: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Duration>>>,
}

/// What became of them.
#[derive(Debug, Clone)]
pub(crate) struct Visited {
    /// How long each served request took from when it was due, in order.
    latencies: Vec<Duration>,
}

/// Writes the site's files.
pub(crate) fn create_site(scratch: &Path) -> Result<Site> {
    Site::create(scratch.join("bellows-demo.site"), FILES, FILE)
}

impl Visitors {
    /// Requests that are offered.
    pub(crate) fn offered() -> u64 {
        VISITORS * requests_each()
    }

    /// Sends them to the server at `port`.
    pub(crate) fn send(port: u16) -> Self {
        let (served, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let start = Instant::now();
        let visit = |number| {
            let (served, is_over) = (Arc::clone(&served), Arc::clone(&is_over));
            // Not all at the same time.
            let first = start + Duration::from_millis(EVERY_MS * number / VISITORS);
            thread::spawn(move || visit(port, number, first, &served, &is_over))
        };
        let threads = (0..VISITORS).map(visit).collect();
        Self { served, is_over, threads }
    }

    /// How many requests have been served.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether none is left.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Calls them home; what was not served by now never will be.
    pub(crate) fn sum_up(self) -> Result<Visited> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for thread in self.threads {
            latencies.extend(thread.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))?);
        }
        latencies.sort_unstable();
        Ok(Visited { latencies })
    }
}

impl Visited {
    /// Requests that were served.
    pub(crate) fn served(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// Requests that were not.
    pub(crate) fn lost(&self) -> u64 {
        Visitors::offered().saturating_sub(self.served())
    }

    /// The latency that `percent` of the served requests did not exceed (nearest rank), ms.
    pub(crate) fn latency_ms(&self, percent: usize) -> Option<f64> {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.checked_sub(1)?).map(|latency| latency.as_secs_f64() * 1000.0)
    }
}

fn requests_each() -> u64 {
    LENGTH * 1000 / EVERY_MS
}

fn visit(port: u16, number: u64, first: Instant, served: &AtomicU64, is_over: &AtomicBool) -> Vec<Duration> {
    let mut visitor = None;
    let mut latencies = Vec::new();
    for request in 0..requests_each() {
        let due = first + Duration::from_millis(EVERY_MS * request);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        // Any order will do that comes to every file and is not the order of the disk.
        let file = (request * VISITORS + number) * 53 % FILES;
        visitor = visitor.or_else(|| Visitor::connect(port).ok());
        match visitor.as_mut().map(|visitor| visitor.get(file)) {
            Some(Ok(())) => {
                latencies.push(due.elapsed());
                served.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(_)) => visitor = None,
            None => thread::sleep(TICK),
        }
    }
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let visited = |n: u64| Visited { latencies: (1..=n).map(Duration::from_millis).collect() };
        assert_eq!(visited(100).latency_ms(99), Some(99.0));
        assert_eq!(visited(3).latency_ms(50), Some(2.0));
        assert_eq!(visited(0).latency_ms(99), None);
        assert_eq!(visited(7).lost(), Visitors::offered() - 7);
    }
}
