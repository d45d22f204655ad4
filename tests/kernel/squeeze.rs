//! Squeezing: who waits for a grant gets what others can do without, slack first, then cold cache of who matters less.

use bellows::journal::What;
use bellows_policies::{Reason, Verb};

use crate::held::big_file;
use crate::rig::{Agent, Follower, MIB, eventually, is_ended, is_grow, number, read};

/// A budget that does not hold what all have been granted, if nothing is given back.
const NODE: [&str; 4] = ["--capacity", "400M", "--reserve", "64M"];

fn squeezed(journal: &mut Follower, workload: &str, wanted: Reason) -> usize {
    let is = |what: &What| matches!(what, What::LimitsMoved { verb: Verb::Shrink, reason, .. } if *reason == wanted);
    journal.of(workload).iter().filter(|what| is(what)).count()
}

/// What a batch workload was granted and has freed is taken back as soon as somebody needs it, long before its hold ends.
#[test]
fn slack_is_given_at_once() {
    let agent = Agent::start(&NODE);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let script = format!("{load} grow 220; exec sleep 60");
    let fat = agent.run_with("fat", "16M..300M", &["--class", "batch"], &["sh", "-c", &script]);
    journal.wait("default/fat", is_grow);
    let cgroup = agent.tree.workload("fat");
    eventually("it has freed what it was granted", || {
        let (high, current) = (number(&cgroup.join("memory.high")), number(&cgroup.join("memory.current")));
        high != u64::MAX && high >= 200 * MIB && current < 40 * MIB
    });
    // 220 of 336 MiB are granted: there is no room for this one unless the other gives.
    let finished = agent.load("hungry", "16M..300M", &["grow", "240"]).finish();
    journal.wait("default/hungry", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert!(squeezed(&mut journal, "default/fat", Reason::SlackSqueezed) > 0, "{}", journal.told());
    drop(fat);
}

/// Of more than one turn lowers by itself, the slow lane lowers the rest: what is missing comes, whoever it is taken from.
#[test]
fn many_give_what_one_does_not_have() {
    const MANY: usize = 40;
    let agent = Agent::start(&["--capacity", "1100M", "--reserve", "64M"]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let script = format!("{load} grow 12; exec sleep 60");
    let names: Vec<String> = (0..MANY).map(|number| format!("slim{number}")).collect();
    let launch =
        |name: &String| agent.run_with(name, "4M..24M", &["--class", "batch"], &["sh", "-c", &script]);
    let slim: Vec<_> = names.iter().map(launch).collect();
    let room = |name: &String| {
        let cgroup = agent.tree.workload(name);
        number(&cgroup.join("memory.high")).saturating_sub(number(&cgroup.join("memory.current")))
    };
    eventually("they have freed what they were granted", || {
        let rooms = names.iter().filter(|name| agent.tree.workload(name).exists()).map(room);
        rooms.filter(|room| *room >= 8 * MIB && *room < 40 * MIB).count() == MANY
    });
    let before: u64 = names.iter().map(|name| number(&agent.tree.workload(name).join("memory.high"))).sum();
    // What is left, and 4 MiB of each of them.
    let need = 1036 - before / MIB + 4 * MANY as u64;
    let finished = agent.load("hungry", "16M..1000M", &["grow", &need.to_string()]).finish();
    journal.wait("default/hungry", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    let given = names
        .iter()
        .filter(|name| squeezed(&mut journal, &format!("default/{name}"), Reason::SlackSqueezed) > 0);
    let given = given.count();
    println!("{given} of {MANY} gave; {need} MiB were needed; they held {} of 1036 MiB", before / MIB);
    assert!(given > 16, "{}", journal.told());
    drop(slim);
}

/// Cold cache of a batch workload goes next.
#[test]
fn cold_cache_is_given_by_who_matters_less() {
    let file = big_file().display().to_string();
    let agent = Agent::start(&NODE);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    // Grown by need, freed, and filled with the pages of a file that nobody looks at any more.
    let script = format!("{load} grow 140; {load} read {file} 1; exec sleep 60");
    let cold = agent.run_with("cold", "16M..200M", &["--class", "batch"], &["sh", "-c", &script]);
    let cgroup = agent.tree.workload("cold");
    let cache = || {
        let text = read(&cgroup.join("memory.stat"));
        let file = text.lines().find_map(|line| line.strip_prefix("file ")?.parse::<u64>().ok());
        file.expect("memory.stat has file")
    };
    eventually("cache fills what it was granted", || {
        let high = number(&cgroup.join("memory.high"));
        high != u64::MAX && high >= 130 * MIB && cache() > 110 * MIB
    });
    let finished = agent.load("hungry", "16M..300M", &["grow", "240"]).finish();
    journal.wait("default/hungry", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert!(squeezed(&mut journal, "default/cold", Reason::CacheSqueezed) > 0, "{}", journal.told());
    drop(cold);
}
