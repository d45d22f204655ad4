//! A small static program in a box of all eight namespaces: how fast it starts and is cleared away, and what the box costs it.
//!
//! An order is a request to a running agent over its socket, or the process of another tool; what it starts says a word, and the
//! time from the order to that word is *launch to word*. *Whole* is until the program has ended, and the box is gone. All ways
//! take turns (`ways`), each with a network of its own and without. Then a thousand launches by the agent in a row, and a
//! thousand by sixteen clients. Of those that stay, `stay` measures what their keepers hold of memory, and `fork` what the box
//! costs a program inside that starts others.

mod inside;
mod ways;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};

use crate::agent::{Agent, Setup};
use crate::cell::Cell;
use crate::reaction::MORE_THAN_THERE_IS;
use crate::stats::Samples;
use crate::tree::Place;

use ways::{Took, Way, Yard};

const SETUP: Setup = Setup { name: "launch", config: "", flags: MORE_THAN_THERE_IS };
/// Of each way, with a network and without, in turns.
const ROUNDS: usize = 40;
/// Turns that nobody counts: files come into memory.
const WARM: usize = 2;
/// Launches in a row, and from several clients.
const MANY: usize = 1000;
const CLIENTS: usize = 16;
/// The bars: launch to word of the agent against others, with a network of its own.
const OF_CRUN: f64 = 0.5;
const OF_BUBBLEWRAP: f64 = 1.0;

/// The times of one way.
#[derive(Debug, Default)]
struct Times {
    word: Samples,
    end: Samples,
}

impl Times {
    fn push(&mut self, took: Took) {
        self.word.push(took.word);
        self.end.push(took.end);
    }
}

/// Measures all of it.
pub(crate) fn measure(place: &Place, cell: &mut Cell) -> anyhow::Result<()> {
    let agent = Agent::start(place, &SETUP)?;
    let yard = Yard::new(place)?;
    let before = Left::of(&agent)?;
    compare(&agent, &yard, cell)?;
    eprintln!("bellows-bench: launches: compared");
    let begun = Instant::now();
    let mut times = Times::default();
    for n in 0..MANY {
        times.push(yard.once(Way::Bellows, true, &agent, &format!("row{n}"))?);
    }
    note(cell, "row", "in a row", &times, begun);
    let begun = Instant::now();
    note(cell, "at_once", &format!("{CLIENTS} at once"), &at_once(&agent, &yard)?, begun);
    eprintln!("bellows-bench: launches: {MANY} in a row, {MANY} by {CLIENTS} clients");
    cell.bar("left", "left of all of them", before.more(&Left::of(&agent)?) as f64, 0.0);
    inside::measure(place, &agent, &yard, cell)?;
    agent.stop()
}

/// All ways in turns, each of them first as often as the others.
fn compare(agent: &Agent<'_>, yard: &Yard, cell: &mut Cell) -> anyhow::Result<()> {
    let contenders: Vec<(Way, bool)> =
        [true, false].into_iter().flat_map(|net| Way::ALL.map(|way| (way, net))).collect();
    let mut times: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    for round in 0..WARM + ROUNDS {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            let (way, net) = contenders[at];
            let took = yard.once(way, net, agent, &format!("turn{round}-{turn}"))?;
            if round >= WARM {
                times[at].push(took);
            }
        }
    }
    for ((way, net), times) in contenders.iter().zip(&times) {
        let (key, text) = (way.key(), way.key().replace('_', " "));
        let (key, text) = if *net {
            (key.to_owned(), text)
        } else {
            (format!("{key}_host_net"), format!("{text}, host's net"))
        };
        cell.samples(&format!("word_{key}"), &format!("{text}: to word, ms"), &times.word);
        cell.samples(&format!("whole_{key}"), &format!("{text}: whole, ms"), &times.end);
    }
    let p50 = |wanted: Way| {
        let at = contenders.iter().position(|&(way, net)| way == wanted && net);
        at.map_or(f64::NAN, |at| times[at].word.p50_us())
    };
    let own = p50(Way::Bellows);
    cell.bar("word_of_crun", "to word, of crun's", own / p50(Way::Crun), OF_CRUN);
    cell.bar("word_of_bubblewrap", "to word, of bubblewrap's", own / p50(Way::Bubblewrap), OF_BUBBLEWRAP);
    Ok(())
}

/// By several clients, each of which asks for the next one when its own is gone.
fn at_once(agent: &Agent<'_>, yard: &Yard) -> anyhow::Result<Times> {
    let next = AtomicUsize::new(0);
    let client = || -> anyhow::Result<Vec<Took>> {
        let mut took = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= MANY {
                return Ok(took);
            }
            took.push(yard.once(Way::Bellows, true, agent, &format!("once{n}"))?);
        }
    };
    let mut times = Times::default();
    scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| {
            client
                .join()
                .map_err(|_| anyhow!("a client panicked"))??
                .into_iter()
                .for_each(|took| times.push(took));
            anyhow::Ok(())
        })
    })?;
    ensure!(times.word.len() == MANY, "{} of {MANY} were launched", times.word.len());
    Ok(times)
}

fn note(cell: &mut Cell, key: &str, text: &str, times: &Times, begun: Instant) {
    let per_second = times.word.len() as f64 / begun.elapsed().as_secs_f64();
    cell.samples(&format!("word_{key}"), &format!("{text}: to word, ms"), &times.word);
    cell.samples(&format!("whole_{key}"), &format!("{text}: whole, ms"), &times.end);
    cell.figure(&format!("per_second_{key}"), &format!("{text}: boxes per second"), per_second);
}

/// What launches could leave behind.
#[derive(Debug)]
struct Left {
    /// Cgroups of workloads.
    cgroups: usize,
    /// Mounts of the host.
    mounts: usize,
    /// The agent's children, dead ones too.
    children: usize,
    /// The agent's open files.
    files: usize,
}

impl Left {
    fn of(agent: &Agent<'_>) -> anyhow::Result<Self> {
        let pid = agent.pid()?;
        let mut children = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let list = fs::read_to_string(task?.path().join("children")).context("children of the agent")?;
            children += list.split_whitespace().count();
        }
        Ok(Self {
            cgroups: agent.workloads()?.len() + agent.cgroups()?,
            mounts: fs::read_to_string("/proc/self/mountinfo")?.lines().count(),
            children,
            files: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }

    /// How much more there is `after`. Two connections that are just being closed do not count.
    fn more(&self, after: &Self) -> usize {
        after.cgroups.saturating_sub(self.cgroups)
            + after.mounts.saturating_sub(self.mounts)
            + after.children.saturating_sub(self.children)
            + after.files.saturating_sub(self.files + 2)
    }
}
