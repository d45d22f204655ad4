//! The cost of a turn, counted by the kernel: one wake-up, two reads, and for a grow two writes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rig::{Agent, is_ended, is_grow, read};

const TRACING: &str = "/sys/kernel/tracing";
/// x86-64 system call numbers as the trace shows them.
const READ: &str = "NR 17 (";
const WRITE: &str = "NR 18 (";
const WAIT: &[&str] = &["NR 232 (", "NR 281 (", "NR 441 ("];
const FUTEX: &str = "NR 202 (";
/// Reading the clock is no system call where the kernel trusts the processor's counter; an emulated one it may not.
const CLOCK: &str = "NR 228 (";

fn write(file: &str, text: &str) {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e} (tracefs is needed)", path.display()));
}

fn control_thread(agent: &Agent) -> String {
    let tasks = PathBuf::from(format!("/proc/{}/task", agent.child.id()));
    let named = |task: &fs::DirEntry| read(&task.path().join("comm")).trim() == "bellows-control";
    let task = fs::read_dir(tasks).expect("tasks").flatten().find(named).expect("the control thread");
    task.file_name().to_string_lossy().into_owned()
}

/// Reads of what is no workload's, as the trace spells them: the node's own memory is looked at some times a second, in whatever
/// turn comes, and so is what the kernel has counted for all workloads together, where a slice of the slow pass could wait no longer for a
/// turn of its own.
fn reads_of_node(agent: &Agent) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{}/fd", agent.child.id())).expect("open files").flatten();
    let of_node = files.filter(|fd| {
        // Directly in `workloads` are the files of all together.
        fs::read_link(fd.path()).is_ok_and(|path| {
            path.to_string_lossy().split_once("/workloads/").is_none_or(|(_, below)| !below.contains('/'))
        })
    });
    let number = |fd: fs::DirEntry| fd.file_name().to_string_lossy().parse::<u32>().expect("a number");
    of_node.map(|fd| format!("{READ}{:x},", number(fd))).collect()
}

#[test]
fn a_turn_is_one_wake_two_reads_two_writes() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    // Warm: everything that is made once has been made.
    assert_eq!(agent.load("warm", "32M..512M", &["grow", "128"]).finish().code, 0);
    journal.wait("default/warm", is_ended);

    let (thread, of_node) = (control_thread(&agent), reads_of_node(&agent));
    write("tracing_on", "0");
    write("trace", "");
    write("set_event_pid", &thread);
    write("events/raw_syscalls/sys_enter/enable", "1");
    write("tracing_on", "1");
    // Slow, so that looks are apart and most are quiet.
    let finished = agent.load("counted", "32M..512M", &["grow", "200", "--pause-ms", "4"]).finish();
    write("tracing_on", "0");
    write("events/raw_syscalls/sys_enter/enable", "0");
    write("set_event_pid", "");
    assert_eq!(finished.code, 0, "{finished:?}");
    journal.wait("default/counted", is_ended);
    let grows = journal.of("default/counted").iter().filter(|w| is_grow(w)).count();

    let trace = read(&Path::new(TRACING).join("trace"));
    let calls: Vec<&str> = trace.lines().filter(|l| l.contains("sys_enter: ")).collect();
    let mut turns: Vec<Vec<&str>> = Vec::new();
    for call in &calls {
        if WAIT.iter().any(|w| call.contains(w)) {
            turns.push(Vec::new());
        } else if let Some(turn) = turns.last_mut()
            && !call.contains(CLOCK)
        {
            turn.push(call);
        }
    }
    let count = |turn: &[&str], call: &str| turn.iter().filter(|c| c.contains(call)).count();
    let writing: Vec<&Vec<&str>> = turns.iter().filter(|t| count(t, WRITE) > 0).collect();
    println!(
        "{} calls in {} turns, {} of them write; {grows} grows",
        calls.len(),
        turns.len(),
        writing.len()
    );
    // A take-back that was overtaken may be written over; otherwise each grow is one writing turn.
    assert!(!writing.is_empty() && writing.len() >= grows, "{trace}");
    for turn in writing {
        let of_node = turn.iter().filter(|call| of_node.iter().any(|read| call.contains(read))).count();
        assert!(of_node <= 1, "one look at the node at most:\n{}", turn.join("\n"));
        assert_eq!(count(turn, READ) - of_node, 2, "two reads:\n{}", turn.join("\n"));
        assert_eq!(count(turn, WRITE), 2, "two writes:\n{}", turn.join("\n"));
        // Besides, at most one each: the hand-over of a look into memory.stat, the reading of the inotify queue or of a
        // wake-up, and the heartbeat, if this turn is the one that it is due in. A hand-over may take two calls: the channel
        // wakes its reader before it lets go of its lock, and one that is fast is then waiting for that.
        for (what, calls, most) in
            [("hand-over", FUTEX, 2), ("read", "NR 0 (", 1), ("heartbeat", "NR 1 (", 1)]
        {
            assert!(count(turn, calls) <= most, "one {what} at most:\n{}", turn.join("\n"));
        }
        let known = [READ, WRITE, FUTEX, "NR 0 (", "NR 1 ("];
        assert!(
            turn.iter().all(|c| known.iter().any(|k| c.contains(k))),
            "nothing else:\n{}",
            turn.join("\n")
        );
    }
}
