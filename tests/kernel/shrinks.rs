//! What each kernel does to the writer of a limit below use: whether it waits for reclaim, and what a signal does to it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use bellows::kernel::Cgroup;
use bellows::kernel::limit::LimitFile;
use bellows::kernel::support::nonblocking_limits;
use bellows::kernel::thread::Interruptible;
use bellows_policies::units::{Bytes, Limit};

use crate::rig::{MIB, Tree, eventually, number, program, read};

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
    const LOWERED: u64 = 80 * MIB;
    const HELD: u64 = 160 * MIB;
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

const HELD: u64 = 600 * MIB;
const FAR_BELOW: u64 = 8 * MIB;

/// A grow through a descriptor of its own returns while a shrink is stuck, on every kernel. The shrink goes on reclaiming to the
/// value that it was given. A signal ends it, but only when the kernel has finished the round of reclaim that it is in, and
/// one round may be all of it: on 6.12 580 of 700 MiB went to swap within the 9 s after the signal, on 6.1 24 MiB.
#[test]
fn a_grow_does_not_wait_for_a_shrink_that_is_stuck_in_reclaim() {
    let holder = Holder::new(HELD / MIB);
    let high = open_blocking(&holder);
    let (tell, told) = channel();
    let stolen = holder.stolen();
    let writer = thread::spawn(move || {
        tell.send(Interruptible::current().expect("interruptible")).expect("told");
        high.write(Limit::At(Bytes(FAR_BELOW)))
    });
    let thread = told.recv().expect("the writer");
    eventually("the writer reclaims", || holder.stolen() > stolen + MIB);
    assert_eq!(number(&holder.high()), FAR_BELOW, "the limit is set before reclaim begins");
    open_high(&holder).write(Limit::Max).expect("a grow");
    assert!(!writer.is_finished(), "the shrink is over already: more memory is needed to get it stuck");
    assert_eq!(number(&holder.high()), u64::MAX);

    let (before, signalled) = (holder.current(), Instant::now());
    thread.interrupt().expect("a signal");
    eventually("the signal ends the write", || writer.is_finished());
    println!(
        "{:?} after the signal {} of {} MiB were held",
        signalled.elapsed(),
        holder.current() / MIB,
        before / MIB
    );
    // What a signal leaves undone is no error.
    writer.join().expect("the writer").expect("the shrink");
    assert_eq!(number(&holder.high()), u64::MAX, "the grow came last");
}

/// A shrink in steps that is cancelled ends with the step that it is at. Steps are counted, and what each took is only shown: of
/// memory that has to be swapped the kernel takes more than it was asked for, the slower the disk the more (6.12: 205 MiB for
/// 32), since what is still being written does not count as taken.
#[test]
fn a_shrink_in_steps_ends_with_its_step() {
    const STEP: u64 = 32 * MIB;
    let holder = Holder::new(HELD / MIB);
    let high = open_blocking(&holder);
    let (tell, told) = channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(AtomicUsize::new(0));
    let (flag, count) = (Arc::clone(&cancelled), Arc::clone(&begun));
    let (current, stolen) = (holder.cgroup.join("memory.current"), holder.stolen());
    let writer = thread::spawn(move || {
        tell.send(Interruptible::current().expect("interruptible")).expect("told");
        let mut taken = Vec::new();
        while !flag.load(Ordering::SeqCst) && number(&current) > FAR_BELOW + STEP {
            count.fetch_add(1, Ordering::SeqCst);
            let before = number(&current);
            high.write(Limit::At(Bytes(before - STEP))).expect("a step");
            taken.push(before.saturating_sub(number(&current)));
        }
        taken
    });
    let thread = told.recv().expect("the writer");
    eventually("the writer reclaims", || holder.stolen() > stolen + MIB);
    cancelled.store(true, Ordering::SeqCst);
    let (begun_before, signalled) = (begun.load(Ordering::SeqCst), Instant::now());
    thread.interrupt().expect("a signal");
    eventually("the signal ends the write", || writer.is_finished());
    let taken = writer.join().expect("the writer");
    println!("{:?} after the signal; taken by each step, MiB: {:?}", signalled.elapsed(), mib(&taken));
    // One may have looked at the flag before it was set.
    assert!(taken.len() <= begun_before + 1, "{} steps, of which {begun_before} before", taken.len());
    assert!(holder.current() > HELD / 3, "most of it is left: {:?} MiB were taken", mib(&taken));
}

fn mib(sizes: &[u64]) -> Vec<u64> {
    sizes.iter().map(|size| size / MIB).collect()
}

/// As the slow lane opens it: where the other way does not reclaim, there is nothing to be stuck in.
fn open_blocking(holder: &Holder) -> LimitFile {
    LimitFile::open_blocking(&Cgroup::open(&holder.cgroup).expect("holder"), "memory.high")
        .expect("memory.high")
}

fn open_high(holder: &Holder) -> LimitFile {
    LimitFile::open(&Cgroup::open(&holder.cgroup).expect("holder"), "memory.high").expect("memory.high")
}
