//! Memory limits breathe: slack is taken back, `memory.high` first and `memory.max` after it, and nobody is killed by it.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bellows::journal::What;
use bellows_policies::{Reason, Verb};

use crate::rig::{
    Agent, Follower, MIB, PATIENCE, Tree, eventually, field, is_ended, is_grow, is_launched, number,
};

/// A law in a hurry: what takes seconds to minutes takes tenths of one.
const HURRY: &str = "\
[memory]
slack_hold_ms = 150
slack_grace_ms = 0
shrink_hold_max_ms = 300
relapse_decay_ms = 1000
peak_half_life_ms = 50
max_horizon_ms = 10
reclaim_hold_ms = 300
";

/// Reclaim in a hurry, and of a hundredth at a time.
const COLD: &str = "\
[memory]
reclaim_grace_ms = 0
reclaim_hold_ms = 500
reclaim_period_ms = 500
reclaim_short_ms = 500
reclaim_long_ms = 1000
reclaim_factor = 0.01
";

/// Written once: tests run several at a time.
static HURRY_FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let file = std::env::temp_dir().join("bellows-hurry.toml");
    std::fs::write(&file, HURRY).expect("configuration");
    file
});

fn hurried(tree: Tree) -> Agent {
    Agent::start_on(tree, &["--config", &HURRY_FILE.display().to_string()])
}

fn is_lowered(what: &What) -> bool {
    matches!(what, What::LimitsMoved { verb: Verb::Shrink, from, to, .. } if to.max < from.max)
}

/// A workload that needed much for a while gives it back, both limits, in this order; and grows again at once.
#[test]
fn slack_is_given_back_and_had_again() {
    let agent = hurried(Tree::new());
    let mut journal = agent.follow();
    let swell = agent.load("swell", "32M..512M", &["swell", "300", "--times", "2", "--rest-ms", "6000"]);
    let cgroup = agent.tree.workload("swell");
    journal.wait("default/swell", is_grow);
    eventually("it has grown", || number(&cgroup.join("memory.high")) >= 250 * MIB);
    journal.wait("default/swell", is_lowered);
    eventually("memory.high is back", || number(&cgroup.join("memory.high")) <= 64 * MIB);
    eventually("memory.max is back", || number(&cgroup.join("memory.max")) <= 96 * MIB);
    let swell = swell.finish();
    assert_eq!(swell.code, 0, "{swell:?}");
    journal.wait("default/swell", is_ended);
    let moves = journal.of("default/swell");
    let is_for =
        |what: &What, wanted: Reason| matches!(what, What::LimitsMoved { reason, .. } if *reason == wanted);
    // One after the other, memory.high first. (A pause in growth may have taken a band before.)
    let pair = |w: &[What]| is_for(&w[0], Reason::SlackTaken) && is_for(&w[1], Reason::BandTaken);
    let at = moves.windows(2).position(pair).unwrap_or_else(|| panic!("never both:\n{}", journal.told()));
    assert!(moves[at..].iter().any(is_grow), "it grows again:\n{}", journal.told());
}

/// 200 rounds in which `memory.max` is lowered under workloads that allocate and free at random, and nobody dies: with swap, and
/// without. Both at once, since most of the time is spent waiting.
#[test]
fn two_hundred_shrinks_kill_nobody() {
    std::thread::scope(|scope| {
        scope.spawn(|| two_hundred_shrinks("with swap", Tree::new()));
        scope.spawn(|| two_hundred_shrinks("without swap", Tree::without_swap()));
    });
}

fn two_hundred_shrinks(swap: &str, tree: Tree) {
    let agent = hurried(tree);
    let mut journal = agent.follow();
    let names: Vec<String> = (0..4).map(|n| format!("churner{n}")).collect();
    let runs: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(seed, name)| {
            let seed = seed.to_string();
            let churn = ["churn", "--seed", &seed, "--seconds", "600", "--high", "160", "--pause-ms", "700"];
            agent.load(name, "24M..512M", &churn)
        })
        .collect();
    let end = Instant::now() + PATIENCE * 3;
    let rounds = loop {
        let rounds: usize = names.iter().map(|name| shrinks(&mut journal, name)).sum();
        if rounds >= 200 || Instant::now() > end {
            break rounds;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let kills: u64 =
        names.iter().map(|name| field(&agent.tree.workload(name).join("memory.events"), "oom_kill")).sum();
    let grows: usize =
        names.iter().map(|n| journal.of(&format!("default/{n}")).iter().filter(|w| is_grow(w)).count()).sum();
    println!("{swap}: {rounds} times memory.max was lowered, {grows} grows, {kills} kills");
    assert_eq!(kills, 0, "{swap}: {}", journal.told());
    assert!(rounds >= 200, "{swap}: only {rounds} rounds in {:?}", PATIENCE * 3);
    for name in &names {
        let ended = journal.of(&format!("default/{name}")).iter().any(is_ended);
        assert!(!ended, "{swap}: {name} has ended:\n{}", journal.told());
    }
    drop(runs);
}

fn shrinks(journal: &mut Follower, name: &str) -> usize {
    journal.of(&format!("default/{name}")).iter().filter(|w| is_lowered(w)).count()
}

/// Cold page cache is reclaimed a little at a time from a workload that nobody waits in, never below its floor.
#[test]
fn cold_memory_is_reclaimed() {
    let file = std::env::temp_dir().join("bellows-cold.toml");
    std::fs::write(&file, COLD).expect("configuration");
    let agent = Agent::start(&["--config", &file.display().to_string()]);
    let mut journal = agent.follow();
    let directory = std::env::var_os("BELLOWS_SCRATCH").expect("BELLOWS_SCRATCH is set with BELLOWS_CGROUP");
    let cold = PathBuf::from(directory).join("cold").display().to_string();
    // It has needed more, reads its file once, and sleeps on it.
    let load = crate::rig::program("bellows-load").display().to_string();
    let script =
        format!("{load} grow 150; head -c 80M /dev/zero > {cold}; sync; cat {cold} > /dev/null; sleep 60");
    let run = agent.run("sleeper", "32M..512M", &["/bin/sh", "-c", &script]);
    let cgroup = agent.tree.workload("sleeper");
    journal.wait("default/sleeper", is_launched);
    let record = journal.wait("default/sleeper", |w| matches!(w, What::Reclaimed { .. }));
    println!("{}", serde_json::to_string(&record).expect("json"));
    let What::Reclaimed { bytes, before, after, .. } = record.what else { unreachable!() };
    assert!(bytes.0 <= before.0 / 50 && after <= before, "a little at a time");
    assert!(number(&cgroup.join("memory.current")) > 32 * MIB, "and not all at once");
    drop(run);
    let _ = std::fs::remove_file(&cold);
}
