//! Workloads that nobody but the agent waits for: what they say is kept within bounds, who fails is started again, and files say
//! what is to run; over the end of the agent, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use bellows::journal::{Deed, What};
use bellows::workload::apply::{Action, ApplyPlan};

use crate::life::{is_deed, told};
use crate::rig::{Agent, Follower, eventually, is_ended, is_launched, number, program, read};
use crate::takeover::is_taken_over;

/// The waits after failures in a row.
fn waits(journal: &mut Follower, workload: &str) -> Vec<u64> {
    let due = |what: &What| match what {
        What::Life(Deed::RestartDue { after_ms, .. }) => Some(*after_ms),
        _ => None,
    };
    journal.of(workload).iter().filter_map(due).collect()
}

fn is_due(failures: u32) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::Life(Deed::RestartDue { failures: told, .. }) if *told == failures)
}

fn lines(path: &Path) -> usize {
    read(path).lines().count()
}

fn log_directory(agent: &Agent, name: &str) -> PathBuf {
    agent.runtime_dir.join("workloads/default").join(name)
}

#[test]
fn who_fails_is_started_again_ever_later() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let runs = agent.runtime_dir.join("runs");
    let fails = format!("echo run >> {}; exit 3", runs.display());
    let flags = ["--name", "fails", "--memory", "16M..64M", "--detach", "--restart", "on-failure"];
    let said = told(&agent, "run", &[&flags[..], &["--", "sh", "-c", &fails]].concat(), 0);
    assert!(said.starts_with("default/fails: started as pid "), "{said}");
    journal.wait("default/fails", is_due(3));
    assert_eq!(waits(&mut journal, "default/fails")[..3], [200, 400, 800]);
    assert!(lines(&runs) >= 3, "{}", journal.told());
    let metric = |agent: &Agent| {
        let text = agent.http("/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix("bellows_restarts_total "));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
    };
    assert!(metric(&agent) >= 2);

    // The row goes on where it was, and so does the count.
    agent.kill();
    let before = lines(&runs);
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/fails", is_due(5));
    assert!(lines(&runs) > before);
    let listed = told(&agent, "ps", &[], 0);
    assert!(listed.contains("default/fails") && listed.contains("restarts: "), "{listed}");
    // Not while it is being started: then there is nothing yet that could be told.
    eventually("it is told", || agent.output("stop", &["fails"]).status.success());
    let is_over = || {
        let listed = told(&agent, "ps", &["--json"], 0);
        listed.contains("\"is_waiting\":false")
            && ["exited", "failed"].iter().any(|state| listed.contains(state))
    };
    eventually("it is over", is_over);
    let count = lines(&runs);
    assert_eq!(told(&agent, "rm", &["fails"], 0), "default/fails: forgotten, with its log\n");
    let by = journal.wait("default/fails", is_deed(&Deed::Removed {})).by.expect("who asked");
    assert!(by.uid == 0 && by.pid > 0 && by.command == "bellows", "{by}");
    assert!(!log_directory(&agent, "fails").join("kept.json").exists());
    assert_eq!(lines(&runs), count);
    told(&agent, "rm", &["fails"], 4);

    // What has done its work is not started again by this rule, and remembered until it is forgotten.
    let flags = ["--name", "done", "--memory", "16M..64M", "-d", "--restart", "on-failure"];
    told(&agent, "run", &[&flags[..], &["--", "true"]].concat(), 0);
    journal.wait("default/done", is_ended);
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    assert!(waits(&mut journal, "default/done").is_empty());
    agent.kill();
    agent.restart();
    assert!(told(&agent, "ps", &["--json"], 0).contains("exited with code 0"));
    told(&agent, "rm", &["done"], 0);
    assert_eq!(told(&agent, "ps", &["--json"], 0), "[]\n");
}

/// Whatever it returns, and until it is told to end.
#[test]
fn who_is_to_run_always_is_started_again() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let runs = agent.runtime_dir.join("runs");
    let returns = format!("echo run >> {}; [ $(wc -l < {0}) -lt 4 ] || exec sleep 300", runs.display());
    let flags = ["--name", "always", "--memory", "16M..64M", "-d", "--restart", "always"];
    told(&agent, "run", &[&flags[..], &["--", "sh", "-c", &returns]].concat(), 0);
    eventually("it runs for the fourth time", || lines(&runs) == 4);
    assert_eq!(waits(&mut journal, "default/always"), [200, 400, 800], "{}", journal.told());
    told(&agent, "stop", &["always"], 0);
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    assert!(told(&agent, "ps", &["--json"], 0).contains("\"is_waiting\":false"));
    assert_eq!(lines(&runs), 4);
}

