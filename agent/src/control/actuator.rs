//! The actuator: the only writer of memory limits.
//!
//! | what | where | why |
//! |---|---|---|
//! | raise both | here and now, `memory.max` first | the band between the two is never closed |
//! | lower `memory.high`, reclaim | slow lane | both can block in reclaim |
//! | lower `memory.high` to well above use, for who waits | here and now | there is nothing to reclaim, and who waits is throttled |
//! | lower `memory.max` | here and now, after `memory.high` has settled | a lane's write could come after the grow that overtook it, and the kernel kills at a `memory.max` below use |

use std::io;

use bellows_policies::ruleset::Mode;
use bellows_policies::units::{Bytes, Limit};
use bellows_policies::{Class, Limits, Plan, Reason, Verb};

use super::lanes::Lanes;
use super::registry::{Entry, Open};
use super::shrinker::{Act, Shrink};
use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::cpu::quota_text;
use crate::kernel::parse;
use crate::workload::parts;
use crate::workload::spec::Identity;

/// Room above use from which a lowered `memory.high` is written at once: more than is charged between two calls.
const LEAST_ROOM: Bytes = Bytes::mib(2);

/// How a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Both limits are raised, or the tripwire moved away.
    Raise,
    /// `memory.max` is lowered.
    Narrow,
    /// By the slow lane.
    Slowly(Act),
}

/// How the write of a plan is carried out. To put a tripwire back lowers it from `max`, whatever it is for the law.
pub(super) fn way(verb: Verb, reason: Reason, from: Limits, to: Limits) -> Way {
    if reason == Reason::Rearmed || to.high < from.high {
        Way::Slowly(Act::LowerHigh(to.high))
    } else if verb == Verb::Shrink {
        Way::Narrow
    } else {
        Way::Raise
    }
}

/// Raises both limits: two writes, neither of which can block. What somebody else made is not ended by taking its tripwire out of
/// the way, but goes on without.
pub(super) fn raise(open: &Open, to: Limits) -> io::Result<()> {
    open.write_max(to.max)?;
    let is_failure = to.high >= to.max;
    open.high.write(if is_failure && open.max.is_none() { open.before } else { Limit::At(to.high) })
}

/// Lowers `memory.max`, which this turn's sample has found to be well above use, so that the write finds nothing to reclaim
/// and returns at once. False when use has come near meanwhile, less than half of the band being left: then the limit is as
/// it was before.
pub(super) fn narrow(open: &Open, from: Limits, to: Limits) -> io::Result<bool> {
    open.write_max(to.max)?;
    let half = Bytes(to.max.saturating_sub(to.high).0 / 2);
    if open.current()?.saturating_add(half) <= to.max {
        return Ok(true);
    }
    open.write_max(from.max).map(|()| false)
}

/// Lowers `memory.high` to where this turn's sample has found room below it: the write finds nothing to reclaim and returns at
/// once. False, and nothing written, when use has come near meanwhile.
pub(super) fn give_up(open: &Open, high: Bytes) -> io::Result<bool> {
    if open.current()?.saturating_add(LEAST_ROOM) > high {
        return Ok(false);
    }
    open.high.write(Limit::At(high)).map(|()| true)
}

/// Takes the tripwire out of the way and opens the limit to the failsafe: what a workload needs to live without an agent. What
/// somebody else made is given back what it had, if that is more.
pub(super) fn open_up(open: &Open, failsafe: Bytes) -> io::Result<()> {
    open.write_max(failsafe)?;
    let present = open.high.read()?;
    open.high.write(present.max(open.before))
}

/// Hands work to the slow lane; false when one is on its way, or the lane is full.
pub(super) fn slowly(lanes: &Lanes, entry: &mut Entry, act: Act, plan: &Plan) -> bool {
    let Some(open) = entry.open.as_ref().filter(|_| entry.shrink.is_none()) else { return false };
    let shrink = Shrink::new(entry.key, &open.slow, act, plan, &entry.version);
    let taken = lanes.shrink(&shrink);
    if taken {
        entry.shrink = Some(shrink);
    }
    taken
}

/// The limits that a workload of this mode is to stand at: those of its launch plan, or none but the failsafe.
pub(super) fn in_force(mode: Mode, planned: Limits, failsafe: Bytes) -> Limits {
    match mode {
        Mode::Enforce => planned,
        Mode::Observe => Limits { high: Bytes(u64::MAX), max: failsafe },
    }
}

/// What of a floor is protected: on paper nothing.
pub(super) fn protected(mode: Mode, floor: Bytes) -> Bytes {
    match mode {
        Mode::Enforce => floor,
        Mode::Observe => Bytes::ZERO,
    }
}

