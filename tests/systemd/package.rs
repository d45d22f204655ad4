//! The Debian package, by apt and dpkg as an administrator uses them: from nothing to a governed workload, an upgrade beside it, and
//! what is left when it is removed and purged.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use bellows_tests::guest::system::USER_ID;

use crate::rig::{
    TREE, UNTIL_TOLD, await_boot, built, detach, eventually, inode, limit, listed, main_pid, processes,
    property, read, run, text, told, version,
};

const CONFIG: &str = "/etc/bellows/config.toml";
const POLICY: &str = "/etc/bellows/policies.d/20-mine.toml";
const JOURNAL: &str = "/var/lib/bellows/journal";

/// Whatever becomes of a test, the next one finds nothing of it.
struct Purged;

impl Drop for Purged {
    fn drop(&mut self) {
        run(&["dpkg", "--purge", "bellows"]);
        run(&["systemctl", "reset-failed", "bellows", "bellows-tree"]);
    }
}

/// The package of this build.
fn package() -> String {
    built("bellows.deb").display().to_string()
}

/// The same files as a later version.
fn successor() -> PathBuf {
    let tree = Path::new("/run/successor");
    let path = |path: &Path| path.display().to_string();
    told(&["dpkg-deb", "--raw-extract", &package(), &path(tree)]);
    let control = tree.join("DEBIAN/control");
    let fields: Vec<String> = read(&control)
        .lines()
        .map(|line| if line.starts_with("Version: ") { format!("{line}+later") } else { line.to_owned() })
        .collect();
    fs::write(&control, fields.join("\n") + "\n").expect("control");
    let later = tree.with_extension("deb");
    told(&["dpkg-deb", "-Znone", "--build", &path(tree), &path(&later)]);
    fs::remove_dir_all(tree).expect("remove what was unpacked");
    later
}

