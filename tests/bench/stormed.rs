//! Does a tenant's storm disturb a grow? The same agent with a hundred workloads, in calm and while a box takes as much of one thing as it
//! can get, in turns. What a neighbour feels of it is told by the kernel's tests (`storms::`).
//!
//! Missed are breaches that ask for nothing. The kernel charges 64 pages at a time (`MEMCG_CHARGE_BATCH`), as many as a step of this benchmark;
//! where others come to the same cpu it takes back those that are not used, and the workload has 248 KiB of room before the agent looks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread::sleep;

use anyhow::ensure;

use crate::agent::{Agent, Setup, TENANT};
use crate::cell::Cell;
use crate::governed::{Condition, Governed, PER_BLOCK, Reaction, SETTLE};
use crate::reaction;
use crate::tree::Place;

/// p99 of a reaction in a storm, against that of the calm beside it.
const P99: f64 = 2.0;
const HUNDRED: Condition = Condition { crew: 1, sleepers: 99, life: 400, spinners: 0 };
const SETUP: Setup = Setup {
    name: "stormed",
    config: "[memory]\nstep_min = 262144\nstep_factor = 0.0\nrate_horizon_ms = 1\ncalm_near_ms = 20\n[workload]\npids = 200\n",
    flags: reaction::MORE_THAN_THERE_IS,
};

/// Key, name and script.
const STORMS: [(&str, &str, &str); 7] = [
    ("fork_bomb", "fork bomb", "f() { f | f & }; f; exec sleep 300"),
    (
        "zombies",
        "zombies",
        "perl -e 'while (1) { my $p = fork(); exit 0 if defined $p && !$p; sleep 1 unless defined $p }'",
    ),
    (
        "spinners",
        "150 spinning processes",
        "i=0; while [ $i -lt 150 ]; do (while :; do :; done) & i=$((i+1)); done; wait",
    ),
    (
        "descriptors",
        "descriptors",
        "perl -e 'for (1..60) { fork() or last } while (1) { 1 while open($f[$n++], \"<\", \"/dev/null\"); @f = (); $n = 0 }'",
    ),
    (
        "directories",
        "directories, made and removed",
        "perl -e 'while (1) { mkdir(\"/dev/shm/$_\") for 1..20000; rmdir(\"/dev/shm/$_\") for 1..20000 }'",
    ),
    (
        "memory",
        "40 MiB of memory, taken and given back",
        "while :; do dd if=/dev/zero of=/dev/shm/f bs=1M count=40 2>/dev/null; done",
    ),
    (
        "cache",
        "page cache, beyond the limit",
        "while :; do dd if=/dev/zero of=/mnt/f bs=1M count=150 2>/dev/null; cat /mnt/f > /dev/null; done",
    ),
];

/// Measures until each side has `wanted` breaches for each storm, in turns of [`PER_BLOCK`].
pub(crate) fn measure(place: &Place, wanted: usize, cell: &mut Cell) -> anyhow::Result<()> {
    let disk = place.scratch.join("disk");
    fs::create_dir(&disk)?;
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o777))?;
    let bind = format!("{}:/mnt:rw", disk.display());
    let mut governed = Governed::start(place, &SETUP, &HUNDRED)?;
    let mut name = 0;
    for (key, storm, script) in STORMS {
        let (mut calm, mut stormy) = (Reaction::default(), Reaction::default());
        for turn in 0..wanted.div_ceil(PER_BLOCK) {
            governed.replace_spent(&HUNDRED)?;
            sleep(SETTLE);
            if turn % 2 == 0 {
                governed.block(&mut calm)?;
            }
            name += 1;
            let name = format!("storm{name}");
            begin(&governed.agent, &name, &bind, script)?;
            sleep(SETTLE);
            governed.block(&mut stormy)?;
            end(&governed.agent, &name)?;
            if turn % 2 == 1 {
                governed.block(&mut calm)?;
            }
        }
        eprintln!("bellows-bench: stormed: {storm}");
        for (what, before, after) in [
            ("wake", &calm.wake_to_write, &stormy.wake_to_write),
            ("breach", &calm.breach_to_write, &stormy.breach_to_write),
        ] {
            cell.samples(
                &format!("{key}_{what}_calm"),
                &format!("{storm}: before, {what} to write, us"),
                before,
            );
            cell.samples(&format!("{key}_{what}_stormy"), "  meanwhile", after);
            let ratio = after.p99_us() / before.p99_us();
            cell.bar(&format!("{key}_{what}_p99"), "  p99, ratio", ratio, P99);
        }
        cell.figure(&format!("{key}_missed_calm"), "  missed before", calm.missed as f64);
        cell.figure(&format!("{key}_missed_stormy"), "  missed meanwhile", stormy.missed as f64);
    }
    governed.end()
}

/// Starts a storm. It has all of its memory from the beginning: the small steps by which reactions are measured would not keep up with it.
fn begin(agent: &Agent<'_>, name: &str, bind: &str, script: &str) -> anyhow::Result<()> {
    let flags = [
        "--detach",
        "--tenant",
        TENANT,
        "--name",
        name,
        "--memory",
        "64M..64M",
        "--isolation",
        "tenant",
        "--bind",
        bind,
    ];
    done(agent.command("run").args(flags).args(["--", "/bin/sh", "-c", script]), name)
}

/// Ends a storm, which has to be there still, and waits until nothing is left of it.
fn end(agent: &Agent<'_>, name: &str) -> anyhow::Result<()> {
    let storms = agent.workloads()?.iter().any(|one| one.name == name && one.state == "running");
    ensure!(storms, "{name} has ended by itself");
    done(agent.command("stop").args(["--tenant", TENANT, name, "--grace", "0s"]), name)?;
    done(agent.command("rm").args(["--tenant", TENANT, name]), name)
}

fn done(command: &mut Command, name: &str) -> anyhow::Result<()> {
    let told = command.output()?;
    ensure!(told.status.success(), "{name}: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}
