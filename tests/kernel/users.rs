//! Who a command is, when it is not root: looked up in its own root file system, and with nothing of root's left. And the box as files
//! ask for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::boxed::{TENANT, boxed};
use crate::life::told;
use crate::rig::{Agent, eventually, is_launched};

/// A root file system with users of its own, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("bellows-users-{}", std::process::id()));
        for directory in ["proc", "sys", "dev", "usr", "etc"] {
            fs::create_dir_all(path.join(directory)).expect("directory");
        }
        for link in ["bin", "lib", "lib64"] {
            symlink(PathBuf::from("usr").join(link), path.join(link)).expect("link");
        }
        fs::write(path.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n")
            .expect("passwd");
        fs::write(path.join("etc/group"), "root:x:0:\nlogs:x:50:other,web\nmore:x:51:other\n")
            .expect("group");
        Self(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who it is, what it may do, and that what it says arrives when its output is opened anew.
const WHO: &str = "id -u; id -g; id -G; grep -E '^(CapEff|CapPrm|CapAmb):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '; \
                   echo; chown 1 /proc/self/fd/1 2>/dev/null && echo won; kill -0 1 2>/dev/null && echo won; true";
const NOTHING: &str = "CapPrm:0000000000000000 CapEff:0000000000000000 CapAmb:0000000000000000 \n";

#[test]
fn a_command_is_the_user_that_it_is_to_be() {
    let (agent, root) = (Agent::start(&[]), Root::new());
    let mut journal = agent.follow();
    let path = root.0.display().to_string();
    let flags = ["--rootfs", &path, "--bind", "/usr:/usr"];
    let opens = format!("{WHO}\necho opened > /dev/stdout");
    let who = |name: &str, user: &str| boxed(&agent, name, &[&flags[..], &["--user", user]].concat(), &opens);
    let named = who("named", "web");
    assert_eq!(named.out, format!("33\n34\n34 50\n{NOTHING}opened\n"), "{named:?}");
    let numbered = who("numbered", "1000:50");
    assert_eq!(numbered.out, format!("1000\n50\n50\n{NOTHING}opened\n"), "{numbered:?}");
    for (user, said) in [
        ("nobody", "no user nobody in /etc/passwd"),
        ("web:none", "no group none"),
        ("70000", "cannot become user 70000"),
    ] {
        let refused = who("refused", user);
        assert!(refused.code != 0 && refused.err.contains(said), "{refused:?}");
    }
    let wrong = who("wrong", "a b");
    assert!(wrong.code == 5 && wrong.err.contains("is nobody"), "{wrong:?}");
    // Without a box it is a user of the host.
    let plain = agent.run_with("plain", "16M..64M", &["--user", "65533"], &["sh", "-c", &opens]).finish();
    assert_eq!(plain.out, format!("65533\n65533\n65533\n{NOTHING}opened\n"), "{plain:?}");

    // What enters is who lives there, unless it is told otherwise.
    let flags: Vec<&str> = TENANT.iter().chain(&flags).copied().chain(["--user", "web"]).collect();
    let run = agent.run_with("box", "32M..128M", &flags, &["sleep", "300"]);
    journal.wait("default/box", is_launched);
    assert_eq!(told(&agent, "exec", &["box", "--", "sh", "-c", WHO], 0), format!("33\n34\n34 50\n{NOTHING}"));
    let entered = told(
        &agent,
        "exec",
        &["box", "--user", "0", "--", "sh", "-c", "id -u; grep CapEff /proc/self/status | tr -d '\\t'"],
        0,
    );
    assert_eq!(entered, "0\nCapEff:00000000800425fb\n");
    told(&agent, "stop", &["box", "--grace", "0s"], 0);
    assert_eq!(run.finish().code, 137);
}

#[test]
fn a_file_asks_for_a_box_by_a_word() {
    let agent = Agent::start(&[]);
    let file = agent.runtime_dir.join("box.toml");
    let script = "id -u; cut -c 1-20 /proc/self/uid_map; ls /sys/class/net; grep Seccomp: /proc/self/status";
    let whole = |isolation: &str| {
        format!(
            "name = \"filed\"\nmemory = \"32M..128M\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\nisolation = {isolation}\n"
        )
    };
    let says = |isolation: &str, user: &str| {
        fs::write(&file, whole(isolation)).expect("a file");
        told(&agent, "apply", &[file.to_str().expect("utf-8")], 0);
        eventually("it has said all", || {
            let said = told(&agent, "logs", &["filed"], 0);
            let lines: Vec<&str> = said.lines().collect();
            lines.len() >= 4
                && lines[lines.len() - 4..][0] == user
                && lines[lines.len() - 2..] == ["lo", "Seccomp:\t2"]
        });
    };
    says("\"tenant\"", "0");
    says("{ preset = \"tenant\", user = \"7\" }", "7");
    fs::write(&file, whole("\"tenat\"")).expect("a file");
    assert!(told(&agent, "apply", &[file.to_str().expect("utf-8")], 1).contains("tenat"));
}
