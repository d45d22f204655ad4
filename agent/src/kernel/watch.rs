//! Hearing the kernel: one epoll set over POLLPRI on kept-open files, one inotify instance, pidfds, and a wake-up descriptor.
//!
//! POLLPRI wakes the waiter directly; inotify goes through a kernel worker and comes a little later, but also tells of
//! directories and foreign writes. Both only say "look": the truth is in the counters, so a lost or doubled signal is
//! harmless. The kernel never notifies on `cpu.stat` today; the watch costs nothing and is there for one that will.
//!
//! Everything is edge-triggered: a removed cgroup's files poll as ready for ever.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;

/// Which way `memory.events.local` is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hearing {
    /// By POLLPRI and by inotify: the earlier one acts, the other finds nothing new.
    Both,
    /// By inotify only.
    Inotify,
    /// By POLLPRI only; directories and `cpu.stat` are still watched by inotify.
    #[default]
    Pollpri,
}

/// Names a watched thing to its owner: a slot and the slot's generation, so that a late signal for a former occupant is
/// recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Index in the owner's table.
    pub slot: u32,
    /// How often that slot was reused; 24 bits are kept.
    pub generation: u32,
}

impl Key {
    /// As one number; never [`u64::MAX`].
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.generation as u64 & 0x00FF_FFFF) << 32 | self.slot as u64
    }

    /// From [`Key::number`].
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "taken apart into the widths it was put together from"
    )]
    pub const fn from_number(number: u64) -> Self {
        Self { slot: number as u32, generation: (number >> 32) as u32 & 0x00FF_FFFF }
    }
}

/// Something happened; look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// `memory.events.local` of a workload changed.
    Memory(Key),
    /// `cpu.stat` of a workload changed.
    Cpu(Key),
    /// `cgroup.events` of a workload changed.
    Cgroup(Key),
    /// The first process of a workload ended.
    Process(Key),
    /// Tasks of the subtree, or of the machine, stall for memory.
    Stalled,
    /// A child cgroup appeared in a watched directory.
    Created(Key, String),
    /// A child cgroup was removed from a watched directory.
    Deleted(Key, String),
    /// The inotify queue overflowed: signals were lost, everything must be looked at.
    Overflowed,
    /// Another thread called [`Waker::wake`].
    Woken,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Memory = 1,
    Cgroup = 2,
    Process = 3,
    Inotify = 4,
    Wake = 5,
    Cpu = 6,
    Directory = 7,
    Pressure = 8,
}

/// The watcher of one control loop.
#[derive(Debug)]
pub struct Watcher {
    epoll: Epoll,
    inotify: Inotify,
    waker: Waker,
    hearing: Hearing,
    watched: HashMap<WatchDescriptor, (Kind, Key)>,
    descriptors: HashMap<Key, Vec<WatchDescriptor>>,
    ready: Vec<EpollEvent>,
    inotify_is_ready: bool,
    buffer: Vec<u8>,
}

/// Wakes a [`Watcher`] from another thread.
#[derive(Debug, Clone)]
pub struct Waker(std::sync::Arc<EventFd>);

impl Waker {
    /// Makes the watcher's current or next wait return with [`Signal::Woken`].
    pub fn wake(&self) {
        // Fails only when the counter is full, and then the watcher is awake anyway.
        let _ = self.0.write(1);
    }
}

/// Makes inotify watches on any thread, before what is watched has a key.
#[derive(Debug, Clone)]
pub struct Listener(Watches);

impl Listener {
    /// The watch on `cpu.stat`, for [`Sources`].
    pub fn cpu_stat(&self, cgroup: &Cgroup) -> io::Result<Watch> {
        watch(&self.0, cgroup, "cpu.stat", WatchMask::MODIFY)
    }
}

/// A watch that has no key yet: it ends with this, unless it is given one.
#[derive(Debug)]
pub struct Watch {
    watches: Watches,
    descriptor: Option<WatchDescriptor>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            let _ = self.watches.remove(descriptor);
        }
    }
}

/// What the watcher listens to of a workload. The files must stay open as long as the key is watched.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The workload's directory.
    pub cgroup: &'a Cgroup,
    /// Its open `memory.events.local`.
    pub memory_events: &'a File,
    /// Its open `cgroup.events`.
    pub cgroup_events: &'a File,
    /// A pidfd of its first process.
    pub process: Option<BorrowedFd<'a>>,
    /// The watch on its `cpu.stat`.
    pub cpu_stat: io::Result<Watch>,
}

