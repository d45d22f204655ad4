//! Lost events heal, and so does deafness.

use std::fs;
use std::path::{Path, PathBuf};

use bellows::journal::What;
use nix::sys::signal::Signal;

use crate::rig::{Agent, eventually, is_ended, is_grow, is_launched, read};

const QUEUED: &str = "/proc/sys/fs/inotify/max_queued_events";

/// With a queue of 16, a storm of foreign cgroups while the agent does not look overflows it. The grower's own event is
/// among the lost ones; it gets its memory all the same.
#[test]
fn an_overflowed_queue_heals() {
    let before = fs::read_to_string(QUEUED).expect("max_queued_events");
    fs::write(QUEUED, "16").expect("a small queue");
    let config = std::env::temp_dir().join("bellows-overflow.toml");
    fs::write(&config, "[agent]\nhearing = \"inotify\"\n").expect("config");
    let agent = Agent::start(&["--config", &config.display().to_string()]);
    fs::write(QUEUED, before.trim()).expect("the queue as it was");
    let mut journal = agent.follow();
    let go = agent.runtime_dir.join("go");
    let load = crate::rig::program("bellows-load").display().to_string();
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done; exec {load} grow 200", go.display());
    let run = agent.run("grower", "32M..512M", &["sh", "-c", &script]);
    journal.wait("default/grower", is_launched);

    // Two events each, and no more than needed: all is to be over before the watchdog's patience is, which opens the limits.
    stand_still(&agent);
    let tenant = agent.tree.root.join("workloads/default");
    for n in 0..12 {
        let foreign = tenant.join(format!("foreign-{n}"));
        fs::create_dir(&foreign).expect("foreign cgroup");
        fs::remove_dir(&foreign).expect("foreign cgroup");
    }
    fs::write(&go, "").expect("go");
    let cgroup = agent.tree.workload("grower");
    eventually("the grower has met its tripwire", || {
        let is_open = crate::rig::number(&cgroup.join("memory.high")) == u64::MAX;
        assert!(!is_open, "the watchdog was faster than the grower: the machine is too busy to tell");
        !read(&cgroup.join("memory.events.local")).contains("high 0\n")
    });
    agent.signal(Signal::SIGCONT);
    journal.wait("", |w| matches!(w, What::QueueOverflowed {}));
    let finished = run.finish();
    journal.wait("default/grower", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert!(journal.of("default/grower").iter().any(is_grow), "{}", journal.told());
    assert!(agent.http("/metrics").contains("bellows_event_queue_overflows_total 1\n"));
}

/// Stops all threads of the agent, and waits until they stand still: the signal alone leaves them some time.
fn stand_still(agent: &Agent) {
    agent.signal(Signal::SIGSTOP);
    let tasks = PathBuf::from(format!("/proc/{}/task", agent.child.id()));
    let is_stopped =
        |task: &Path| read(&task.join("stat")).rsplit(") ").next().is_some_and(|s| s.starts_with('T'));
    eventually("the agent stands still", || {
        fs::read_dir(&tasks).expect("threads").flatten().all(|task| is_stopped(&task.path()))
    });
}

const WATCHES: &str = "/proc/sys/fs/inotify/max_user_watches";

/// Without a watch nothing is heard of a workload. After a while without a change it is at rest, and looked at every few seconds
/// only; but what the kernel counts for the subtree tells that somebody has met a tripwire.
#[test]
fn a_workload_at_rest_that_cannot_be_heard_is_seen() {
    let before = fs::read_to_string(WATCHES).expect("max_user_watches");
    let config = std::env::temp_dir().join("bellows-deaf.toml");
    fs::write(&config, "[agent]\nhearing = \"inotify\"\n").expect("config");
    let agent = Agent::start(&["--config", &config.display().to_string()]);
    let mut journal = agent.follow();
    fs::write(WATCHES, "1").expect("few watches");
    let go = agent.runtime_dir.join("go");
    let load = crate::rig::program("bellows-load").display().to_string();
    let script = format!("while [ ! -e {} ]; do sleep 0.2; done; exec {load} grow 200", go.display());
    let run = agent.run("deaf", "32M..512M", &["sh", "-c", &script]);
    journal.wait("default/deaf", |w| matches!(w, What::Trouble { text } if text.contains("listen")));
    fs::write(WATCHES, before.trim()).expect("watches as they were");
    // 16 s without a change, and some time for a slow machine.
    std::thread::sleep(std::time::Duration::from_secs(20));
    fs::write(&go, "").expect("go");
    let finished = run.finish();
    journal.wait("default/deaf", is_ended);
    assert_eq!(finished.code, 0, "{finished:?}\n{}", journal.told());
    assert!(journal.of("default/deaf").iter().any(is_grow), "{}", journal.told());
}
