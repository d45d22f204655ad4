//! Namespaces that are there already are joined, and shared by who joins them; what is none is not even opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boxed::{TENANT, boxed};
use crate::life::told;
use crate::rig::{Agent, eventually, is_launched};

/// Namespaces of their own, kept by files as `ip netns` does; let go at the end.
struct Kept(PathBuf);

impl Kept {
    fn new() -> Self {
        let directory = PathBuf::from(format!("/run/bellows-joins-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let kept = Self(directory);
        for name in ["net", "ipc", "uts"] {
            fs::write(kept.file(name), "").expect("a file to mount on");
        }
        let files = ["net", "ipc", "uts"].map(|name| format!("--{name}={}", kept.file(name).display()));
        run(
            "unshare",
            &[&files[0], &files[1], &files[2], "sh", "-c", &format!("hostname shared; {}", loopback(true))],
        );
        kept
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn join(&self, name: &str) -> String {
        format!("join:{}", self.file(name).display())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for name in ["net", "ipc", "uts"] {
            let _ = Command::new("umount").arg(self.file(name)).status();
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Switches the loopback device on or off (SIOCSIFFLAGS).
fn loopback(is_up: bool) -> String {
    let flags = u8::from(is_up);
    format!("perl -e 'socket S, 2, 2, 0; $r = pack q(a16 s x22), q(lo), {flags}; exit !ioctl S, 0x8914, $r'")
}

/// What `/proc/self/ns/NAME` says of a file of a namespace.
fn link(name: &str, file: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("{name}:[{}]\n", fs::metadata(file).expect("the file").ino())
}

const SERVE: &str = r#"perl -MIO::Socket -e '
    my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1", LocalPort => 7777) or die "bind: $!";
    while (my $c = $s->accept) { print $c "hello\n"; close $c }'"#;
const ASK: &str = r#"perl -MIO::Socket -e '
    my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => 7777) or do { print "nobody\n"; exit }; print <$s>'"#;

#[test]
fn namespaces_are_joined_and_shared() {
    let (agent, kept) = (Agent::start(&[]), Kept::new());
    let mut journal = agent.follow();
    let [net, ipc, uts] = ["net", "ipc", "uts"].map(|name| kept.join(name));
    let flags = ["--net", &net, "--ipc", &ipc, "--uts", &uts];
    let own = ["net", "ipc", "uts"].map(|name| link(name, &kept.file(name))).concat();
    let links = "for name in net ipc uts; do readlink /proc/self/ns/$name; done; hostname";
    // They are not its own: nothing in the box can change them.
    let script = format!(
        "{links}; ls /sys/class/net; {} && echo won; hostname other 2>/dev/null && echo won; ipcs -q | grep -c '^0x'; true",
        loopback(false)
    );
    run("nsenter", &[&format!("--ipc={}", kept.file("ipc").display()), "ipcmk", "-Q"]);
    let inside = boxed(&agent, "inside", &flags, &script);
    assert_eq!(inside.out, format!("{own}shared\nlo\n1\n"), "{inside:?}");
    let plain = agent.run_with("plain", "16M..64M", &flags, &["sh", "-c", links]).finish();
    assert_eq!(plain.out, format!("{own}shared\n"), "{plain:?}");

    let box_flags: Vec<&str> = TENANT.iter().chain(&flags).copied().collect();
    let server = agent.run_with("server", "32M..128M", &box_flags, &["sh", "-c", SERVE]);
    journal.wait("default/server", is_launched);
    eventually("it serves", || boxed(&agent, "client", &flags, ASK).out == "hello\n");
    assert_eq!(boxed(&agent, "alone", &[], ASK).out, "nobody\n", "no other network reaches it");
    assert_eq!(told(&agent, "exec", &["server", "--", "sh", "-c", links], 0), format!("{own}shared\n"));
    told(&agent, "stop", &["server", "--grace", "0s"], 0);
    assert_eq!(server.finish().code, 137);
}

#[test]
fn what_is_no_such_namespace_is_refused() {
    let (agent, kept) = (Agent::start(&[]), Kept::new());
    let link = kept.0.join("link");
    std::os::unix::fs::symlink(kept.file("net"), &link).expect("link");
    let by_link = format!("join:{}", link.display());
    let other = kept.join("uts");
    for (flags, said) in [
        (["--net", "join:/etc/passwd"], "cannot join /etc/passwd: it is no network namespace"),
        (["--net", "join:/dev/zero"], "cannot join /dev/zero: it is no network namespace"),
        (["--net", &other], "it is no network namespace"),
        (
            ["--net", "join:/run/netns/none"],
            "cannot join the network namespace /run/netns/none: No such file",
        ),
        (["--net", "join:/proc/self/ns/net"], "Too many"),
        (["--net", &by_link], "Too many"),
        (["--net", "join:none"], "not absolute"),
        (["--net", "bridge"], "is no namespace"),
        (["--uts", "join:/run/../run/x"], "has a .. in it"),
    ] {
        let refused = boxed(&agent, "refused", &flags, "true");
        assert!(refused.code != 0 && refused.err.contains(said), "{flags:?}: {refused:?}");
        assert!(!agent.tree.workload("refused").exists(), "nothing is left behind");
    }
}
