//! Real programs of Debian as workloads, none of them written for this, and the cgroups that they run in: what the demo and the
//! benchmark of density have in common.

pub mod child;
pub mod files;
pub mod group;
pub mod logs;
pub mod nginx;
pub mod redis;

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where administration programs live; `PATH` may lack it.
const SBIN: &str = "/usr/sbin";

/// A program of a package of Debian's, wherever it is.
pub fn find_program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs = env::split_paths(&path).chain([PathBuf::from(SBIN)]);
    match dirs.find_map(|dir| Some(dir.join(name)).filter(|program| program.is_file())) {
        Some(program) => Ok(program),
        None => bail!("{name} is missing: apt-get install {package}"),
    }
}

/// A program that was built beside this one.
pub fn find_sibling(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find this executable")?;
    let sibling = own.parent().unwrap_or(Path::new("/")).join(name);
    if !sibling.is_file() {
        bail!("{} is missing: build it with `cargo build --release --workspace`", sibling.display());
    }
    Ok(sibling)
}

/// Sends output and errors of `command` to a file.
pub fn with_log<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    Ok(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
}

/// What stress-ng is told: one pass over the memory, which is then held. It would offer itself to the OOM killer before
/// others, and choose advice for the kernel by chance; a real job does neither.
#[must_use]
pub fn stress_ng(mib: u64, hold_s: u64) -> Vec<String> {
    let (bytes, hold) = (format!("{mib}M"), hold_s.to_string());
    let words = [
        "--vm",
        "1",
        "--vm-method",
        "zero-one",
        "--vm-ops",
        "1",
        "--no-oom-adjust",
        "--no-madvise",
        "--quiet",
    ];
    let sized = ["--vm-bytes", &bytes, "--vm-hang", &hold];
    words.iter().chain(&sized).map(|&word| word.to_owned()).collect()
}
