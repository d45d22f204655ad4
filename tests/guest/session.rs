//! A guest from boot to end, owned by this process.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::boot::Plan;
use super::client::{FRESH, GUEST_VARIABLE, Guest, KIND};
use super::disk;
use super::job::{CODE_TIMED_OUT, Outcome, Share};
use super::kernel::Kernel;
use super::qemu::{self, Accelerator, Machine};
use super::run_dir::{RunDir, copy_tree, guest_dir, shown};
use super::signals::{Signals, exit_code, spawn_unblocked};
use super::size::Size;
use super::{system, tool};

/// An idle machine takes 4 s, two busy processors up to 20 s; the second attempt gets twice as long.
const TCG_BOOT: Duration = Duration::from_secs(30);
const KVM_BOOT: Duration = Duration::from_secs(10);
const TICK_MS: u16 = 5;
/// How long a host command has between SIGTERM and SIGKILL.
const COMMAND_GRACE: Duration = Duration::from_secs(10);

/// What a guest is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory.
    pub memory: Size,
    /// Processors.
    pub cpus: u32,
    /// Ports of 127.0.0.1 that lead to the same port of the guest.
    pub forwards: Vec<u16>,
    /// Swap area.
    pub swap: Option<Size>,
    /// Scratch disk.
    pub scratch: Size,
    /// Where `$BELLOWS_OUT` is copied to in the end.
    pub out: Option<PathBuf>,
    /// Whose kernel.
    pub suite: String,
    /// Whether PID 1 is that suite's systemd, on a root file system of its own.
    pub systemd: bool,
}

/// A guest that is up. It ends when this is dropped.
#[derive(Debug)]
pub struct Session<'a> {
    // Dropped in this order: the machine ends before its directory goes.
    machine: Process,
    dir: RunDir,
    signals: &'a Signals,
}

impl<'a> Session<'a> {
    /// Boots a guest. A boot that fails before init is up (by TCG about one of a hundred) is repeated once: nothing
    /// of the user's has run then.
    pub fn boot(options: &Options, signals: &'a Signals) -> Result<Self> {
        let kernel = Kernel::find(&options.suite)?;
        let qemu = tool::find(qemu::PROGRAM);
        ensure!(qemu.is_some(), "{} is missing: run `bellows-kernel setup`", qemu::PROGRAM);
        let dir = RunDir::create()?;
        prepare(&dir, &kernel, options)?;
        let mut ways = vec![(Accelerator::Tcg, TCG_BOOT), (Accelerator::Tcg, 2 * TCG_BOOT)];
        if is_kvm_promising()? {
            ways.insert(0, (Accelerator::Kvm, KVM_BOOT));
        }
        for way in ways {
            let result = attempt(&dir, &kernel, options, way, signals);
            let is_interrupted = result.as_ref().is_err_and(anyhow::Error::is::<Interrupted>);
            if way.0 == Accelerator::Kvm && !is_interrupted {
                remember_kvm(result.is_ok())?;
            }
            match result {
                Ok(machine) => return Ok(Self { machine, dir, signals }),
                Err(error) if is_interrupted => return Err(error),
                Err(error) => {
                    let (name, error) = (way.0.name(), with_logs(error, dir.path()));
                    eprintln!("bellows-kernel: boot by {name} failed: {error:#}");
                }
            }
        }
        bail!("no guest boots here; is the machine overloaded?")
    }

    /// Runs a program in the guest.
    pub fn run(&mut self, argv: &[OsString], timeout: Duration) -> Result<Outcome> {
        let result = Guest::at(self.dir.path()).run(argv, timeout, self.signals);
        result.map_err(|error| with_logs(error, self.dir.path()))
    }

    /// Runs a command of the host whose `exec`s, and cargo's programs, run in the guest. Returns its exit code.
    pub fn accompany(&mut self, argv: &[OsString], timeout: Duration) -> Result<u8> {
        let mut command = Command::new(argv.first().context("no command named")?);
        command.args(&argv[1..]).env(GUEST_VARIABLE, self.dir.path());
        accompany(&mut command, timeout, self.signals)
    }

    /// Ends the guest and copies the results out.
    pub fn end(self, out: Option<&Path>) -> Result<()> {
        drop(self.machine);
        let Some(out) = out else { return Ok(()) };
        copy_tree(&Share::new(self.dir.path().join(qemu::SHARE)).out(), out)
    }
}

/// Runs a program in the guest of `$BELLOWS_GUEST`, if that is set.
#[must_use]
pub fn run_in_given_guest(
    argv: &[OsString],
    timeout: Duration,
    signals: &Signals,
) -> Option<Result<Outcome>> {
    let dir = PathBuf::from(env::var_os(GUEST_VARIABLE)?);
    let result = Guest::at(&dir).run(argv, timeout, signals);
    Some(result.map_err(|error| with_logs(error, &dir)))
}

