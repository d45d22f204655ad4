//! The stall rule: what needs more than it can be granted is relieved or ended within five seconds, and a reader that is only
//! held is left alone. Twenty rounds of each, with swap and without; some at once, as a node would have them.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bellows::journal::{Record, What};
use bellows_policies::{Reason, Verb};

use crate::rig::{Agent, Finished, Follower, MIB, Tree, eventually, field, is_ended, is_grow, number, read};

/// A limit may be in the way of a need for so long.
const PARKED: Duration = Duration::from_secs(5);
/// Rounds at the same time.
const AT_ONCE: usize = 5;
/// Ways to need more than there is.
const WAYS: [&[&str]; AT_ONCE] =
    [&[], &["--threads", "16"], &["--pause-ms", "20"], &["--populate", "2"], &["--huge"]];

/// How a time in which a limit was in the way has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Raised,
    /// `memory.high` was opened to `memory.max`: where there is swap, use goes there, and nobody is throttled.
    Opened,
    Ended,
}

/// The times in which a limit that could not be raised was in the way of `workload`, by the journal's clock. Where there is no
/// swap, only the end is one.
fn parked(records: &[Record], workload: &str, has_swap: bool) -> Vec<(Duration, Way)> {
    let (mut since, mut spells) = (None, Vec::new());
    for record in records.iter().filter(|record| &*record.workload == workload) {
        let way = match &record.what {
            What::Held { reason, .. } if *reason != Reason::CacheHeld => {
                since.get_or_insert(record.unix_ns);
                continue;
            }
            What::LimitsMoved { verb: Verb::Grow, from, to, .. } if to.high > from.high => Way::Raised,
            What::LimitsMoved { verb: Verb::Fail, reason: Reason::StalledAtLimit, .. } if has_swap => {
                Way::Opened
            }
            what if is_ended(what) => Way::Ended,
            _ => continue,
        };
        if let Some(since) = since.take() {
            spells.push((Duration::from_nanos(record.unix_ns - since), way));
        }
    }
    assert_eq!(since, None, "{workload} is parked to the end");
    spells
}

/// Rounds at once on one agent, to their ends. Every time that one was parked is within the bar, and each was parked.
fn rounds(agent: &Agent, journal: &mut Follower, memory: &str, mib: &str, has_swap: bool) -> Vec<Finished> {
    let runs = WAYS.map(|way| {
        let name = format!("round{}", way.concat().replace("--", "-"));
        let run = agent.load(&name, memory, &[&["grow", mib][..], way].concat());
        (format!("default/{name}"), run)
    });
    let finished = runs.map(|(name, run)| (name, run.finish()));
    for (name, finished) in &finished {
        journal.wait(name, is_ended);
        let spells = parked(&journal.seen, name, has_swap);
        let longest = spells.iter().map(|(time, _)| *time).max();
        println!("{name}: parked {spells:?}, then {}", finished.code);
        assert!(longest.is_some_and(|time| time <= PARKED), "{name}: {spells:?}\n{}", journal.told());
    }
    finished.map(|(_, finished)| finished).into()
}

fn has_swap() -> bool {
    read(Path::new("/proc/swaps")).lines().count() > 1
}

fn killed_at(finished: &Finished, ceiling: &str) {
    let text = format!("killed by the kernel: out of memory at its ceiling of {ceiling}");
    assert!(finished.code == 137 && finished.err.contains(&text), "{finished:?}");
}

/// Ten that want more than they may ever have: the kernel kills them, whatever their speed, and everybody says so.
#[test]
fn beyond_the_ceiling_is_out_of_memory() {
    for _ in 0..2 {
        let agent = Agent::start_on(Tree::without_swap(), &[]);
        let mut journal = agent.follow();
        for finished in rounds(&agent, &mut journal, "32M..96M", "400", false) {
            killed_at(&finished, "96 MiB");
        }
        assert!(agent.http("/metrics").contains(&format!("bellows_workloads_ended_total {AT_ONCE}\n")));
    }
}

