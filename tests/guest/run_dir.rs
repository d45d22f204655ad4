//! The one directory that a run writes to: `target/guest/run/NAME`, removed at its end.
//!
//! Its owner holds a lock on the directory's `lock` file; one that is not locked was left by an owner that was
//! killed, and the next run sweeps it away.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::qemu::SHARE;

/// A run directory that this process owns.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes a fresh directory, after sweeping those of dead owners.
    pub fn create() -> Result<Self> {
        let runs = guest_dir()?.join("run");
        fs::create_dir_all(&runs).with_context(|| format!("create {}", runs.display()))?;
        // Held until the new directory is locked: nobody must take it for an abandoned one before.
        let all = File::create(runs.join("lock"))?;
        all.lock()?;
        sweep(&runs);
        let path = runs.join(unique_name());
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("bellows-kernel: {} is left behind: {error}", self.path.display());
        }
    }
}

/// Where kernels, run directories and what was learnt about this machine are kept.
pub fn guest_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("guest"))
}

/// A name that no other process and no earlier moment has.
#[must_use]
pub fn unique_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", process::id(), now.as_nanos())
}

/// Copies files and directories, but not the top directory itself.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target)
                .with_context(|| format!("copy {} to {}", source.display(), target.display()))?;
        }
    }
    Ok(())
}

fn sweep(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !is_owned(&path) && !is_mounted(&path) {
            fs::remove_dir_all(&path).ok();
        }
    }
}

fn is_owned(dir: &Path) -> bool {
    File::open(dir.join("lock")).is_ok_and(|lock| lock.try_lock().is_err())
}

/// What of this machine a guest with a root of its own has to see: the repository, and what is built of it.
pub(super) fn shown() -> Result<Vec<PathBuf>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let target = target_dir()?.canonicalize()?;
    let mut dirs = vec![repository.canonicalize()?];
    if !target.starts_with(&dirs[0]) {
        dirs.push(target);
    }
    Ok(dirs)
}

/// Within a guest, whose host's locks are not visible: is this the directory through which that guest is run?
fn is_mounted(dir: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(&dir.join(SHARE)).is_some_and(|share| Some(share) != device(dir))
}

/// Cargo's target directory: the one it was told, else the one that this program lies in, else the workspace's.
fn target_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR") {
        return std::path::absolute(&dir).with_context(|| format!("CARGO_TARGET_DIR={}", dir.display()));
    }
    let program = std::env::current_exe().context("the path of this program")?;
    // The outermost tag: the directory of a target triple has one too.
    let tagged = program.ancestors().filter(|dir| dir.join("CACHEDIR.TAG").exists()).last();
    Ok(tagged.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf))
}
