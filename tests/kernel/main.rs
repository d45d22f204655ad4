//! Proof on a real kernel: each test starts a real agent on a subtree of its own, real workloads in it, and reads what the
//! kernel and the journal say. Events are awaited with deadlines; orders and counts are asserted, never microseconds.
//!
//! A test that cannot run fails: without `BELLOWS_CGROUP` there is nothing to prove anything on.

mod access;
mod adoption;
mod asking;
mod boxed;
mod boxed_roots;
mod breathe;
mod container;
mod crun;
mod death;
mod describe;
mod detached;
mod ends;
mod exec;
mod explain;
mod growth;
mod held;
mod image;
mod joins;
mod json;
mod killed_orders;
mod ladder;
mod life;
mod nested;
mod observe;
mod openapi;
mod operate;
mod overflow;
mod parts;
mod plant;
mod policies;
mod prometheus;
mod quota;
mod reading;
mod record;
mod refusals;
mod rig;
mod shrinks;
mod squeeze;
mod stall;
mod storms;
mod surface;
mod swap;
mod takeover;
mod takeover_ends;
mod takeover_moments;
mod tenants;
mod terminal;
mod top;
mod turn;
mod unpacked;
mod users;
mod walls;
mod yields;