impl Watcher {
    /// Signals that one wait returns at most; more stay queued in the kernel.
    const BATCH: usize = 256;

    /// Makes an empty watcher.
    pub fn new(hearing: Hearing) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let inotify = Inotify::init()?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let nobody = Key { slot: 0, generation: 0 };
        epoll.add(&inotify, EpollEvent::new(EpollFlags::EPOLLIN, token(Kind::Inotify, nobody)))?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, token(Kind::Wake, nobody)))?;
        Ok(Self {
            epoll,
            inotify,
            waker: Waker(std::sync::Arc::new(wake)),
            hearing,
            watched: HashMap::new(),
            descriptors: HashMap::new(),
            ready: vec![EpollEvent::empty(); Self::BATCH],
            inotify_is_ready: false,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// A handle that wakes this watcher.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Makes watches for this watcher.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener(self.inotify.watches())
    }

    /// Listens to a workload.
    pub fn add(&mut self, key: Key, sources: Sources<'_>) -> io::Result<()> {
        // The end first: a workload that is not heard is still looked at, but one whose end is not heard never ends.
        if let Some(process) = sources.process {
            let ended = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            self.epoll.add(process, EpollEvent::new(ended, token(Kind::Process, key)))?;
        }
        let changed = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
        if self.hearing != Hearing::Inotify {
            self.epoll.add(sources.memory_events, EpollEvent::new(changed, token(Kind::Memory, key)))?;
        }
        self.epoll.add(sources.cgroup_events, EpollEvent::new(changed, token(Kind::Cgroup, key)))?;
        let modified = WatchMask::MODIFY;
        if self.hearing != Hearing::Pollpri {
            self.listen(Kind::Memory, key, sources.cgroup, "memory.events.local", modified)?;
            self.listen(Kind::Cgroup, key, sources.cgroup, "cgroup.events", modified)?;
        }
        self.give(sources.cpu_stat?, Kind::Cpu, key);
        Ok(())
    }

    /// Listens to a directory: children made and removed in it, by whomever.
    pub fn add_directory(&mut self, key: Key, cgroup: &Cgroup) -> io::Result<()> {
        let mask = WatchMask::CREATE | WatchMask::DELETE | WatchMask::ONLYDIR;
        self.listen(Kind::Directory, key, cgroup, "", mask)
    }

    /// Listens to a pressure trigger; its file must stay open.
    pub fn add_trigger(&mut self, file: &File) -> io::Result<()> {
        let nobody = Key { slot: 0, generation: 0 };
        let stalled = EpollFlags::EPOLLPRI | EpollFlags::EPOLLET;
        Ok(self.epoll.add(file, EpollEvent::new(stalled, token(Kind::Pressure, nobody)))?)
    }

    /// Stops listening to a workload's inotify watches. Its epoll entries end when its files are closed.
    pub fn remove(&mut self, key: Key) {
        for descriptor in self.descriptors.remove(&key).unwrap_or_default() {
            self.watched.remove(&descriptor);
            // The kernel has dropped the watch already when the cgroup is gone.
            let _ = self.inotify.watches().remove(descriptor);
        }
    }

    /// Waits for signals at most `timeout` (rounded up to a millisecond) and appends them to `signals`.
    ///
    /// Allocates nothing as long as `signals` has room, except for the names of directories.
    pub fn wait(&mut self, timeout: Duration, signals: &mut Vec<Signal>) -> io::Result<()> {
        let millis = timeout.as_nanos().div_ceil(1_000_000).min(60_000);
        let timeout = EpollTimeout::from(u16::try_from(millis).unwrap_or(60_000));
        let count = match self.epoll.wait(&mut self.ready, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        for event in &self.ready[..count] {
            match parse_token(event.data()) {
                (Some(Kind::Memory), key) => signals.push(Signal::Memory(key)),
                (Some(Kind::Cgroup), key) => signals.push(Signal::Cgroup(key)),
                (Some(Kind::Process), key) => signals.push(Signal::Process(key)),
                // Without PRI it only says that its cgroup is gone.
                (Some(Kind::Pressure), _) if event.events().contains(EpollFlags::EPOLLPRI) => {
                    signals.push(Signal::Stalled);
                }
                (Some(Kind::Wake), _) => {
                    let _ = self.waker.0.read();
                    signals.push(Signal::Woken);
                }
                (Some(Kind::Inotify), _) => self.inotify_is_ready = true,
                (Some(Kind::Cpu | Kind::Directory | Kind::Pressure) | None, _) => {}
            }
        }
        Ok(())
    }

    /// Appends what the last wait left in the inotify queue, if anything. Apart from [`Watcher::wait`], so that what POLLPRI
    /// told is acted upon before this is read: in most cases it is the same news.
    pub fn read_inotify(&mut self, signals: &mut Vec<Signal>) -> io::Result<()> {
        if !std::mem::take(&mut self.inotify_is_ready) {
            return Ok(());
        }
        let events = match self.inotify.read_events(&mut self.buffer) {
            Ok(events) => events,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        for event in events {
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                signals.push(Signal::Overflowed);
                continue;
            }
            let Some(&(kind, key)) = self.watched.get(&event.wd) else { continue };
            let name = || event.name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            match kind {
                Kind::Memory => signals.push(Signal::Memory(key)),
                Kind::Cgroup => signals.push(Signal::Cgroup(key)),
                Kind::Cpu => signals.push(Signal::Cpu(key)),
                Kind::Directory if event.mask.contains(EventMask::CREATE | EventMask::ISDIR) => {
                    signals.push(Signal::Created(key, name()));
                }
                Kind::Directory if event.mask.contains(EventMask::DELETE | EventMask::ISDIR) => {
                    signals.push(Signal::Deleted(key, name()));
                }
                Kind::Directory | Kind::Process | Kind::Inotify | Kind::Wake | Kind::Pressure => {}
            }
        }
        Ok(())
    }

    fn listen(
        &mut self,
        kind: Kind,
        key: Key,
        cgroup: &Cgroup,
        file: &str,
        mask: WatchMask,
    ) -> io::Result<()> {
        let watch = watch(&self.inotify.watches(), cgroup, file, mask)?;
        self.give(watch, kind, key);
        Ok(())
    }

    fn give(&mut self, mut watch: Watch, kind: Kind, key: Key) {
        let Some(descriptor) = watch.descriptor.take() else { return };
        self.watched.insert(descriptor.clone(), (kind, key));
        self.descriptors.entry(key).or_default().push(descriptor);
    }
}

fn watch(watches: &Watches, cgroup: &Cgroup, file: &str, mask: WatchMask) -> io::Result<Watch> {
    // Through the open directory, so that the watch is on this very cgroup whatever its path means by now.
    let path = format!("/proc/self/fd/{}/{file}", cgroup.as_fd().as_raw_fd());
    let mut watches = watches.clone();
    let descriptor = watches.add(path, mask).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOSPC) => io::Error::other(
            "no inotify watches left for this user: raise it with sysctl fs.inotify.max_user_watches",
        ),
        _ => e,
    })?;
    Ok(Watch { watches, descriptor: Some(descriptor) })
}

