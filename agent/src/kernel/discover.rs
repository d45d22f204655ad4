//! Where cgroup2 is mounted, which cgroup a process is in, how much memory the machine has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bellows_policies::units::Bytes;

/// One cgroup2 mount as this process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// The cgroup that is visible at the mount point.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Options of the file system, such as `nsdelegate`.
    pub options: Vec<String>,
}

/// The cgroup2 mounts of this thread's mount namespace.
pub fn cgroup_mounts() -> io::Result<Vec<CgroupMount>> {
    Ok(parse_mounts(&fs::read_to_string("/proc/thread-self/mountinfo")?))
}

/// The path of this process' own v2 cgroup, as files: below the first mount that shows it.
pub fn own_cgroup() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let path = text
        .lines()
        .find_map(|l| l.strip_prefix("0::"))
        .ok_or_else(|| io::Error::other("this process is in no cgroup v2 group"))?;
    cgroup_mounts()?
        .iter()
        .find_map(|mount| locate(mount, Path::new(path)))
        .ok_or_else(|| io::Error::other(format!("no cgroup2 mount shows {path}")))
}

/// Whether root is the machine's root here, and not only that of a user namespace.
#[must_use]
pub fn has_all_users() -> bool {
    // What cannot be read is there on every machine that has user namespaces.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |text| is_all(&text))
}

fn is_all(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Total memory of the machine.
pub fn machine_memory() -> io::Result<Bytes> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:"))
        .and_then(|v| super::parse::number(v.trim().as_bytes()))
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?;
    Ok(Bytes(kib.saturating_mul(1024)))
}

fn locate(mount: &CgroupMount, cgroup: &Path) -> Option<PathBuf> {
    let below = cgroup.strip_prefix(&mount.root).ok()?;
    Some(if below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) })
}

fn parse_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    mountinfo.lines().filter_map(parse_mount).collect()
}

/// `36 35 0:30 /root /point rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate`, see proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<CgroupMount> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    if right.next()? != "cgroup2" {
        return None;
    }
    let options = right.nth(1)?.split(',').map(str::to_owned).collect();
    let mut left = left.split(' ').skip(3);
    Some(CgroupMount { root: unescape(left.next()?), point: unescape(left.next()?), options })
}

/// The kernel writes space, tab, newline and backslash as octal escapes.
fn unescape(field: &str) -> PathBuf {
    PathBuf::from(
        field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
42 30 0:39 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
43 30 0:39 /a\\040b /mnt/x rw - cgroup2 cgroup2 rw
";

    #[test]
    fn finds_v2_mounts_among_v1() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/sys/fs/cgroup/unified"));
        assert!(mounts[0].options.contains(&"nsdelegate".to_owned()));
        assert_eq!(mounts[1].root, Path::new("/a b"));
    }

    #[test]
    fn the_machines_users_are_all() {
        assert!(is_all("         0          0 4294967295\n"));
        assert!(!is_all("         0 1610612736      65536\n"));
    }

    #[test]
    fn a_cgroup_is_found_below_the_mount_that_shows_it() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(locate(&mounts[0], Path::new("/x/y")), Some(PathBuf::from("/sys/fs/cgroup/unified/x/y")));
        assert_eq!(locate(&mounts[1], Path::new("/a b/c")), Some(PathBuf::from("/mnt/x/c")));
        assert_eq!(locate(&mounts[1], Path::new("/other")), None);
    }
}
