//! PID 1 of a guest: makes the host's files the guest's root, then runs jobs as orders arrive. One static program
//! that needs no shell and, but for `swapon`, no other program: each program read over 9p costs 0.1 to 0.3 s. Where systemd is
//! to be PID 1, it serves jobs as one of its processes.

mod jobs;
mod mounts;
mod network;
mod ports;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bellows_tests::guest::boot::{CONTROL_PORT, PLAN_FILE, Plan};
use bellows_tests::guest::job::Share;
use bellows_tests::guest::signals::Signals;
use bellows_tests::guest::system::SYSTEMD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use jobs::Jobs;

/// The argument of the program where it serves jobs as another PID 1's process; then the share and what is to be reported.
const SERVE: &str = "serve";

fn main() -> Result<()> {
    let arguments = std::env::args_os().skip(1).collect::<Vec<_>>();
    // An error that ends PID 1 makes the kernel panic, which ends the guest: the host reads both on the console.
    let result = match arguments.as_slice() {
        [word, share, report] if word == SERVE => serve(share.into(), &report.to_string_lossy()),
        _ => start(),
    };
    if let Err(error) = &result {
        println!("init: {error:#}");
    }
    result
}

fn start() -> Result<()> {
    let start = Instant::now();
    // A session without terminal, so that no job gets the console as its controlling terminal.
    nix::unistd::setsid().ok();
    let plan =
        Plan::decode(&fs::read_to_string(format!("/{PLAN_FILE}")).context("the initramfs has no plan")?)?;
    mounts::load_modules()?;
    let loaded = start.elapsed();
    mounts::enter_root(&plan)?;
    mounts::keep_quotas_on()?;
    network::bring_up("lo", None)?;
    if plan.has_network {
        network::bring_up("eth0", Some(network::GUEST))?;
    }
    mounts::attach_disks(&plan)?;
    let report = format!("modules {loaded:.2?}, ready {:.2?} after init's start\n", start.elapsed());
    if plan.system.is_none() {
        return serve(plan.share, &report);
    }
    let arguments: [OsString; 3] = [SERVE.into(), plan.share.into(), report.into()];
    Command::new("/proc/self/exe").args(arguments).spawn().context("start what serves jobs")?;
    Err(Command::new(SYSTEMD).exec()).context(format!("start {SYSTEMD}"))
}

fn serve(share: PathBuf, report: &str) -> Result<()> {
    nix::unistd::setsid().ok();
    let mut control = ports::open_port(CONTROL_PORT)?;
    let signals = Signals::catch(&[Signal::SIGCHLD])?;
    let share = Share::new(share);
    write_whole(&share.up(), report)?;

    let mut jobs = Jobs::new(share);
    let mut pending = Vec::new();
    loop {
        let timeout = jobs.next_deadline().map_or(PollTimeout::NONE, |left| {
            // Rounded up: a deadline that is not quite reached would make the loop spin for a millisecond.
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = [
            PollFd::new(control.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut fds, timeout).context("poll")?;
        if fds[0].any() == Some(true) {
            read_orders(&mut control, &mut pending, &mut jobs)?;
        }
        while signals.take()?.is_some() {}
        jobs.reap();
        jobs.kill_late();
    }
}

fn read_orders(control: &mut fs::File, pending: &mut Vec<u8>, jobs: &mut Jobs) -> Result<()> {
    let mut buffer = [0; 4096];
    match control.read(&mut buffer).context("control port")? {
        0 => bail!("the control port is closed"),
        n => pending.extend_from_slice(&buffer[..n]),
    }
    while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
        let line = pending.drain(..=end).collect::<Vec<_>>();
        jobs.obey(&String::from_utf8_lossy(&line));
    }
    Ok(())
}

/// Writes a file that the host never sees in part.
fn write_whole(path: &std::path::Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("new");
    let mut file =
        fs::File::create(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    file.write_all(text.as_bytes())?;
    fs::rename(&unfinished, path).with_context(|| format!("rename to {}", path.display()))
}
