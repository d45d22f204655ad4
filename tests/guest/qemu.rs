//! QEMU's command line. The process runs in the run directory, so that no path needs QEMU's escapes.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::boot::{CONTROL_PORT, ROOT_TAG, SCRATCH_DISK, SHARE_TAG, SWAP_DISK};
use super::size::Size;

/// Name of the program; also what proves that its package is installed.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";
/// The guest's console, in the run directory.
pub(super) const CONSOLE: &str = "console";
/// What QEMU itself says, in the run directory.
pub(super) const LOG: &str = "qemu.log";
/// The FIFO for orders, in the run directory.
pub(super) const CONTROL: &str = "control.in";
pub(super) const INITRD: &str = "initrd";
pub(super) const SCRATCH_IMAGE: &str = "scratch.img";
pub(super) const SWAP_IMAGE: &str = "swap.img";
pub(super) const SHARE: &str = "share";

/// `vmlinux` of Debian boots quietly; `mitigations=off` and `cryptomgr.notests` save boot time, `psi=1` makes
/// pressure files (off by default in Debian), `panic=-1` ends QEMU at once when the kernel panics.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=3 psi=1 panic=-1 random.trust_cpu=on mitigations=off \
                                cryptomgr.notests";

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: everywhere, about ten times slower.
    Tcg,
}

impl Accelerator {
    /// As in `$BELLOWS_KERNEL_KIND`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// A virtual machine.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) accelerator: Accelerator,
    pub(super) memory: Size,
    pub(super) cpus: u32,
    pub(super) kernel: &'a Path,
    pub(super) forwards: &'a [u16],
    pub(super) has_swap: bool,
}

impl Machine<'_> {
    /// The command that runs this machine in `dir`. It dies with the thread that spawns it.
    pub(super) fn command(&self, dir: &Path) -> Result<Command> {
        for fifo in [CONTROL, "control.out"] {
            let path = dir.join(fifo);
            if !path.exists() {
                mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
                    .with_context(|| format!("create {}", path.display()))?;
            }
        }
        fs::write(dir.join(CONSOLE), "")?;
        let log = File::create(dir.join(LOG))?;
        // setpriv of util-linux: the death signal has to be set between fork and exec, where only unsafe code runs.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]).args(self.arguments());
        command.arg("-kernel").arg(self.kernel).current_dir(dir);
        // In a process group of its own: a Ctrl-C in the terminal is for the job, not for the machine.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(command)
    }

    fn arguments(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut push = |line: String| words.extend(line.split(' ').map(str::to_owned));
        push("-M q35,usb=off,smbus=off,sata=off,hpet=off -nodefaults -display none -no-reboot".into());
        push(match self.accelerator {
            Accelerator::Kvm => "-accel kvm -cpu host".into(),
            // Told of fast string instructions, the guest's kernel clears and copies pages by them, which TCG translates
            // byte by byte: without, pages are touched twice as fast, huge pages six times.
            Accelerator::Tcg => "-accel tcg,thread=multi -cpu max,-erms,-fsrm".into(),
        });
        push(format!("-smp {} -m {}", self.cpus, self.memory));
        push(format!("-initrd {INITRD} -serial file:{CONSOLE} -device virtio-serial-pci"));
        push(format!("-chardev pipe,id=c,path={}", CONTROL.trim_end_matches(".in")));
        push(format!("-device virtserialport,chardev=c,name={CONTROL_PORT}"));
        push("-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap".into());
        push(format!("-device virtio-9p-pci,fsdev=root,mount_tag={ROOT_TAG}"));
        push(format!("-fsdev local,id=share,path={SHARE},security_model=none"));
        push(format!("-device virtio-9p-pci,fsdev=share,mount_tag={SHARE_TAG}"));
        let disks = [(SCRATCH_DISK, SCRATCH_IMAGE, true), (SWAP_DISK, SWAP_IMAGE, self.has_swap)];
        for (serial, image, _) in disks.into_iter().filter(|(_, _, is_wanted)| *is_wanted) {
            push(format!("-drive if=none,id={serial},file={image},format=raw,cache=unsafe"));
            push(format!("-device virtio-blk-pci,drive={serial},serial={serial}"));
        }
        if self.forwards.is_empty() {
            push("-nic none".into());
        } else {
            let forwards = self.forwards.iter().map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:{port}"));
            push(format!("-netdev user,id=net,restrict=on{}", forwards.collect::<String>()));
            push("-device virtio-net-pci,netdev=net,romfile=".into());
        }
        words.extend(["-append".to_owned(), KERNEL_ARGUMENTS.to_owned()]);
        words
    }
}
