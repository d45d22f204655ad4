//! The journal answers why: every limit write replays from its evidence, an OOM kill leaves a picture of who was inside, a restart
//! forgets nothing, and `bellows explain` says so.

use std::collections::HashMap;

use bellows::journal::{Grounds, Kind, Laws, Record, What};
use bellows_policies::{Outcome, Verb, replay};
use nix::sys::signal::Signal;

use crate::held::big_file;
use crate::rig::{Agent, Tree, is_ended, is_grow, is_launched};

fn text(agent: &Agent, verb: &str, arguments: &[&str]) -> String {
    let output = agent.output(verb, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{verb} {arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("utf-8")
}

/// All records, and all laws, that are on disk.
pub(crate) fn on_disk(agent: &Agent) -> (Vec<Record>, HashMap<String, Laws>) {
    let mut files: Vec<_> = std::fs::read_dir(agent.runtime_dir.join("journal"))
        .expect("a journal")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let (mut records, mut laws) = (Vec::new(), HashMap::new());
    for line in files.iter().flat_map(|file| {
        std::fs::read_to_string(file).expect("utf-8").lines().map(str::to_owned).collect::<Vec<_>>()
    }) {
        let value: serde_json::Value = serde_json::from_str(&line).expect("a whole line");
        if let Some(told) = value.get("laws") {
            let told: Vec<Laws> = serde_json::from_value(told.clone()).expect("laws");
            laws.extend(told.into_iter().map(|laws| (laws.version.to_string(), laws)));
        } else {
            records.push(serde_json::from_str(&line).expect("a record"));
        }
    }
    (records, laws)
}

/// Replays a record; `None` when it wrote nothing that a law decided.
pub(crate) fn replayed(record: &Record, laws: &HashMap<String, Laws>) -> Option<bool> {
    let (_, grounds) = record.what.decided()?;
    let laws = &laws[&**record.version.as_ref().expect("a version")];
    match (&record.what, grounds) {
        (What::WouldHave { verb: Verb::Hold, .. }, Grounds::Memory(_)) => None,
        (
            What::WouldHave { verb: Verb::Reclaim, bytes, .. } | What::Reclaimed { bytes, .. },
            Grounds::Memory(evidence),
        ) => Some(replay(evidence, &laws.memory) == Outcome::Reclaim(*bytes)),
        (
            What::LimitsMoved { to, .. } | What::Launched { limits: to, .. } | What::WouldHave { to, .. },
            Grounds::Memory(evidence),
        ) => Some(replay(evidence, &laws.memory) == Outcome::Limits(*to)),
        (What::QuotaMoved { to, .. } | What::QuotaHeld { quota: to, .. }, Grounds::Cpu(evidence)) => {
            Some(evidence.replay(&laws.cpu) == *to)
        }
        _ => None,
    }
}

/// A random run: growers, a reader, what comes and goes, a cpu burner, and a budget that is too small for all of them.
#[test]
fn every_limit_write_replays_from_its_evidence() {
    let file = big_file().display().to_string();
    let mut agent = Agent::start(&["--capacity", "700M", "--reserve", "50M"]);
    let mut journal = agent.follow();
    let seed = std::process::id();
    println!("seed {seed}");
    let (first, second) = (seed.to_string(), (seed / 2).to_string());
    let churn = |seed| ["churn", "--seed", seed, "--seconds", "10", "--low", "16", "--high", "180"];
    // Of the class that the guard of the node's cpus spares: all the others keep them busy.
    let quota = ["--cpu", "0.1..1", "--class", "latency"];
    let burn = ["burn", "--seconds", "10", "--on-ms", "1500", "--off-ms", "1500"];
    let runs = [
        agent.load("reader", "32M..300M", &["read", &file, "8"]),
        agent.load("churn", "32M..300M", &churn(&first)),
        agent.load("other", "32M..300M", &churn(&second)),
        agent.load("grower", "32M..200M", &["grow", "160", "--pause-ms", "10", "--hold-ms", "2000"]),
        agent.load_with("burner", "16M..64M", &quota, &burn),
    ];
    for run in runs {
        let _ = run.finish();
    }
    journal.wait("default/burner", is_ended);

    agent.signal(Signal::SIGTERM);
    let _ = agent.child.wait();
    let (records, laws) = on_disk(&agent);
    let mut counts = (0, 0, 0);
    for record in &records {
        match replayed(record, &laws) {
            Some(true) if is_grow(&record.what) => counts.0 += 1,
            Some(true) if matches!(record.what, What::QuotaMoved { .. }) => counts.1 += 1,
            Some(true) => counts.2 += 1,
            Some(false) => panic!("does not replay: {}", serde_json::to_string(record).expect("json")),
            None => {}
        }
    }
    println!(
        "{} records: {} grows, {} quotas, {} others replayed",
        records.len(),
        counts.0,
        counts.1,
        counts.2
    );
    assert!(counts.0 >= 10 && counts.1 >= 1 && counts.2 >= 5, "{counts:?}");
}

/// At its ceiling it is told to be there; ended, it is told who was inside; and another agent still knows.
#[test]
fn a_ceiling_and_an_out_of_memory_kill_are_explained() {
    let mut agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    let finished = agent.load("greedy", "32M..96M", &["grow", "400", "--pause-ms", "20"]).finish();
    assert_eq!(finished.code, 137, "{finished:?}");
    let parked = journal.wait("default/greedy", |w| {
        matches!(w, What::Held { reason: bellows_policies::Reason::CeilingReached, .. })
    });
    let told = text(&agent, "explain", &[&parked.id.to_string()]);
    println!("{told}");
    assert!(told.contains("would have prevented it: a ceiling above 96 MiB"), "{told}");
    assert!(told.contains("decided by memory.") && told.contains("standard@"), "{told}");

    let killed = journal.wait(
        "default/greedy",
        |w| matches!(w, What::Incident(incident) if incident.kind == Kind::OomKilled),
    );
    let What::Incident(incident) = &killed.what else { unreachable!() };
    let snapshot = incident.snapshot.as_ref().expect("somebody has looked before it was too late");
    assert!(snapshot.processes.iter().any(|p| p.comm == "bellows-load"), "{snapshot:?}");
    let ended = journal.wait("default/greedy", is_ended);
    drop(journal);

    for _ in 0..2 {
        let told = text(&agent, "explain", &["default/greedy"]);
        assert!(told.contains("has ended") && told.contains("bellows-load"), "{told}");
        assert!(agent.http("/api/v1/incidents?workload=default/greedy").contains("oom_killed"));
        agent.kill();
        agent.restart();
    }
    let told = text(&agent, "explain", &[&ended.id.to_string()]);
    println!("{told}");
    assert!(
        told.contains("out of memory at its ceiling of 96 MiB") && told.contains("bellows-load"),
        "{told}"
    );

    let known = text(&agent, "events", &["--json"]);
    let ids: Vec<u64> =
        known.lines().map(|line| serde_json::from_str::<Record>(line).expect("a record").id).collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1) && ids[0] == 1, "one sequence: {ids:?}");
    let last = ended.id.max(killed.id).to_string();
    let rest = text(&agent, "events", &["--json", "--since", &last, "--workload", "default/greedy"]);
    assert_eq!(rest, "", "nothing happens to the dead");
    let some =
        text(&agent, "events", &["--json", "--since", "5m", "--reason", "ceiling_reached", "--limit", "1"]);
    assert_eq!(some.lines().count(), 1, "{some}");
    for (verb, arguments) in
        [("explain", vec!["999999"]), ("events", vec!["--since", "999999"]), ("explain", vec!["no/such"])]
    {
        assert_eq!(agent.output(verb, &arguments).status.code(), Some(4), "{verb} {arguments:?}");
    }
}

/// A grow is looked at again, and told to have helped.
#[test]
fn the_outcome_of_a_grow_is_seen() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("grower", "32M..512M", &["grow", "120", "--hold-ms", "20000"]);
    journal.wait("default/grower", is_launched);
    let seen = journal.wait("default/grower", |w| matches!(w, What::OutcomeSeen { .. }));
    let What::OutcomeSeen { of, helped, .. } = seen.what else { unreachable!() };
    assert!(helped, "{}", journal.told());
    let moved = journal.seen.iter().find(|record| record.id == of).expect("the move");
    assert!(is_grow(&moved.what), "{moved:?}");
    let told = text(&agent, "explain", &[&of.to_string()]);
    println!("{told}");
    assert!(told.contains("it helped"), "{told}");
    println!("{}", text(&agent, "explain", &["grower"]));
    drop(run);
}
