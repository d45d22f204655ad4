//! What was written of a workload's limits that no law moves, kept on its cgroup: the agent that comes next sees by it whether all
//! of that is as it would write it. It is not where an agent died in the middle of a change, or policies are others by now.
//!
//! Noted after the files are written, so that it never says more than is done. To read the files themselves would be eight
//! reads for each workload of a takeover, and would not tell what to put back.

use bellows_policies::units::Bytes;
use bellows_policies::{Cpus, Resources};

use crate::kernel::cgroup::{Cgroup, CgroupError};
use crate::kernel::cpu::quota_text;

/// The extended attribute that holds it.
const STATED: &str = "stated";
/// The files that may be named there.
const FILES: [&str; 7] =
    ["pids.max", "memory.min", "memory.low", "memory.swap.max", "cpu.weight", "io.weight", "io.max"];

/// The files of a class with what is written to them, and what the failsafe follows: the ceilings.
#[must_use]
pub fn text(files: &[(&'static str, String)], ceiling: Bytes, quota: Option<Cpus>) -> String {
    let files = files.iter().map(|(file, value)| format!("{file} {value}\n"));
    let quota = quota.map(|cpus| format!("quota {}\n", quota_text(cpus)));
    files.chain([format!("ceiling {}\n", ceiling.0)]).chain(quota).collect()
}

/// The files of such a text.
#[must_use]
pub fn files(text: &str) -> Vec<(&'static str, String)> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        let file = FILES.into_iter().chain(Resources::files_of_no_class()).find(|file| *file == name)?;
        Some((file, value.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Notes it.
pub fn write(cgroup: &Cgroup, text: &str) -> Result<(), CgroupError> {
    cgroup.set_attribute(STATED, text.as_bytes())
}

/// What was noted; nothing where it cannot be understood, and then all of it is written once more.
pub fn read(cgroup: &Cgroup) -> Result<Option<String>, CgroupError> {
    match cgroup.attribute(STATED) {
        Err(error) if error.is_gone() => Err(error),
        other => Ok(other.ok().flatten().and_then(|text| String::from_utf8(text).ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_reads_back() {
        let written = vec![("pids.max", "512".to_owned()), ("io.max", "8:0 rbps=1 wbps=max".to_owned())];
        let text = text(&written, Bytes(4096), None);
        assert_eq!(text, "pids.max 512\nio.max 8:0 rbps=1 wbps=max\nceiling 4096\n");
        assert_eq!(files(&text), written);
        assert_eq!(files("memory.max 1\nnonsense\n"), Vec::new(), "what a law moves is none of it");
    }
}
