//! A small Debian with systemd, as a directory: the root of a guest whose PID 1 is to be the real one.
//!
//! Made of packages as the kernel is. No package's scripts have run: what a service of the tests needs of `/etc` is written here. dpkg
//! is told that they are installed, so that it and apt install our own package there as they do anywhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::{self, apt};
use super::run_dir::guest_dir;
use super::tool;

/// With all that they depend on. `libpam-systemd` makes the sessions of users, `libc-bin` and `diffutils` have what dpkg asks for,
/// `init-system-helpers` takes for granted, as any package may, that `perl-base` is there.
const PACKAGES: [&str; 15] = [
    "apt",
    "base-files",
    "base-passwd",
    "coreutils",
    "dash",
    "diffutils",
    "dpkg",
    "init-system-helpers",
    "libc-bin",
    "perl-base",
    "procps",
    "util-linux",
    "systemd",
    "dbus",
    "libpam-systemd",
];
/// Where it becomes PID 1.
pub const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// An ordinary user of the guest.
pub const USER: &str = "tenant";
/// Its uid and gid.
pub const USER_ID: u32 = 1000;
/// What base-passwd's lists of users lack.
const USERS: &str =
    "messagebus:x:996:996::/nonexistent:/usr/sbin/nologin\ntenant:x:1000:1000::/home/tenant:/bin/sh\n";
const GROUPS: &str = "messagebus:x:996:\ntenant:x:1000:\n";
const NSSWITCH: &str = "passwd: files systemd\ngroup: files systemd\n";
/// What PAM's services include; the real ones are put together by a package's script.
const PAM: [(&str, &str); 5] = [
    ("common-auth", "auth required pam_permit.so\n"),
    ("common-account", "account required pam_permit.so\n"),
    ("common-session", "session required pam_permit.so\nsession optional pam_systemd.so\n"),
    ("common-session-noninteractive", "session required pam_permit.so\n"),
    ("common-password", "password required pam_deny.so\n"),
];
/// Of no use in a guest without devices, and dear where each program is translated.
const MASKED: [&str; 5] = [
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-random-seed.service",
    "getty.target",
    "systemd-firstboot.service",
];

/// The tree of a suite, if it has been fetched.
pub fn find(suite: &str) -> Result<PathBuf> {
    let dir = guest_dir()?.join(name(suite));
    ensure!(
        dir.is_dir(),
        "there is no system of {suite} yet: run `bellows-kernel setup --systemd --suite {suite}`"
    );
    Ok(dir)
}

/// Fetches the tree of a suite unless it is there.
pub fn fetch(suite: &str) -> Result<PathBuf> {
    debian::fetch(&name(suite), |work, new| {
        debian::read_lists(suite, work)?;
        // As on a machine without any package: then nothing that is needed is taken for being there.
        let mut command = apt(work, "apt-get");
        command.args(["-o", "Dir::State::status=/dev/null", "install", "-y", "--download-only"]);
        command.arg("--no-install-recommends").args(PACKAGES);
        eprintln!("fetching {} and what they depend on", PACKAGES.join(", "));
        tool::run(&mut command)?;
        for dir in ["bin", "sbin", "lib", "lib64"] {
            fs::create_dir_all(new.join("usr").join(dir))?;
            symlink(format!("usr/{dir}"), new.join(dir))?;
        }
        let archives = work.join("cache/archives");
        debian::unpack(&archives, new)?;
        configure(new)?;
        register(&archives, new)
    })?;
    find(suite)
}

fn name(suite: &str) -> String {
    format!("{suite}.system")
}

/// Has dpkg take what was unpacked for installed.
fn register(archives: &Path, root: &Path) -> Result<()> {
    let mut status = String::new();
    for entry in fs::read_dir(archives)? {
        let package = entry?.path();
        if package.extension().is_some_and(|kind| kind == "deb") {
            let output = Command::new("dpkg-deb").arg("--field").arg(&package).output()?;
            ensure!(output.status.success(), "{} has no fields", package.display());
            status += &String::from_utf8(output.stdout)?;
            status += "Status: install ok installed\n\n";
        }
    }
    let path = root.join("var/lib/dpkg/status");
    fs::write(&path, status).with_context(|| format!("write {}", path.display()))
}

fn configure(root: &Path) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    for (file, more) in [("passwd", USERS), ("group", GROUPS)] {
        let path = root.join(format!("usr/share/base-passwd/{file}.master"));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        write(&format!("etc/{file}"), &(text + more))?;
    }
    write("etc/nsswitch.conf", NSSWITCH)?;
    write("etc/machine-id", "")?;
    for (file, text) in PAM {
        write(&format!("etc/pam.d/{file}"), text)?;
    }
    // A package has it as a directory, for its script to replace.
    fs::remove_dir(root.join("var/run"))?;
    symlink("/run", root.join("var/run"))?;
    for unit in MASKED {
        symlink("/dev/null", root.join("etc/systemd/system").join(unit))?;
    }
    for dir in ["home/tenant", "root", "tmp", "run", "proc", "sys", "dev", "var/tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    Ok(())
}
