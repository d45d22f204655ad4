//! What each kernel does to the writer of a limit below use: whether it waits for reclaim, and what a signal does to it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use bellows::kernel::Cgroup;
use bellows::kernel::limit::LimitFile;
use bellows::kernel::support::nonblocking_limits;
use bellows::kernel::thread::Interruptible;
use bellows_policies::units::{Bytes, Limit};

use crate::rig::{MIB, PATIENCE, Tree, eventually, number, program, read};

const PAGE: u64 = 4096;

/// A cgroup of anonymous memory that nobody touches, and swap to put it in.
struct Holder {
    cgroup: PathBuf,
    process: Child,
    // Removed last.
    _tree: Tree,
}

impl Holder {
    fn new(mib: u64) -> Self {
        let swap = read(&PathBuf::from("/proc/swaps"));
        assert!(swap.lines().count() > 1, "there is no swap: the guest is started with --swap");
        let tree = Tree::new();
        let cgroup = tree.root.join("holder");
        for controller in ["+memory", "+pids"] {
            fs::write(tree.root.join("cgroup.subtree_control"), controller).expect("controllers");
        }
        fs::create_dir(&cgroup).expect("holder");
        let script = format!(
            "echo $$ > {}/cgroup.procs; exec {} grow {mib} --hold-ms 300000",
            cgroup.display(),
            program("bellows-load").display()
        );
        let process =
            Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).spawn().expect("a holder");
        let holder = Self { cgroup, process, _tree: tree };
        eventually("it holds its memory", || holder.current() >= mib * MIB);
        holder
    }

    fn current(&self) -> u64 {
        number(&self.cgroup.join("memory.current"))
    }

    /// Bytes that reclaim has taken from it so far.
    fn stolen(&self) -> u64 {
        let text = read(&self.cgroup.join("memory.stat"));
        let pages = text.lines().find_map(|l| l.strip_prefix("pgsteal ")?.parse::<u64>().ok());
        pages.expect("memory.stat has pgsteal") * PAGE
    }

    fn high(&self) -> PathBuf {
        self.cgroup.join("memory.high")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `support` says of this kernel by its release is what the kernel does.
#[test]
fn a_limit_opened_without_blocking_is_lowered_at_once_or_reclaims_as_ever() {
    const HELD: u64 = 160 * MIB;
    const LOWERED: u64 = 80 * MIB;
    let holder = Holder::new(HELD / MIB);
    let stolen = holder.stolen();
    let mut file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(holder.high())
        .expect("memory.high without blocking");
    file.write_all(LOWERED.to_string().as_bytes()).expect("the flag is no error on any kernel");
    let (current, stolen_since) = (holder.current(), holder.stolen() - stolen);
    println!(
        "non-blocking {}: {} MiB held, {} MiB reclaimed when the write had returned",
        nonblocking_limits(),
        current / MIB,
        stolen_since / MIB
    );
    assert_eq!(number(&holder.high()), LOWERED);
    if nonblocking_limits() {
        assert_eq!(stolen_since, 0, "nothing was reclaimed");
        assert!(current >= HELD, "{current} bytes are held still");
    } else {
        assert!(stolen_since >= (HELD - LOWERED) / 2, "only {stolen_since} bytes were reclaimed");
    }
    // The same write without the flag reclaims on every kernel.
    fs::write(holder.high(), LOWERED.to_string()).expect("memory.high");
    let stolen_since = holder.stolen() - stolen;
    assert!(stolen_since >= (HELD - LOWERED) / 2, "only {stolen_since} bytes were reclaimed");
}

/// A grow must not wait for a shrink: the signal ends it, the limit is raised, and most of the memory is still there.
#[test]
fn a_signal_ends_a_shrink_that_is_stuck_in_reclaim() {
    const HELD: u64 = 700 * MIB;
    const LOWERED: u64 = 8 * MIB;
    let holder = Holder::new(HELD / MIB);
    let high = LimitFile::open(&Cgroup::open(&holder.cgroup).expect("holder"), "memory.high").expect("high");
    let (tell, told) = channel();
    let stolen = holder.stolen();
    let writer = thread::spawn(move || {
        tell.send(Interruptible::current().expect("interruptible")).expect("told");
        high.write(Limit::At(Bytes(LOWERED)))
    });
    let writer_thread = told.recv().expect("the writer");
    eventually("the writer reclaims", || holder.stolen() > stolen + MIB);
    let before = holder.current();
    let signalled = Instant::now();
    writer_thread.interrupt().expect("a signal");
    while !writer.is_finished() {
        assert!(signalled.elapsed() < PATIENCE, "the signal does not end the write");
        thread::yield_now();
    }
    let took = signalled.elapsed();
    let left = holder.current();
    let result = writer.join().expect("the writer");
    println!(
        "{result:?} {took:?} after the signal: {} MiB were held then, {} MiB when it returned",
        before / MIB,
        left / MIB
    );
    // The limit itself was set before reclaim began: what a signal leaves undone is no error.
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(number(&holder.high()), LOWERED);
    assert!(left > LOWERED + HELD / 4, "it returned early, not done: {left} bytes are held");
    fs::write(holder.high(), "max").expect("a grow");
    assert_eq!(number(&holder.high()), u64::MAX);
}
