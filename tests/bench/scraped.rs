//! Does a scrape disturb a grow? The same agent with a thousand workloads, without and while it is scraped without a pause, in
//! turns: harder than any Prometheus, which asks some times a minute.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};

use anyhow::{anyhow, ensure};
use bellows_tests::socket;
use serde_json::{Value, json};

use crate::governed::{Condition, Governed, PER_BLOCK, Reaction, SETTLE};
use crate::reaction::SETUP;
use crate::stats::Samples;
use crate::tree::Place;

/// Wake to write p99 during a scrape, against the same without.
pub(crate) const P99: f64 = 1.2;
const THOUSAND: Condition = Condition { crew: 1, sleepers: 999, life: 400, spinners: 0 };

/// The same agent, left alone and scraped.
#[derive(Debug, Default)]
pub(crate) struct Scraped {
    alone: Reaction,
    during: Reaction,
    scrapes: usize,
    /// Of one scrape.
    bytes: usize,
}

/// Measures until each side has `wanted` breaches, in turns of [`PER_BLOCK`].
pub(crate) fn measure(place: &Place, wanted: usize) -> anyhow::Result<Scraped> {
    let mut governed = Governed::start(place, &SETUP, &THOUSAND)?;
    let mut result = Scraped::default();
    let turns = wanted.div_ceil(PER_BLOCK);
    for turn in 0..turns {
        governed.replace_spent(&THOUSAND)?;
        sleep(SETTLE);
        if turn % 2 == 0 {
            governed.block(&mut result.alone)?;
        }
        let runtime_dir = governed.agent.runtime_dir.clone();
        let is_done = AtomicBool::new(false);
        let (scrapes, bytes) = scope(|scope| {
            let client = scope.spawn(|| scrape_until(&runtime_dir, &is_done));
            let measured = governed.block(&mut result.during);
            is_done.store(true, Ordering::Relaxed);
            let scraped = client.join().map_err(|_| anyhow!("the scraper panicked"))??;
            measured.map(|()| scraped)
        })?;
        result.scrapes += scrapes;
        result.bytes = bytes;
        if turn % 2 == 1 {
            governed.block(&mut result.alone)?;
        }
        eprintln!("bellows-bench: scraped: {} of {turns} turns", turn + 1);
    }
    governed.end()?;
    Ok(result)
}

/// Scrapes one after the other; how many, and the size of the last one.
fn scrape_until(runtime_dir: &Path, is_done: &AtomicBool) -> anyhow::Result<(usize, usize)> {
    let (mut scrapes, mut bytes) = (0, 0);
    while !is_done.load(Ordering::Relaxed) {
        let answer = socket::ask(runtime_dir, "GET", "/metrics", "")?;
        ensure!(answer.status == 200, "a scrape: {}", answer.status);
        scrapes += 1;
        bytes = answer.body.len();
    }
    Ok((scrapes, bytes))
}

impl Scraped {
    fn ratio(&self) -> f64 {
        self.during.wake_to_write.p99_us() / self.alone.wake_to_write.p99_us()
    }

    /// For `bench.json`.
    pub(crate) fn json(&self) -> Value {
        let side = |reaction: &Reaction| {
            json!({
                "wake_to_write_p50_us": reaction.wake_to_write.p50_us(),
                "wake_to_write_p99_us": reaction.wake_to_write.p99_us(),
                "breach_to_write_p99_us": reaction.breach_to_write.p99_us(),
                "missed": reaction.missed,
            })
        };
        json!({
            "alone": side(&self.alone), "scraped": side(&self.during), "scrapes": self.scrapes,
            "bytes": self.bytes, "ratio_p99": self.ratio(),
        })
    }

    /// For people; the ratio has its bar beside it.
    pub(crate) fn rows(&self, out: &mut String) -> f64 {
        let both = |s: &Samples| format!("{:.0} / {:.0}", s.p50_us(), s.p99_us());
        let _ = writeln!(
            out,
            "\n{:<28} {:>20} {:>20}",
            "scraped without a pause", "alone p50 / p99", "scraped p50 / p99"
        );
        for (name, alone, scraped) in [
            ("wake to write, us", &self.alone.wake_to_write, &self.during.wake_to_write),
            ("breach to write, us", &self.alone.breach_to_write, &self.during.breach_to_write),
        ] {
            let _ = writeln!(out, "  {name:<26} {:>20} {:>20}", both(alone), both(scraped));
        }
        let _ = writeln!(out, "  {} scrapes of {} KiB", self.scrapes, self.bytes / 1024);
        self.ratio()
    }
}
