//! Root file systems and users of the box: what of the host is in it, what is refused, and whose files are whose.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::boxed::{TENANT, boxed};
use crate::life::told;
use crate::rig::{Agent, eventually};

/// A directory of a test's own, with what a root file system needs to borrow the host's programs.
struct Ground(PathBuf);

impl Ground {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bellows-box-{name}-{}", std::process::id()));
        for directory in ["root/proc", "root/sys", "root/dev", "root/usr", "root/data", "outside", "shared"] {
            fs::create_dir_all(path.join(directory)).expect("directory");
        }
        for link in ["bin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), path.join("root").join(link)).expect("link");
        }
        // Whoever gets in may write there.
        fs::set_permissions(path.join("shared"), fs::Permissions::from_mode(0o777)).expect("mode");
        fs::write(path.join("outside/marker"), "the host's").expect("marker");
        Self(path)
    }

    fn path(&self, below: &str) -> String {
        self.0.join(below).display().to_string()
    }

    /// In place of a directory of the root file system, a link.
    fn replace_by_link(&self, name: &str, to: &Path) {
        fs::remove_dir(self.0.join("root").join(name)).expect("an empty directory");
        symlink(to, self.0.join("root").join(name)).expect("link");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_root_of_ones_own_is_read_only_or_forgets() {
    let ground = Ground::new("kinds");
    let agent = Agent::start(&[]);
    let root = ground.path("root");
    let script = "ls -A / | tr '\\n' ' '; touch /new && echo wrote; touch /usr/new && echo wrote-usr; cat /proc/self/cgroup";
    let flags = ["--rootfs", &root, "--bind", "/usr:/usr"];
    let read_only = boxed(&agent, "readonly", &flags, script);
    assert_eq!(read_only.out, "bin data dev lib lib64 proc sys usr 0::/\n", "{read_only:?}");

    let written = boxed(&agent, "overlay", &[&flags[..], &["--overlay", "1M"]].concat(), script);
    assert_eq!(written.out, "bin data dev lib lib64 proc sys usr wrote\n0::/\n", "{written:?}");
    assert!(!Path::new(&ground.path("root/new")).exists(), "the directory itself is as it was");

    let full = boxed(
        &agent,
        "full",
        &[&flags[..], &["--overlay", "1M", "--tmpfs", "/made/by/init:64K"]].concat(),
        "head -c 2097152 /dev/zero > /big || echo full; head -c 131072 /dev/zero > /made/by/init/f || echo full-too",
    );
    assert_eq!(full.out, "full\nfull-too\n", "{full:?}");
}

/// A file asks for it in the words of the flags.
#[test]
fn a_file_describes_the_box_as_flags_do() {
    let ground = Ground::new("filed");
    let agent = Agent::start(&[]);
    let text = format!(
        "name = \"filed\"\nmemory = \"32M..64M\"\n\
         command = [\"sh\", \"-c\", \"ulimit -n; cat /data/marker; echo; touch /new /tmp/t && ls /tmp; stat -f -c %T /tmp; grep CapEff /proc/self/status\"]\n\
         [isolation]\npreset = \"tenant\"\nrootfs = \"{}\"\noverlay = \"1M\"\nbind = [\"/usr:/usr\", \"{}:/data\"]\n\
         tmpfs = [\"/tmp:1M\"]\nulimit = [\"nofile=100\"]\ncap_drop = [\"net_raw\"]\n",
        ground.path("root"),
        ground.path("outside")
    );
    let file = ground.path("filed.toml");
    fs::write(&file, text).expect("a file");
    told(&agent, "apply", &[&file], 0);
    eventually("it has ended", || told(&agent, "ps", &[], 0).contains("exited"));
    let said = told(&agent, "logs", &["filed"], 0);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["100", "the", "host's", "t", "tmpfs", "CapEff:", "00000000800405fb"], "{said}");
    assert!(told(&agent, "apply", &[&file], 0).contains("unchanged"), "applied twice");
}