/// Runs a command of the host to its end, with this program as cargo's runner.
pub fn accompany(command: &mut Command, timeout: Duration, signals: &Signals) -> Result<u8> {
    let program = env::current_exe()?;
    let program = program.to_str().filter(|path| !path.contains(char::is_whitespace));
    let program = program.context("cargo splits its runner at spaces: build in a directory without")?;
    command.env(runner_variable(), format!("{program} exec --"));
    // One deadline for all that runs inside: a shorter one of `exec` would end a long suite in its middle.
    command.env(TIMEOUT_VARIABLE, timeout.as_secs().to_string());
    let mut child = spawn_unblocked(command).with_context(|| format!("start {}", tool::describe(command)))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let mut deadline = Instant::now() + timeout;
    let mut is_late = false;
    loop {
        if let Some(status) = child.try_wait()? {
            let signalled = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 | signal);
            let code = exit_code(status.code().or(signalled).unwrap_or_default());
            return Ok(if is_late { CODE_TIMED_OUT } else { code });
        }
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], TICK_MS)?;
        while let Some(signal) = signals.take()? {
            kill(pid, signal).ok();
        }
        if deadline <= Instant::now() {
            eprintln!("bellows-kernel: {} ran for longer than {timeout:?}", tool::describe(command));
            kill(pid, if is_late { Signal::SIGKILL } else { Signal::SIGTERM }).ok();
            is_late = true;
            deadline = Instant::now() + COMMAND_GRACE;
        }
    }
}

/// The seconds that `with` gives to what runs inside; [`accompany`] sets it, `exec` takes it as its own.
pub const TIMEOUT_VARIABLE: &str = "BELLOWS_TIMEOUT";

/// The variable by which cargo learns how to run what it has built.
pub(super) fn runner_variable() -> String {
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", env::consts::ARCH.to_uppercase())
}

fn prepare(dir: &RunDir, kernel: &Kernel, options: &Options) -> Result<()> {
    let share = Share::new(dir.path().join(qemu::SHARE));
    fs::create_dir_all(share.out())?;
    disk::create_ext4(&dir.path().join(qemu::SCRATCH_IMAGE), options.scratch)?;
    if let Some(size) = options.swap {
        disk::create_swap(&dir.path().join(qemu::SWAP_IMAGE), size)?;
    }
    let mut plan = Plan {
        share: share.path().to_owned(),
        has_network: !options.forwards.is_empty(),
        has_swap: options.swap.is_some(),
        ..Plan::default()
    };
    if options.systemd {
        plan.system = Some(system::find(&options.suite)?);
        plan.shown = shown()?;
    }
    let init = env::current_exe()?.with_file_name("bellows-guest-init");
    let initramfs = kernel.build_initramfs(&init, &plan).context("is `bellows-guest-init` built?")?;
    fs::write(dir.path().join(qemu::INITRD), initramfs)?;
    Ok(fs::write(dir.path().join(FRESH), "")?)
}

/// Starts QEMU and waits for init to report that it is up.
fn attempt(
    dir: &RunDir,
    kernel: &Kernel,
    options: &Options,
    (accelerator, patience): (Accelerator, Duration),
    signals: &Signals,
) -> Result<Process> {
    let machine = Machine {
        accelerator,
        memory: options.memory,
        cpus: options.cpus,
        kernel: &kernel.vmlinux(),
        forwards: &options.forwards,
        has_swap: options.swap.is_some(),
    };
    fs::write(dir.path().join(KIND), accelerator.name())?;
    let up = Share::new(dir.path().join(qemu::SHARE)).up();
    // A boot that was given up may have come up in its last moment.
    fs::remove_file(&up).ok();
    let mut process = Process(spawn_unblocked(&mut machine.command(dir.path())?).context("start QEMU")?);
    let deadline = Instant::now() + patience;
    while !up.exists() {
        if let Some(status) = process.0.try_wait()? {
            bail!("the guest ended while booting ({status})");
        }
        ensure!(Instant::now() < deadline, "the guest did not boot within {patience:?}");
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], TICK_MS)?;
        if let Some(signal) = signals.take()? {
            return Err(Interrupted(signal).into());
        }
    }
    Ok(process)
}

/// KVM is worth a try where its device can be opened and no earlier try since the machine's boot failed. Where the
/// hypervisor is paravirtual (`kvm_pvm`), guests of guests hang.
fn is_kvm_promising() -> Result<bool> {
    let is_there = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if !is_there || Path::new("/sys/module/kvm_pvm").exists() {
        return Ok(false);
    }
    let remembered = fs::read_to_string(guest_dir()?.join("kvm")).unwrap_or_default();
    Ok(remembered != format!("{} does not work", boot_id()?))
}

fn remember_kvm(works: bool) -> Result<()> {
    let verdict = if works { "works" } else { "does not work" };
    Ok(fs::write(guest_dir()?.join("kvm"), format!("{} {verdict}", boot_id()?))?)
}

fn boot_id() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// An error with what the guest's kernel and QEMU said.
fn with_logs(error: anyhow::Error, dir: &Path) -> anyhow::Error {
    let read = |name: &str| fs::read(dir.join(name)).unwrap_or_default();
    let logs = [read(qemu::CONSOLE), read(qemu::LOG)].concat();
    let text = String::from_utf8_lossy(&logs).trim().to_owned();
    if text.is_empty() || error.is::<Interrupted>() {
        return error;
    }
    anyhow!("{error:#}; the guest's console said:\n{text}")
}

/// A signal asked this process to end while a guest was booting.
#[derive(Debug, Clone, Copy)]
pub struct Interrupted(pub Signal);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ended by {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// QEMU's process, killed when dropped: the guest has nothing left to save.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    /// A suite of twenty minutes was once ended by `exec`'s own default of fifteen.
    #[test]
    fn what_runs_inside_is_given_as_long_as_its_session() {
        let signals = Signals::catch(&[]).expect("signals");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exit ${TIMEOUT_VARIABLE}")]);
        let code = accompany(&mut command, Duration::from_secs(77), &signals).expect("sh");
        assert_eq!(code, 77);
    }
}
