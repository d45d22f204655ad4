//! So many copies under one way, and what became of their work.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use bellows_tests::programs::child::{Job, TICK};
use bellows_tests::programs::logs::Logs;
use bellows_tests::programs::nginx::{self, Site};
use bellows_tests::programs::redis;

use super::ByPart;
use super::copy::{FILE, FILES, LOG, LOG_EVERY_S, LOGS, Part, Programs};
use super::load::{self, Load};
use super::reports::{LENGTH, Reports, phase};
use super::way::{Stage, Way};
use crate::stats::Samples;
use crate::tree::Place;

/// For how much longer what is late may be finished.
const GRACE: Duration = Duration::from_secs(45);
/// Between two looks at what is used.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was seen.
#[derive(Debug)]
pub(super) struct Outcome {
    /// OOM kills.
    pub(super) kills: u64,
    /// Requests that were not served, reports that were not finished, logs that were not compressed.
    pub(super) lost: u64,
    /// The latency of all servers.
    pub(super) latencies: Samples,
    /// The most that the parts of the first copy used.
    pub(super) peaks: ByPart<Bytes>,
    /// And of that, what cannot be reclaimed.
    pub(super) needs: ByPart<Bytes>,
    /// Which parts of the first copy were killed.
    pub(super) killed: ByPart<bool>,
    seconds: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, lost, latencies, seconds, .. } = self;
        let p99_ms = latencies.p99_us() / 1000.0;
        write!(f, "{kills} kills, {lost} pieces of work lost, p99 {p99_ms:.1} ms, {seconds:.0} s")
    }
}

/// A copy's programs that run from the beginning, what they read, and who asks them.
struct Copy {
    _jobs: [Job; 3],
    _site: Site,
    _logs: Logs,
    progress: PathBuf,
    loads: [Load; 2],
}

/// Runs it.
pub(super) fn run(place: &Place, programs: &Programs, way: Way, copies: usize) -> Result<Outcome> {
    let stage = Stage::set(place, way)?;
    let mut entered = Vec::with_capacity(copies);
    for number in 0..copies {
        entered.push(
            enter(place, programs, &stage, number)
                .with_context(|| format!("copy {number} of {copies}: {way}"))?,
        );
    }
    let mut cast: Vec<Copy> =
        entered.into_iter().enumerate().map(|(number, entered)| entered.begin(number)).collect();

    let start = Instant::now();
    let mut reports = Reports::of(copies);
    let (mut peaks, mut needs) = ([Bytes::ZERO; Part::ALL.len()], [Bytes::ZERO; Part::ALL.len()]);
    let mut looked = None;
    let seconds = loop {
        let now = start.elapsed();
        reports.tick(now.as_secs_f64(), &stage, programs)?;
        if looked.is_none_or(|at| now >= at + LOOK_EVERY) {
            looked = Some(now);
            for part in Part::ALL {
                let group = stage.group(0, part);
                let Some(look) = group.look()? else { continue };
                let at = part as usize;
                peaks[at] = peaks[at].max(look.used);
                needs[at] = needs[at].max(group.need()?.unwrap_or_default());
            }
        }
        let is_over = reports.is_over() && cast.iter().all(|copy| copy.loads.iter().all(Load::is_over));
        if now >= LENGTH + GRACE || (now >= LENGTH && is_over) {
            break now.as_secs_f64();
        }
        thread::sleep(TICK);
    };

    let kills = stage.kills()?;
    let mut killed = [false; Part::ALL.len()];
    for part in Part::ALL {
        let group = stage.group(0, part);
        // The agent removes a workload's as soon as that ended.
        killed[part as usize] = group.look()?.is_some() && group.kills()? > 0;
    }
    let mut lost = reports.lost();
    let mut latencies = Samples::default();
    let logs_due = LENGTH.as_secs() / LOG_EVERY_S / 2;
    for copy in cast.drain(..) {
        let done = fs::metadata(&copy.progress).map_or(0, |file| file.len());
        lost += usize::try_from(logs_due.saturating_sub(done))?;
        for load in copy.loads {
            let served = load.sum_up()?;
            lost += served.lost;
            for latency in served.latencies {
                latencies.push(u64::try_from(latency.as_nanos())?);
            }
        }
    }
    stage.strike()?;
    Ok(Outcome { kills, lost: lost as u64, latencies, peaks, needs, killed, seconds })
}

/// A copy of which everything runs, and nobody asks yet.
struct Entered {
    jobs: [Job; 3],
    site: Site,
    logs: Logs,
    progress: PathBuf,
    ports: [u16; 2],
}

impl Entered {
    fn begin(self, number: usize) -> Copy {
        let Self { jobs, site, logs, progress, ports: [cache, web] } = self;
        let loads =
            [Load::of_cache(cache, LENGTH, phase(number)), Load::of_web(web, LENGTH, phase(number + 1))];
        Copy { _jobs: jobs, _site: site, _logs: logs, progress, loads }
    }
}

fn enter(place: &Place, programs: &Programs, stage: &Stage<'_>, number: usize) -> Result<Entered> {
    let directory = place.scratch.join(format!("copy{number}"));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let site = Site::create(directory.join("site"), FILES, FILE)?;
    let logs = Logs::create(directory.join("logs"), LOGS, LOG)?;
    let log = directory.join("log");
    let start = |part, program: &PathBuf, arguments: Vec<String>| {
        let mut command = stage.command(number, part)?;
        command.arg(program).args(arguments).current_dir(&directory);
        Job::start(part.name(), bellows_tests::programs::with_log(&mut command, &log)?)
    };

    let cache_port = redis::find_port()?;
    let mut cache = start(Part::Cache, &programs.redis, Programs::redis_arguments(cache_port))?;
    redis::await_server(&mut cache, cache_port, &log)?;
    load::fill(cache_port).context("redis cannot be filled")?;

    let web_port = redis::find_port()?;
    let mut web = start(Part::Web, &programs.nginx, site.arguments(web_port)?)?;
    nginx::await_server(&mut web, web_port, &log)?;

    let progress = directory.join("progress");
    // Of a run before.
    let _ = fs::remove_file(&progress);
    let arguments = logs.arguments(&programs.zstd, &directory.join("packed.zst"), &progress, LOG_EVERY_S);
    let archive = start(Part::Archive, &PathBuf::from("sh"), arguments)?;
    Ok(Entered { jobs: [cache, web, archive], site, logs, progress, ports: [cache_port, web_port] })
}

/// Nobody hears what it says.
pub(super) fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}
