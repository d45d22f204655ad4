//! What is recorded of a live agent plays in the simulator.

use std::process::Command;

use crate::rig::{Agent, MIB, is_grow, is_launched};

#[test]
fn a_recorded_grower_is_simulated() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let trace = std::env::temp_dir().join(format!("bellows-{}.csv", std::process::id()));
    let path = trace.display().to_string();
    let mut recorder = agent.command("record").args([&path, "--seconds", "20"]).spawn().expect("record");
    let _run = agent.load("grower", "32M..512M", &["grow", "200", "--pause-ms", "20", "--hold-ms", "300000"]);
    journal.wait("default/grower", is_launched);
    journal.wait("default/grower", is_grow);
    assert!(recorder.wait().expect("record").success());

    let text = std::fs::read_to_string(&trace).expect("the trace");
    assert!(
        text.lines().filter(|line| line.contains(",grower,")).count() > 2,
        "it has grown in steps\n{text}"
    );
    let simulate = Command::new(crate::rig::program("bellows"))
        .args(["policy", "simulate", "--trace", &path, "--capacity", "2G", "--json"])
        .output()
        .expect("simulate");
    std::fs::remove_file(&trace).expect("remove the trace");
    let told = String::from_utf8_lossy(&simulate.stderr);
    assert!(simulate.status.success(), "{told}\n{text}");
    let report: serde_json::Value = serde_json::from_slice(&simulate.stdout).expect("json");
    assert_eq!(
        (&report["all"]["lives"], &report["all"]["kills"]),
        (&1.into(), &0.into()),
        "{report}\n{text}"
    );
    let granted = report["granted_most"].as_u64().expect("bytes");
    assert!((200 * MIB..400 * MIB).contains(&granted), "{granted} of 200 MiB\n{report}\n{text}");
}
