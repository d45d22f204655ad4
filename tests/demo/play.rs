//! Plays the scenario in one way, and measures what becomes of everybody's work.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result};
use bellows_policies::units::Bytes;
use bellows_tests::programs::child::{Job, TICK};
use bellows_tests::programs::group::Look;
use bellows_tests::programs::logs::Logs;
use bellows_tests::programs::nginx::{self, Site};
use bellows_tests::programs::redis::{self, Client, Probe};
use bellows_tests::programs::with_log;

use crate::http;
use crate::journal::{self, Follower, Moves};
use crate::live::{self, Live};
use crate::pace::Pace;
use crate::pack::{self, Packed};
use crate::place::Place;
use crate::reports::{Done, News, Reports};
use crate::rounds::{Rounds, Served, VALUE_BYTES};
use crate::scenario::{GRACE, LENGTH, PACK, REDIS, REPORTS, TENANTS, WEB};
use crate::screen::{Screen, Style};
use crate::stage::{Stage, Way};
use crate::watch::Watch;
use crate::web::{Visited, Visitors};

/// What tenants read; the same files in each way.
#[derive(Debug)]
pub(crate) struct Props {
    /// The site that nginx serves.
    pub(crate) site: Site,
    /// The logs that are compressed.
    pub(crate) logs: Logs,
}

/// What was measured in one way.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Which way.
    pub(crate) way: Way,
    /// How long it took until all work was done or given up, seconds.
    pub(crate) seconds: f64,
    /// OOM kills, in all cgroups.
    pub(crate) kills: u64,
    /// Redis.
    pub(crate) redis: Served,
    /// What redis used, and was granted, when it was last alive.
    pub(crate) redis_in_use: Look,
    /// The web server.
    pub(crate) web: Visited,
    /// The archive job.
    pub(crate) packed: Packed,
    /// The reports.
    pub(crate) reports: Done,
    /// How fast the machine was meanwhile, in steps of [`Pace`].
    pub(crate) speed: f64,
    /// The most memory that each tenant was seen to use.
    pub(crate) peaks: Vec<Bytes>,
    /// How limits moved.
    pub(crate) moves: Moves,
}

impl Outcome {
    /// Pieces of work that were asked for and are not there: requests that were not served, keys that are gone, reports that
    /// were not finished.
    pub(crate) fn lost(&self) -> u64 {
        self.redis.lost() + self.web.lost() + self.reports.lost()
    }
}

/// The servers and jobs that run from the beginning.
struct Cast {
    redis: Job,
    redis_port: u16,
    _web: Job,
    web_port: u16,
    _pack: Job,
}