/// Everything that is written to a workload's cgroup before its first process: memory limits, the floor's protection, and
/// what keeps it from harming the host. `limits` are those of [`in_force`].
pub(super) fn launch_limits(
    identity: &Identity,
    class: &Class,
    limits: Limits,
) -> Vec<(&'static str, String)> {
    let mut files = vec![("memory.max", limits.max.0.to_string())];
    if limits.high < Bytes(u64::MAX) {
        files.push(("memory.high", limits.high.0.to_string()));
    }
    // A workload lives or dies as a whole: half of one is a riddle to its owner.
    files.push(("memory.oom.group", "1".to_owned()));
    files.extend(class_files(identity, class).into_iter().filter(|(file, value)| {
        // As the kernel has it in a new cgroup: then nothing is asked of a kernel without the file.
        !(*file == "memory.swap.max" && value == "max")
    }));
    if let Some(bounds) = identity.cpu.filter(|_| class.mode == Mode::Enforce) {
        // The cpu loop takes over when the command runs; init's work before that is not the workload's.
        files.push(("cpu.max", quota_text(bounds.ceiling)));
        files.push(("cpu.max.burst", bounds.floor.quota_us().to_string()));
    }
    files
}

/// What a class alone decides, and what a workload has asked for by the piece: nothing moves it but a change of policy. Who is
/// observed is only kept from harming the host, and to what it has asked for.
pub(super) fn class_files(identity: &Identity, class: &Class) -> Vec<(&'static str, String)> {
    let mut files = vec![("pids.max", class.pids.to_string())];
    if class.mode == Mode::Enforce {
        files.extend([
            (class.base.protection(), identity.memory.floor.0.to_string()),
            ("memory.swap.max", class.memory.swap_max.to_string()),
            ("cpu.weight", class.cpu.law.weight.to_string()),
        ]);
        files.extend(class.io.weight.map(|weight| ("io.weight", weight.to_string())));
        files.extend(class.io.max.iter().map(|line| ("io.max", line.clone())));
    }
    let own = identity.resources.files();
    // Lines of io.max add up, and a later one wins.
    files.retain(|(file, _)| *file == "io.max" || own.iter().all(|(other, _)| other != file));
    files.extend(own);
    files
}

/// Of these files those that the kernel may refuse a value of.
pub(super) fn part_files(identity: &Identity, class: &Class) -> Vec<(&'static str, String)> {
    class_files(identity, class).into_iter().filter(|(file, _)| parts::is_part(file)).collect()
}

