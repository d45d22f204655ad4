//! From the initramfs to a root that looks like the host's: modules, mounts, disks.
//!
//! ```text
//!   /          overlay: host's root (9p, read-only, cached) under a tmpfs
//!   SHARE      9p, writable, not cached: what a job writes, the host can read at once
//!   /scratch   ext4 on a disk: here, unlike on the overlay, file pages are page cache that can be reclaimed
//! ```

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bellows_tests::guest::boot::{
    CGROUP, MODULES_DIR, Plan, ROOT_TAG, SCRATCH, SCRATCH_DISK, SHARE_TAG, SWAP_DISK,
};
use bellows_tests::guest::signals;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};

use crate::ports::find_disk;

const NEW_ROOT: &str = "/mnt/root";
const NINE_P: &str = "trans=virtio,version=9p2000.L,msize=524288";

/// Inserts the modules of the initramfs in the order of their names, and frees their memory.
pub(super) fn load_modules() -> Result<()> {
    let mut modules = fs::read_dir(format!("/{MODULES_DIR}"))
        .context("the initramfs has no modules")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<PathBuf>>>()?;
    modules.sort();
    for module in modules {
        let file = fs::File::open(&module)?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("insert {}", module.display()))?;
        fs::remove_file(&module)?;
    }
    Ok(())
}

/// Mounts everything and makes the overlay the root.
pub(super) fn enter_root(plan: &Plan) -> Result<()> {
    attach(ROOT_TAG, "/host", "9p", MsFlags::MS_RDONLY, &format!("{NINE_P},cache=loose"))?;
    attach("tmpfs", "/mnt", "tmpfs", MsFlags::empty(), "mode=755,size=75%")?;
    for dir in ["/mnt/upper", "/mnt/work"] {
        fs::create_dir(dir)?;
    }
    let lower = plan.system.as_deref().map_or("/host".into(), on_host);
    let layers = format!("lowerdir={},upperdir=/mnt/upper,workdir=/mnt/work", lower.display());
    attach("overlay", NEW_ROOT, "overlay", MsFlags::empty(), &layers)?;
    for (kind, target, options) in [
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("devtmpfs", "/dev", "mode=755"),
        ("devpts", "/dev/pts", "mode=620,ptmxmode=666"),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("tmpfs", "/run", "mode=755"),
        ("cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot"),
        ("tracefs", "/sys/kernel/tracing", ""),
    ] {
        attach(kind, &format!("{NEW_ROOT}{target}"), kind, MsFlags::empty(), options)?;
    }
    // The kernel makes the device nodes; these links are udev's work elsewhere, and bash wants them.
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, format!("{NEW_ROOT}/dev/{name}")).ok();
    }
    for shown in &plan.shown {
        let source = on_host(shown).display().to_string();
        attach(&source, &format!("{NEW_ROOT}{}", shown.display()), "", MsFlags::MS_BIND, "")?;
    }
    let share = format!("{NEW_ROOT}{}", plan.share.display());
    attach(SHARE_TAG, &share, "9p", MsFlags::empty(), &format!("{NINE_P},cache=none"))?;

    std::env::set_current_dir(NEW_ROOT)?;
    // Not the change of root alone: whose root is not that of the mount namespace gets no user namespace.
    let none: Option<&str> = None;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none).context("move the new root to /")?;
    nix::unistd::chroot(".").context("chroot")?;
    std::env::set_current_dir("/")?;
    nix::unistd::sethostname("guest").context("sethostname")
}

/// Where a path of the host is, before the new root is entered.
fn on_host(path: &Path) -> PathBuf {
    Path::new("/host").join(path.strip_prefix("/").unwrap_or(path))
}

/// Keeps one quota in force for as long as the guest runs. The kernel patches its scheduler's code when the first quota is set
/// and when the last one goes, and QEMU's translated cpus may still run into the breakpoint of a patch that is done: Linux 6.12
/// died of that in `enqueue_task_fair`. So there is one patch, at a time when nothing else runs.
pub(super) fn keep_quotas_on() -> Result<()> {
    let root = Path::new(CGROUP);
    let kept = root.join("quotas-on");
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).with_context(|| format!("write {text} to {}", path.display()))
    };
    write(root.join("cgroup.subtree_control"), "+cpu")?;
    fs::create_dir(&kept).with_context(|| format!("create {}", kept.display()))?;
    write(kept.join("cpu.max"), "100000")
}

/// Mounts the scratch disk and switches swap on. Needs the final root.
pub(super) fn attach_disks(plan: &Plan) -> Result<()> {
    // The background initialization of a fresh file system would disturb what is measured.
    attach(&find_disk(SCRATCH_DISK)?, SCRATCH, "ext4", MsFlags::empty(), "noinit_itable")?;
    if plan.has_swap {
        // The one foreign program: no safe wrapper of the system call exists.
        let mut command = Command::new("/sbin/swapon");
        command.arg(find_disk(SWAP_DISK)?);
        let status = signals::spawn_unblocked(&mut command).and_then(|mut child| child.wait());
        ensure!(status.context("start swapon")?.success(), "swapon failed");
    }
    Ok(())
}

fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target).with_context(|| format!("create {target}"))?;
    }
    mount(Some(source), target, Some(kind), flags, Some(options))
        .with_context(|| format!("mount {kind} on {target} ({options})"))
}
