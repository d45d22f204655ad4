//! What can be proven on any machine: the command line says what is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

fn bellows() -> PathBuf {
    program("bellows")
}

fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let path = own.parent().and_then(Path::parent).expect("target directory").join(name);
    assert!(path.exists(), "{} is missing: build it first (make test does)", path.display());
    path
}

/// `doctor` works where nothing works, and its exit code agrees with what it prints.
#[test]
fn doctor_judges_this_machine() {
    let output = Command::new(bellows()).arg("doctor").output().expect("doctor");
    let text = String::from_utf8_lossy(&output.stdout);
    let ready = text.lines().last() == Some("ready");
    assert_eq!(output.status.code(), Some(if ready { 0 } else { 3 }), "{text}");
    assert_eq!(ready, !text.contains("FAIL  "), "{text}");
    let json = Command::new(bellows()).args(["doctor", "--json"]).output().expect("doctor");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("json");
    assert_eq!(json["ready"], ready);
    for check in json["checks"].as_array().expect("checks") {
        assert!(check["status"] == "ok" || check["fix"] != "", "what is not ok has a fix: {check}");
    }
}

#[test]
fn without_an_agent_a_client_says_how_to_start_one() {
    let output = Command::new(bellows()).args(["ps", "--runtime-dir", "/nonexistent"]).output().expect("ps");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no agent answers in /nonexistent") && text.contains("bellows agent"), "{text}");
}

/// As in `bellows policy reference | head`, once head has read enough.
#[test]
fn whoever_reads_no_further_is_no_failure() {
    for verb in [&["policy", "reference"][..], &["man"], &["doctor"]] {
        let (read, write) = std::io::pipe().expect("a pipe");
        drop(read);
        let output = Command::new(bellows()).args(verb).stdout(write).output().expect("bellows");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{verb:?} {output:?}");
    }
}

#[test]
fn a_misspelt_key_in_the_configuration_is_named() {
    let path = std::env::temp_dir().join(format!("bellows-misspelt-{}.toml", std::process::id()));
    std::fs::write(&path, "[agent]\non_exitt = \"stop\"\n").expect("config");
    let output = Command::new(bellows()).args(["agent", "--config"]).arg(&path).output().expect("agent");
    let _ = std::fs::remove_file(&path);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("on_exitt"), "{text}");
}

/// The example configuration is read, and says what is the case: its values are the defaults.
#[test]
fn the_example_configuration_holds_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/config.toml");
    let read = |file| {
        bellows::config::load(&bellows::config::Overrides { file, values: Vec::new() }).expect("readable")
    };
    assert_eq!(format!("{:?}", read(Some(path))), format!("{:?}", read(None)));
}

/// A scrape of 10 000 workloads: its memory is bounded on any machine; its time is a figure of the benchmark, and printed here.
#[test]
fn a_scrape_of_ten_thousand_workloads_takes_little_memory() {
    let output = Command::new(program("bellows-bench")).arg("scrape").output().expect("bellows-bench");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let figures: serde_json::Value = serde_json::from_str(&text).expect("json");
    let figure = |key: &str| figures[key].as_f64().expect("a figure");
    assert!(figure("series_per_workload") >= 30.0, "{text}");
    assert!(figure("extra_rss_mib") <= 10.0, "{text}");
}

/// Prometheus' own tool accepts the rules, and each alert fires where it is to and nowhere else.
#[test]
fn the_rules_pass_their_tests() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards/prometheus");
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        let output = Command::new("promtool").args(arguments).current_dir(&rules).output();
        let output = output.expect("promtool is missing: make setup installs the package prometheus");
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
    }
}