/// What is to be written when what a class decides has changed. What it says no longer goes back to the kernel's default.
pub(super) fn changed_files(
    before: &[(&'static str, String)],
    after: &[(&'static str, String)],
) -> Vec<(&'static str, String)> {
    let device = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    let is_gone = |old: &&(&'static str, String)| !after.contains(old);
    let is_reset = |(file, value): &(&'static str, String)| {
        *file == "io.max"
            && before.iter().filter(is_gone).any(|(other, old)| other == file && device(old) == device(value))
    };
    let gone = before.iter().filter(is_gone).filter_map(|(file, value)| {
        let device = device(value);
        let is_said = after.iter().any(|(other, _)| other == file);
        match *file {
            // A line only adds to what is there.
            "io.max" => Some((*file, format!("{device} rbps=max wbps=max riops=max wiops=max"))),
            "io.weight" | "cpu.weight" if !is_said => Some((*file, "100".to_owned())),
            "memory.swap.max" | "pids.max" if !is_said => Some((*file, "max".to_owned())),
            _ if file.starts_with("hugetlb.") && !is_said => Some((*file, "max".to_owned())),
            "cpuset.cpus" | "cpuset.mems" if !is_said => Some((*file, parts::ALL.to_owned())),
            "memory.min" | "memory.low" if !is_said => Some((*file, "0".to_owned())),
            _ => None,
        }
    });
    gone.chain(after.iter().filter(|new| !before.contains(new) || is_reset(new)).cloned()).collect()
}

/// Cgroups that a tenant may have below its own, workloads included, and how deep they may be nested: what makes them costs
/// the kernel memory that no limit counts.
const DESCENDANTS: u32 = 4096;
const DEPTH: u32 = 8;

/// Everything that is written to a tenant's cgroup at each launch in it, since that may be older than its bounds. No
/// `memory.max`: ARCHITECTURE.md says why.
pub(super) fn tenant_limits(weight: u32) -> Vec<(&'static str, String)> {
    vec![
        ("cpu.weight", share_of_cpu(weight)),
        ("cgroup.max.descendants", DESCENDANTS.to_string()),
        ("cgroup.max.depth", DEPTH.to_string()),
    ]
}

/// A tenant's share of the cpu, on its cgroup.
pub(super) fn weigh(cgroup: &Cgroup, weight: u32) -> Result<(), CgroupError> {
    cgroup.write("cpu.weight", &share_of_cpu(weight))
}

fn share_of_cpu(weight: u32) -> String {
    weight.clamp(1, 10_000).to_string()
}

/// Protects the sums of floors in an ancestor of workloads, by class: as much `memory.min` and `memory.low` as they have.
pub(super) fn protect(cgroup: &Cgroup, floors: [Bytes; 3]) -> Result<(), CgroupError> {
    protections(floors).into_iter().try_for_each(|(file, floor)| cgroup.write(file, &floor.0.to_string()))
}

/// The same where somebody else may have set more, which stays.
pub(super) fn protect_at_least(cgroup: &Cgroup, floors: [Bytes; 3]) -> Result<(), CgroupError> {
    for (file, floor) in protections(floors) {
        let present = parse::limit(cgroup.read(file)?.as_bytes());
        if present.is_none_or(|present| present < Limit::At(floor)) {
            cgroup.write(file, &floor.0.to_string())?;
        }
    }
    Ok(())
}

fn protections([latency, standard, batch]: [Bytes; 3]) -> [(&'static str, Bytes); 2] {
    [("memory.min", latency), ("memory.low", standard.saturating_add(batch))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let files = |text: &str| -> Vec<(&'static str, String)> {
            let all = [
                "memory.min",
                "memory.low",
                "memory.swap.max",
                "pids.max",
                "cpu.weight",
                "io.weight",
                "io.max",
                "cpuset.cpus",
                "hugetlb.2MB.max",
            ];
            let line = |line: &str| {
                let (file, value) = line.split_once('=').unwrap();
                (*all.iter().find(|f| **f == file).unwrap(), value.to_owned())
            };
            text.split(", ").map(line).collect()
        };
        for (before, after, written) in [
            ("pids.max=1, memory.low=5", "pids.max=2, memory.low=5", "pids.max=2"),
            ("memory.low=5", "memory.min=5", "memory.low=0, memory.min=5"),
            ("pids.max=1, io.weight=7", "pids.max=1, io.weight=9", "io.weight=9"),
            ("pids.max=1, io.weight=7", "pids.max=1", "io.weight=100"),
            (
                "pids.max=1, memory.low=5, memory.swap.max=0, cpu.weight=20",
                "pids.max=1",
                "memory.low=0, memory.swap.max=max, cpu.weight=100",
            ),
            (
                "cpuset.cpus=1, hugetlb.2MB.max=0, pids.max=1",
                "pids.max=1",
                "cpuset.cpus=\n, hugetlb.2MB.max=max",
            ),
            ("cpuset.cpus=1, hugetlb.2MB.max=5", "cpuset.cpus=0-1, hugetlb.2MB.max=5", "cpuset.cpus=0-1"),
            (
                "io.max=8:0 rbps=5, pids.max=1",
                "io.max=8:0 wbps=6, pids.max=1",
                "io.max=8:0 rbps=max wbps=max riops=max wiops=max, io.max=8:0 wbps=6",
            ),
        ] {
            assert_eq!(changed_files(&files(before), &files(after)), files(written), "{before} -> {after}");
        }
        assert!(changed_files(&files("pids.max=1"), &files("pids.max=1")).is_empty());
        // The second line is the workload's own.
        let lines = "io.max=8:0 rbps=5, io.max=8:0 wbps=6";
        let written =
            "io.max=8:0 rbps=max wbps=max riops=max wiops=max, io.max=8:0 rbps=7, io.max=8:0 wbps=6";
        assert_eq!(
            changed_files(&files(lines), &files("io.max=8:0 rbps=7, io.max=8:0 wbps=6")),
            files(written),
            "what a reset takes is written again"
        );
    }

    #[test]
    fn what_a_workload_asks_for_stands_before_its_class() {
        let mut class = Class::default();
        class.io.max = vec!["8:0 rbps=5".to_owned()];
        let text = r#"{"tenant":"a","name":"b","memory":{"floor":1048576,"ceiling":2097152},
                       "resources":{"pids":7,"swap":0,"io_max":["8:0 wbps=6"],"cpuset_cpus":"0"}}"#;
        let identity: Identity = serde_json::from_str(text).unwrap();
        let told = |class: &Class| {
            let files = class_files(&identity, class);
            let files: Vec<String> = files.iter().map(|(file, value)| format!("{file}={value}")).collect();
            files.join(", ")
        };
        let own = "pids.max=7, memory.swap.max=0, io.max=8:0 wbps=6, cpuset.cpus=0";
        let weight = class.cpu.law.weight;
        assert_eq!(
            told(&class),
            format!("memory.low=1048576, cpu.weight={weight}, io.max=8:0 rbps=5, {own}")
        );
        class.mode = Mode::Observe;
        assert_eq!(told(&class), own);
    }
}
