//! Proof under a real systemd as PID 1: the units of `deploy/systemd`, installed as an operator would and by the package, and what
//! becomes of workloads when the agent is restarted, killed, hung, replaced, stopped and purged. Run by `make test-systemd` in a guest
//! of its own (`bellows-kernel with --systemd`), of this machine's Debian suite or, by `SUITE=trixie`, another's. What a version of
//! systemd does not know is asked of the version, and the other outcome asserted.
//!
//! A test that cannot run fails: without systemd as PID 1 there is nothing to prove anything on.

mod confined;
mod one_unit;
mod package;
mod restarts;
mod rig;
mod rootless;
mod service;
mod units;
