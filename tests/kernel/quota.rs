//! The cpu quota breathes: throttling is relieved within two periods, idleness takes back, and writes give nothing away.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bellows::journal::What;
use bellows_policies::{Cpus, Verb};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::policies::Policies;
use crate::rig::{Agent, Follower, PATIENCE, eventually, field, is_ended, is_launched, read};

/// `cpu.max` in millionths of a cpu.
fn quota(cgroup: &Path) -> u64 {
    let text = read(&cgroup.join("cpu.max"));
    let mut words = text.split_whitespace().map(|w| w.parse::<u64>().unwrap_or(u64::MAX));
    let (quota, period) = (words.next().unwrap_or(0), words.next().unwrap_or(1));
    if quota == u64::MAX { quota } else { quota * 1_000_000 / period }
}

fn moves(journal: &mut Follower, workload: &str) -> Vec<(Verb, Cpus, Cpus)> {
    let moved = |what: What| match what {
        What::QuotaMoved { verb, from, to, .. } => Some((verb, from, to)),
        _ => None,
    };
    journal.of(workload).into_iter().filter_map(moved).collect()
}

/// A thread on each cpu that sleeps and wakes, and so sees whether the machine itself stood still: a cpu of a guest whose host is
/// busy may, for longer than a period, while another one goes on.
struct Pulse {
    longest_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Pulse {
    /// A pause that no scheduler of a running machine makes.
    const STANDSTILL: Duration = Duration::from_millis(60);

    fn start() -> Self {
        let (longest_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for cpu in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            let (longest_us, stop) = (Arc::clone(&longest_us), Arc::clone(&stop));
            thread::spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu).expect("a cpu");
                sched_setaffinity(Pid::from_raw(0), &only).expect("pinned");
                while !stop.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    thread::sleep(Duration::from_millis(5));
                    let took = u64::try_from(before.elapsed().as_micros()).expect("short");
                    longest_us.fetch_max(took, Ordering::Relaxed);
                }
            });
        }
        Self { longest_us, stop }
    }

    /// Whether the machine stood still since this was asked last.
    fn stood_still(&self) -> bool {
        u128::from(self.longest_us.swap(0, Ordering::Relaxed)) > Self::STANDSTILL.as_micros()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Time between two ticks of the cpu loop, ms.
const TICK_MS: u128 = 100;

/// Ticks that the agent's cpu loop has taken.
fn ticks(agent: &Agent) -> u64 {
    let text = agent.http("/metrics");
    let count =
        text.lines().find_map(|line| line.strip_prefix("bellows_cpu_turn_seconds_count ")?.parse().ok());
    count.expect("the cpu loop counts its ticks")
}

/// As standard, but for the guard.
const UNGUARDED: &str = "[class.unguarded]\ninherits = \"latency\"\ncpu.throttled_target = 0.1\n";

/// Of all who are in that test.
const FLAGS: [&str; 4] = ["--cpu", "0.2..1", "--class", "unguarded"];

/// Twenty workloads in turn: idle until they are known to be, then they burn all they get. Counted in the kernel's own periods,
/// from the first throttled one to the first higher quota. A round in which the machine stood still is taken again. Their class
/// is one that the node's guard spares: it holds growth back for five observations after one of busy cpus, and here a launch
/// alone keeps all of them busy.
#[test]
fn throttling_is_relieved_within_two_periods() {
    let policies = Policies::new("unguarded", UNGUARDED);
    let agent = policies.agent();
    let mut journal = agent.follow();
    // Two that sleep all the time: whoever wakes must be found among others.
    let sleepers = ["sleeper1", "sleeper2"].map(|name| {
        let run = agent.run_with(name, "16M..64M", &FLAGS, &["sleep", "600"]);
        journal.wait(&format!("default/{name}"), is_launched);
        run
    });
    let pulse = Pulse::start();
    let (mut waited, mut standstills) = (Vec::new(), 0);
    for round in 0..60_u64 {
        if waited.len() == 20 {
            break;
        }
        let name = format!("burner{round}");
        // Phases of the period at random, so to say: 37 ms is prime to 100.
        let wait = (1500 + round * 37).to_string();
        let command = ["burn", "--seconds", "3", "--wait-ms", &wait];
        let run = agent.load_with(&name, "16M..64M", &FLAGS, &command);
        let cgroup = agent.tree.workload(&name);
        let stat = cgroup.join("cpu.stat");
        journal.wait(&format!("default/{name}"), is_launched);
        // Its own start may have throttled it, and been relieved: calm counts from here.
        thread::sleep(Duration::from_millis(1200));
        let throttled = field(&stat, "nr_throttled");
        let end = Instant::now() + PATIENCE;
        let _ = pulse.stood_still();
        let (ticks, since) = (ticks(&agent), Instant::now());
        let (first, before) = loop {
            assert!(Instant::now() < end, "never throttled");
            let found = (field(&stat, "nr_periods"), quota(&cgroup));
            if field(&stat, "nr_throttled") > throttled {
                break found;
            }
            thread::sleep(Duration::from_millis(3));
        };
        while quota(&cgroup) <= before && cgroup.exists() {
            thread::sleep(Duration::from_millis(3));
        }
        let (periods, is_relieved) = (field(&stat, "nr_periods").saturating_sub(first), cgroup.exists());
        // Ticks are missing, as many as half of the wait: then the agent was held up, which is not its answer to throttling.
        let is_held_up = periods > 2 && {
            let due = since.elapsed().as_millis() / TICK_MS;
            u128::from(self::ticks(&agent) - ticks + periods / 2) < due
        };
        if pulse.stood_still() || is_held_up {
            standstills += 1;
        } else {
            assert!(is_relieved, "it ended before it was relieved:\n{}", journal.told());
            waited.push(periods);
        }
        let _ = agent.output("kill", &[&name, "--signal", "KILL"]);
        drop(run);
        journal.wait(&format!("default/{name}"), is_ended);
        if periods > 2 {
            println!("{name} waited for {periods} periods:");
            journal.of(&format!("default/{name}")).iter().for_each(|what| println!("  {what:?}"));
        }
    }
    drop(sleepers);
    println!("periods from the first throttled one to relief: {waited:?}; {standstills} rounds taken again");
    assert_eq!(
        waited.len(),
        20,
        "the machine stood still in {standstills} of 60 rounds: it is too busy to tell"
    );
    assert!(waited.iter().all(|&periods| periods <= 2), "{waited:?}");
}

/// A workload that takes all it gets stays at its ceiling: each write refills the quota, and there are few of them.
#[test]
fn writes_give_no_more_than_the_ceiling() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let flags = ["--cpu", "0.1..0.5"];
    let hog = agent.load_with("hog", "16M..64M", &flags, &["burn", "--seconds", "40", "--threads", "2"]);
    // One that rests until its quota is taken back, and then takes all at once, again and again.
    let command = ["burn", "--seconds", "40", "--threads", "2", "--on-ms", "1500", "--off-ms", "6000"];
    let jumper = agent.load_with("jumper", "16M..64M", &flags, &command);
    journal.wait("default/hog", is_launched);
    journal.wait("default/jumper", is_launched);
    let cgroup = agent.tree.workload("hog");
    eventually("the hog is at its ceiling", || quota(&cgroup) == 500_000);
    let (started, used) = (Instant::now(), field(&cgroup.join("cpu.stat"), "usage_usec"));
    thread::sleep(Duration::from_secs(25));
    let used = (field(&cgroup.join("cpu.stat"), "usage_usec") - used) as f64;
    let share = used / started.elapsed().as_micros() as f64;
    println!("the hog used {share:.4} cpus of a ceiling of 0.5");
    assert!(share <= 0.5 * 1.02, "{share}");
    // Used too: a quota that holds back more than the ceiling asks for is no elastic limit.
    assert!(share >= 0.5 * 0.9, "{share}");
    let (hog, jumper) = (hog.finish(), jumper.finish());
    assert_eq!((hog.code, jumper.code), (0, 0), "{hog:?} {jumper:?}");
    journal.wait("default/hog", is_ended);
    journal.wait("default/jumper", is_ended);
    for name in ["default/hog", "default/jumper"] {
        let moves = moves(&mut journal, name);
        println!("{name}: {} moves", moves.len());
        assert!(moves.iter().all(|(_, from, to)| from != to), "{moves:?}");
        assert!(moves.iter().all(|(verb, from, to)| (*verb == Verb::Grow) == (to > from)), "{moves:?}");
        let within = |cpus: Cpus| (100_000..=500_000).contains(&cpus.0);
        assert!(moves.iter().all(|(_, from, to)| within(*from) && within(*to)), "{moves:?}");
    }
    assert!(moves(&mut journal, "default/hog").len() <= 12, "{}", journal.told());
}

