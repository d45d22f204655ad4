//! The machine's swap: how much there is, and whether it is on a disk, compressed in front of it (zswap), or in RAM (zram).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellows_policies::units::{Bytes, Instant, Limit};

use super::parse;

/// Time after which it is looked at again: it fills, and devices come and go.
const FRESH: Duration = Duration::from_secs(1);

/// All swap devices together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// Size of those on disks.
    pub disk: Bytes,
    /// Size of those on zram.
    pub zram: Bytes,
    /// What is swapped out.
    pub used: Bytes,
    /// RAM that the zram devices take for it.
    pub zram_taken: Bytes,
    /// Pages go to a compressed pool in RAM first.
    pub has_zswap: bool,
}

impl Machine {
    /// Looks. Nothing where there is no swap.
    #[must_use]
    pub fn look() -> Self {
        let mut machine = Self::default();
        for (path, size, used) in devices(&fs::read_to_string("/proc/swaps").unwrap_or_default()) {
            machine.used = machine.used.saturating_add(used);
            let name = Path::new(path).file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(b"zram") {
                machine.zram = machine.zram.saturating_add(size);
                let stat = fs::read_to_string(Path::new("/sys/block").join(name).join("mm_stat"));
                machine.zram_taken = machine.zram_taken.saturating_add(taken(&stat.unwrap_or_default()));
            } else {
                machine.disk = machine.disk.saturating_add(size);
            }
        }
        let enabled = fs::read("/sys/module/zswap/parameters/enabled").unwrap_or_default();
        machine.has_zswap = enabled.starts_with(b"Y");
        machine
    }

    /// All of it.
    #[must_use]
    pub const fn size(&self) -> Bytes {
        self.disk.saturating_add(self.zram)
    }

    /// What more can be swapped out.
    #[must_use]
    pub const fn free(&self) -> Bytes {
        self.size().saturating_sub(self.used)
    }

    /// Thousandths of what is swapped out that zram takes in RAM.
    #[must_use]
    pub fn zram_permille(&self) -> u16 {
        let share = self.zram_taken.0.saturating_mul(1000).checked_div(self.used.0).unwrap_or(0);
        u16::try_from(share.min(1000)).unwrap_or(1000)
    }

    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.size() == Bytes::ZERO {
            return "none: anonymous memory cannot leave RAM, and what outgrows its ceiling is killed"
                .to_owned();
        }
        let size = match (self.disk, self.zram) {
            (disk, Bytes::ZERO) => format!("{disk} on disk"),
            (Bytes::ZERO, zram) => format!("{zram} of zram"),
            (disk, zram) => format!("{disk} on disk and {zram} of zram"),
        };
        let Self { used, zram_taken, .. } = *self;
        let share = f64::from(self.zram_permille()) / 10.0;
        let out = match (self.zram > Bytes::ZERO, used > Bytes::ZERO) {
            (true, true) => format!(": {used} swapped out, {zram_taken} of RAM taken for it ({share:.0} %)"),
            (true, false) => ": what is swapped out takes RAM still".to_owned(),
            (false, _) => format!(", {used} swapped out"),
        };
        let zswap = if self.has_zswap {
            "; behind zswap: what that holds takes RAM still, charged to its cgroup"
        } else {
            ""
        };
        size + &out + zswap
    }
}

/// What was looked at lately, for whoever asks often.
#[derive(Debug)]
pub struct Swaps {
    /// The delegated root, whose limits, and those above it, everybody shares.
    root: PathBuf,
    looked: Option<Instant>,
    machine: Machine,
    room: Bytes,
}

impl Swaps {
    /// Nothing is looked at before it is asked for.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), looked: None, machine: Machine::default(), room: Bytes::ZERO }
    }

    /// The machine's, and what more everybody below the root may swap out together; no older than a second.
    pub fn at(&mut self, now: Instant) -> (Machine, Bytes) {
        if self.looked.is_none_or(|looked| now.since(looked) >= FRESH) {
            self.looked = Some(now);
            self.machine = Machine::look();
            let levels = self.root.ancestors().map(room_at);
            self.room = levels.take_while(Option::is_some).flatten().fold(self.machine.free(), Bytes::min);
        }
        (self.machine, self.room)
    }
}