/// A service that ends well when it is told to has not done its work: its file starts it again, also while it is ending.
#[test]
fn a_file_starts_what_was_told_to_end() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let file = agent.runtime_dir.join("service.toml");
    let text = "name = \"service\"\nmemory = \"16M..64M\"\n\
                command = [\"sh\", \"-c\", \"trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done\"]\n";
    fs::write(&file, text).expect("file");
    let apply = |agent: &Agent| told(agent, "apply", &[&file.display().to_string()], 0);
    let runs = |agent: &Agent| {
        eventually("it runs", || told(agent, "ps", &["--json"], 0).contains("\"state\":\"running\""));
    };
    assert_eq!(apply(&agent), "default/service: started\n");
    let What::Launched { pid, .. } = journal.wait("default/service", is_launched).what else {
        unreachable!()
    };
    runs(&agent);
    told(&agent, "stop", &["service", "--no-wait"], 0);
    assert_eq!(apply(&agent), "default/service: started (it has exited with code 0)\n");
    let ended = journal.wait("default/service", is_ended);
    let again =
        journal.wait("default/service", |w| matches!(w, What::Launched { pid: new, .. } if *new != pid));
    assert!(ended.id < again.id, "{}", journal.told());

    // The next agent knows it, too.
    runs(&agent);
    told(&agent, "stop", &["service"], 0);
    journal.wait("default/service", is_ended);
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    agent.kill();
    agent.restart();
    assert_eq!(apply(&agent), "default/service: started (it has exited with code 0)\n");
    runs(&agent);
    assert_eq!(apply(&agent), "default/service: unchanged\n");
    told(&agent, "stop", &["service"], 0);
}

/// It ends while no agent runs: the next one starts it again.
#[test]
fn who_fails_without_an_agent_is_started_by_the_next() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let (runs, go) = (agent.runtime_dir.join("runs"), agent.runtime_dir.join("go"));
    let (said, flag) = (runs.display(), go.display());
    let script = format!("echo run >> {said}; until [ -e {flag} ]; do sleep 0.05; done; rm {flag}; exit 1");
    let flags = ["--name", "gap", "--memory", "16M..64M", "-d", "--restart", "on-failure"];
    told(&agent, "run", &[&flags[..], &["--", "sh", "-c", &script]].concat(), 0);
    journal.wait("default/gap", is_launched);
    eventually("it runs", || lines(&runs) == 1);
    let events = agent.tree.workload("gap").join("cgroup.events");
    agent.kill();
    fs::write(&go, "").expect("go");
    eventually("it has ended", || read(&events).contains("populated 0"));
    agent.restart();
    eventually("it runs again", || lines(&runs) == 2);
    let mut journal = agent.follow();
    journal.wait("default/gap", is_due(1));
    // One that lives is taken over, and is still a detached one.
    agent.kill();
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/gap", is_taken_over);
    fs::write(&go, "").expect("go");
    journal.wait("default/gap", is_due(2));
    eventually("it runs once more", || lines(&runs) == 3);
    let said = told(&agent, "stop", &["gap", "--grace", "1s"], 0);
    assert!(said.contains("ended by signal 15"), "{said}");
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    assert_eq!(lines(&runs), 3, "who was told to end is not started again");
}

/// `bellows logs -f` into a file.
fn follow_log(agent: &Agent, name: &str, to: &Path) -> Child {
    let file = fs::File::create(to).expect("file");
    agent
        .command("logs")
        .args(["-f", name])
        .stdout(Stdio::from(file))
        .stderr(Stdio::null())
        .spawn()
        .expect("bellows logs")
}

#[test]
fn a_log_goes_on_over_files_and_agents() {
    let mut agent = Agent::start(&[]);
    let mut journal = agent.follow();
    // Files of 4 KiB: some 200 lines each. More files than are filled, so that nothing is lost.
    let count = "i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo line $i of the log; [ $((i%20)) -gt 0 ] || sleep 0.05; done; exit 4";
    let flags = ["--name", "teller", "--memory", "16M..64M", "-d", "--log-size", "4K", "--log-files", "20"];
    told(&agent, "run", &[&flags[..], &["--", "sh", "-c", count]].concat(), 0);
    journal.wait("default/teller", is_launched);
    let followed = agent.runtime_dir.join("followed");
    let mut reader = follow_log(&agent, "teller", &followed);
    eventually("some is read", || lines(&followed) > 300);
    agent.kill();
    let before = lines(&followed);
    eventually("it goes on without an agent", || lines(&followed) > before + 100);
    agent.restart();
    let mut journal = agent.follow();
    journal.wait("default/teller", |w| matches!(w, What::Ended { code: 4, .. }));
    assert!(reader.wait().expect("logs").success(), "it ends with the workload");
    let expected = (1..=1500).fold(String::new(), |text, n| text + &format!("line {n} of the log\n"));
    assert_eq!(read(&followed), expected);
    let files = fs::read_dir(log_directory(&agent, "teller")).expect("directory").flatten();
    assert!(files.filter(|entry| entry.file_name().to_string_lossy().starts_with("log")).count() > 5);
    assert_eq!(
        told(&agent, "logs", &["teller", "--tail", "2"], 0),
        "line 1499 of the log\nline 1500 of the log\n"
    );
    assert_eq!(told(&agent, "logs", &["teller"], 0), expected);
    told(&agent, "logs", &["nobody"], 4);
}