/// The attacker owns the root file system, and waits for init to follow a link out of it.
#[test]
fn links_in_a_root_lead_nowhere() {
    for name in ["proc", "dev", "sys"] {
        let ground = Ground::new(&format!("link-{name}"));
        let agent = Agent::start(&[]);
        ground.replace_by_link(name, &ground.0.join("outside"));
        let root = ground.path("root");
        let finished = boxed(&agent, "linked", &["--rootfs", &root, "--bind", "/usr:/usr"], "echo ran");
        assert_eq!((finished.code, finished.out.as_str()), (1, ""), "{finished:?}");
        assert!(finished.err.contains(&format!("/{name}")), "the step is named: {finished:?}");
        assert_eq!(
            fs::read_dir(ground.0.join("outside")).expect("outside").count(),
            1,
            "nothing was made there"
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains("bellows-box-"), "nothing was mounted on the host: {mounts}");
    }
    // A mount point behind a link is one inside, wherever the link points on the host.
    let ground = Ground::new("inside");
    let agent = Agent::start(&[]);
    ground.replace_by_link("data", Path::new("/outside"));
    fs::create_dir(ground.0.join("root/outside")).expect("directory");
    let flags = ["--rootfs", &ground.path("root"), "--bind", "/usr:/usr", "--tmpfs", "/data:64K"];
    let finished = boxed(&agent, "inside", &flags, "touch /outside/x && ls /data");
    assert_eq!(finished.out, "x\n", "{finished:?}");
    // A source may lie where a tenant can write.
    symlink("/etc", ground.0.join("shared/source")).expect("link");
    let source = format!("{}:/data", ground.path("shared/source"));
    let flags = ["--rootfs", &ground.path("root"), "--bind", "/usr:/usr", "--bind", &source];
    let finished = boxed(&agent, "source", &flags, "ls /data");
    assert_eq!((finished.code, finished.out.as_str()), (1, ""), "{finished:?}");
    assert!(finished.err.contains("shared/source"), "{finished:?}");
}

#[test]
fn a_changed_root_stays_inside() {
    let ground = Ground::new("chroot");
    let agent = Agent::start(&[]);
    // The classic: a root below the working directory, and then up as far as it goes.
    let script = r#"mkdir -p /dev/shm/d && perl -e '
        chdir "/"; chroot "/dev/shm/d" or exit 3;
        for (1 .. 64) { chdir ".." } chroot "." or exit 4;
        opendir(D, "/"); print join(" ", sort grep { !/^\./ } readdir D), "\n"'
        ls -d /proc/1/root/. /proc/1/cwd/. 2>/dev/null || echo closed"#;
    let flags = ["--rootfs", &ground.path("root"), "--bind", "/usr:/usr"];
    let finished = boxed(&agent, "chroot", &flags, script);
    assert_eq!(finished.out, "bin data dev lib lib64 proc sys usr\nclosed\n", "{finished:?}");
}

#[test]
fn tenants_have_users_of_their_own() {
    let ground = Ground::new("users");
    let mut agent = Agent::start(&[]);
    let bind = format!("{}:/data:rw", ground.path("shared"));
    let owner = |agent: &Agent, tenant: &str, file: &str| {
        let flags =
            ["--tenant", tenant, "--rootfs", &ground.path("root"), "--bind", "/usr:/usr", "--bind", &bind];
        let script = format!(
            "umask 077; touch /data/{file}; stat -c '%u %g' /data/{file}; cat /data/* > /dev/null && echo read"
        );
        let finished = boxed(agent, file, &flags, &script);
        assert_eq!(finished.out.lines().next(), Some("0 0"), "inside it is root's: {finished:?}");
        let stat = fs::metadata(ground.0.join("shared").join(file)).expect("made");
        assert_eq!(stat.uid(), stat.gid());
        (stat.uid(), finished.out.contains("read"))
    };
    let (acme, read) = owner(&agent, "acme", "a");
    assert!(read, "its own file");
    let (other, read) = owner(&agent, "other", "b");
    assert!(!read, "what another tenant keeps to itself");
    assert!(acme >= 0x6000_0000 && other >= 0x6000_0000 && acme.abs_diff(other) >= 65_536, "{acme} {other}");
    // The tree remembers, whatever the configuration says by then.
    agent.kill();
    agent.restart();
    assert_eq!((owner(&agent, "other", "c").0, owner(&agent, "acme", "d").0), (other, acme));
}

#[test]
fn a_box_that_cannot_be_is_refused_whole() {
    let agent = Agent::start(&[]);
    for (flags, told) in [
        (&["--rootfs", "relative"][..], "not absolute"),
        (&["--bind", "/usr:/proc/x"], "the box's own"),
        (&["--bind", "/usr:/a/../../b"], ".."),
        (&["--hostname", "a b"], "no host name"),
        (&["--rootfs", "/does/not/exist"], "/does/not/exist"),
        (&["--ulimit", "nofile=5:4"], "above the hard one"),
    ] {
        let flags: Vec<&str> = TENANT.iter().chain(flags).copied().collect();
        let finished = agent.run_with("refused", "16M..64M", &flags, &["true"]).finish();
        assert!(finished.code != 0 && finished.err.contains(told), "{flags:?}: {finished:?}");
        assert!(!agent.tree.workload("refused").exists(), "nothing is left behind");
    }
}
