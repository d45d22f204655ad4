//! `bellows unpack`: the tar of a root file system, for `--rootfs`.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use bellows_policies::units::Bytes;
use clap::Args;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use crate::workload::unpack::{Unpacked, unpack};

/// A directory of its own is made, that nobody else can enter: what is set-user-ID in a tenant's root must not be in reach of others.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The archive, as `docker export` writes it; - is standard input.
    archive: String,
    /// The directory to be made: the root file system is DIR/root. No part of the path may be a symbolic link.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The host's user that is root in there: the first of the tenant's, which `getfattr -n trusted.bellows.ids` on its cgroup tells
    /// [default: all files are the caller's, and none is set-user-ID].
    #[arg(long, value_name = "ID")]
    ids: Option<u32>,
    /// What the archive may come to; each entry counts for 4 KiB besides its data.
    #[arg(long, value_name = "SIZE", default_value = "16G")]
    max: Bytes,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { archive, directory, ids, max, json } = arguments;
    let source: Box<dyn Read> = match archive.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        file => Box::new(File::open(file).with_context(|| format!("cannot open {file}"))?),
    };
    let root = make(directory, *ids)?;
    let done = unpack(source, root.as_fd(), *ids, *max);
    // Not removed: whoever may change a directory on the way could have something else removed by now.
    let left = || format!("{} has what was unpacked until then: remove it", directory.display());
    let Unpacked { entries, bytes, left_out } = done.with_context(left)?;
    let root = directory.join("root");
    if *json {
        let told =
            serde_json::json!({ "root": root, "entries": entries, "bytes": bytes, "left_out": left_out });
        println!("{told}");
    } else {
        println!("{}: {entries} entries, {bytes}; {left_out} devices and pipes left out", root.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the directory and the root in it, by descriptors: a tenant may be able to change a directory on the way.
fn make(directory: &Path, ids: Option<u32>) -> anyhow::Result<OwnedFd> {
    let shown = directory.display();
    let name = directory.file_name().with_context(|| format!("{shown} names no new directory"))?;
    let above = directory.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let path = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let above = openat2(AT_FDCWD, above, OpenHow::new().flags(path).resolve(resolve))
        .with_context(|| format!("cannot open {} (no part of it may be a symbolic link)", above.display()))?;
    let open = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    mkdirat(&above, name, Mode::S_IRWXU)
        .with_context(|| format!("cannot make {shown}: it has to be a new one"))?;
    let made = openat(&above, name, open, Mode::empty())?;
    let stat = fstat(&made)?;
    ensure!(
        stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o777 == 0o700,
        "{shown} was put in another's place meanwhile"
    );
    mkdirat(&made, "root", Mode::S_IRWXU)?;
    let root = openat(&made, "root", open, Mode::empty())?;
    if let Some(first) = ids {
        fchown(&root, Some(Uid::from_raw(first)), Some(Gid::from_raw(first)))
            .context("cannot give files to a tenant: run as root")?;
    }
    fchmod(&root, Mode::from_bits_truncate(0o755))?;
    Ok(root)
}