#[test]
fn a_flood_of_output_stops_at_its_bound() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let flags = ["--name", "flood", "--memory", "16M..64M", "-d", "--log-size", "64K", "--log-files", "3"];
    told(&agent, "run", &[&flags[..], &["--", "yes", "a line of which there are many"]].concat(), 0);
    journal.wait("default/flood", is_launched);
    let directory = log_directory(&agent, "flood");
    eventually("it has been all around", || directory.join("log.2").exists());
    let total = || -> u64 {
        let files = fs::read_dir(&directory).expect("directory").flatten();
        let logs = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("log"));
        logs.filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    };
    for _ in 0..200 {
        assert!(total() <= 3 * 64 * 1024, "{}", total());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!directory.join("log.3").exists());
    told(&agent, "stop", &["flood"], 0);
}

fn plan(agent: &Agent, file: &Path, flags: &[&str]) -> ApplyPlan {
    let file = file.display().to_string();
    let text = told(agent, "apply", &[&[file.as_str(), "--json"], flags].concat(), 0);
    let value: serde_json::Value = serde_json::from_str(&text).expect("json");
    serde_json::from_value(value["plan"].clone()).expect("a plan")
}

#[test]
fn files_say_what_runs() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let file = agent.runtime_dir.join("web.toml");
    let write = |memory: &str, seconds: &str| {
        let text = format!(
            "[[workload]]\nname = \"web\"\nmemory = \"{memory}\"\ncommand = [\"{load}\", \"idle\", \"{seconds}\"]\n\
             grace = \"2s\"\nrestart = \"always\"\n"
        );
        fs::write(&file, text).expect("file");
    };
    let apply = |flags: &[&str], code: i32| {
        let file = file.display().to_string();
        told(&agent, "apply", &[&[file.as_str()], flags].concat(), code)
    };
    write("32M..128M", "300");
    assert_eq!(apply(&["--dry-run"], 0), "default/web: would be started\n");
    assert_eq!(told(&agent, "ps", &["--json"], 0), "[]\n", "nothing was done");
    assert_eq!(apply(&[], 0), "default/web: started\n");
    let launched = journal.wait("default/web", is_launched);
    let What::Launched { pid, .. } = launched.what else { unreachable!() };
    assert!(launched.by.is_some());
    let last = |agent: &Agent| told(agent, "events", &["--json", "--workload", "default/web"], 0);
    eventually("it runs", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"running\""));
    let before = last(&agent);
    assert_eq!(apply(&[], 0), "default/web: unchanged\n");
    assert_eq!(last(&agent), before, "nothing was done, and nothing is told");

    // A limit moves while it runs.
    write("64M..256M", "300");
    let said = "default/web: changed while it runs\n  memory: 32 MiB..128 MiB -> 64 MiB..256 MiB\n";
    assert_eq!(apply(&[], 0), said);
    journal.wait("default/web", |w| matches!(w, What::SettingsChanged { .. }));
    let cgroup = agent.tree.workload("web");
    assert!(number(&cgroup.join("memory.high")) >= 64 << 20);
    let listed = told(&agent, "ps", &["--json"], 0);
    assert!(listed.contains(&format!("\"pid\":{pid},")), "the same process: {listed}");
    assert_eq!(apply(&[], 0), "default/web: unchanged\n");

    // Another command is another process, and that is said first.
    write("64M..256M", "301");
    assert_eq!(plan(&agent, &file, &["--dry-run"]).action, Action::Restart);
    let said = apply(&[], 0);
    assert!(said.starts_with("default/web: stopped and started again\n  command: ["), "{said}");
    let ordered = journal.wait("default/web", |w| matches!(w, What::Life(Deed::StopOrdered { .. })));
    let ended = journal.wait("default/web", is_ended);
    let again = journal.wait("default/web", |w| matches!(w, What::Launched { pid: new, .. } if *new != pid));
    assert!(ordered.id < ended.id && ended.id < again.id, "{}", journal.told());
    assert!(waits(&mut journal, "default/web").is_empty(), "not by its rule");
    assert_eq!(plan(&agent, &file, &[]).action, Action::Nothing);

    // What was stopped is started by its file; what is wrong changes nothing.
    told(&agent, "stop", &["web"], 0);
    eventually("it is over", || told(&agent, "ps", &["--json"], 0).contains("\"state\":\"exited\""));
    assert!(apply(&[], 0).starts_with("default/web: started (it has ended by signal"));
    write("64M..256M", "302\", \"--bad");
    fs::write(&file, read(&file).replace("restart", "restrat")).expect("file");
    assert!(apply(&[], 1).contains("restrat"));
    assert!(journal.of("default/web").iter().all(|what| !is_deed(&Deed::StopForced {})(what)));
}
