//! What verbs print with `--json` is what `docs/json.md` says.

use std::process::Output;
use std::sync::LazyLock;

use bellows_tests::surfaces::json::{Shape, VERBS};
use bellows_tests::surfaces::shape::{differences, has_keys};
use serde_json::Value;

use crate::rig::{Agent, MIB, eventually, is_grow, number, program};

/// The shape that is documented for a verb.
fn shape(verb: &str) -> &'static Shape {
    let found = VERBS.iter().find(|(verbs, ..)| verbs.split(", ").any(|one| one == verb));
    &found.unwrap_or_else(|| panic!("{verb} is not documented")).1
}

fn assert_documented(verb: &str, text: &str) {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(bellows::api::openapi);
    let schemas = &DOCUMENT["components"]["schemas"];
    let parse =
        |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{verb}: {e}: {text}"));
    let is_of = |value: &Value, name: &str| {
        assert!(schemas[name].is_object(), "{name}");
        let found = differences(value, &schemas[name], schemas);
        assert!(found.is_empty(), "{verb}: {}\n{value}", found.join("\n"));
    };
    let list = |text: &str| match parse(text) {
        Value::Array(list) if !list.is_empty() => list,
        other => panic!("{verb}: something was to be there: {other}"),
    };
    match shape(verb) {
        Shape::One(name) => is_of(&parse(text), name),
        Shape::Many(name) => list(text).iter().for_each(|value| is_of(value, name)),
        Shape::Lines(name) => text.lines().for_each(|line| is_of(&parse(line), name)),
        Shape::Keys(keys) => {
            text.lines().for_each(|line| assert!(has_keys(&parse(line), keys), "{verb}: {line}"));
        }
        Shape::Rows(keys) => list(text).iter().for_each(|row| assert!(has_keys(row, keys), "{verb}: {row}")),
        Shape::Said(_) => panic!("{verb}: nothing to hold it against"),
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_printed_is_documented() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let json = |verb: &str, arguments: &[&str]| {
        let output = agent.command(verb).arg("--json").args(arguments).output().expect("bellows");
        let text = out(&output);
        assert!(output.status.success() && !text.is_empty(), "{verb}: {output:?}");
        text
    };
    let grow = [load.as_str(), "grow", "48", "--hold-ms", "600000"];
    let detached =
        ["--detach", "--name", "web", "--memory", "16M..256M", "--cpu", "0.1..1", "--pids", "99", "--"];
    assert_documented("run --detach", &json("run", &[&detached[..], &grow[..]].concat()));
    journal.wait("default/web", is_grow);
    let current = agent.tree.workload("web").join("memory.current");
    eventually("it holds what it wants", || number(&current) >= 48 * MIB);

    // One of each kind that there is, of an end and a refusal too.
    let short = agent
        .command("run")
        .args(["--json", "--name", "short", "--memory", "16M..32M", "--", "true"])
        .output();
    assert_documented("run", &String::from_utf8_lossy(&short.expect("bellows").stderr));
    let huge = agent.output("run", &["--name", "huge", "--memory", "64G..65G", "--", "true"]);
    assert_eq!(huge.status.code(), Some(5), "{huge:?}");
    for (verb, arguments) in [
        ("set", &["web", "--memory", "16M..200M"][..]),
        ("pin", &["web", "--for", "1m"]),
        ("unpin", &["web"]),
        ("freeze", &["web"]),
        ("thaw", &["web"]),
    ] {
        assert_documented(verb, &json(verb, arguments));
    }
    let last = json("events", &["--limit", "1"]);
    let id = serde_json::from_str::<Value>(&last).expect("a record")["id"].to_string();
    for (verb, arguments) in [
        ("ps", &[][..]),
        ("tenants", &[]),
        ("events", &[]),
        ("describe", &["web"]),
        ("explain TENANT/NAME", &["web"]),
        ("explain ID", &[id.as_str()]),
    ] {
        assert_documented(verb, &json(verb.split(' ').next().expect("a word"), arguments));
    }
    let file = agent.runtime_dir.join("web.toml");
    std::fs::write(&file, "name = \"other\"\nmemory = \"16M..32M\"\ncommand = [\"sleep\", \"600\"]\n")
        .expect("a file");
    assert_documented("apply", &json("apply", &[file.to_str().expect("utf-8")]));
    assert_documented("kill", &json("kill", &["other", "--signal", "KILL"]));
    assert_documented("stop", &json("stop", &["web"]));
    assert_documented("rm", &json("rm", &["web"]));
    assert_documented("release", &json("release", &["--all"]));
}

#[test]
fn what_is_printed_without_an_agent_is_documented() {
    let bellows = |arguments: &[&str]| {
        let output =
            std::process::Command::new(program("bellows")).args(arguments).output().expect("bellows");
        out(&output)
    };
    assert_documented("doctor", &bellows(&["doctor", "--json"]));
    assert_documented("config check", &bellows(&["config", "check", "--json"]));
    assert_documented("policy check", &bellows(&["policy", "check", "--json"]));
    let test = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/presets/tests");
    let test = std::fs::read_dir(test).expect("presets").next().expect("a test").expect("a file").path();
    assert_documented("policy test", &bellows(&["policy", "test", "--json", test.to_str().expect("utf-8")]));
}
