//! One cpu for the whole measured path: generator, floor and control loop.
//!
//! Left to the scheduler, the floor ends up on its generator's cpu and the agent, which looks hot for a while after each
//! breach, mostly on another one. That other one is idle, and an idle virtual cpu takes its hypervisor up to milliseconds to
//! wake: such samples tell where a thread was, not what it did. On one cpu no sample has it, and the agent's own cost is not
//! hidden behind it either.

use anyhow::Context;
use bellows::kernel::thread;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The name of the agent's control thread, as the kernel cuts it.
pub(crate) const CONTROL: &str = "bellows-control";

/// Keeps the calling thread on the measured path's cpu.
pub(crate) fn pin_this_thread() -> anyhow::Result<()> {
    pin(thread::id())
}

/// Keeps the control loop of the agent with this pid there; its other threads stay free.
pub(crate) fn pin_control_loop(pid: Pid) -> anyhow::Result<()> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        if std::fs::read_to_string(task.path().join("comm"))?.trim_end() == CONTROL {
            return pin(task.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("the agent has no thread {CONTROL}")
}

fn pin(thread: i32) -> anyhow::Result<()> {
    let allowed = sched_getaffinity(Pid::this())?;
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.context("no cpu is allowed")?)?;
    sched_setaffinity(Pid::from_raw(thread), &one).context("cannot keep a thread on one cpu")
}
