//! Threads: their priority, being interruptible, sharing work; and what protects the process.

use std::ops::Range;
use std::sync::mpsc::sync_channel;
use std::{fs, io, thread};

use super::sys;

/// The signal that interrupts a blocked limit write; it has a handler that does nothing.
const INTERRUPT: i32 = libc::SIGUSR2;

/// A thread that can be woken out of a blocking kernel write.
#[derive(Debug, Clone, Copy)]
pub struct Interruptible {
    tid: i32,
}

impl Interruptible {
    /// Makes the calling thread interruptible.
    pub fn current() -> io::Result<Self> {
        sys::install_interrupt(INTERRUPT)?;
        Ok(Self { tid: sys::thread_id() })
    }

    /// Interrupts whatever system call the thread is in: it returns `EINTR`, or what it had done so far.
    pub fn interrupt(self) -> io::Result<()> {
        sys::signal_thread(self.tid, INTERRUPT)
    }
}

/// Asks for `SCHED_FIFO` at the lowest real-time priority for the calling thread: above all workloads, below the
/// kernel's own threads.
pub fn set_realtime() -> io::Result<()> {
    sys::set_realtime(1)
}

/// The kernel's id of the calling thread, as `/proc` and tracing know it.
#[must_use]
pub fn id() -> i32 {
    sys::thread_id()
}

/// Has the program's own file kept in memory: without this, the first event waits for its pages to be read from disk, and under memory
/// pressure so does any other. By a thread that gives way to all others, since to read all of it takes longer than to take over a hundred
/// workloads. Not `mlockall`, which would make the stacks of all threads resident, too. What is refused is told, and not fatal.
pub fn lock_program() {
    let lock = || {
        // Refused, it only takes its share of the cpus.
        let _ = sys::set_nice(19);
        if let Err(error) = lock_mapped() {
            tell_unlocked(&error);
        }
    };
    if let Err(error) = thread::Builder::new().name("bellows-lock".to_owned()).spawn(lock) {
        tell_unlocked(&error);
    }
}

fn tell_unlocked(error: &io::Error) {
    super::tell(&format!("the agent's code may be paged out: {error}"));
}

fn lock_mapped() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    mapped(&maps, &program.to_string_lossy()).try_for_each(|range| sys::lock_range(range.start, range.len()))
}

/// Where a file is mapped, by proc_pid_maps(5): `start-end perms offset dev inode path`.
fn mapped<'a>(maps: &'a str, file: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    maps.lines()
        .filter(move |line| {
            line.split_once('/').is_some_and(|(_, path)| Some(path) == file.strip_prefix('/'))
        })
        .filter_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        })
}

/// Protects this process from the OOM killer and lets it open as many files as it is allowed to. What is refused is
/// told, and not fatal. Returns how many files it could open before: what its workloads are to start with.
#[must_use]
pub fn protect_process() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // -900 of -1000: after everything else, but not never, should it leak.
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-900") {
        crate::kernel::tell(&format!("the agent is not protected from the OOM killer: {error}"));
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        crate::kernel::tell(&format!("cannot raise the number of open files: {error}"));
    }
    soft
}

/// Takes items one after the other while the next one is being made, by another thread; panics where there is none to be had.
pub fn ahead<T: Send>(mut items: impl Iterator<Item = T> + Send, take: impl FnMut(T)) {
    thread::scope(|scope| {
        let (made, queue) = sync_channel(0);
        scope.spawn(move || items.try_for_each(|item| made.send(item)));
        queue.into_iter().for_each(take);
    });
}

/// Does `work` for all items on a few threads, each with a part of them in order; the results in the order of the parts. Few items,
/// and those for which there is no thread to be had, are left to the calling one.
pub fn share<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    /// What is walked are directories of the kernel's, whose locks do not let more run at a time.
    const THREADS: usize = 4;
    /// A thread costs about as much as one item.
    const LEAST: usize = 16;
    let parts = items.chunks(items.len().div_ceil(THREADS).max(LEAST));
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = parts
            .map(|part| {
                let builder = thread::Builder::new().name("bellows-walk".to_owned());
                builder.spawn_scoped(scope, move || work(part)).map_err(|_| part)
            })
            .collect();
        let finish = |started: Result<thread::ScopedJoinHandle<'_, R>, &[T]>| match started {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(part) => work(part),
        };
        started.into_iter().map(finish).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_made_once_and_in_order() {
        let mut taken = Vec::new();
        ahead(0..100, |item| taken.push(item));
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        let items: Vec<usize> = (0..1000).collect();
        assert_eq!(share(&items, <[usize]>::to_vec).concat(), items);
    }

    #[test]
    fn the_program_is_found_and_nothing_else() {
        let maps = "5500-5600 r-xp 0 fe:00 7 /usr/bin/bellows\n5600-5700 rw-p 0 00:00 0 \n5700-5800 rw-p 0 00:00 0 [heap]\n\
                    5800-5900 r--p 0 fe:00 8 /usr/bin/bellows-init\n5900-5a00 rw-p 1000 fe:00 7 /usr/bin/bellows\n";
        let found: Vec<_> = mapped(maps, "/usr/bin/bellows").collect();
        assert_eq!(found, [0x5500..0x5600, 0x5900..0x5a00]);
    }
}
