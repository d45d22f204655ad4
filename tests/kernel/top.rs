//! `bellows top` at a terminal, against a live agent: what it shows, what its keys do, and that it gives the terminal back.

use std::process::Command;

use crate::rig::{Agent, MIB, eventually, is_launched, number, read};
use crate::terminal::Sitter;

#[test]
fn keys_explain_freeze_and_thaw_and_the_terminal_is_given_back() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("sleeper", "32M..128M", &["grow", "60", "--hold-ms", "300000"]);
    journal.wait("default/sleeper", is_launched);
    let cgroup = agent.tree.workload("sleeper");
    eventually("it has grown", || number(&cgroup.join("memory.current")) > 60 * MIB);
    let mut top: Command = agent.command("top");
    top.args(["--interval-ms", "200"]);
    let sitter = Sitter::sit(&top);
    // Only what differs is drawn, so words are waited for that stand where nothing was.
    sitter.hears("default/sleeper");
    sitter.type_in("\r");
    sitter.hears("granted");
    sitter.hears("memory.high");
    sitter.type_in("q");
    sitter.hears("WORKLOAD");
    sitter.type_in("f");
    sitter.hears("sure?");
    sitter.type_in("y");
    let is_frozen = |text: &str| read(&cgroup.join("cgroup.events")).contains(text);
    eventually("it is frozen", || is_frozen("frozen 1"));
    sitter.type_in("t");
    eventually("it is thawed", || is_frozen("frozen 0"));
    sitter.type_in("q");
    sitter.ends(0);
    drop(run);
}

#[test]
fn without_a_terminal_it_is_a_table() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let run = agent.load("sleeper", "32M..128M", &["idle", "300"]);
    journal.wait("default/sleeper", is_launched);
    let output = agent.output("top", &["--interval-ms", "100"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("bellows 0.") && lines[0].contains("1 workload,"), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("default/sleeper")), "{text}");
    let none = agent.output("top", &["no-such-thing"]);
    assert!(!String::from_utf8_lossy(&none.stdout).contains("default/sleeper"), "filtered");
    drop(run);
}
