//! The memory of the machine: an event when tasks stall, and what is available.
//!
//! The event is a trigger on the pressure file of the subtree's root, or of the whole machine where that is not to be had. The
//! kernel keeps it as long as the file is open, and has a thread for it: one for the root, not one for each workload.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bellows_policies::ladder::{NodeMemory, PressureLaw};
use bellows_policies::units::Bytes;

use super::cgroup::Cgroup;
use super::parse;

/// Where the machine's stalls are told, when the subtree's are not.
const MACHINE: &str = "/proc/pressure/memory";

/// A trigger: its file polls with POLLPRI when some task has waited for memory for `share` of [`PressureLaw::WINDOW_MS`].
pub fn trigger(root: &Cgroup, share: f64) -> io::Result<File> {
    let own = root.open_nonblocking("memory.pressure").map_err(io::Error::other);
    own.and_then(|file| arm(file, share)).or_else(|_| {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(MACHINE)?;
        arm(file, share)
    })
}

fn arm(mut file: File, share: f64) -> io::Result<File> {
    file.write_all(order(share).as_bytes())?;
    Ok(file)
}

/// As the kernel takes it: microseconds of some window of microseconds, the text ended by a zero byte.
fn order(share: f64) -> String {
    let window = Bytes(PressureLaw::WINDOW_MS * 1000);
    format!("some {} {}\0", window.scale(share).0.max(1), window.0)
}

/// `/proc/meminfo`, kept open.
#[derive(Debug)]
pub struct MemoryFile(File);

impl MemoryFile {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        File::open("/proc/meminfo").map(Self)
    }

    /// Reads it, without allocating. What is wanted stands within its first lines.
    pub fn read(&self) -> io::Result<NodeMemory> {
        let mut text = [0_u8; 2048];
        let length = self.0.read_at(&mut text, 0)?;
        memory(&text[..length]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

fn memory(text: &[u8]) -> Option<NodeMemory> {
    let kib = |key: &str| {
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()))?;
        let kib = parse::number(line.trim_ascii_start())?;
        Some(Bytes(kib.saturating_mul(1024)))
    };
    Some(NodeMemory {
        total: kib("MemTotal:")?,
        available: kib("MemAvailable:")?,
        swap_total: kib("SwapTotal:")?,
        swap_free: kib("SwapFree:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_as_the_kernel_writes_it() {
        let text = b"MemTotal:        3060000 kB\nMemFree:           10000 kB\nMemAvailable:     200000 kB\n\
            Buffers:               4 kB\nSwapCached:            0 kB\nSwapTotal:       1048572 kB\nSwapFree:        1048000 kB\n";
        let kib = |kib: u64| Bytes(kib * 1024);
        let expected = NodeMemory {
            total: kib(3_060_000),
            available: kib(200_000),
            swap_total: kib(1_048_572),
            swap_free: kib(1_048_000),
        };
        assert_eq!(memory(text), Some(expected));
        assert_eq!(memory(&text[..60]), None, "an answer that is not whole is none");
        assert!(MemoryFile::open().unwrap().read().unwrap().total > Bytes::ZERO);
    }

    #[test]
    fn a_trigger_as_the_kernel_takes_it() {
        assert_eq!(order(0.15), "some 300000 2000000\0");
        assert_eq!(order(0.0), "some 1 2000000\0");
    }
}
