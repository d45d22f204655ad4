//! `bellows-kernel setup`: what tests and demo need of this machine, installed where missing.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::kernel::Kernel;
use super::{qemu, system, tool};

/// Packages, each with the program that proves it.
const PACKAGES: [(&str, &str); 12] = [
    ("qemu-system-x86", qemu::PROGRAM),
    ("e2fsprogs", "mkfs.ext4"),
    ("util-linux", "setpriv"),
    ("xz-utils", "xz"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("redis-server", "redis-server"),
    ("redis-tools", "redis-cli"),
    ("nginx-light", "nginx"),
    ("stress-ng", "stress-ng"),
    ("crun", "crun"),
    ("prometheus", "promtool"),
];
/// And what only the benchmark needs, to be compared with.
const BENCH_PACKAGES: [(&str, &str); 2] = [("runc", "runc"), ("bubblewrap", "bwrap")];

/// What not every run needs.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct Extras {
    /// Install what only the benchmark needs, too
    #[arg(long)]
    pub bench: bool,
    /// Fetch that suite's systemd, too
    #[arg(long)]
    pub systemd: bool,
}

/// Makes sure that all packages are installed and the kernel of `suite` is there, and what else is wanted.
pub fn set_up(suite: &str, extras: Extras) -> Result<()> {
    let start = Instant::now();
    install_missing(if extras.bench { &BENCH_PACKAGES } else { &[] })?;
    let kernel = Kernel::fetch(suite)?;
    eprintln!("kernel of {suite}: {} ({:.1?})", kernel.vmlinux().display(), start.elapsed());
    if extras.systemd {
        let system = system::fetch(suite)?;
        eprintln!("systemd of {suite}: {} ({:.1?})", system.display(), start.elapsed());
    }
    Ok(())
}

fn install_missing(more: &[(&str, &str)]) -> Result<()> {
    let is_missing = |(_, program): &&(&str, &str)| tool::find(program).is_none();
    let missing =
        PACKAGES.iter().chain(more).filter(is_missing).map(|(package, _)| *package).collect::<Vec<_>>();
    if missing.is_empty() {
        eprintln!("packages: all there");
        return Ok(());
    }
    let missing = missing.join(" ");
    let install = "apt-get install -y --no-install-recommends";
    if !Uid::effective().is_root() {
        bail!("packages are missing, please run:\n  sudo apt-get update && sudo {install} {missing}");
    }
    eprintln!("installing {missing}");
    apt_get("update -q")?;
    apt_get(&format!("{} {missing}", install.trim_start_matches("apt-get ")))
}

fn apt_get(arguments: &str) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments.split(' ')).env("DEBIAN_FRONTEND", "noninteractive");
    tool::run(&mut command).context("apt-get failed; packages can only be installed on Debian and its kin")
}
