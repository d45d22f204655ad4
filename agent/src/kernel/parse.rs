//! Kernel text into types. Pure: no file is opened here.
//!
//! Flat-keyed files are scanned in place, byte by byte, without allocating; unknown keys are skipped, since each kernel
//! adds some; a key that is missing stays zero.

use bellows_policies::cpu::{CpuSample, Cpus};
use bellows_policies::sample::{MemoryEvents, MemoryStat, Pressure};
use bellows_policies::units::{Bytes, Instant, Limit};

use super::cpu::NodeTime;

/// `memory.events` or `memory.events.local`.
#[must_use]
pub fn memory_events(text: &[u8]) -> MemoryEvents {
    let mut events = MemoryEvents::default();
    for (key, value) in flat_keyed(text) {
        match key {
            b"low" => events.low = value,
            b"high" => events.high = value,
            b"max" => events.max = value,
            b"oom" => events.oom = value,
            b"oom_kill" => events.oom_kill = value,
            b"oom_group_kill" => events.oom_group_kill = value,
            _ => {}
        }
    }
    events
}

/// `memory.stat`: the fields that the memory law looks at.
#[must_use]
pub fn memory_stat(text: &[u8]) -> MemoryStat {
    let mut stat = MemoryStat::default();
    for (key, value) in flat_keyed(text) {
        match key {
            b"anon" => stat.anon = Bytes(value),
            b"file" => stat.file = Bytes(value),
            b"kernel" => stat.kernel = Bytes(value),
            b"sock" => stat.sock = Bytes(value),
            b"shmem" => stat.shmem = Bytes(value),
            b"file_dirty" => stat.file_dirty = Bytes(value),
            b"file_writeback" => stat.file_writeback = Bytes(value),
            b"inactive_anon" => stat.inactive_anon = Bytes(value),
            b"active_anon" => stat.active_anon = Bytes(value),
            b"inactive_file" => stat.inactive_file = Bytes(value),
            b"active_file" => stat.active_file = Bytes(value),
            b"unevictable" => stat.unevictable = Bytes(value),
            b"workingset_refault_anon" => stat.workingset_refault_anon = value,
            b"workingset_activate_file" => stat.workingset_activate_file = value,
            b"workingset_refault_file" => stat.workingset_refault_file = value,
            b"pgscan" => stat.pgscan = value,
            b"pgsteal" => stat.pgsteal = value,
            b"zswap" => stat.zswap = Bytes(value),
            b"zswapped" => stat.zswapped = Bytes(value),
            _ => {}
        }
    }
    stat
}

/// A pressure file: the totals of its `some` and `full` lines.
#[must_use]
pub fn pressure(text: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.split(|&b| b == b'\n') {
        let Some(at) = line.windows(6).position(|w| w == b"total=") else { continue };
        let total = number(&line[at + 6..]).unwrap_or(0);
        if line.starts_with(b"some") {
            pressure.some_us = total;
        } else if line.starts_with(b"full") {
            pressure.full_us = total;
        }
    }
    pressure
}

/// `cpu.stat`, read at `at`. Without the cpu controller the counters of throttling are missing, and stay zero.
#[must_use]
pub fn cpu_stat(text: &[u8], at: Instant) -> CpuSample {
    let mut sample = CpuSample { at, ..CpuSample::default() };
    for (key, value) in flat_keyed(text) {
        match key {
            b"usage_usec" => sample.usage_us = value,
            b"nr_periods" => sample.nr_periods = value,
            b"nr_throttled" => sample.nr_throttled = value,
            b"throttled_usec" => sample.throttled_us = value,
            _ => {}
        }
    }
    sample
}

/// `cpu.max`: quota and period. The inner `None` is no limit.
#[must_use]
pub fn cpu_max(text: &[u8]) -> Option<Option<Cpus>> {
    let space = text.iter().position(|&b| b == b' ')?;
    let (quota, period) = (limit(text)?, number(&text[space + 1..])?);
    Some(match quota {
        Limit::Max => None,
        Limit::At(quota) => Some(Cpus::from_quota(quota.0, period)),
    })
}

