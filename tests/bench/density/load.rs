//! The clients of a copy's servers. Requests are due at fixed times, and latency counts from when a request was due: a server that
//! stalls is not spared what would have come meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{sync::Arc, thread};

use anyhow::{Result, anyhow, ensure};
use bellows_tests::programs::nginx::Visitor;
use bellows_tests::programs::redis::Client;

use super::copy::{FILES, KEYS, VALUE};

/// Time between two requests of one client.
const CACHE_EVERY: Duration = Duration::from_millis(250);
const WEB_EVERY: Duration = Duration::from_millis(500);
/// Pause of a client whose server does not answer.
const AGAIN: Duration = Duration::from_millis(100);

/// A client at work.
#[derive(Debug)]
pub(super) struct Load {
    thread: thread::JoinHandle<Vec<Duration>>,
    is_over: Arc<AtomicBool>,
    offered: usize,
}

/// What became of its requests.
#[derive(Debug)]
pub(super) struct Served {
    /// How long each took.
    pub(super) latencies: Vec<Duration>,
    /// How many were not served.
    pub(super) lost: usize,
}

impl Load {
    /// Asks the redis at `port`: a SET and a GET in turns, all keys one after the other.
    pub(super) fn of_cache(port: u16, length: Duration, phase: f64) -> Self {
        let mut client = None;
        Self::start(CACHE_EVERY, length, phase, move |request| {
            over(
                &mut client,
                || Client::connect(port),
                |client| {
                    let key = format!("key:{}", request * 53 % KEYS);
                    if request % 2 == 0 {
                        return client.set(&key, &value());
                    }
                    ensure!(client.get(&key)? == VALUE, "{key} is gone");
                    Ok(())
                },
            )
        })
    }

    /// Asks the web server at `port` for all files, one after the other.
    pub(super) fn of_web(port: u16, length: Duration, phase: f64) -> Self {
        let mut visitor = None;
        Self::start(WEB_EVERY, length, phase, move |request| {
            over(&mut visitor, || Visitor::connect(port), |visitor| visitor.get(request * 13 % FILES))
        })
    }

    fn start(
        every: Duration,
        length: Duration,
        phase: f64,
        mut ask: impl FnMut(u64) -> Result<()> + Send + 'static,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let offered = length.as_millis() / every.as_millis();
        let first = Instant::now() + every.mul_f64(phase);
        let thread = thread::spawn(move || {
            let mut latencies = Vec::new();
            let mut due = first;
            for request in 0..offered {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                match ask(u64::try_from(request).unwrap_or(0)) {
                    Ok(()) => latencies.push(due.elapsed()),
                    Err(_) => thread::sleep(AGAIN),
                }
                due += every;
            }
            latencies
        });
        Self { thread, is_over, offered: usize::try_from(offered).unwrap_or(0) }
    }

    /// Whether no request is left.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Gives up what is left.
    pub(super) fn sum_up(self) -> Result<Served> {
        self.is_over.store(true, Ordering::Relaxed);
        let latencies = self.thread.join().map_err(|_| anyhow!("a client panicked"))?;
        Ok(Served { lost: self.offered - latencies.len(), latencies })
    }
}

/// Fills the redis at `port`.
pub(super) fn fill(port: u16) -> Result<()> {
    let mut client = Client::connect(port)?;
    let value = value();
    (0..KEYS).try_for_each(|key| client.set(&format!("key:{key}"), &value))
}

fn value() -> String {
    "v".repeat(VALUE)
}

/// Asks over the connection, which is made if there is none, and given up when it fails.
fn over<T>(
    slot: &mut Option<T>,
    connect: impl FnOnce() -> Result<T>,
    ask: impl FnOnce(&mut T) -> Result<()>,
) -> Result<()> {
    let mut live = match slot.take() {
        Some(live) => live,
        None => connect()?,
    };
    ask(&mut live)?;
    *slot = Some(live);
    Ok(())
}
