//! The one file of the load generator with `unsafe`: anonymous memory whose pages are faulted one by one, on demand.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// A private anonymous mapping.
pub(crate) struct Mapping {
    base: NonNull<std::ffi::c_void>,
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes, with or without transparent huge pages whatever the system's default is.
    pub(crate) fn new(length: usize, huge: bool) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let (protection, flags) =
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE);
        // SAFETY: a new mapping anywhere overlaps nothing.
        let base = unsafe { mmap_anonymous(None, size, protection, flags) }?;
        let advice = if huge { MmapAdvise::MADV_HUGEPAGE } else { MmapAdvise::MADV_NOHUGEPAGE };
        // SAFETY: the range is the mapping just made. A kernel without huge pages refuses, and there are none then.
        let _ = unsafe { madvise(base, length, advice) };
        Ok(Self { base, length })
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Writes one byte at `at`, which faults its page in.
    pub(crate) fn touch(&mut self, at: usize) {
        assert!(at < self.length);
        // SAFETY: within the mapping, which is writable and ours alone.
        unsafe { self.base.as_ptr().cast::<u8>().add(at).write_volatile(1) };
    }

    /// Faults a range in with one call.
    pub(crate) fn populate(&mut self, start: usize, end: usize) -> io::Result<()> {
        assert!(start <= end && end <= self.length);
        // SAFETY: the range is within the mapping; populating changes no contents.
        let result = unsafe {
            libc::madvise(
                self.base.as_ptr().cast::<u8>().add(start).cast(),
                end - start,
                libc::MADV_POPULATE_WRITE,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody refers into it any more.
        let _ = unsafe { munmap(self.base, self.length) };
    }
}
