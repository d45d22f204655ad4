//! A root file system out of a tar is a box's, and its files are the tenant's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bellows::kernel::Cgroup;
use bellows::kernel::spawn::IdRange;

use crate::boxed::boxed;
use crate::rig::{Agent, program};

/// A directory of the test's own, removed at the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_box_lives_in_what_was_unpacked() {
    let agent = Agent::start(&[]);
    let place = Place(std::env::temp_dir().join(format!("bellows-unpacked-{}", std::process::id())));
    let at = |name: &str| place.0.join(name).display().to_string();
    let script = "mkdir -p $0/tree/etc $0/tree/usr $0/tree/proc $0/tree/sys $0/tree/dev $0/tree/home && cd $0/tree && \
                  ln -s usr/bin bin && ln -s usr/lib lib && ln -s usr/lib64 lib64 && echo hello > etc/hello && \
                  echo web:x:33:33::/:/bin/sh > etc/passwd && touch home/web && chown 33:33 home/web && \
                  cp /usr/bin/id home/id && chmod 4755 home/id && mknod dev/kmem c 1 2 && \
                  tar -cf $0/root.tar . && rm home/* && rmdir home && ln -s / home && cd .. && tar -cf bad.tar tree/home && \
                  echo /tree/home/x > names && mkdir -p other/tree/home && touch other/tree/home/x && \
                  tar -rf bad.tar -C other tree/home/x";
    let (code, told) = run("sh", &["-c", script, &place.0.display().to_string()]);
    assert_eq!(code, 0, "{told}");

    // The tenant's users are known once it has started something.
    assert_eq!(boxed(&agent, "first", &[], "true").code, 0);
    let tenant = Cgroup::open(&agent.tree.root.join("workloads/default")).expect("the tenant");
    let noted = tenant.attribute("ids").expect("readable").expect("noted");
    let ids: IdRange = serde_json::from_slice(&noted).expect("a range");
    let bellows = program("bellows").display().to_string();
    let first = ids.first.to_string();
    let (code, told) = run(&bellows, &["unpack", "--ids", &first, &at("root.tar"), &at("new")]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("1 devices and pipes left out"), "{told}");

    let root = at("new/root");
    let flags = ["--rootfs", &root, "--overlay", "16M", "--bind", "/usr:/usr", "--no-new-privs", "false"];
    let script = "cat /etc/hello; stat -c %u:%g /etc/hello /home/web; echo mine > /etc/hello && cat /etc/hello; ls /home; \
                  [ -e /dev/kmem ] || echo none";
    let inside = boxed(&agent, "inside", &flags, script);
    assert_eq!(inside.out, "hello\n0:0\n33:33\nmine\nid\nweb\nnone\n", "{inside:?}");
    // Set-user-ID to the tenant's root, for its own users, and out of reach of everybody else's.
    let user = [&flags[..], &["--user", "web"]].concat();
    assert_eq!(boxed(&agent, "user", &user, "id -u; /home/id -u").out, "33\n0\n");
    let script = format!("{root}/home/id 2>&1 | grep -c 'ermission denied'");
    assert_eq!(
        run("setpriv", &["--reuid", "65533", "--clear-groups", "sh", "-c", &script]),
        (0, "1\n".to_owned())
    );

    fs::create_dir(place.0.join("elsewhere")).expect("directory");
    std::os::unix::fs::symlink("elsewhere", place.0.join("link")).expect("link");
    let refused = [
        ("bad.tar", "bad", "\"tree/home/x\" in the archive is refused: a symbolic link is on the way"),
        ("bad.tar", "bad", "it has to be a new one"),
        ("names", "text", "cannot be read"),
        ("root.tar", "link/new", "no part of it may be a symbolic link"),
        ("root.tar", "link", "it has to be a new one"),
    ];
    for (archive, directory, said) in refused {
        let (code, told) = run(&bellows, &["unpack", &at(archive), &at(directory)]);
        assert!(code == 1 && told.contains(said), "{told}");
    }
    assert_eq!(fs::read_dir(place.0.join("elsewhere")).expect("readable").count(), 0);
    let (code, told) = run(&bellows, &["unpack", "--max", "16K", &at("root.tar"), &at("small")]);
    assert!(code == 1 && told.contains("--max allows more") && told.contains("remove it"), "{told}");
}
