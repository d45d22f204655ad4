//! Disk images of a guest: sparse files in the run directory, thrown away with it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::size::Size;
use super::tool;

const PAGE: u64 = 4096;
/// Offset of the header's fields `version`, `last_page` in a swap area's first page; `union swap_header` in the
/// kernel's include/linux/swap.h.
const SWAP_HEADER: u64 = 1024;
const SWAP_MAGIC: &[u8; 10] = b"SWAPSPACE2";

/// Makes an ext4 file system.
pub(super) fn create_ext4(path: &Path, size: Size) -> Result<()> {
    File::create(path)?.set_len(size.bytes()).with_context(|| format!("create {}", path.display()))?;
    let mkfs = tool::find("mkfs.ext4").context("mkfs.ext4 is missing: run `bellows-kernel setup`")?;
    // The file is all zeroes already: neither inode tables nor journal need to be written out.
    let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    tool::run(Command::new(mkfs).args(["-q", "-F", "-m", "0", "-E", lazy]).arg(path))
}

/// Makes a swap area.
pub(super) fn create_swap(path: &Path, size: Size) -> Result<()> {
    let pages = size.bytes() / PAGE;
    ensure!(pages > 10, "a swap area of {} bytes is too small", size.bytes());
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(pages * PAGE)?;
    let last_page = u32::try_from(pages - 1).context("a swap area has less than 16 TiB")?;
    let version: u32 = 1;
    file.write_all_at(&version.to_le_bytes(), SWAP_HEADER)?;
    file.write_all_at(&last_page.to_le_bytes(), SWAP_HEADER + 4)?;
    file.write_all_at(SWAP_MAGIC, PAGE - SWAP_MAGIC.len() as u64)?;
    Ok(())
}
