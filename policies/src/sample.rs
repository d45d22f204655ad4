//! Samples: raw counters of one workload at one instant, as the kernel gave them.
//!
//! There are two kinds, apart because they cost differently. A [`Sample`] is two cheap reads and is taken on every
//! event, on the control thread. A [`Detail`] flushes per-CPU statistics and is taken off that thread, when
//! [`crate::Step::read_detail`] asks for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Instant};

/// `memory.events.local`: how often this cgroup itself met each limit. Counters; they only rise.
///
/// The local file, not the hierarchical one, which lets a tenant fake a need with a nested child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryEvents {
    /// Reclaimed although below `memory.low`.
    pub low: u64,
    /// Charges that crossed `memory.high`.
    pub high: u64,
    /// Charges that met `memory.max`.
    pub max: u64,
    /// Times the OOM killer was about to be called for this cgroup's limit.
    pub oom: u64,
    /// Processes of this cgroup killed by any OOM killer.
    pub oom_kill: u64,
    /// Times a whole cgroup was killed at once.
    pub oom_group_kill: u64,
}

/// The cheap reads of a turn: `memory.events.local` and `memory.current`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// When both were read.
    pub at: Instant,
    /// `memory.current`, bytes.
    pub current: Bytes,
    /// `memory.events.local`.
    pub events: MemoryEvents,
}

/// What bellows reads of `memory.stat`: sizes in bytes, counters in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryStat {
    /// Anonymous memory.
    pub anon: Bytes,
    /// Page cache, *including* shmem.
    pub file: Bytes,
    /// tmpfs and shared anonymous memory; a part of `file`, but on the anonymous lists.
    pub shmem: Bytes,
    /// Locked memory, anonymous or file; a part of `anon` or of `file`.
    pub unevictable: Bytes,
    /// Kernel memory: stacks, page tables, slabs.
    pub kernel: Bytes,
    /// Network buffers.
    pub sock: Bytes,
    /// Page cache that has to be written before it can go; a part of `file`.
    pub file_dirty: Bytes,
    /// Page cache being written; a part of `file`.
    pub file_writeback: Bytes,
    /// The cold list of anonymous memory and shmem.
    pub inactive_anon: Bytes,
    /// The warm list of them.
    pub active_anon: Bytes,
    /// The cold list of page cache; without shmem and without locked pages.
    pub inactive_file: Bytes,
    /// The warm list of page cache; without shmem and without locked pages.
    pub active_file: Bytes,
    /// Anonymous pages that came back after they were reclaimed. Counter, pages.
    pub workingset_refault_anon: u64,
    /// File pages that came back within the working set: the kernel judged that they would have stayed, had the cgroup been
    /// as large as its active cache. Not `workingset_refault_file`, which counts every page of a scan that goes round.
    pub workingset_activate_file: u64,
    /// File pages that came back at all. Counter, pages.
    #[serde(default)]
    pub workingset_refault_file: u64,
    /// Pages that reclaim looked at. Counter, pages.
    pub pgscan: u64,
    /// Pages that reclaim took. Counter, pages.
    pub pgsteal: u64,
    /// What zswap takes for its compressed pages; a part of `kernel`. Zero before Linux 5.19.
    pub zswap: Bytes,
    /// What these pages are without compression; a part of `memory.swap.current`.
    pub zswapped: Bytes,
}

/// Swap, as one workload finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Swap {
    /// `memory.swap.current`: what is swapped out, in zswap or on a device, bytes.
    pub used: Bytes,
    /// What more can be, bytes: the least that the machine's swap, `memory.swap.max` and those above it leave. Zero: what is
    /// anonymous stays.
    pub room: Bytes,
    /// Thousandths of what is swapped out on this machine that its zram disks take in RAM.
    pub zram_permille: u16,
}

/// The `total=` fields of a pressure file: microseconds in which tasks waited for memory, or for I/O. Counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// At least one task waited, microseconds.
    pub some_us: u64,
    /// All tasks waited, microseconds.
    pub full_us: u64,
}