/// What is not used is taken back, down to what is used.
#[test]
fn an_idle_workload_gives_its_quota_back() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let command = ["burn", "--seconds", "30", "--threads", "2", "--on-ms", "3000", "--off-ms", "60000"];
    let run = agent.load_with("once", "16M..64M", &["--cpu", "0.1..1"], &command);
    let cgroup = agent.tree.workload("once");
    journal.wait("default/once", is_launched);
    eventually("it grows", || quota(&cgroup) >= 500_000);
    eventually("it gives back", || quota(&cgroup) <= 150_000);
    // The burst is the floor, and stays.
    assert_eq!(read(&cgroup.join("cpu.max.burst")).trim(), "10000");
    drop(run);
}

/// Without an agent the quota stands at its ceiling, whether the agent left in good order or not.
#[test]
fn a_quota_is_opened_when_nobody_governs_it() {
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL] {
        let mut agent = Agent::start(&[]);
        let mut journal = agent.follow();
        let run = agent.load_with("idler", "16M..64M", &["--cpu", "0.2..1.5"], &["idle", "60"]);
        journal.wait("default/idler", is_launched);
        let cgroup = agent.tree.workload("idler");
        eventually("the quota is at its floor", || quota(&cgroup) == 200_000);
        agent.signal(signal);
        let _ = agent.child.wait();
        eventually("the quota is open", || quota(&cgroup) == 1_500_000);
        drop(run);
    }
}

/// Somebody else's write is noticed and written over.
#[test]
fn a_foreign_quota_is_written_over() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load_with("idler", "16M..64M", &["--cpu", "0.2..1"], &["idle", "60"]);
    journal.wait("default/idler", is_launched);
    let cgroup = agent.tree.workload("idler");
    eventually("the quota is at its floor", || quota(&cgroup) == 200_000);
    fs::write(cgroup.join("cpu.max"), "max 100000").expect("write");
    journal.wait("default/idler", |w| matches!(w, What::ForeignWrite { file, .. } if file == "cpu.max"));
    eventually("the quota is back", || quota(&cgroup) == 200_000);
    drop(run);
}
