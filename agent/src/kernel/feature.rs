//! What this kernel can do, seen by the files that came with it: what bellows cannot do without, and what it does less well
//! without.

use std::path::Path;

use super::cgroup::Cgroup;
use super::support::{Check, fail, ok, warn};

/// A file of a cgroup that came with some release of Linux, and stands for what came with it.
struct Feature {
    file: &'static str,
    since: (u32, u32),
    /// What bellows does without it; `None` where it cannot.
    otherwise: Option<&'static str>,
}

const FEATURES: [Feature; 6] = [
    Feature { file: "memory.high", since: (4, 5), otherwise: None },
    Feature { file: "memory.events.local", since: (5, 2), otherwise: None },
    Feature { file: "cgroup.freeze", since: (5, 2), otherwise: None },
    Feature { file: "cgroup.kill", since: (5, 14), otherwise: None },
    Feature {
        file: "cpu.max.burst",
        since: (5, 14),
        otherwise: Some("a workload cannot save up cpu time for a burst"),
    },
    Feature {
        file: "memory.reclaim",
        since: (5, 19),
        otherwise: Some("cold memory cannot be taken back without throttling its workload"),
    },
];

/// What all required features need, for people.
const OLDEST: &str = "use Linux 5.14 or later (6.1, 6.12 and 7.3 are tested)";
/// Limits opened with `O_NONBLOCK` are lowered without reclaim since this release; older ones ignore the flag silently, and
/// no file tells.
const NONBLOCKING_LIMITS: (u32, u32) = (6, 16);

/// Whether a limit that was opened with `O_NONBLOCK` is lowered without waiting for reclaim.
#[must_use]
pub fn nonblocking_limits() -> bool {
    release_at_least(&release(), NONBLOCKING_LIMITS)
}

/// Whether cold memory of the children of `cgroup` can be reclaimed, and it would be seen if somebody waited for it.
#[must_use]
pub fn can_reclaim(cgroup: &Cgroup) -> bool {
    cgroup.open_write("memory.reclaim").is_ok() && std::fs::read("/proc/pressure/memory").is_ok()
}

/// Kernel features, one check each.
pub(super) fn checks(root: &Path, available: &str) -> Vec<Check> {
    let release = release();
    let mut list: Vec<Check> = FEATURES.iter().map(|f| check(f, root, available, &release)).collect();
    list.push(if release_at_least(&release, NONBLOCKING_LIMITS) {
        ok("non-blocking limits", format!("{release} has them"))
    } else {
        warn(
            "non-blocking limits",
            format!("{release} has none: a limit below use is lowered by a thread that waits for reclaim"),
            later_than(NONBLOCKING_LIMITS),
        )
    });
    list
}

/// A cgroup shows what its kernel can do, but for the hierarchy's own root, and for files of a controller that is not there:
/// then the release decides, since nothing is to be made only to look at it.
fn check(feature: &Feature, root: &Path, available: &str, release: &str) -> Check {
    let Feature { file, since, otherwise } = *feature;
    let controller = file.split('.').next().unwrap_or_default();
    let is_shown = root.join("cgroup.events").exists()
        && (controller == "cgroup" || available.split_whitespace().any(|c| c == controller));
    if if is_shown { root.join(file).exists() } else { release_at_least(release, since) } {
        return ok(file, "there");
    }
    let (major, minor) = since;
    let found = format!("{release} has none (it came with Linux {major}.{minor})");
    match otherwise {
        None => fail(file, found, OLDEST),
        Some(otherwise) => warn(file, format!("{found}: {otherwise}"), later_than(since)),
    }
}

fn later_than((major, minor): (u32, u32)) -> String {
    format!("use Linux {major}.{minor} or later")
}

fn release() -> String {
    nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default()
}

fn release_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::support::Status::{Fail, Ok, Warn};

    #[test]
    fn releases_compare_by_number() {
        assert!(release_at_least("6.1.0-50-amd64", (5, 14)));
        assert!(release_at_least("5.14", (5, 14)));
        assert!(!release_at_least("5.9.16", (5, 14)));
        assert!(!release_at_least("", (5, 14)));
    }

    #[test]
    fn limits_do_not_block_since_6_16() {
        for (release, expected) in [
            ("6.1.0-50-amd64", false),
            ("6.12.107+deb13-amd64", false),
            ("6.15.9", false),
            ("6.16", true),
            ("6.16.0-rc1", true),
            ("7.3.4+deb13-amd64", true),
        ] {
            assert_eq!(release_at_least(release, NONBLOCKING_LIMITS), expected, "{release}");
        }
    }

    #[test]
    fn what_is_missing_fails_or_is_told_with_its_loss() {
        let nowhere = Path::new("/nonexistent");
        let statuses = |release: &str| FEATURES.each_ref().map(|f| check(f, nowhere, "", release).status);
        assert_eq!(statuses("4.4.0"), [Fail, Fail, Fail, Fail, Warn, Warn]);
        assert_eq!(statuses("5.10.0-32-amd64"), [Ok, Ok, Ok, Fail, Warn, Warn]);
        assert_eq!(statuses("5.14.1"), [Ok, Ok, Ok, Ok, Ok, Warn]);
        assert_eq!(statuses("6.1.0-50-amd64"), [Ok; 6]);
    }

    /// By its files, whatever its release says.
    #[test]
    fn a_cgroup_shows_what_it_can() {
        let root = std::env::temp_dir().join(format!("bellows-features-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        for file in ["cgroup.events", "cgroup.freeze", "memory.high"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        let found = FEATURES.each_ref().map(|f| check(f, &root, "memory pids", "6.1").status);
        std::fs::remove_dir_all(&root).unwrap();
        // There is no controller cpu to show its files: the release decides on those.
        assert_eq!(found, [Ok, Fail, Ok, Fail, Ok, Warn]);
    }
}