/// The dear reads: `memory.stat`, `memory.pressure`, `io.pressure` and the number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Detail {
    /// When the reads began: what happened before is in them.
    pub at: Instant,
    /// `memory.stat`.
    pub stat: MemoryStat,
    /// `memory.pressure`.
    pub pressure: Pressure,
    /// `io.pressure`; pages of files that were reclaimed too early are waited for there.
    pub io: Pressure,
    /// `memory.swap.current` and what more there is of it.
    pub swap: Swap,
    /// Threads in the cgroup (`pids.current`), each of which may have a charge under way.
    pub threads: u64,
}

impl MemoryStat {
    /// Everything charged that `memory.stat` names, each page once: anon + file + kernel + sock.
    #[must_use]
    pub const fn total(&self) -> Bytes {
        self.anon.saturating_add(self.file).saturating_add(self.kernel).saturating_add(self.sock)
    }

    /// Clean page cache that reclaim can take at once: the two file lists, and what is on its way to or from a list, without dirty
    /// and writeback.
    ///
    /// A page is on no list while it is being read in or looked at by reclaim: a large folio is 2 MiB of them, which a reader would
    /// seem to need. Capped by `file - shmem`: the counters are flushed one after the other and may disagree for a moment.
    #[must_use]
    pub fn cache(&self) -> Bytes {
        let lists = self.inactive_file.saturating_add(self.active_file);
        let listed = lists.0 + self.inactive_anon.0 + self.active_anon.0 + self.unevictable.0;
        let on_its_way = self.anon.saturating_add(self.file).saturating_sub(Bytes(listed));
        let pagecache = self.file.saturating_sub(self.shmem);
        lists
            .saturating_add(on_its_way)
            .min(pagecache)
            .saturating_sub(self.file_dirty)
            .saturating_sub(self.file_writeback)
    }

    /// What the workload cannot give up without swap or I/O: everything but the clean cache.
    ///
    /// This is anon + shmem + unevictable file + kernel + sock + dirty + writeback with each page counted once.
    /// Adding those fields up would count locked anonymous memory twice; the difference cannot, and is never more
    /// than the total.
    #[must_use]
    pub fn need(&self) -> Bytes {
        self.total().saturating_sub(self.cache())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn need_counts_each_page_once() {
        let mib = Bytes::mib;
        let none = MemoryStat::default();
        let table = [
            ("nothing", none, 0, 0),
            ("anon", MemoryStat { anon: mib(10), ..none }, 10, 0),
            ("locked anon", MemoryStat { anon: mib(10), unevictable: mib(10), ..none }, 10, 0),
            (
                "clean cache",
                MemoryStat { file: mib(9), inactive_file: mib(6), active_file: mib(3), ..none },
                0,
                9,
            ),
            ("locked file", MemoryStat { file: mib(9), unevictable: mib(9), ..none }, 9, 0),
            ("tmpfs", MemoryStat { file: mib(9), shmem: mib(9), ..none }, 9, 0),
            (
                "dirty",
                MemoryStat {
                    file: mib(9),
                    inactive_file: mib(9),
                    file_dirty: mib(2),
                    file_writeback: mib(3),
                    ..none
                },
                5,
                4,
            ),
            ("kernel and sockets", MemoryStat { kernel: mib(2), sock: mib(1), ..none }, 3, 0),
            (
                "a large folio that is being read in",
                MemoryStat { anon: mib(5), active_anon: mib(5), file: mib(9), inactive_file: mib(7), ..none },
                5,
                9,
            ),
            (
                "a huge page that is being touched",
                MemoryStat { anon: mib(5), active_anon: mib(3), file: mib(9), inactive_file: mib(9), ..none },
                5,
                9,
            ),
            ("lists ahead of file", MemoryStat { file: mib(4), inactive_file: mib(6), ..none }, 0, 4),
        ];
        for (name, stat, need, cache) in table {
            assert_eq!((stat.need(), stat.cache()), (mib(need), mib(cache)), "{name}");
        }
    }
}