/// Ten whose grants are refused for want of room, while nobody has anything to give: they are failed the same way, and who fits
/// is not.
#[test]
fn an_empty_budget_ends_cleanly_too() {
    for _ in 0..2 {
        let agent = Agent::start_on(Tree::without_swap(), &["--capacity", "340M", "--reserve", "20M"]);
        let mut journal = agent.follow();
        let holder = agent.load("holder", "64M..128M", &["grow", "100", "--hold-ms", "40000"]);
        journal.wait("default/holder", is_grow);
        for finished in rounds(&agent, &mut journal, "16M..512M", "400", false) {
            assert_eq!(finished.code, 137, "{finished:?}\n{}", journal.told());
        }
        let is_refused = |what: &What| {
            matches!(what, What::Held { reason: Reason::BudgetDeferred | Reason::BudgetInfeasible, .. })
        };
        assert!(journal.seen.iter().any(|record| is_refused(&record.what)), "{}", journal.told());
        assert_eq!(field(&agent.tree.workload("holder").join("memory.events"), "oom_kill"), 0);
        assert!(agent.output("kill", &["--signal", "KILL", "holder"]).status.success());
        assert_eq!(holder.finish().code, 137);
    }
}

/// Twenty with swap: where there is enough of it they are let go there and come to their end; where it is full they are killed.
#[test]
fn beyond_the_ceiling_with_swap_is_not_parked_either() {
    assert!(has_swap(), "there is no swap: the guest is started with --swap");
    for (swap, code) in [("max", 0), ("max", 0), ("48M", 137), ("48M", 137)] {
        let tree = Tree::new();
        fs::write(tree.root.join("memory.swap.max"), swap).expect("memory.swap.max");
        let agent = Agent::start_on(tree, &[]);
        let mut journal = agent.follow();
        for finished in rounds(&agent, &mut journal, "16M..64M", "160", true) {
            // The first ones of those who share a swap that is too small may free it for the last one.
            assert!(finished.code == code || finished.code == 0, "{finished:?}\n{}", journal.told());
        }
    }
}

/// Holds more than its ceiling, so that its tripwire is opened, and then takes so many KiB more as it is told, before it reads a file
/// through what is left, again and again.
const READER: &str = r#"$| = 1; vec($s, (66 << 20) - 1, 8) = 1; open F, "<", $ARGV[0] or die;
open G, ">", "$ARGV[1].full" or die; select undef, undef, undef, 0.02 until -s $ARGV[1];
open K, "<", $ARGV[1] or die; $k = <K>; vec($t, ($k << 10) - 1, 8) = 1 if $k; for (;;) { sysseek F, 0, 0; while (sysread F, $b, 65536) {} }"#;

/// Need fills all of `memory.max` but this: what is read through it drives out the program's own pages, and the kernel always finds one
/// more to take.
const LEFT_KIB: u64 = 400;

