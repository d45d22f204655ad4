//! An operator's word about whether a workload runs: told to end it ends, one way or the other, and frozen it stands still until
//! it is thawed, whatever becomes of the agent meanwhile.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellows::journal::{Deed, Ease, Record, What};
use bellows::kernel::cgroup::Cgroup;
use bellows::kernel::clock;
use bellows::workload::stops::{self, Stop};

use crate::ladder;
use crate::rig::{Agent, Follower, PATIENCE, Tree, eventually, field, is_ended, is_launched, number, read};
use crate::takeover::is_taken_over;

/// Hears nothing.
const STUBBORN: &[&str] = &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"];

pub(crate) fn is_deed(wanted: &Deed) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Life(deed) if deed == wanted)
}

fn is_stop(what: &What) -> bool {
    matches!(what, What::Life(Deed::StopOrdered { .. }))
}

pub(crate) fn told(agent: &Agent, verb: &str, arguments: &[&str], code: i32) -> String {
    let output = agent.output(verb, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{verb} {arguments:?}: {out}{err}");
    format!("{out}{err}")
}

fn count(journal: &mut Follower, workload: &str, wanted: impl Fn(&What) -> bool) -> usize {
    journal.of(workload).iter().filter(|what| wanted(what)).count()
}

fn assert_ordered(record: &Record) {
    let by = record.by.as_ref().expect("who asked");
    assert_eq!((by.uid, by.command.as_str()), (0, "bellows"), "{by}");
}

#[test]
fn what_does_not_end_by_its_signal_is_killed() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let stubborn = agent.run("stubborn", "16M..64M", STUBBORN);
    let willing =
        agent.run("willing", "16M..64M", &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]);
    journal.wait("default/stubborn", is_launched);
    journal.wait("default/willing", is_launched);
    let said = told(&agent, "stop", &["willing", "--grace", "60s"], 0);
    assert!(said.contains("told to end by signal 15") && said.contains("exited with code 3"), "{said}");
    let said = told(&agent, "stop", &["stubborn", "--grace", "1s"], 0);
    assert!(said.contains("ended by signal 9 (SIGKILL)"), "{said}");
    let ordered = journal.wait("default/stubborn", is_stop);
    assert_ordered(&ordered);
    let forced = journal.wait("default/stubborn", is_deed(&Deed::StopForced {}));
    let ended = journal.wait("default/stubborn", is_ended);
    assert!(ordered.id < forced.id && forced.id < ended.id, "{}", journal.told());
    assert_eq!(count(&mut journal, "default/willing", is_deed(&Deed::StopForced {})), 0);
    assert_eq!((willing.finish().code, stubborn.finish().code), (3, 137));
    told(&agent, "stop", &["nobody"], 4);

    // The order outlives the agent that took it.
    let other = agent.run("other", "16M..64M", STUBBORN);
    journal.wait("default/other", is_launched);
    told(&agent, "stop", &["other", "--grace", "2s", "--no-wait"], 0);
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/other", is_taken_over);
    let forced = journal.wait("default/other", is_deed(&Deed::StopForced {}));
    let ended = journal.wait("default/other", is_ended);
    assert!(forced.id < ended.id, "{}", journal.told());
    // What is told in the last moment of an agent need not be on disk.
    assert!(count(&mut journal, "default/other", is_stop) <= 1, "{}", journal.told());
    assert_eq!(other.finish().code, 137);
}

#[test]
fn what_an_operator_has_frozen_stays_so_over_the_end_of_the_agent() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let file = agent.runtime_dir.join("count");
    let count_on = format!("i=0; while :; do i=$((i+1)); echo $i > {}; sleep 0.05; done", file.display());
    let run = agent.run("still", "16M..64M", &["sh", "-c", &count_on]);
    journal.wait("default/still", is_launched);
    let cgroup = agent.tree.workload("still");
    let is_still = || field(&cgroup.join("cgroup.events"), "frozen") == 1;
    let reached = || number(&file);
    let goes_on = |file: &PathBuf| {
        let before = number(file);
        eventually("it goes on", || number(file) > before);
    };
    goes_on(&file);
    assert!(told(&agent, "thaw", &["still"], 5).contains("it is not frozen"));
    assert_eq!(told(&agent, "freeze", &["still"], 0), "default/still: frozen\n");
    assert!(is_still());
    assert_ordered(&journal.wait("default/still", is_deed(&Deed::Frozen {})));
    assert!(told(&agent, "freeze", &["still"], 5).contains("it is frozen already"));
    assert!(told(&agent, "ps", &[], 0).contains(" frozen "));
    let before = reached();

    agent.kill();
    // The watchdog has been there, and has opened its limits.
    eventually("its limits are opened", || number(&cgroup.join("memory.high")) == u64::MAX);
    assert!(is_still(), "the watchdog does not thaw it");
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/still", is_taken_over);
    assert!(is_still() && told(&agent, "ps", &[], 0).contains(" frozen "));
    assert_eq!(reached(), before, "it did not run");
    assert_eq!(told(&agent, "thaw", &["still"], 0), "default/still: thawed\n");
    goes_on(&file);
    eventually("it is governed again", || number(&cgroup.join("memory.high")) <= 64 << 20);
    let thawed = journal.wait("default/still", is_deed(&Deed::Thawed { elsewhere: false }));
    assert_ordered(&thawed);

    // A stop thaws it: it has to hear.
    told(&agent, "freeze", &["still"], 0);
    let said = told(&agent, "stop", &["still", "--grace", "60s"], 0);
    assert!(said.contains("ended by signal 15 (SIGTERM)"), "{said}");
    assert_eq!(run.finish().code, 143);
    assert_eq!(count(&mut journal, "default/still", is_deed(&Deed::StopForced {})), 0);
    assert!(!read(&agent.tree.workload("still").join("cgroup.events")).contains("populated 1"));
}

