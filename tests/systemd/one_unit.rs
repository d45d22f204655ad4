//! Agent and workloads in one unit: what `DelegateSubgroup=` is needed for.

use std::path::Path;

use crate::rig::{Installed, UNTIL_TOLD, detach, property, read, run, text, told, version};

const ROOT: &str = "/sys/fs/cgroup/bellows.service";

/// Before 254 systemd starts the next agent in the unit's own cgroup, which the kernel does not allow while a child has limits:
/// that is why there are two units.
#[test]
fn a_restart_needs_a_subgroup() {
    let mut installed = Installed::new(&["one-unit/bellows.service"]);
    let knows = version() >= 254;
    if !knows {
        installed.drop_in("[Service]\nType=notify\nRestart=no\n");
    }
    told(&["systemctl", "start", "bellows"]);
    detach("web", UNTIL_TOLD);
    let processes = || read(Path::new(ROOT).join("workloads/default/web/cgroup.procs"));
    let before = processes();
    assert!(!before.is_empty(), "{}", text(&run(&["systemctl", "status", "bellows"])));
    let restart = run(&["systemctl", "restart", "bellows"]);
    assert_eq!(restart.status.success(), knows, "{}", text(&restart));
    if knows {
        assert!(told(&["bellows", "ps", "--json"]).contains("\"state\":\"running\""));
        told(&["bellows", "stop", "web"]);
    } else {
        assert_eq!(property("bellows", "ExecMainStatus"), "219");
    }
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    assert!(knows || first(&processes()) == first(&before), "what runs is left alone");
    let _ = std::fs::write(Path::new(ROOT).join("cgroup.kill"), "1");
}
