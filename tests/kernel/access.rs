//! The lists of `[api]`, tried by real users on the real sockets: each sees and changes what is its own, and is told so otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output, Stdio};

use bellows::journal::What;

use crate::boxed::TENANT;
use crate::life::told;
use crate::rig::{Agent, Follower, eventually, is_launched, program};

const OPERATOR: &str = "20001";
pub(crate) const ALICE: &str = "20002";
pub(crate) const STRANGER: &str = "20009";
/// A group of readers.
const STAFF: &str = "20100";

/// An agent with lists. The directory is what acme was given of the host.
pub(crate) struct Place {
    pub(crate) agent: Agent,
    directory: std::path::PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str, lists: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bellows-access-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("data")).expect("directory");
        let config = directory.join("config.toml");
        fs::write(&config, lists.replace("DIRECTORY", &directory.display().to_string())).expect("config");
        Self { agent: Agent::start(&["--config", &config.display().to_string()]), directory }
    }

    pub(crate) fn command(&self, user: &str, groups: &str, verb: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user]);
        if groups.is_empty() {
            command.arg("--clear-groups")
        } else {
            command.args(["--groups", groups])
        };
        command.arg(program("bellows")).arg(verb).arg("--runtime-dir").arg(&self.agent.runtime_dir);
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    pub(crate) fn output(&self, user: &str, verb: &str, arguments: &[&str]) -> (i32, String) {
        let output = self.command(user, "", verb).args(arguments).output().expect("bellows");
        said(&output)
    }

    /// Ends with this code, and says this.
    pub(crate) fn ends(&self, user: &str, verb: &str, arguments: &[&str], code: i32, text: &str) {
        let (ended, said) = self.output(user, verb, arguments);
        assert!(ended == code && said.contains(text), "{user}: {verb} {arguments:?}: {ended}, {said}");
    }

    /// Perl with `$socket` as the path of the control socket and `ask(request)`, which gives the answer's status.
    pub(crate) fn perl(&self, user: &str, script: &str) -> String {
        let socket = self.agent.runtime_dir.join("api.sock");
        let script = format!(
            "use IO::Socket::UNIX; $socket = '{}'; \
             sub ask {{ my $s = IO::Socket::UNIX->new(Peer => $socket) or return \"none: $!\"; print $s $_[0]; \
             my $line = <$s>; $line =~ / (\\d+) / ? $1 : \"cut off\" }} {script}",
            socket.display()
        );
        let output = Command::new("setpriv")
            .args(["--reuid", user, "--regid", user, "--clear-groups", "perl", "-e", &script])
            .output()
            .expect("perl");
        let (code, text) = said(&output);
        assert_eq!(code, 0, "{text}");
        text
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

pub(crate) const LISTS: &str = r#"
    [api]
    mode = "0666"
    operators = { users = [20001] }
    readers = { groups = [20100] }
    [api.tenants]
    acme = { users = [20002], directories = ["DIRECTORY"], classes = ["batch"], workloads = 4 }
    beta = { users = ["nobody"] }
"#;

/// The record of a refusal, with who asked.
fn refusal(journal: &mut Follower, workload: &str, order: &str) {
    let is_it = |what: &What| matches!(what, What::OrderRefused { order: told, .. } if told == order);
    let record = journal.wait(workload, is_it);
    let by = record.by.expect("who asked");
    assert!(by.uid == 20002 && by.pid > 0 && by.command == "bellows", "{by}");
}

const IDLE: [&str; 3] = ["--", "sleep", "300"];

#[test]
fn each_sees_and_changes_what_is_its_own() {
    let place = Place::new("rules", LISTS);
    let agent = &place.agent;
    let mut journal = agent.follow();
    let detached = |tenant: &'static str, name: &'static str| {
        ["--tenant", tenant, "--name", name, "--memory", "16M..64M", "--detach"]
    };
    let run = |user: &str, base: [&str; 7], flags: &[&str], code: i32, text: &str| {
        place.ends(user, "run", &[&base[..], flags, &IDLE].concat(), code, text);
    };
    told(agent, "run", &[&detached("beta", "secret")[..], &TENANT, &IDLE].concat(), 0);
    journal.wait("beta/secret", is_launched);
    run(ALICE, detached("acme", "web"), &TENANT, 0, "acme/web: started");

    // What is seen.
    for (user, groups, seen) in [
        (ALICE, "", vec!["acme/web"]),
        (OPERATOR, "", vec!["acme/web", "beta/secret"]),
        (STRANGER, STAFF, vec!["acme/web", "beta/secret"]),
        ("65534", "", vec!["beta/secret"]),
    ] {
        for verb in ["ps", "tenants", "events"] {
            let (code, text) = said(&place.command(user, groups, verb).output().expect("bellows"));
            assert_eq!(code, 0, "{user} {verb}: {text}");
            for name in ["acme/web", "beta/secret"] {
                let word = if verb == "tenants" { name.split('/').next().expect("a tenant") } else { name };
                assert_eq!(text.contains(word), seen.contains(&name), "{user} {verb} {word}: {text}");
            }
            assert!(seen.len() == 2 || !text.contains("the agent governs"), "of the node: {text}");
        }
    }
    let first = journal.wait("beta/secret", is_launched).id.to_string();
    place.ends(ALICE, "explain", &[&first], 5, "is none of yours");
    place.ends(ALICE, "explain", &["beta/secret"], 5, "what is of beta is not for you to see");
    place.ends(ALICE, "explain", &["acme/web"], 0, "acme/web");
    place.ends(STRANGER, "ps", &[], 5, "an operator can add you to [api]");
    place.ends(STRANGER, "events", &[], 5, "an operator can add you to [api]");

    // What is of others is not changed by anybody.
    for (verb, order, flags) in [
        ("set", "set", &["--memory", "16M..32M"][..]),
        ("stop", "stop", &[]),
        ("freeze", "freeze", &[]),
        ("thaw", "thaw", &[]),
        ("kill", "signal", &[]),
        ("rm", "rm", &[]),
        ("exec", "exec", &["--", "true"]),
    ] {
        let other = [&["--tenant", "beta", "secret"][..], flags].concat();
        place.ends(ALICE, verb, &other, 5, "what is of beta is not for you to change");
        refusal(&mut journal, "beta/secret", order);
        place.ends(STRANGER, verb, &other, 5, "[api]");
    }
    for verb in ["pin", "unpin"] {
        place.ends(ALICE, verb, &["--tenant", "acme", "web"], 5, "only operators may do that");
    }
    place.ends(ALICE, "release", &["--all"], 5, "only operators may do that");
    let reader = said(
        &place.command(STRANGER, STAFF, "kill").args(["--tenant", "acme", "web"]).output().expect("kill"),
    );
    assert!(reader.0 == 5 && reader.1.contains("you may see everything"), "{reader:?}");

    // What is its own is.
    let own = ["--tenant", "acme", "web"];
    place.ends(ALICE, "set", &[&own[..], &["--memory", "16M..128M"]].concat(), 0, "128 MiB");
    place.ends(ALICE, "set", &[&own[..], &["--weight", "10000"]].concat(), 5, "only operators may give");
    place.ends(ALICE, "set", &[&own[..], &["--class", "latency"]].concat(), 5, "ask for one of batch");
    place.ends(ALICE, "set", &[&own[..], &["--io-max", "8:0 rbps=1"]].concat(), 5, "devices of the host");
    place.ends(ALICE, "set", &[&own[..], &["--cpuset-cpus", "0"]].concat(), 0, "cpus all -> 0");
    place.ends(ALICE, "freeze", &own, 0, "frozen");
    place.ends(ALICE, "thaw", &own, 0, "acme/web");
    place.ends(ALICE, "exec", &[&own[..], &["--", "id", "-u"]].concat(), 0, "0\n");
    place.ends(ALICE, "stop", &[&own[..], &["--grace", "0s"]].concat(), 0, "acme/web");
    place.ends(ALICE, "rm", &own, 0, "forgotten");

    // One that stays with its client, to its end.
    let attached = ["--tenant", "acme", "--name", "short", "--memory", "16M..64M"];
    place.ends(ALICE, "run", &[&attached[..], &TENANT, &["--", "sh", "-c", "exit 3"]].concat(), 3, "");
    // The end of another's is not told: the id is easy to guess.
    let id = fs::metadata(agent.tree.root.join("workloads/beta/secret")).expect("cgroup").ino();
    let ask = |path: &str| {
        place.perl(
            ALICE,
            &format!("print ask(\"GET {path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n\")"),
        )
    };
    assert_eq!(ask(&format!("/api/v1/exits/{id}")), "404");
    // Not by another spelling either, nor by the address that everybody reaches.
    for path in ["/api/v1/explain/%62eta/secret", "/api/v1/explain/beta/../beta/secret", "/metrics"] {
        assert_ne!(ask(path), "200", "{path}");
    }
    assert_eq!((ask("/healthz"), ask("/api/v1/workloads")), ("200".to_owned(), "200".to_owned()));
    assert!(agent.http("/api/v1/workloads").starts_with("HTTP/1.1 403"));
    // Nor by the files beside the sockets.
    for directory in ["journal", "exits", "workloads"] {
        let listed = Command::new("setpriv")
            .args(["--reuid", ALICE, "--regid", ALICE, "--clear-groups", "ls"])
            .arg(agent.runtime_dir.join(directory))
            .output()
            .expect("ls");
        assert!(!listed.status.success() && listed.stdout.is_empty(), "{directory}: {listed:?}");
    }
    let metrics = agent.http("/metrics");
    let counted =
        metrics.lines().find_map(|line| line.strip_prefix("bellows_api_refused_total ")?.parse::<u64>().ok());
    assert!(counted.is_some_and(|count| count >= 20), "{counted:?}");
    assert!(told(agent, "ps", &[], 0).contains("beta/secret"), "it has come to no harm");
}

#[test]
fn a_tenant_has_boxes_and_nothing_of_the_host() {
    let place = Place::new("boxes", LISTS);
    let agent = &place.agent;
    let mut journal = agent.follow();
    let data = place.directory.join("data").display().to_string();
    let run = |tenant: &str, name: &str, flags: &[&str], code: i32, text: &str| {
        let base = ["--tenant", tenant, "--name", name, "--memory", "16M..64M", "--detach"];
        place.ends(ALICE, "run", &[&base[..], flags, &IDLE].concat(), code, text);
    };
    let boxed = |more: &[&'static str]| [&TENANT[..], more].concat();
    run("beta", "x", &TENANT, 5, "what is of beta is not for you to change");
    run("acme", "x", &[], 5, "--isolation tenant");
    for flags in [
        &["--net", "host"][..],
        &["--cap-add", "sys_admin"],
        &["--seccomp", "false"],
        &["--no-new-privs", "false"],
    ] {
        run("acme", "x", &boxed(flags), 5, "its box has to be whole");
    }
    refusal(&mut journal, "acme/x", "launch");
    run("acme", "x", &boxed(&["--bind", "/etc:/etc2"]), 5, "/etc of the host is refused");
    run("acme", "x", &boxed(&["--rootfs", "/srv"]), 5, "/srv of the host is refused");
    run("acme", "x", &boxed(&["--class", "latency"]), 5, "ask for one of batch");
    run("acme", "x", &boxed(&["--ulimit", "rtprio=99"]), 5, "no cpu quota bounds");
    run("acme", "x", &boxed(&["--log-files", "100"]), 5, "a log of 100 MiB is refused");
    assert!(!agent.tree.root.join("workloads/acme/x").exists(), "nothing was begun");
    // On the host's root, which is read-only, a mount needs a place that is there.
    let bind = format!("{data}:/mnt");
    run("acme", "own", &[&TENANT[..], &["--bind", &bind, "--class", "batch"]].concat(), 0, "started");

    // What an operator has started without a box is not a way out.
    let hosty = ["--tenant", "acme", "--name", "hosty", "--memory", "16M..64M", "--detach"];
    told(agent, "run", &[&hosty[..], &IDLE].concat(), 0);
    let enter = ["--tenant", "acme", "hosty", "--", "id", "-u"];
    place.ends(ALICE, "exec", &enter, 5, "is in no whole box");
    assert_eq!(told(agent, "exec", &enter, 0), "0\n");

    // By a file, the same holds.
    let file = place.directory.join("x.toml");
    let write = |isolation: &str| {
        let text = format!(
            "tenant = \"acme\"\nname = \"filed\"\nmemory = \"16M..64M\"\ncommand = [\"sleep\", \"300\"]\n{isolation}\n"
        );
        fs::write(&file, text).expect("file");
    };
    let path = file.display().to_string();
    write("");
    place.ends(ALICE, "apply", &[&path], 5, "--isolation tenant");
    let caps = "capabilities = [\"chown\"]";
    write(&format!(
        "isolation = {{ namespaces = {{ user = \"new\", net = \"new\" }}, no_new_privs = true, seccomp = true, {caps} }}"
    ));
    place.ends(ALICE, "apply", &[&path], 0, "started");

    // Four, those included that have ended and are remembered.
    run("acme", "fourth", &TENANT, 0, "started");
    run("acme", "fifth", &TENANT, 5, "acme has 4 workloads already");
    place.ends(ALICE, "stop", &["--tenant", "acme", "fourth", "--grace", "0s"], 0, "");
    eventually("it is over", || place.output(ALICE, "ps", &["--json"]).1.contains("exited"));
    run("acme", "fifth", &TENANT, 5, "acme has 4 workloads already");
    place.ends(ALICE, "rm", &["--tenant", "acme", "fourth"], 0, "forgotten");
    run("acme", "fifth", &TENANT, 0, "started");
}

/// Who may ask cannot ask so much that others are not heard.
#[test]
fn a_flood_of_requests_is_its_senders_alone() {
    let place = Place::new("flood", LISTS);
    let agent = &place.agent;
    let request = "GET /api/v1/workloads HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n";
    let asked = place.perl(
        ALICE,
        &format!("$n{{ask(\"{request}\")}}++ for 1..400; print map {{ \"$_ $n{{$_}}\\n\" }} sort keys %n"),
    );
    let count = |status: &str| -> u32 {
        asked.lines().find_map(|line| line.strip_prefix(status)?.trim().parse().ok()).unwrap_or(0)
    };
    assert_eq!(count("200") + count("429"), 400, "{asked}");
    assert!((100..250).contains(&count("200")), "{asked}");
    // Connections that say nothing are held open, more than it may have.
    let open = "@s = map { IO::Socket::UNIX->new(Peer => $socket) } 1..300; $| = 1; \
                for (@s) { $_ or next; $r = ''; vec($r, fileno($_), 1) = 1; $closed++ if select($r, undef, undef, 0.01); } print $closed;";
    let closed = place.perl(ALICE, open);
    assert_eq!(closed, (300 - 64).to_string());
    let other = place.output("65534", "ps", &[]);
    assert_eq!(other.0, 0, "{other:?}");
    assert!(told(agent, "ps", &[], 0).contains("WORKLOAD"));
    let records: Vec<String> = told(agent, "events", &["--json"], 0).lines().map(str::to_owned).collect();
    assert!(records.len() < 100, "the journal is not flooded: {}", records.len());
}

/// The socket itself: its group, its mode, and that it is told who may not open it.
#[test]
fn the_socket_is_for_its_group() {
    let place = Place::new("socket", "[api]\nmode = \"0660\"\ngroup = 20100\n");
    for (groups, code, text) in [("", 5, "api.group"), (STAFF, 0, "WORKLOAD")] {
        let (ended, said) = said(&place.command(STRANGER, groups, "ps").output().expect("ps"));
        assert!(ended == code && said.contains(text), "{ended} {said}");
    }
    for name in ["api.sock", "stdio.sock"] {
        let socket = fs::metadata(place.agent.runtime_dir.join(name)).expect("socket");
        assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, 20100));
    }
    // Without lists the socket alone decides, as ever.
    let released = said(&place.command(STRANGER, STAFF, "release").arg("--all").output().expect("release"));
    assert_eq!(released.0, 0, "{released:?}");
}