/// What the ladder has frozen is not thawed by an operator's word; what he freezes himself is his, and none of the ladder's.
#[test]
fn the_ladder_and_an_operator_keep_out_of_each_others_freezes() {
    let (_policies, mut agent, mut journal, _runs) = ladder::frozen();
    let said = told(&agent, "thaw", &["least"], 5);
    assert!(said.contains("it is not frozen by an operator, but for somebody more important"), "{said}");
    told(&agent, "freeze", &["least"], 0);
    let overruled = |what: &What| matches!(what, What::Eased { why: Ease::Overruled, .. });
    let eased = journal.wait("default/least", overruled);
    let frozen = journal.wait("default/least", is_deed(&Deed::Frozen {}));
    assert!(eased.id < frozen.id, "{}", journal.told());
    let cgroup = agent.tree.workload("least");
    let is_still = || field(&cgroup.join("cgroup.events"), "frozen") == 1;
    // Nobody waits for anything any more.
    told(&agent, "stop", &["front"], 0);
    agent.kill();
    eventually("its limits are opened", || number(&cgroup.join("memory.high")) == u64::MAX);
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/least", is_taken_over);
    assert!(is_still(), "{}", journal.told());
    told(&agent, "thaw", &["least"], 0);
    assert!(!is_still());
}

#[test]
fn a_kill_for_memory_says_what_was_asked_for_in_vain() {
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    let finished = agent.load("greedy", "16M..64M", &["grow", "300"]).finish();
    assert_eq!(finished.code, 137, "{finished:?}");
    println!("{}", finished.err);
    assert!(
        finished.err.contains("killed by the kernel: out of memory at its ceiling of 64 MiB after "),
        "{finished:?}"
    );
    assert!(finished.err.contains(" denied grant"), "{finished:?}");
}

/// An agent that dies between the note of a stop and the thaw: the next one has it run, so that it hears.
#[test]
fn who_stands_still_hears_of_a_stop_from_the_next_agent() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let hears = ["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"];
    let run = agent.run("deaf", "16M..64M", &hears);
    journal.wait("default/deaf", is_launched);
    told(&agent, "freeze", &["deaf"], 0);
    agent.kill();
    let cgroup = Cgroup::open(&agent.tree.workload("deaf")).expect("cgroup");
    let until = clock::now().plus(Duration::from_secs(30));
    stops::write(&cgroup, &Stop { signal: libc::SIGTERM, until, is_sent: false }).expect("note");
    agent.restart();
    assert_eq!(run.finish().code, 7);
}

/// An agent that dies while what it has told to end is cleared away: the next one does not start it again.
#[test]
fn who_was_told_to_end_is_not_started_by_the_next_agent() {
    let mut agent = Agent::start(&[]);
    let runs = agent.runtime_dir.join("runs");
    let script = format!("echo run >> {}; exec sleep 300", runs.display());
    let cgroup = agent.tree.workload("web");
    for (round, wait) in [0, 0, 1, 2, 4, 8].into_iter().enumerate() {
        let flags = ["--name", "web", "--memory", "16M..64M", "-d", "--restart", "always"];
        told(&agent, "run", &[&flags[..], &["--", "sh", "-c", &script]].concat(), 0);
        eventually("it runs", || read(&runs).lines().count() == round + 1);
        told(&agent, "stop", &["web", "--no-wait"], 0);
        let end = Instant::now() + PATIENCE;
        while cgroup.exists() {
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(wait));
        agent.kill();
        agent.restart();
        let listed = told(&agent, "ps", &["--json"], 0);
        assert!(
            listed.contains("\"state\":\"exited\"") && listed.contains("\"is_waiting\":false"),
            "{listed}"
        );
    }
    assert_eq!(read(&runs).lines().count(), 6);
}
