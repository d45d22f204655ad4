//! Reads what the tenants' programs are made of into the page cache before they run in limited cgroups.
//!
//! Whoever reads a page first is charged for it. Charged to redis, its own code would be the last page cache in a full
//! cgroup: instead of running out of memory, redis would read its code again and again, over the slow file system of a
//! guest for minutes. On a machine where redis ran before, the code is in the cache already, and charged to others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellows_tests::programs::child::Job;
use bellows_tests::programs::{nginx, redis, stress_ng, with_log};

use crate::place::Place;
use crate::play::Props;

/// How long a short program may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs each program once, without limits; of the servers, reads every file that they have mapped.
pub(crate) fn read_code(place: &Place, props: &Props) -> Result<()> {
    let port = redis::find_port()?;
    let log = place.scratch.join("redis.warm.log");
    let mut command = Command::new(&place.redis_server);
    command.args(redis::arguments(port)).current_dir(&place.scratch);
    let mut server = Job::start("redis-server", with_log(&mut command, &log)?)?;
    redis::await_server(&mut server, port, &log)?;
    read_mapped(server.pid())?;

    let port = redis::find_port()?;
    let log = place.scratch.join("web.warm.log");
    let mut command = Command::new(&place.nginx);
    command.args(props.site.arguments(port)?);
    let mut server = Job::start("nginx", with_log(&mut command, &log)?)?;
    nginx::await_server(&mut server, port, &log)?;
    read_mapped(server.pid())?;

    run(Command::new(&place.stress_ng).args(stress_ng(4, 0)).current_dir(&place.scratch))?;
    run(Command::new(&place.zstd).arg("--version"))?;
    run(Command::new(&place.redis_benchmark).arg("--version"))?;
    run(Command::new("sh").args(["-c", ":"]))
}

fn run(command: &mut Command) -> Result<()> {
    fs::read(command.get_program()).ok();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Job::start("a program", command)?.wait(PATIENCE)?;
    ensure!(status.success(), "{command:?} failed, {status}");
    Ok(())
}

fn read_mapped(pid: u32) -> Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("cannot read what a server maps")?;
    for file in mapped_files(&maps) {
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    Ok(())
}

/// The last column of `/proc/PID/maps`, where it is a path of a file.
fn mapped_files(maps: &str) -> BTreeSet<PathBuf> {
    let paths =
        maps.lines().filter_map(|line| line.split_once('/')).map(|(_, rest)| Path::new("/").join(rest));
    paths.filter(|path| path.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_among_mappings() {
        let maps = "\
55e0-55e1 r-xp 00001000 08:01 42    /proc/self/status
55e1-55e2 r--p 00002000 08:01 42    /proc/self/status
55e2-55e3 rw-p 00000000 00:00 0     [heap]
7f00-7f01 r--s 00000000 00:01 9     /no/such/file (deleted)
7f01-7f02 rw-p 00000000 00:00 0
";
        assert_eq!(mapped_files(maps), BTreeSet::from([PathBuf::from("/proc/self/status")]));
    }
}