/// Kind in the top byte, generation in the next three, slot in the lower half.
fn token(kind: Kind, key: Key) -> u64 {
    (kind as u64) << 56 | key.number()
}

fn parse_token(token: u64) -> (Option<Kind>, Key) {
    let kind = match token >> 56 {
        1 => Some(Kind::Memory),
        2 => Some(Kind::Cgroup),
        3 => Some(Kind::Process),
        4 => Some(Kind::Inotify),
        5 => Some(Kind::Wake),
        8 => Some(Kind::Pressure),
        _ => None,
    };
    (kind, Key::from_number(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_slot_and_generation() {
        let key = Key { slot: u32::MAX, generation: 0x00AB_CDEF };
        let (kind, back) = parse_token(token(Kind::Process, key));
        assert!(matches!(kind, Some(Kind::Process)));
        assert_eq!(back, key);
    }

    #[test]
    fn a_wake_from_another_thread_is_heard_once() {
        let mut watcher = Watcher::new(Hearing::Both).unwrap();
        let waker = watcher.waker();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        let mut signals = Vec::new();
        watcher.wait(Duration::from_secs(5), &mut signals).unwrap();
        assert_eq!(signals, [Signal::Woken]);
        signals.clear();
        watcher.wait(Duration::ZERO, &mut signals).unwrap();
        assert_eq!(signals, []);
    }
}
