//! Swap that stays in RAM: what zswap compresses is charged to its cgroup still, and whoever asks is told so.

use std::fs;
use std::path::Path;
use std::process::Command;

use bellows::journal::What;
use bellows_policies::units::Bytes;

use crate::rig::{Agent, eventually, field, number, program, read};

/// Switched on for as long as a test runs.
struct Zswap(String);

impl Zswap {
    const FILE: &str = "/sys/module/zswap/parameters/enabled";

    fn on() -> Self {
        let before = read(Path::new(Self::FILE));
        fs::write(Self::FILE, "Y").expect("this kernel has no zswap");
        assert!(
            read(Path::new("/proc/swaps")).lines().count() > 1,
            "no swap: the guest is started with --swap"
        );
        Self(before)
    }
}

impl Drop for Zswap {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILE, self.0.trim());
    }
}

/// A workload that needs more than its ceiling, part of which is compressed: that part is a part of its need, its evidence says
/// how much has left RAM in truth, and the doctor names the kind of swap.
#[test]
fn what_zswap_holds_has_not_left_ram() {
    let _zswap = Zswap::on();
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("squashed", "16M..64M", &["grow", "160", "--hold-ms", "600000"]);
    let cgroup = agent.tree.workload("squashed");
    let stat = cgroup.join("memory.stat");
    eventually("it has all it wants, compressed", || field(&stat, "zswapped") > 80 << 20);
    // Both rise still: what has to be the smaller one is read first.
    let (zswap, kernel, zswapped) = (field(&stat, "zswap"), field(&stat, "kernel"), field(&stat, "zswapped"));
    println!("{zswapped} bytes in {zswap}, of {kernel} of the kernel's");
    assert!(zswap > 0 && kernel >= zswap, "zswap {zswap} is charged as the kernel's {kernel}");
    let swapped = number(&cgroup.join("memory.swap.current"));
    assert!(swapped >= zswapped, "{swapped} swapped out, {zswapped} of it in zswap");

    // A limit that is moved tells what is known: raised by the law, if it is in the way still, or by a pin. Not one of the first
    // raises, when a few pages had been swapped out that are nothing compressed.
    assert!(agent.output("set", &["squashed", "--memory", "16M..256M"]).status.success());
    // It may have been failed at its old ceiling: with room it is governed again, as soon as its need is known.
    eventually("it is pinned", || agent.output("pin", &["squashed", "--high", "128M"]).status.success());
    let knows =
        |what: &What| matches!(what, What::LimitsMoved { evidence, .. } if evidence.swapped > Bytes::mib(8));
    let moved = journal.wait("default/squashed", knows);
    let What::LimitsMoved { evidence: grounds, .. } = &moved.what else {
        unreachable!("that was waited for")
    };
    assert!(grounds.swap_room > Bytes::ZERO, "{grounds:?}");
    assert!(grounds.swap_kept_permille > 0 && grounds.swap_kept_permille < 1000, "{grounds:?}");
    let told = agent.output("explain", &[&moved.id.to_string()]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("swapped out") && told.contains("in RAM still, compressed"), "{told}");
    let doctor = Command::new(program("bellows"))
        .args(["doctor", "--root"])
        .arg(&agent.tree.root)
        .output()
        .expect("doctor");
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("behind zswap"), "{told}");
    assert!(agent.output("kill", &["--signal", "KILL", "squashed"]).status.success());
    assert_eq!(run.finish().code, 137);
}