/// What more a cgroup may swap out; `None` where it has no such files, as the hierarchy's own root.
fn room_at(cgroup: &Path) -> Option<Bytes> {
    let max = parse::limit(&fs::read(cgroup.join("memory.swap.max")).ok()?)?;
    let used = Bytes(parse::number(&fs::read(cgroup.join("memory.swap.current")).ok()?)?);
    Some(room(max, used))
}

/// What more may be swapped out below a limit.
#[must_use]
pub const fn room(max: Limit, used: Bytes) -> Bytes {
    match max {
        Limit::Max => Bytes(u64::MAX),
        Limit::At(max) => max.saturating_sub(used),
    }
}

/// `/proc/swaps`: path, size and use of each device.
fn devices(text: &str) -> impl Iterator<Item = (&str, Bytes, Bytes)> {
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let path = fields.next()?;
        let mut kib =
            fields.skip(1).map_while(|field| Some(Bytes(field.parse::<u64>().ok()?.saturating_mul(1024))));
        Some((path, kib.next()?, kib.next()?))
    })
}

/// `mm_stat` of a zram device: RAM that it takes, its own tables included.
fn taken(text: &str) -> Bytes {
    Bytes(text.split_whitespace().nth(2).and_then(|field| field.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
        /dev/zram0                              partition\t2097148\t\t65536\t\t100\n\
        /swapfile                               file\t\t1048572\t\t0\t\t-2\n";

    #[test]
    fn devices_of_proc_swaps() {
        let found: Vec<_> = devices(SWAPS).collect();
        let kib = |n: u64| Bytes(n << 10);
        assert_eq!(
            found,
            [("/dev/zram0", kib(2_097_148), Bytes::mib(64)), ("/swapfile", kib(1_048_572), Bytes::ZERO)]
        );
        assert_eq!(devices("").count(), 0);
        assert_eq!(
            taken(" 67108864 16777216 20971520        0 20971520       12        0        0        0\n"),
            Bytes::mib(20)
        );
    }

    #[test]
    fn each_kind_is_told() {
        let disk = Machine { disk: Bytes::mib(1024), used: Bytes::mib(8), ..Machine::default() };
        let zram = Machine {
            zram: Bytes::mib(1024),
            used: Bytes::mib(60),
            zram_taken: Bytes::mib(20),
            ..Machine::default()
        };
        let words = [
            Machine::default(),
            disk,
            Machine { has_zswap: true, ..disk },
            zram,
            Machine { used: Bytes::ZERO, zram_taken: Bytes::ZERO, ..zram },
        ]
        .map(|machine| machine.describe());
        assert!(words[0].starts_with("none: "), "{words:?}");
        assert_eq!(words[1], "1 GiB on disk, 8 MiB swapped out");
        assert!(words[2].ends_with("charged to its cgroup"), "{words:?}");
        assert_eq!(words[3], "1 GiB of zram: 60 MiB swapped out, 20 MiB of RAM taken for it (33 %)");
        assert_eq!(words[4], "1 GiB of zram: what is swapped out takes RAM still");
        assert_eq!((zram.zram_permille(), disk.zram_permille()), (333, 0));
    }

    #[test]
    fn room_is_what_a_limit_leaves() {
        assert_eq!(room(Limit::Max, Bytes::mib(9)), Bytes(u64::MAX));
        assert_eq!(room(Limit::At(Bytes::mib(8)), Bytes::mib(3)), Bytes::mib(5));
        assert_eq!(room(Limit::At(Bytes::ZERO), Bytes::mib(3)), Bytes::ZERO);
    }
}
