//! A real Prometheus scrapes a real agent under load, and every query of every dashboard, variable, annotation and rule is asked
//! of it: each returns finite numbers. `http` is the little that this needs of its API.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use bellows_tests::surfaces::rules::{ALERTS, RECORDED};
use bellows_tests::surfaces::{dashboards, model};

use self::server::Server;
use crate::policies::Policies;
use crate::rig::{Agent, Run, Tree, eventually_or_tell, is_ended, is_grow, is_launched};

const POLICIES: &str = "[tenant.acme]\nmemory = { guarantee = \"64M\", cap = \"1G\" }\n\
                        [class.watched]\nmode = \"observe\"\nmemory = { floor = \"16M\", ceiling = \"256M\" }\n";
/// Of Prometheus' own samples, so that a rate has several.
const SCRAPED: Duration = Duration::from_secs(25);

#[test]
fn every_query_of_dashboards_and_rules_returns_data() {
    let policies = Policies::new("prometheus", POLICIES);
    let agent = policies.agent_on(Tree::without_swap());
    let mut journal = agent.follow();
    let server = Server::start(&agent);
    // Load of all kinds: growth and shrinking, a quota that moves, one that is only watched, and one that ends.
    let acme = ["--tenant", "acme", "--cpu", "0.05..0.4"];
    let _swells = agent.load_with(
        "swells",
        "16M..256M",
        &acme,
        &["swell", "80", "--times", "1000", "--hold-ms", "500", "--rest-ms", "500"],
    );
    let _burns = agent.load_with("burns", "16M..64M", &acme, &["burn", "--seconds", "300"]);
    let _watched = agent.load_with(
        "watched",
        "16M..256M",
        &["--tenant", "acme", "--class", "watched"],
        &["swell", "60", "--times", "1000"],
    );
    for name in ["acme/swells", "acme/burns", "acme/watched"] {
        journal.wait(name, is_launched);
    }
    journal.wait("acme/swells", is_grow);
    server.wait_for_samples();
    let killed: Run = agent.load_with("greedy", "16M..48M", &acme, &["grow", "200"]);
    journal.wait("acme/greedy", is_launched);
    let _ = killed.finish();
    journal.wait("acme/greedy", is_ended);
    thread::sleep(SCRAPED);

    let mut broken = Vec::new();
    for dashboard in dashboards::all() {
        check(&server, &dashboard, &mut broken);
    }
    for recorded in RECORDED {
        broken.extend(
            server.ask(recorded.name).map_err(|text| format!("recorded {}: {text}", recorded.name)).err(),
        );
    }
    for alert in ALERTS {
        // While all is well the whole has no value; each of its parts has.
        for (value, _) in alert.conditions {
            broken.extend(server.ask(value).map_err(|text| format!("{}: {value}: {text}", alert.name)).err());
        }
    }
    broken.extend(server.unhealthy_rules());
    println!("{} queries", server.asked());
    assert!(broken.is_empty(), "{} of {}:\n{}", broken.len(), server.asked(), broken.join("\n"));

    // What the OOM killer did in a workload that is gone still counts.
    let kills = server.ask("bellows_tenant_oom_kills_total{tenant=\"acme\"}").expect("kills");
    assert!(kills.iter().any(|&count| count > 0.0), "{kills:?}");
    // And a bucket shows a decision that can be explained.
    let decisions = server.exemplars("bellows_reaction_seconds_bucket");
    let id = decisions.last().expect("an exemplar");
    let explained = agent.output("explain", &[id.as_str()]);
    assert_eq!(explained.status.code(), Some(0), "{id}: {}", String::from_utf8_lossy(&explained.stderr));
    lint(&agent);
}

fn check(server: &Server, dashboard: &model::Dashboard, broken: &mut Vec<String>) {
    for (place, expression) in dashboard.expressions() {
        let asked = server.ask_over_time(&filled(&expression));
        broken.extend(asked.map_err(|text| format!("{place}: {expression}: {text}")).err());
    }
    for (name, _, series) in dashboard.choices() {
        let values = server.values_of(name, &filled(&series));
        if values.is_empty() {
            broken.push(format!("{}: variable {name}: no values", dashboard.name));
        }
    }
}

/// As Grafana fills it in when everything is chosen.
fn filled(expression: &str) -> String {
    ["$job", "$instance", "$tenant", "$workload"]
        .iter()
        .fold(expression.to_owned(), |text, variable| text.replace(variable, ".+"))
        .replace("$__rate_interval", "10s")
        .replace("$__range", "1m")
}

/// `promtool check metrics` has nothing to say about what a scrape gives.
fn lint(agent: &Agent) {
    let answer = agent.http("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let path = agent.runtime_dir.join("metrics.txt");
    std::fs::write(&path, body).expect("metrics");
    let file = std::fs::File::open(&path).expect("metrics");
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(file).output().expect("promtool");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    let (head, packed) = packed(agent);
    assert!(
        head.contains("content-encoding: gzip") && head.contains("application/openmetrics-text"),
        "{head}"
    );
    let path = agent.runtime_dir.join("metrics.gz");
    std::fs::write(&path, packed).expect("metrics");
    let unpacked =
        Command::new("gzip").arg("-dc").arg(&path).stderr(Stdio::inherit()).output().expect("gzip");
    let text = String::from_utf8_lossy(&unpacked.stdout).into_owned();
    assert!(unpacked.status.success() && text.ends_with("# EOF\n"), "{text}");
    assert!(text.contains("decision_id=") && !text.contains("bellows_workload_"), "{text}");
    let refused = agent.http("/metrics?collect[]=everything");
    assert!(
        refused.starts_with("HTTP/1.1 400") && refused.contains("agent, node, tenant, workload"),
        "{refused}"
    );
}

/// The agent's own metrics as OpenMetrics, compressed: head and body. By HTTP 1.0, so that the body comes in one piece.
fn packed(agent: &Agent) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(&agent.address).expect("connect");
    let accept = "Accept: application/openmetrics-text; version=1.0.0\r\nAccept-Encoding: gzip";
    write!(stream, "GET /metrics?collect[]=agent HTTP/1.0\r\nHost: x\r\n{accept}\r\n\r\n").expect("request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec())
}

/// Where the committed rules are.
fn rules() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards/prometheus/rules.yml")
}

fn wait_until(what: &str, holds: impl Fn() -> bool, told: impl Fn() -> String) {
    eventually_or_tell(what, holds, told);
}