/// Runs it.
pub(crate) fn play(place: &Place, props: &Props, screen: &mut Screen, way: Way) -> Result<Outcome> {
    props.site.forget()?;
    props.logs.forget()?;
    live::say_title(screen, way);
    let stage = Stage::set(place, way)?;
    if stage.agent().is_some() {
        screen.say(&format!("     metrics, while this runs: http://127.0.0.1:{}/metrics", http::PORT));
    }
    let progress = place.scratch.join(format!("progress.{}", way.key()));
    let follower = stage.agent().map(|agent| Follower::start(agent.command())).transpose()?;
    let mut cast = Cast::enter(place, props, &stage, &progress)?;

    let mut live = Live::start(screen, way);
    let probe = Probe::start(cast.redis_port);
    let mut rounds = Rounds::new(cast.redis_port);
    let mut reports = Reports::default();
    let mut watch = Watch::new(&stage);
    let visitors = Visitors::send(cast.web_port);
    let mut machine = Pace::default();
    let mut packed = None;
    let seconds = loop {
        let now = live.now();
        for record in follower.iter().flat_map(Follower::heard) {
            live.tell_move(&record);
        }
        let was_dead = rounds.died_at().is_some();
        rounds.tick(now, &place.redis_benchmark, &mut cast.redis)?;
        if rounds.died_at().is_some() && !was_dead {
            live.tell(Style::Red, &format!("shop/redis was KILLED, with {} keys in it", probe.keys()));
        }
        for news in reports.tick(now, &stage, &place.stress_ng, rounds.is_filled())? {
            match news {
                News::Course(text) => live.tell(Style::Dim, &text),
                News::Loss(text) => live.tell(Style::Red, &text),
            }
        }
        watch.tick()?;
        machine.tick()?;
        live.tick(&watch, || work(&rounds, &probe, &visitors, &reports, &watch, pack::progress(&progress)))?;
        if now >= LENGTH as f64 && packed.is_none() {
            packed = Some(pack::progress(&progress));
        }
        let is_over = rounds.is_over() && reports.is_over() && visitors.is_over();
        if now >= (LENGTH + GRACE) as f64 || (now >= LENGTH as f64 && is_over) {
            break now;
        }
        thread::sleep(TICK);
    };
    live.end(&watch, &work(&rounds, &probe, &visitors, &reports, &watch, pack::progress(&progress)))?;

    // One that lives and does not answer serves nothing either.
    let kept = match cast.redis.ended()? {
        Some(_) => 0,
        None => Client::connect(cast.redis_port).and_then(|mut c| c.count_served(VALUE_BYTES)).unwrap_or(0),
    };
    let moves = match stage.agent() {
        Some(agent) => {
            let metrics = http::get("/metrics").context("the metrics cannot be read")?;
            std::fs::write(place.out.join("demo-metrics.txt"), metrics)?;
            Moves::of(&journal::read_all(agent.command(), &place.out.join("demo-events.jsonl"))?)
        }
        None => Moves::default(),
    };
    let pack_used = watch.seats()[PACK].look.unwrap_or_default().used;
    let outcome = Outcome {
        way,
        seconds,
        kills: watch.kills()?,
        redis: rounds.sum_up(&probe, kept),
        redis_in_use: watch.redis_in_use(),
        web: visitors.sum_up()?,
        packed: Packed::sum_up(packed.unwrap_or_default(), watch.pack_granted(), pack_used)?,
        reports: reports.sum_up(),
        peaks: watch.seats().iter().map(|seat| seat.peak).collect(),
        moves,
        speed: machine.speed(),
    };
    stage.strike()?;
    Ok(outcome)
}

impl Cast {
    /// Starts the servers, one after the other, and then the job that would slow down their start.
    fn enter(place: &Place, props: &Props, stage: &Stage, progress: &Path) -> Result<Self> {
        let redis_port = redis::find_port()?;
        let log = stage.log("redis");
        let mut command = stage.command(&TENANTS[REDIS]);
        command.arg(&place.redis_server).args(redis::arguments(redis_port));
        let mut redis = Job::start("redis-server", with_log(&mut command, &log)?)?;
        redis::await_server(&mut redis, redis_port, &log)?;

        let web_port = redis::find_port()?;
        let log = stage.log("web");
        let mut command = stage.command(&TENANTS[WEB]);
        command.arg(&place.nginx).args(props.site.arguments(web_port)?);
        let mut web = Job::start("nginx", with_log(&mut command, &log)?)?;
        nginx::await_server(&mut web, web_port, &log)?;

        let mut command = stage.command(&TENANTS[PACK]);
        command
            .arg("sh")
            .args(props.logs.arguments(&place.zstd, Path::new("packed.zst"), progress, 0))
            .stdin(Stdio::null());
        // What `bellows run` says of its end is no news: the agent ends it.
        command.stdout(Stdio::null()).stderr(File::create(stage.log("pack"))?);
        let pack = Job::start("the archive job", &mut command)?;
        Ok(Self { redis, redis_port, _web: web, web_port, _pack: pack })
    }
}

/// What each tenant has done.
fn work(
    rounds: &Rounds,
    probe: &Probe,
    visitors: &Visitors,
    reports: &Reports,
    watch: &Watch,
    packed: Bytes,
) -> Vec<String> {
    let redis =
        if rounds.died_at().is_some() { "killed".to_owned() } else { format!("{} SETs", probe.sets()) };
    let mut work =
        vec![redis, format!("{} GETs", visitors.served()), format!("{} packed", live::mib(packed))];
    let seats = &watch.seats()[REPORTS..];
    work.extend(
        seats.iter().enumerate().map(|(at, seat)| reports.describe(at, seat.look.is_some()).to_owned()),
    );
    work
}