/// `/proc/stat`: time of all cpus. Idle is idle and waiting for I/O; guests are in user time already.
#[must_use]
pub fn node_time(text: &[u8]) -> NodeTime {
    let mut time = NodeTime::default();
    for line in text.split(|&b| b == b'\n').take_while(|line| line.starts_with(b"cpu")) {
        let mut fields = line.split(|&b| b == b' ').filter(|field| !field.is_empty());
        if fields.next() != Some(b"cpu") {
            time.cpus += 1;
            continue;
        }
        for (index, value) in fields.take(8).map(|field| number(field).unwrap_or(0)).enumerate() {
            time.total += value;
            time.busy += if matches!(index, 3 | 4) { 0 } else { value };
        }
    }
    time
}

/// The value of one key of a flat-keyed file, such as `populated` of `cgroup.events`.
#[must_use]
pub fn value_of(text: &[u8], key: &str) -> Option<u64> {
    flat_keyed(text).find(|(k, _)| *k == key.as_bytes()).map(|(_, v)| v)
}

/// A limit file: digits or `max`.
#[must_use]
pub fn limit(text: &[u8]) -> Option<Limit> {
    if text.starts_with(b"max") { Some(Limit::Max) } else { number(text).map(|n| Limit::At(Bytes(n))) }
}

/// The number at the start of `text`, up to the first byte that is no digit.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    text[..digits].iter().try_fold(0_u64, |n, b| n.checked_mul(10)?.checked_add(u64::from(b - b'0')))
}

fn flat_keyed(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let space = line.iter().position(|&b| b == b' ')?;
        Some((&line[..space], number(&line[space + 1..])?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_a_6_1_kernel() {
        let events =
            memory_events(b"low 1\nhigh 432\nmax 7\noom 2\noom_kill 1\noom_group_kill 1\nsock_throttled 3\n");
        assert_eq!(
            events,
            MemoryEvents { low: 1, high: 432, max: 7, oom: 2, oom_kill: 1, oom_group_kill: 1 }
        );
    }

    #[test]
    fn pressure_takes_totals_and_nothing_else() {
        let text = b"some avg10=0.12 avg60=1.00 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n";
        assert_eq!(pressure(text), Pressure { some_us: 123_456, full_us: 99 });
    }

    #[test]
    fn limits_and_numbers() {
        assert_eq!(limit(b"max\n"), Some(Limit::Max));
        assert_eq!(limit(b"67108864\n"), Some(Limit::At(Bytes(67_108_864))));
        assert_eq!(limit(b"\n"), None);
        assert_eq!(number(b"99999999999999999999999"), None, "overflow is not a number");
        assert_eq!(value_of(b"populated 1\nfrozen 0\n", "frozen"), Some(0));
        assert_eq!(value_of(b"populated 1\n", "frozen"), None);
    }

    #[test]
    fn cpu_files() {
        let text =
            b"usage_usec 700\nuser_usec 1\nsystem_usec 2\nnr_periods 9\nnr_throttled 4\nthrottled_usec 5\n";
        let sample = cpu_stat(text, Instant(3));
        assert_eq!((sample.at, sample.usage_us, sample.nr_periods), (Instant(3), 700, 9));
        assert_eq!((sample.nr_throttled, sample.throttled_us), (4, 5));
        assert_eq!(cpu_max(b"max 100000\n"), Some(None));
        assert_eq!(cpu_max(b"25000 50000\n"), Some(Some(Cpus::milli(500))));
        assert_eq!(cpu_max(b"\n"), None);
    }

    #[test]
    fn node_time_counts_cpus_and_leaves_idle_out() {
        let text = b"cpu  10 1 2 100 50 3 4 5 7 0\ncpu0 5 0 1 50 25 1 2 2 3 0\ncpu1 5 1 1 50 25 2 2 3 4 0\nintr 1\ncpu9 1";
        assert_eq!(node_time(text), NodeTime { busy: 25, total: 175, cpus: 2 });
    }

    #[test]
    fn stat_skips_what_it_does_not_know() {
        let stat = memory_stat(
            b"anon 4096\nfile 8192\nkernel_stack 1\nshmem 512\nworkingset_activate_file 9\npgscan 5\nzswap 7\nzswapped 21\n",
        );
        assert_eq!((stat.anon, stat.file, stat.shmem), (Bytes(4096), Bytes(8192), Bytes(512)));
        assert_eq!((stat.workingset_activate_file, stat.pgscan), (9, 5));
        assert_eq!((stat.zswap, stat.zswapped), (Bytes(7), Bytes(21)));
    }
}
