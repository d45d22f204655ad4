//! The simulator's plant is held against this kernel: `bellows_tests::plant` has the scenarios, and how far apart both may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use bellows::journal::What;
use bellows_policies::Verb;
use bellows_simulator::trace::Life;
use bellows_tests::plant::course::{CAPACITY, Course, EACH_MS, RESERVE, Sample, in_the_plant};
use bellows_tests::plant::figures::compare;
use bellows_tests::plant::scenarios::{Round, rounds};
use nix::time::{ClockId, clock_gettime};

use crate::held::big_file;
use crate::rig::{Agent, Follower, Tree, field, is_ended, is_launched, number, read};

/// From the last launch to the beginning of the trace: longer than a workload takes to read it.
const AHEAD: Duration = Duration::from_secs(2);

/// How often a round is played at most. A machine that is busy otherwise stands still for a second here and there, which no
/// plant does: what is apart by that is not so each time.
const PLAYS: usize = 3;

/// The same scenarios in both worlds, under the same policies: the figures that matter agree.
#[test]
fn the_plant_is_as_this_kernel() {
    for round in rounds() {
        let mut plays = Vec::new();
        for play in 1..=PLAYS {
            println!("play {play} of {PLAYS} at most");
            let apart = apart_in(&round);
            if apart.is_empty() {
                break;
            }
            plays.push(format!("play {play}:\n{}", apart.join("\n")));
        }
        assert!(plays.len() < PLAYS, "further apart than they may be, each time:\n{}", plays.join("\n"));
    }
}

/// Plays a round in both worlds. The figures that do not agree, and the courses of those scenarios.
fn apart_in(round: &Round) -> Vec<String> {
    let (kernel, told) = on_this_kernel(round);
    let plant = in_the_plant(&round.trace);
    let mut apart = Vec::new();
    for scenario in round.scenarios {
        let (kernel, plant) = (&kernel[scenario.name], &plant[scenario.name]);
        let lines = scenario
            .figures
            .iter()
            .map(|&(figure, bound)| compare(scenario.name, figure, bound, kernel, plant));
        let before = apart.len();
        for line in lines {
            println!("{}", line.text);
            if !line.agrees {
                apart.push(line.text);
            }
        }
        if apart.len() > before {
            apart.push(format!("kernel {}\nplant  {}", drawn(kernel), drawn(plant)));
        }
    }
    if !apart.is_empty() {
        println!("{told}");
    }
    apart
}

/// Plays a round by real workloads. Its courses by name, and the journal.
fn on_this_kernel(round: &Round) -> (BTreeMap<String, Course>, String) {
    let file = big_file();
    let path = std::env::temp_dir().join("bellows-plant.csv");
    std::fs::write(&path, round.trace.to_string()).expect("the trace");
    let (capacity, reserve) = (CAPACITY.0.to_string(), RESERVE.0.to_string());
    // The plant has no swap.
    let agent = Agent::start_on(Tree::without_swap(), &["--capacity", &capacity, "--reserve", &reserve]);
    let mut journal = agent.follow();
    let lives = &round.trace.lives;
    let begins = now() + AHEAD * (1 + u32::try_from(lives.len()).expect("a few") / 2);
    let begins_ns = begins.as_nanos().to_string();
    let runs: Vec<_> = lives
        .iter()
        .map(|life| {
            let (memory, cpu) = (life.memory.expect("bounds"), life.cpu.expect("bounds"));
            let memory = format!("{}..{}", memory.floor.0, memory.ceiling.0);
            let arguments = [
                "follow",
                &path.display().to_string(),
                &life.name,
                "--begins-ns",
                &begins_ns,
                "--file",
                &file.display().to_string(),
            ];
            let run = agent.load_with(&life.name, &memory, &["--cpu", &cpu.to_string()], &arguments);
            journal.wait(&life.full_name(), is_launched);
            run
        })
        .collect();
    assert!(now() < begins, "the machine is too slow to begin in time");
    let mut courses: BTreeMap<String, Course> =
        lives.iter().map(|life| (life.name.clone(), Course::default())).collect();
    for number in 1..round.trace.ends / 1_000_000 / EACH_MS {
        let due = begins + Duration::from_millis(number * EACH_MS);
        let wait = due.saturating_sub(now());
        // One that is late by more than half the time to the next is left out.
        if now() > due + Duration::from_millis(EACH_MS / 2) {
            continue;
        }
        thread::sleep(wait);
        for life in lives {
            if let Some(sample) = sample(&agent.tree.workload(&life.name)) {
                courses.get_mut(&life.name).expect("of the trace").samples.insert(number, sample);
            }
        }
    }
    for (life, run) in lives.iter().zip(runs) {
        let finished = run.finish();
        journal.wait(&life.full_name(), is_ended);
        let course = courses.get_mut(&life.name).expect("of the trace");
        count(course, &mut journal, life);
        assert_eq!(finished.code, if course.kills > 0 { 137 } else { 0 }, "{finished:?}");
    }
    (courses, journal.told())
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock").into()
}

/// None when it is gone.
fn sample(cgroup: &Path) -> Option<Sample> {
    let quota = read(&cgroup.join("cpu.max"));
    let mut words = quota.split_whitespace().map(|word| word.parse::<u64>().ok());
    let (quota, period) = (words.next()?, words.next()??);
    Some(Sample {
        current: number(&cgroup.join("memory.current")),
        high: number(&cgroup.join("memory.high")),
        quota: quota.map_or(u64::MAX, |quota| quota * 1_000_000 / period),
        throttled: field(&cgroup.join("cpu.stat"), "nr_throttled"),
        used_us: field(&cgroup.join("cpu.stat"), "usage_usec"),
    })
    .filter(|sample| sample.current > 0)
}

fn count(course: &mut Course, journal: &mut Follower, life: &Life) {
    for what in journal.of(&life.full_name()) {
        match what {
            What::LimitsMoved { verb: Verb::Grow, .. } => course.grows += 1,
            What::Ended { how, .. } if how.contains("out of memory") => course.kills += 1,
            _ => {}
        }
    }
}

/// The course, to be looked at where figures are apart: use, limit, quota, throttled periods, cpu time; what is as before is a dot.
fn drawn(course: &Course) -> String {
    let mut before = String::new();
    let shown = course.samples.values().map(|sample| {
        let Sample { current, high, quota, throttled, used_us } = sample;
        let now = format!(
            "{}/{}/{:.2}/{throttled}/{:.1}",
            current >> 20,
            high >> 20,
            *quota as f64 / 1e6,
            *used_us as f64 / 1e6
        );
        if now == before {
            return ".".to_owned();
        }
        before.clone_from(&now);
        now
    });
    shown.collect::<Vec<_>>().join(" ")
}
