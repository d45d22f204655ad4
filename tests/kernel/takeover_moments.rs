//! An agent killed at a hundred random moments, restarted each time: no workload is lost, no limit leaves its bounds, no exit
//! code is wrong. The moments are seeded; the seed is printed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{Agent, MIB, Tree, eventually, is_launched, number, program, read};
use crate::takeover::is_taken_over;

const ROUNDS: u64 = 100;
/// The latest moment of a kill, as a multiple of the time that a start takes here: agents are met while they start, take
/// over, and serve.
const LATEST: f64 = 2.5;
/// And not later, so that the test ends in time on a slow machine.
const LATEST_EVER: Duration = Duration::from_secs(2);
const SEED: u64 = 0x5eed_0001;

/// Knuth's constants: good enough to scatter moments, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

const FLOOR: u64 = 24 * MIB;
const CEILING: u64 = 128 * MIB;
const BOUNDS: &str = "24M..128M";

/// Says where a limit was outside its bounds, if one was.
fn outside(cgroup: &Path) -> Option<String> {
    let (high, max) = (number(&cgroup.join("memory.high")), number(&cgroup.join("memory.max")));
    let gone = !cgroup.exists();
    let is_fine = (high == u64::MAX || (FLOOR..=CEILING).contains(&high))
        && (FLOOR + 4 * MIB..=CEILING + 32 * MIB).contains(&max);
    (!gone && !is_fine).then(|| format!("{}: high {high}, max {max}", cgroup.display()))
}

fn is_served(agent: &Agent) -> bool {
    UnixStream::connect(agent.runtime_dir.join("api.sock")).is_ok()
}

/// Starts short workloads one after the other, and says which told another end than their own.
fn short_ones(agent: &Agent, lane: usize, stop: &AtomicBool, done: &AtomicU64) -> Vec<String> {
    let mut wrong = Vec::new();
    for n in 0.. {
        while !is_served(agent) && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(10));
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (name, code) = (format!("short-{lane}-{n}"), (n % 100) + 1);
        let script = format!("echo {name}; sleep 0.1; exit {code}");
        let finished = agent.run(&name, "8M..32M", &["sh", "-c", &script]).finish();
        // The agent was away, or went away before it had answered: then nothing is promised.
        let unanswered = [
            "no agent answers",
            "may have been started or not",
            "the agent gave no token",
            "cannot pass standard input",
        ];
        if finished.code == code && finished.out == format!("{name}\n") {
            done.fetch_add(1, Ordering::Relaxed);
        } else if !unanswered.iter().any(|text| finished.err.contains(text)) {
            wrong.push(format!("{name}: expected {code}: {finished:?}"));
        }
    }
    wrong
}

#[test]
fn killed_at_a_hundred_random_moments() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let stop_file = agent.runtime_dir.join("stop").display().to_string();
    let load = program("bellows-load").display().to_string();
    let breathe = |mib: u64| {
        format!(
            "until [ -e {stop_file} ]; do {load} grow {mib} --pause-ms 4 --hold-ms 150 || exit 1; done; exit 7"
        )
    };
    let count = format!("i=0; until [ -e {stop_file} ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 8");
    let scripts = [breathe(40), breathe(60), breathe(80), count.clone(), count, "sleep 3600".to_owned()];
    let names: Vec<String> = (0..scripts.len()).map(|n| format!("long-{n}")).collect();
    let runs: Vec<_> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| agent.run(name, BOUNDS, &["sh", "-c", script]))
        .collect();
    for name in &names {
        journal.wait(&format!("default/{name}"), is_launched);
    }
    let cgroups: Vec<PathBuf> = names.iter().map(|name| agent.tree.workload(name)).collect();
    agent.kill();
    let began = Instant::now();
    agent.restart();
    let latest = began.elapsed().mul_f64(LATEST).min(LATEST_EVER);
    agent.kill();

    println!("seed {SEED:#x}, kills within {} ms", latest.as_millis());
    let mut random = Random(SEED);
    let mut served = 0;
    let began = Instant::now();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (wrong, outsiders) = thread::scope(|scope| {
        let lanes: Vec<_> = (0..2)
            .map(|lane| {
                let (agent, stop, done) = (&agent, &stop, &done);
                scope.spawn(move || short_ones(agent, lane, stop, done))
            })
            .collect();
        let sampler = scope.spawn(|| {
            let mut found = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                found.extend(cgroups.iter().filter_map(|cgroup| outside(cgroup)));
                thread::sleep(Duration::from_millis(20));
            }
            found
        });
        for _ in 0..ROUNDS {
            let mut child = agent.start_another();
            thread::sleep(latest.mul_f64(random.below(1000) as f64 / 1000.0));
            served += u64::from(is_served(&agent));
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        // Those under way need an agent to end.
        stop.store(true, Ordering::Relaxed);
        let mut last = agent.start_another();
        let wrong: Vec<String> = lanes.into_iter().flat_map(|lane| lane.join().expect("lane")).collect();
        last.kill().expect("kill");
        last.wait().expect("wait");
        (wrong, sampler.join().expect("sampler"))
    });
    let (took, done) = (began.elapsed().as_secs_f64(), done.load(Ordering::Relaxed));
    println!(
        "{ROUNDS} rounds in {took:.1} s, {served} of them served when killed, {done} short workloads told right"
    );
    assert!(served >= ROUNDS / 10 && done > 0, "kills meet agents of every age");
    assert_eq!(wrong, Vec::<String>::new(), "ends told wrongly");
    assert_eq!(outsiders, Vec::<String>::new(), "limits out of bounds");

    agent.restart();
    let mut journal = agent.follow();
    for (name, cgroup) in names.iter().zip(&cgroups) {
        journal.wait(&format!("default/{name}"), is_taken_over);
        eventually("its tripwire stands", || number(&cgroup.join("memory.high")) <= CEILING);
        let events = read(&cgroup.join("memory.events"));
        assert!(events.contains("oom_kill 0\n"), "{name}: {events}");
    }
    fs::write(&stop_file, "").expect("stop");
    assert!(agent.output("kill", &["--signal", "TERM", "long-5"]).status.success());
    let codes = [7, 7, 7, 8, 8, 143];
    for ((name, run), code) in names.iter().zip(runs).zip(codes) {
        let finished = run.finish();
        assert_eq!(finished.code, code, "{name}: {finished:?}\n{}", journal.told());
        if code == 8 {
            let lines = finished.out.lines().count();
            let whole: String = crate::takeover::lines_to(lines);
            assert_eq!(finished.out, whole, "{name}: lines in order, none lost");
        }
    }
    // Launches that were cut short left nothing but, perhaps, what runs by right and ends.
    let tenant = agent.tree.root.join("workloads/default");
    let left = || fs::read_dir(&tenant).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).count();
    eventually("nothing is left", || left() == 0);
}
