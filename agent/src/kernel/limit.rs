//! Typed writes of limits through descriptors that stay open. No allocation: the number is formatted on the stack.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bellows_policies::units::Limit;

use super::cgroup::{Cgroup, CgroupError};
use super::parse;

/// An open limit file of one cgroup. Writes through one open file are serialised by the kernel, so each lane opens its own.
#[derive(Debug)]
pub struct LimitFile {
    file: File,
}

impl LimitFile {
    /// Opens `name` (for example `memory.high`) of `cgroup`, for writes that are not to reclaim (where the kernel can).
    pub fn open(cgroup: &Cgroup, name: &'static str) -> Result<Self, CgroupError> {
        Ok(Self { file: cgroup.open_nonblocking(name)? })
    }

    /// Opens `name` for writes that may reclaim: lowering a limit below use makes the writer do the work, instead of the
    /// workload with its next charge.
    pub fn open_blocking(cgroup: &Cgroup, name: &'static str) -> Result<Self, CgroupError> {
        Ok(Self { file: cgroup.open_write(name)? })
    }

    /// Reads the limit in force; only of a file opened by [`LimitFile::open`].
    pub fn read(&self) -> io::Result<Limit> {
        let mut text = [0_u8; 32];
        let length = self.file.read_at(&mut text, 0)?;
        parse::limit(&text[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes the limit. Raising returns at once; lowering below use blocks in reclaim, and a signal ends that.
    pub fn write(&self, limit: Limit) -> io::Result<()> {
        let mut digits = Digits::new();
        let text = digits.of(limit);
        // write_at instead of write_all_at: a control file takes a value whole or not at all, and EINTR is a result here.
        self.file.write_at(text, 0).map(drop)
    }
}

/// Room for the longest limit: 20 digits of a u64.
struct Digits([u8; 20]);

impl Digits {
    fn new() -> Self {
        Self([0; 20])
    }

    fn of(&mut self, limit: Limit) -> &[u8] {
        let Limit::At(bytes) = limit else { return b"max" };
        let mut n = bytes.0;
        let mut start = self.0.len();
        loop {
            start -= 1;
            self.0[start] = b'0' + u8::try_from(n % 10).unwrap_or(0);
            n /= 10;
            if n == 0 {
                return &self.0[start..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::units::Bytes;

    #[test]
    fn digits_as_the_kernel_reads_them() {
        for (limit, text) in [
            (Limit::Max, "max".to_owned()),
            (Limit::At(Bytes(0)), "0".to_owned()),
            (Limit::At(Bytes(67_108_864)), "67108864".to_owned()),
            (Limit::At(Bytes(u64::MAX)), u64::MAX.to_string()),
        ] {
            assert_eq!(Digits::new().of(limit), text.as_bytes());
        }
    }
}