/// Three that thrash are ended in time where the kernel would let them go on; who only reads through what little is left is not.
#[test]
fn thrashing_is_ended_where_the_kernel_sees_no_end() {
    let file = file(0, FILE_MIB);
    let agent = Agent::start_on(Tree::without_swap(), &[]);
    let mut journal = agent.follow();
    for round in 0..4 {
        let (name, thrashes) = (format!("reader{round}"), round > 0);
        fs::write("/proc/sys/vm/drop_caches", "1").expect("drop caches");
        let word = file.with_extension(round.to_string());
        let [file, told_by] = [&file, &word].map(|path| path.to_str().expect("utf-8"));
        let run = agent.run_with(&name, "32M..64M", &[], &["perl", "-e", READER, file, told_by]);
        let (cgroup, key) = (agent.tree.workload(&name), format!("default/{name}"));
        let is_failed = |what: &What, because| matches!(what, What::LimitsMoved { verb: Verb::Fail, reason, .. } if *reason == because);
        journal.wait(&key, |what| is_failed(what, Reason::StalledAtLimit));
        let full = word.with_added_extension("full");
        eventually("it has all", || full.exists());
        let stat = |key| field(&cgroup.join("memory.stat"), key);
        let left = number(&cgroup.join("memory.max")) - stat("anon") - stat("kernel");
        let more = if thrashes { left / 1024 - LEFT_KIB } else { 0 };
        let told = Instant::now();
        fs::write(&word, more.to_string()).expect("told");
        if thrashes {
            journal.wait(&key, is_ended);
            let (took, finished) = (told.elapsed(), run.finish());
            println!("{name}: {more} KiB more, ended after {took:?}: {}", finished.err.trim());
            assert!(took <= PARKED, "{took:?}\n{}", journal.told());
            // A kernel that reads larger pieces of a file at once may see an end here.
            let of = journal.of(&key);
            let is_ours = of.iter().any(|what| is_failed(what, Reason::ThrashedAtLimit));
            let by = if is_ours { "bellows: it thrashed" } else { "the kernel: out of memory" };
            let told = format!("killed by {by} at its ceiling of 64 MiB");
            assert!(finished.err.contains(&told), "{finished:?} {of:?}");
        } else {
            let before = stat("pgsteal");
            std::thread::sleep(PARKED);
            assert!(cgroup.exists(), "{}", journal.told());
            println!("{name}: {} pages were taken in {:?}", stat("pgsteal") - before, told.elapsed());
            let _ = agent.output("kill", &["--signal", "KILL", &name]);
            assert!(!run.finish().err.contains("thrashed"));
        }
        let _ = fs::remove_file(word).and(fs::remove_file(full));
    }
    let _ = fs::remove_file(file);
}

const FILE_MIB: u64 = 64;

fn file(number: usize, mib: u64) -> PathBuf {
    let directory = std::env::var_os("BELLOWS_SCRATCH").expect("BELLOWS_SCRATCH is set with BELLOWS_CGROUP");
    let path = PathBuf::from(directory).join(format!("held{number}"));
    let mut file = File::create(&path).expect("a file");
    let block = vec![7_u8; 1 << 20];
    for _ in 0..mib {
        file.write_all(&block).expect("a file");
    }
    file.sync_all().expect("sync");
    path
}

/// Twenty readers of files four times as large as their floors, half of them where nothing can be swapped out: each goes on
/// reading, far below its ceiling.
#[test]
fn a_held_reader_is_left_alone() {
    let files: Vec<PathBuf> = (0..2 * AT_ONCE).map(|number| file(number, FILE_MIB)).collect();
    for tree in [Tree::new(), Tree::without_swap()] {
        fs::write("/proc/sys/vm/drop_caches", "1").expect("drop caches");
        let agent = Agent::start_on(tree, &[]);
        let mut journal = agent.follow();
        let readers: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(number, file)| {
                let name = format!("reader{number}");
                let run = agent.load(&name, "16M..128M", &["read", file.to_str().expect("utf-8"), "8"]);
                (name, run)
            })
            .collect();
        for (name, _) in &readers {
            let name = format!("default/{name}");
            journal.wait(&name, |what| matches!(what, What::Held { reason: Reason::CacheHeld, .. }));
        }
        let high = |name: &str| number(&agent.tree.workload(name).join("memory.high")) / MIB;
        for (name, _) in &readers {
            eventually("a step that went to cache ahead of the verdict is taken back", || high(name) <= 48);
        }
        for (name, run) in readers {
            let finished = run.finish();
            assert_eq!(finished.code, 0, "{name}: {finished:?}\n{}", journal.told());
            let total: u64 =
                finished.out.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("how much it has read");
            println!("{name}: {}", finished.out.trim());
            assert!(total > FILE_MIB, "{name} goes on: {finished:?}\n{}", journal.told());
            journal.wait(&format!("default/{name}"), is_ended);
        }
        let is_at_ceiling = |record: &&Record| match &record.what {
            What::LimitsMoved { verb, to, .. } => *verb == Verb::Fail || to.high.0 >= 128 * MIB,
            What::Held { reason, .. } => *reason == Reason::CeilingReached,
            _ => false,
        };
        let grown: Vec<_> = journal.seen.iter().filter(is_at_ceiling).collect();
        assert!(grown.is_empty(), "{grown:?}\n{}", journal.told());
    }
    for file in files {
        let _ = fs::remove_file(file);
    }
}