fn installed_version() -> String {
    told(&["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "bellows"])
}

/// What the package has put where, without directories.
fn its_files() -> Vec<String> {
    let all = told(&["dpkg", "-L", "bellows"]);
    let files: Vec<String> = all.lines().filter(|p| !Path::new(p).is_dir()).map(str::to_owned).collect();
    assert!(files.len() > 30, "{files:?}");
    files
}

/// Runs a command as the ordinary user, in this group besides its own, in a session of it.
fn as_user(group: &str, command: &[&str]) -> Output {
    let id = USER_ID.to_string();
    let session = format!("XDG_RUNTIME_DIR=/run/user/{id}");
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--groups", group, "env", &session];
    run(&[&user[..], command].concat())
}

#[test]
fn it_installs_upgrades_under_a_workload_and_goes() {
    await_boot();
    let _purged = Purged;

    // As the README has it: three commands.
    told(&["apt-get", "install", "-y", "--no-install-recommends", &package()]);
    let said = told(&["bellows", "doctor"]);
    assert!(said.contains(&format!("systemd {}\n", version())), "{said}");
    let init = detach("web", UNTIL_TOLD).to_string();
    assert!(listed().contains("\"state\":\"running\""), "{}", listed());
    let high = limit("web", "memory.high");
    assert_ne!(high, "max", "it is governed");
    assert!(processes("web").lines().any(|pid| pid == init));

    assert_eq!(property("bellows", "UnitFileState"), "enabled");
    assert_eq!(property("bellows-tree", "ActiveState"), "active");
    members_read_and_change_nothing();
    let mode = fs::metadata("/var/lib/bellows").expect("state").mode();
    assert_eq!(mode & 0o777, 0o750, "{mode:o}");
    assert!(fs::read_dir(JOURNAL).expect("journal").count() > 0);

    // An upgrade replaces the agent, and nothing else; what the administrator has said stays.
    fs::write(CONFIG, read(CONFIG) + "\n[workload]\npids = 4095\n").expect("config");
    fs::write(POLICY, "[tenant.acme]\nweight = 300\n").expect("policy");
    let (agent, keeper) = (main_pid(), property("bellows-tree", "MainPID"));
    let old = inode("/usr/bin/bellows");
    told(&["dpkg", "--install", &successor().display().to_string()]);
    assert!(installed_version().ends_with("+later"), "{}", installed_version());
    assert_ne!(inode("/usr/bin/bellows"), old);
    eventually("another agent", || property("bellows", "SubState") == "running" && main_pid() != agent);
    assert_eq!(inode(format!("/proc/{}/exe", main_pid())), inode("/usr/bin/bellows"));
    assert_eq!(property("bellows-tree", "MainPID"), keeper, "the tree was not touched");
    assert!(processes("web").lines().any(|pid| pid == init), "the workload goes on");
    eventually("it is governed again", || listed().contains("\"state\":\"running\""));
    assert_eq!(limit("web", "memory.high"), high, "at the limit that was in force");
    assert!(read(CONFIG).contains("4095"));
    assert!(told(&["bellows", "tenants"]).contains("acme"));

    // What is disabled stays so.
    told(&["systemctl", "disable", "--now", "bellows"]);
    told(&["dpkg", "--install", "/run/successor.deb"]);
    assert_eq!(property("bellows", "UnitFileState"), "disabled");
    assert_eq!(property("bellows", "ActiveState"), "inactive");
    assert!(processes("web").lines().any(|pid| pid == init), "the workload goes on");
    told(&["systemctl", "enable", "--now", "bellows"]);

    // Removed: workloads end as they want to, configuration and journal stay.
    let files = its_files();
    told(&["apt-get", "remove", "-y", "bellows"]);
    assert!(!Path::new(TREE).exists() && !Path::new(&format!("/proc/{init}")).exists());
    assert_eq!(property("bellows", "LoadState"), "not-found");
    let left: Vec<&String> = files.iter().filter(|path| Path::new(path).exists()).collect();
    assert!(left.iter().all(|path| path.starts_with("/etc/bellows/")), "{left:?}");
    assert_eq!(left.len(), 2, "configuration is left: {left:?}");
    assert!(Path::new(POLICY).exists() && Path::new(JOURNAL).exists());

    // Installed again, it finds them; and how the workload has ended.
    told(&["dpkg", "--install", &package()]);
    eventually("it is there", || property("bellows", "SubState") == "running");
    assert!(read(CONFIG).contains("4095"));
    assert!(listed().contains("exited with code 7"), "{}", listed());

    // Purged, with all that it is and knows.
    told(&["apt-get", "purge", "-y", "bellows"]);
    for gone in ["/etc/bellows", "/var/lib/bellows", "/run/bellows", TREE, "/sys/fs/cgroup/bellows.service"] {
        assert!(!Path::new(gone).exists(), "{gone} is left");
    }
    assert!(files.iter().all(|path| !Path::new(path).exists()));
    let wants = Path::new("/etc/systemd/system/multi-user.target.wants/bellows.service");
    assert!(wants.symlink_metadata().is_err());
    let kept = run(&["dpkg-query", "-W", "bellows"]);
    assert!(!kept.status.success(), "{}", text(&kept));
}

/// Who is in the package's group, and who is not.
fn members_read_and_change_nothing() {
    let line = read("/etc/group").lines().find(|line| line.starts_with("bellows:")).map(str::to_owned);
    let line = line.expect("the group");
    let id = line.split(':').nth(2).expect("a number");
    let stranger = as_user(&USER_ID.to_string(), &["bellows", "ps"]);
    assert!(!stranger.status.success(), "{}", text(&stranger));
    let member = as_user(id, &["bellows", "ps"]);
    assert!(text(&member).contains("default/web"), "{}", text(&member));
    let member = as_user(id, &["bellows", "kill", "web"]);
    assert_eq!(member.status.code(), Some(5), "{}", text(&member));
}
