//! Need or cache: what only fills the page cache is held, what needs memory grows.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use bellows::journal::What;
use bellows_policies::Reason;

use crate::rig::{
    Agent, MIB, PATIENCE, eventually, eventually_or_tell, is_ended, is_grow, is_launched, number, read,
};

/// A file of 400 MiB on the scratch disk, not in anybody's cache.
pub(crate) fn big_file() -> PathBuf {
    let directory = std::env::var_os("BELLOWS_SCRATCH").expect("BELLOWS_SCRATCH is set with BELLOWS_CGROUP");
    let path = PathBuf::from(directory).join("big");
    if path.metadata().map_or(0, |m| m.len()) < 400 * MIB {
        let mut file = File::create(&path).expect("big file");
        let block = vec![7_u8; 1 << 20];
        for _ in 0..400 {
            file.write_all(&block).expect("big file");
        }
        file.sync_all().expect("sync");
    }
    // What stays in the cache is charged to nobody who reads it, and a reader without charges meets no limit.
    eventually("the file is in nobody's cache", || {
        std::fs::write("/proc/sys/vm/drop_caches", "1").expect("drop caches");
        let text = read(&PathBuf::from("/proc/meminfo"));
        let kib =
            |key| text.lines().find_map(|l| l.strip_prefix(key)?.trim().split(' ').next()?.parse().ok());
        kib("Active(file):").unwrap_or(0_u64) + kib("Inactive(file):").unwrap_or(u64::MAX / 2) < 64 << 10
    });
    path
}

/// A reader of a file far larger than its limit ends where it began, while an anonymous and a tmpfs grower beside it get
/// what they need.
#[test]
fn a_reader_is_held_while_growers_grow() {
    let file = big_file();
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let reader = agent.load("reader", "32M..512M", &["read", &file.display().to_string(), "12"]);
    journal.wait("default/reader", |w| matches!(w, What::Held { reason: Reason::CacheHeld, .. }));

    let anonymous = agent.load("anonymous", "32M..512M", &["grow", "200", "--hold-ms", "200"]).finish();
    assert_eq!(anonymous.code, 0, "{anonymous:?}");
    journal.wait("default/anonymous", is_ended);
    assert!(journal.of("default/anonymous").iter().any(is_grow), "{}", journal.told());
    let shared = agent.load("shared", "32M..512M", &["write", "/dev/shm/bellows-held", "200"]).finish();
    let _ = std::fs::remove_file("/dev/shm/bellows-held");
    assert_eq!(shared.code, 0, "{shared:?}");
    journal.wait("default/shared", is_ended);
    assert!(journal.of("default/shared").iter().any(is_grow), "{}", journal.told());

    // A step that went to cache ahead of the verdict is taken back: by now all are.
    let high = agent.tree.workload("reader").join("memory.high");
    eventually("the reader's limit is back at its floor, or a step above its need", || {
        number(&high) <= 64 * MIB
    });
    let reader = reader.finish();
    println!("reader: {}", reader.out.trim());
    assert_eq!(reader.code, 0, "{reader:?}");
    let steps = journal.of("default/reader").iter().filter(|w| is_grow(w)).count();
    assert!(steps <= 8, "a held reader costs few moves, not {steps}:\n{}", journal.told());
}

/// A reader that turns into a grower is seen at once.
#[test]
fn a_reader_that_begins_to_need_grows() {
    let file = big_file();
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let script = format!("{load} read {} 4; exec {load} grow 300", file.display());
    let finished = agent.run("turning", "32M..512M", &["sh", "-c", &script]).finish();
    journal.wait("default/turning", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    let all = journal.of("default/turning");
    let held = all.iter().position(|w| matches!(w, What::Held { reason: Reason::CacheHeld, .. }));
    let grew = all.iter().rposition(is_grow);
    assert!(held.is_some() && grew > held, "held first, grown after:\n{}", journal.told());
}

/// A nested child that hits its own tripwire is its own business: the parent's limits stay.
#[test]
fn a_nested_child_does_not_grow_its_parent() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let go = std::env::temp_dir().join(format!("bellows-go-{}", std::process::id()));
    let _ = std::fs::remove_file(&go);
    let load = crate::rig::program("bellows-load").display().to_string();
    let script =
        format!("while [ ! -e {} ]; do sleep 0.05; done; exec {load} grow 24 --hold-ms 500", go.display());
    let run = agent.run("parent", "64M..512M", &["sh", "-c", &script]);
    journal.wait("default/parent", is_launched);
    let parent = agent.tree.workload("parent");
    // From outside, as an operator could: processes into a leaf, a tripwire on it.
    let child = parent.join("child");
    std::fs::create_dir(&child).expect("nested cgroup");
    eventually("memory is enabled, once the shell forks nothing in between", || {
        for pid in read(&parent.join("cgroup.procs")).lines() {
            let _ = std::fs::write(child.join("cgroup.procs"), pid);
        }
        std::fs::write(parent.join("cgroup.subtree_control"), "+memory").is_ok()
    });
    std::fs::write(child.join("memory.high"), (8 * MIB).to_string()).expect("tripwire");
    std::fs::write(&go, "").expect("go");
    let hits = || {
        let text = read(&child.join("memory.events.local"));
        text.lines().find_map(|l| l.strip_prefix("high ")?.parse().ok()).unwrap_or(0_u64)
    };
    eventually("the child meets its own tripwire", || hits() > 3);
    std::fs::write(child.join("memory.high"), "max").expect("open the child again");
    let finished = run.finish();
    let _ = std::fs::remove_file(&go);
    journal.wait("default/parent", is_ended);
    assert_eq!(finished.code, 0, "{finished:?} {PATIENCE:?}");
    assert!(!journal.of("default/parent").iter().any(is_grow), "{}", journal.told());
}

/// While nobody governs, its page cache fills the limit that was opened. The next agent does not take that for need.
#[test]
fn a_reader_is_not_inflated_by_restarts() {
    let file = big_file();
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let reader = agent.load("reader", "32M..512M", &["read", &file.display().to_string(), "600"]);
    journal.wait("default/reader", |w| matches!(w, What::Held { reason: Reason::CacheHeld, .. }));
    let cgroup = agent.tree.workload("reader");
    for _ in 0..3 {
        agent.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = agent.child.wait();
        eventually("the watchdog has opened its limits", || number(&cgroup.join("memory.high")) == u64::MAX);
        eventually("cache has filled them", || number(&cgroup.join("memory.current")) > 96 * MIB);
        agent.restart();
        let what = "its limit is back at its floor, or a step above its need";
        let high = cgroup.join("memory.high");
        let told = || {
            let events = agent.output("events", &[]).stdout;
            format!("{}\n{}", String::from_utf8_lossy(&events), read(&cgroup.join("memory.stat")))
        };
        eventually_or_tell(what, || number(&high) <= 64 * MIB, told);
    }
    drop(reader);
}
