//! `bellows describe`: everything about one workload, while it runs, when it has ended, and when nobody knows it.

use bellows::api::types::{Described, Kin};
use serde_json::Value;

use crate::rig::{Agent, MIB, eventually, is_ended, is_launched, program, read};

fn text(agent: &Agent, arguments: &[&str]) -> String {
    let output = agent.output("describe", arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn it_tells_what_the_kernel_has_and_what_was_asked_for() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = program("bellows-load").display().to_string();
    let detached = agent
        .command("run")
        .args(["--detach", "--isolation", "tenant", "--name", "box", "--memory", "16M..256M", "--pids", "77"])
        .args([
            "--env",
            "SECRET=not to be told",
            "--restart",
            "on-failure",
            "--",
            &load,
            "grow",
            "48",
            "--hold-ms",
            "600000",
        ])
        .output()
        .expect("bellows run");
    assert!(detached.status.success(), "{detached:?}");
    let attached = agent.run("plain", "16M..64M", &["sleep", "600"]);
    journal.wait("default/plain", is_launched);
    let cgroup = agent.tree.workload("box");
    eventually("it holds what it wants", || crate::rig::number(&cgroup.join("memory.current")) >= 48 * MIB);

    let json = text(&agent, &["box", "--json"]);
    assert!(!json.contains("not to be told"), "values of an environment are nobody's concern: {json}");
    let described: Described = serde_json::from_str(&json).expect("a description");
    let detail = described.detail.expect("it runs");
    for (file, value) in &detail.files {
        // Limits move, and what is counted changes; what nobody moves is as the kernel has it.
        if !["memory.high", "memory.max", "cpu.max", "pids.current"].contains(&file.as_str()) {
            assert_eq!(*value, read(&cgroup.join(file)).trim_end(), "{file}");
        }
    }
    assert_eq!(detail.files["pids.max"], "77");
    assert!(detail.files.contains_key("memory.high") && detail.memory.is_some(), "{json}");
    for kind in ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup"] {
        assert_eq!(detail.namespaces.get(kind), Some(&Kin::Own), "{kind}: {json}");
    }
    let asked = detail.asked.expect("it is kept");
    assert!(asked.env.contains(&"SECRET".to_owned()) && asked.isolation.seccomp, "{json}");
    assert!(!described.explained.records.is_empty(), "{json}");

    let told = text(&agent, &["default/box"]);
    for part in
        ["asked for", "limits, as the kernel has them", "pids.max               77", "pressure", "namespaces"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let plain: Value = serde_json::from_str(&text(&agent, &["plain", "--json"])).expect("json");
    assert_eq!(plain["detail"]["namespaces"]["user"], "host", "{plain}");
    assert_eq!(plain["detail"]["asked"], Value::Null, "its client has it, the agent does not: {plain}");

    let killed = agent.output("kill", &["plain", "--signal", "KILL"]);
    assert!(killed.status.success(), "{killed:?}");
    journal.wait("default/plain", is_ended);
    drop(attached);
    let told = text(&agent, &["plain"]);
    assert!(told.starts_with("default/plain has ended") && told.contains("signal 9"), "{told}");
    assert_eq!(agent.output("describe", &["nobody"]).status.code(), Some(4));
    assert_eq!(agent.output("describe", &["no body"]).status.code(), Some(2));
}
