//! Anonymous memory that is touched page by page: the one file with `unsafe`.

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The size of a small page.
pub(crate) const PAGE: usize = 4096;
/// And of a huge one.
pub(crate) const HUGE: usize = 2 << 20;

/// A private anonymous mapping, none of it present at first.
#[derive(Debug)]
pub(crate) struct Region {
    start: NonNull<c_void>,
    length: usize,
}

impl Region {
    /// Maps `length` bytes.
    pub(crate) fn map(length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start =
            unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)? };
        Ok(Self { start, length })
    }

    /// Forbids huge pages, so that each touch is a charge of its own.
    pub(crate) fn use_small_pages(&self) -> io::Result<()> {
        self.advise(0, self.length, MmapAdvise::MADV_NOHUGEPAGE)
    }

    /// Asks for huge pages.
    pub(crate) fn use_huge_pages(&self) -> io::Result<()> {
        self.advise(0, self.length, MmapAdvise::MADV_HUGEPAGE)
    }

    /// The offset of the first address that is a multiple of `alignment`.
    pub(crate) fn first_aligned(&self, alignment: usize) -> usize {
        let address = self.start.addr().get();
        address.next_multiple_of(alignment) - address
    }

    /// Writes one byte of the page at `offset`: a page fault and a charge if it was not present.
    pub(crate) fn touch(&mut self, offset: usize) {
        assert!(offset < self.length, "a touch outside of the region");
        // SAFETY: the address lies within the mapping, which is writable and exclusively ours.
        unsafe { self.start.as_ptr().cast::<u8>().add(offset).write_volatile(1) };
    }

    /// Has the kernel make `length` bytes from `offset` present, writable, in one call.
    pub(crate) fn populate(&mut self, offset: usize, length: usize) -> io::Result<()> {
        self.advise(offset, length, MmapAdvise::MADV_POPULATE_WRITE)
    }

    fn advise(&self, offset: usize, length: usize, advice: MmapAdvise) -> io::Result<()> {
        assert!(offset + length <= self.length, "advice outside of the region");
        // SAFETY: the range lies within the mapping, and no advice that is given here discards its content.
        unsafe { madvise(self.start.byte_add(offset), length, advice)? };
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}
