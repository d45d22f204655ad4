//! A real kernel with the whole of cgroup v2 for any program of this machine, as root: on the machine itself where
//! its own cgroups allow that, else in a QEMU guest that sees the machine's files.
//!
//! ```text
//!   bellows-kernel (main.rs)                                        bellows-guest-init (init/)
//!     setup ── packages, kernel                                       PID 1 of the guest
//!     run, with, exec                                                   mounts, network
//!       │                                                               jobs
//!       ├─ native ── a fresh child cgroup                                 │
//!       └─ session ─ qemu ── boots: kernel + initramfs (boot, cpio) ──────┤
//!             client ── share/jobs/ID/{job,out,err,outcome} (job) ────────┘
//! ```
//!
//! The guest's root is the host's root, read-only over 9p, under an overlay in the guest's memory: every path is
//! visible, everything can be written, the host stays untouched. The only place both can write is `share/` in the
//! run directory (`run_dir`): jobs go in there, their output and outcome come back, `$BELLOWS_OUT` lies there. A
//! FIFO that QEMU reads as a serial port carries the orders ("start job ID"), so that neither side polls over 9p.
//!
//! With `--systemd` the guest's root is a small Debian of its own instead (`system`), and its PID 1 the real systemd; what serves
//! jobs is a process of it then. Of the host it sees the directories of the repository and of the build.

pub mod boot;
mod bzimage;
mod client;
mod cpio;
mod debian;
mod disk;
pub mod job;
pub mod kernel;
mod modinfo;
pub mod native;
mod qemu;
pub mod run_dir;
pub mod session;
pub mod setup;
pub mod signals;
pub mod size;
pub mod system;
mod tool;
