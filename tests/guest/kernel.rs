//! Debian's generic kernel: fetched from a mirror, never installed.
//!
//! ```text
//!   target/guest/SUITE/vmlinux         ELF, cut out of the bzImage
//!   target/guest/SUITE/modules/NN-NAME.ko   uncompressed, numbered in the order in which they must be loaded
//! ```

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::boot::{MODULES_DIR, PLAN_FILE, Plan};
use super::cpio::Archive;
use super::debian::{self, apt};
use super::run_dir::guest_dir;
use super::{bzimage, modinfo, tool};

/// What a guest needs beside what is built into the kernel. A name that does not exist is built in.
const MODULES: [&str; 8] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_console",
    "virtio_blk",
    "ext4",
    NETWORK_MODULES[2],
];
/// Left out of a guest without network.
const NETWORK_MODULES: [&str; 3] = ["failover", "net_failover", "virtio_net"];
/// Where packages have their modules: under usr/ since Debian merged it.
const MODULE_DIRS: [&str; 2] = ["lib/modules", "usr/lib/modules"];
/// The package that depends on the current kernel of a suite.
const META_PACKAGE: &str = "linux-image-amd64";

/// A kernel that has been fetched.
#[derive(Debug)]
pub struct Kernel {
    dir: PathBuf,
}

impl Kernel {
    /// The kernel of a suite, if it has been fetched.
    pub fn find(suite: &str) -> Result<Self> {
        let dir = guest_dir()?.join(suite);
        ensure!(
            dir.is_dir(),
            "there is no kernel of {suite} yet: run `bellows-kernel setup --suite {suite}`"
        );
        Ok(Self { dir })
    }

    /// Fetches the kernel of a suite unless it is there. An interrupted fetch leaves nothing that is taken for one.
    pub fn fetch(suite: &str) -> Result<Self> {
        debian::fetch(suite, |work, new| {
            download(suite, work)?;
            unpack(work, new)
        })?;
        Self::find(suite)
    }

    /// The bootable ELF file.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// The initramfs of a guest: init, the modules and the plan.
    pub fn build_initramfs(&self, init: &Path, plan: &Plan) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        archive.add_directory("proc");
        archive.add_directory(MODULES_DIR);
        let modules = fs::read_dir(self.dir.join(MODULES_DIR))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        for path in modules {
            let file_name = path.file_name().context("a module has a name")?.to_string_lossy();
            let name = file_name.trim_end_matches(".ko").trim_start_matches(|c: char| c.is_ascii_digit());
            if plan.has_network || !NETWORK_MODULES.contains(&&name[1..]) {
                archive.add_file(&format!("{MODULES_DIR}/{file_name}"), &read(&path)?);
            }
        }
        archive.add_file(PLAN_FILE, plan.encode()?.as_bytes());
        archive.add_file("init", &read(init)?);
        Ok(archive.finish())
    }
}

/// The suite of this machine.
pub fn default_suite() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("which system is this?")?;
    let codename = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename
        .map(str::to_owned)
        .context("/etc/os-release has no VERSION_CODENAME: name a Debian suite by --suite")
}

fn download(suite: &str, work: &Path) -> Result<()> {
    debian::read_lists(suite, work)?;
    let depends = tool::read(apt(work, "apt-cache").args(["depends", META_PACKAGE]))?;
    let image = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{META_PACKAGE} of {suite} depends on no kernel"))?;
    let mut packages = vec![image.to_owned()];
    // Since 7.x the kernel and its modules are packages of their own.
    for part in ["linux-binary-", "linux-modules-"] {
        let name = image.replace("linux-image-", part);
        if tool::read(apt(work, "apt-cache").args(["show", &name])).is_ok_and(|text| !text.is_empty()) {
            packages.push(name);
        }
    }
    eprintln!("fetching {}", packages.join(", "));
    tool::run(apt(work, "apt-get").arg("download").args(&packages))
}

fn unpack(work: &Path, new: &Path) -> Result<()> {
    let root = work.join("root");
    debian::unpack(work, &root)?;
    extract_vmlinux(&find_image(&root)?, &new.join("vmlinux"))?;
    extract_modules(&root, &new.join(MODULES_DIR))
}

/// In /boot, or, since 7.x, beside the modules.
fn find_image(root: &Path) -> Result<PathBuf> {
    let mut dirs = vec![root.join("boot")];
    for releases in MODULE_DIRS.map(|dir| root.join(dir)).iter().filter(|dir| dir.is_dir()) {
        dirs.extend(list(releases)?);
    }
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        let is_image = |path: &&PathBuf| path.is_file() && path.file_name().is_some_and(is_image_name);
        if let Some(image) = list(dir)?.iter().find(is_image) {
            return Ok(image.clone());
        }
    }
    bail!("the package has no kernel")
}

fn is_image_name(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("vmlinuz")
}

fn extract_vmlinux(image: &Path, target: &Path) -> Result<()> {
    let image = fs::read(image)?;
    let payload = bzimage::find_payload(&image)?;
    let Some(decompressor) = payload.decompressor else { return Ok(fs::write(target, payload.bytes)?) };
    let packed = target.with_extension("packed");
    fs::write(&packed, payload.bytes)?;
    decompress(decompressor, &packed, target)?;
    Ok(fs::remove_file(packed)?)
}

fn decompress(program: &str, from: &Path, to: &Path) -> Result<()> {
    let status = Command::new(program)
        .arg("-dc")
        .stdin(File::open(from)?)
        .stdout(File::create(to)?)
        .status()
        .with_context(|| format!("{program} is missing"))?;
    ensure!(status.success(), "{program} cannot decompress {}", from.display());
    Ok(())
}

fn extract_modules(root: &Path, target: &Path) -> Result<()> {
    let mut found = BTreeMap::new();
    for dir in MODULE_DIRS {
        find_modules(&root.join(dir), &mut found)?;
    }
    ensure!(!found.is_empty(), "the package has no modules");
    fs::create_dir(target)?;
    let mut done = HashSet::new();
    for name in MODULES {
        add_module(name, &found, target, &mut done)?;
    }
    Ok(())
}

/// All modules under `dir`, by normalized name.
fn find_modules(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    if !dir.is_dir() {
        return Ok(());
    }
    for path in list(dir)? {
        // Not through `build` and `source`, links to places that do not exist here.
        if path.is_symlink() {
            continue;
        }
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            find_modules(&path, found)?;
        } else if let Some((name, "" | ".xz" | ".zst" | ".gz")) = file_name.split_once(".ko") {
            found.insert(modinfo::normalize(name), path);
        }
    }
    Ok(())
}

/// Adds a module after those it depends on.
fn add_module(
    name: &str,
    found: &BTreeMap<String, PathBuf>,
    target: &Path,
    done: &mut HashSet<String>,
) -> Result<()> {
    let Some(path) = found.get(name) else { return Ok(()) };
    if done.contains(name) {
        return Ok(());
    }
    let plain = target.with_file_name("module.ko");
    match path.extension().and_then(|kind| kind.to_str()) {
        Some("xz") => decompress("xz", path, &plain)?,
        Some("zst") => decompress("zstd", path, &plain)?,
        Some("gz") => decompress("gzip", path, &plain)?,
        Some(_) => drop(fs::copy(path, &plain)?),
        None => bail!("{} is no module", path.display()),
    }
    let module = fs::read(&plain)?;
    fs::remove_file(&plain)?;
    for dependency in modinfo::find_dependencies(name, &module) {
        add_module(&dependency, found, target, done)?;
    }
    fs::write(target.join(format!("{:02}-{name}.ko", done.len())), module)?;
    done.insert(name.to_owned());
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
