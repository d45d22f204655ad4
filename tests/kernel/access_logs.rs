//! What workloads have said, for the callers of tenants: each reads what its own have said, over all files of a log, and by no spelling
//! or link what others have.

use std::fs;
use std::process::Stdio;

use crate::access::{ALICE, LISTS, Place, STRANGER, said};
use crate::boxed::TENANT;
use crate::life::told;
use crate::rig::eventually;

/// What its own have said is shown to a tenant's caller, until they have ended; of others nothing.
#[test]
fn logs_are_their_tenants() {
    let place = Place::new("logs", LISTS);
    let start = ["--tenant", "acme", "--name", "teller", "--memory", "16M..64M", "--detach"];
    let secret = ["--tenant", "beta", "--name", "secret", "--memory", "16M..64M", "--detach"];
    let tells = ["--", "sh", "-c", "echo beta-knows; exec sleep 300"];
    told(&place.agent, "run", &[&secret[..], &TENANT, &tells].concat(), 0);
    let says = ["--", "sh", "-c", "echo one; echo two; exec sleep 300"];
    place.ends(ALICE, "run", &[&start[..], &TENANT, &says].concat(), 0, "acme/teller: started");
    let own = ["--tenant", "acme", "teller"];
    eventually("both lines are in its log", || place.output(ALICE, "logs", &own) == (0, "one\ntwo\n".into()));
    place.ends(ALICE, "logs", &["--tenant", "beta", "secret"], 5, "what is of beta is not for you to see");
    place.ends(
        ALICE,
        "logs",
        &["--tenant", "acme", "nobody"],
        4,
        "there is no detached workload acme/nobody",
    );
    place.ends(STRANGER, "logs", &own, 5, "[api]");
    let mut command = place.command(ALICE, "", "logs");
    let reader = command.args(own).args(["-f", "--tail", "1"]).stdout(Stdio::piped()).spawn().expect("logs");
    place.ends(ALICE, "stop", &[&own[..], &["--grace", "0s"]].concat(), 0, "acme/teller");
    let told_to_the_end = said(&reader.wait_with_output().expect("logs"));
    assert_eq!(told_to_the_end, (0, "two\n".to_owned()), "it ends with the workload");

    // By no other spelling either.
    for path in [
        "acme/../beta/secret/logs",
        "acme/%2e%2e/beta/secret/logs",
        "acme/..%2f..%2fbeta%2fsecret/logs",
        "acme/..%2fbeta/logs",
        "acme%2f..%2fbeta/secret/logs",
        "%62eta/secret/logs",
        "acme/../logs",
    ] {
        let request =
            format!("GET /api/v1/workloads/{path} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n");
        let script = format!(
            "$s = IO::Socket::UNIX->new(Peer => $socket) or die $!; print $s \"{request}\"; print <$s>"
        );
        let answer = place.perl(ALICE, &script);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "403" | "404") && !answer.contains("knows"), "{path}: {answer}");
    }
}

/// A log that was begun anew many times is shown from its oldest file on, and what is no file of it is not.
#[test]
fn a_log_is_shown_over_its_files_and_through_no_link() {
    let place = Place::new("files", LISTS);
    let secret = ["--tenant", "beta", "--name", "secret", "--memory", "16M..64M", "--detach"];
    let tells = ["--", "sh", "-c", "echo beta-knows; exec sleep 300"];
    told(&place.agent, "run", &[&secret[..], &TENANT, &tells].concat(), 0);
    let start = ["--tenant", "acme", "--name", "teller", "--memory", "16M..64M", "--detach"];
    let bounds = ["--log-size", "4K", "--log-files", "3"];
    let says = ["--", "sh", "-c", "seq 100000 102000; exec sleep 300"];
    place.ends(ALICE, "run", &[&start[..], &TENANT, &bounds, &says].concat(), 0, "acme/teller: started");
    let own = ["--tenant", "acme", "teller"];
    eventually("it is told to the end", || place.output(ALICE, "logs", &own).1.ends_with("102000\n"));
    let (_, text) = place.output(ALICE, "logs", &own);
    // The oldest file may begin within a line.
    let lines: Vec<u32> = text.lines().skip(1).map(|line| line.parse().expect("a number")).collect();
    let first = *lines.first().expect("a line");
    assert!(
        first > 100_000 && lines.len() > 1000,
        "some files are dropped, three are there: {first}, {}",
        lines.len()
    );
    assert!(lines.iter().copied().eq(first..=102_000), "in order, and none is missing");

    // Whoever could put one there, the agent does not read it for others.
    let shelf = place.agent.runtime_dir.join("workloads");
    let log = shelf.join("acme/teller/log");
    fs::remove_file(&log).expect("the log");
    std::os::unix::fs::symlink(shelf.join("beta/secret/log"), &log).expect("a link");
    let (code, text) = place.output(ALICE, "logs", &own);
    assert!(code != 0 && !text.contains("knows"), "{code}: {text}");
}
