//! Files that tenants read: written past the page cache, and dropped from it between the ways.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};

/// Where memory and size of what is written past the page cache begin and end: a page is enough for every disk.
const ALIGNMENT: usize = 4096;

/// Writes whole pages. Past the page cache, which saves a slow guest a copy, where the file system can do that.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let open =
        |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    let mut aligned = vec![0; content.len() + ALIGNMENT];
    let start = aligned.as_ptr().align_offset(ALIGNMENT);
    let aligned = &mut aligned[start..start + content.len()];
    aligned.copy_from_slice(content);
    let write = || {
        let mut file = open(OFlag::O_DIRECT.bits()).or_else(|_| open(0))?;
        file.write_all(aligned)?;
        file.sync_data()
    };
    write().with_context(|| format!("cannot write {} bytes to {}", content.len(), path.display()))
}

/// Drops a file from the page cache: whoever reads a page first is charged for it.
pub fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .with_context(|| format!("cannot drop {} from the cache", path.display()))
}
