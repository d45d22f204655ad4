//! Debian's packages: fetched from a mirror, unpacked, never installed.
//!
//! apt gets lists and caches of its own, so that it works for any user, for any suite, and leaves the system's alone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::run_dir::guest_dir;
use super::tool;

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes `target/guest/NAME` by `make`, unless it is there: that is told a directory to work in, which is removed, and the new one.
/// An interrupted fetch leaves nothing that is taken for a whole one.
pub(super) fn fetch(name: &str, make: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<()> {
    let guest_dir = guest_dir()?;
    fs::create_dir_all(&guest_dir).with_context(|| format!("create {}", guest_dir.display()))?;
    let lock = File::create(guest_dir.join("setup.lock"))?;
    lock.lock().context("wait for another setup")?;
    let target = guest_dir.join(name);
    if target.is_dir() {
        return Ok(());
    }
    let new = guest_dir.join(format!("{name}.new"));
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    let work = guest_dir.join(format!("{name}.work"));
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    for dir in [&new, &work] {
        fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    make(&work, &new)?;
    fs::remove_dir_all(&work)?;
    Ok(fs::rename(&new, target)?)
}

/// Reads the package lists of a suite into `work`.
pub(super) fn read_lists(suite: &str, work: &Path) -> Result<()> {
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(work.join(dir))?;
    }
    let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", find_mirror());
    fs::write(work.join("debian.list"), &source)?;
    eprintln!("reading the package lists: {}", source.trim_end());
    tool::run(apt(work, "apt-get").arg("update"))
        .context("no Debian mirror answers; elsewhere than on Debian only BELLOWS_KERNEL=native is possible")
}

/// The mirror that this machine uses already, for it is reachable; of the two formats of sources only the URIs matter.
fn find_mirror() -> String {
    let texts = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    let mut mirrors =
        words.filter(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"));
    mirrors.next().unwrap_or(DEFAULT_MIRROR).to_owned()
}

/// A program of apt's, with the lists and the cache in `work`.
pub(super) fn apt(work: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(work).env("LC_ALL", "C").arg("-q");
    for (option, value) in [
        ("Dir::Etc::sourcelist", work.join("debian.list")),
        ("Dir::Etc::sourceparts", "/dev/null".into()),
        ("Dir::State::Lists", work.join("lists")),
        ("Dir::Cache", work.join("cache")),
        ("Acquire::Languages", "none".into()),
        // Root's apt would change to a user that cannot write here.
        ("APT::Sandbox::User", "root".into()),
    ] {
        command.arg("-o").arg(format!("{option}={}", value.display()));
    }
    command
}

/// Unpacks all packages that are in a directory.
pub(super) fn unpack(packages: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for entry in fs::read_dir(packages).with_context(|| format!("read {}", packages.display()))? {
        let package = entry?.path();
        if package.extension().is_none_or(|kind| kind != "deb") {
            continue;
        }
        eprintln!("unpacking {}", package.file_name().unwrap_or_default().display());
        let mut dpkg =
            Command::new("dpkg").arg("--fsys-tarfile").arg(&package).stdout(Stdio::piped()).spawn()?;
        let stream = dpkg.stdout.take().context("dpkg's output is piped")?;
        let tar = Command::new("tar")
            .arg("-x")
            .arg("--keep-directory-symlink")
            .current_dir(root)
            .stdin(stream)
            .status()?;
        ensure!(dpkg.wait()?.success() && tar.success(), "{} cannot be unpacked", package.display());
    }
    Ok(())
}
