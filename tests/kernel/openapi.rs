//! What a live agent answers is what `/openapi.json` says: each route, each kind of answer, and mistakes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use bellows::api::API_SOCKET;
use bellows_tests::socket::{self, Answer};
use bellows_tests::surfaces::shape::differences;
use serde_json::{Value, json};

use crate::asking::token;
use crate::policies::Policies;
use crate::rig::{Agent, PATIENCE, eventually, is_ended};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// A client that knows the API by its description.
struct Author<'a> {
    agent: &'a Agent,
    document: Value,
    /// What was asked for and answered, as method and pattern.
    done: BTreeSet<(String, String)>,
}

impl Author<'_> {
    fn raw(&self, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        socket::ask(&self.agent.runtime_dir, method, path, &text).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Asks, and holds what is answered against what is described; the answer.
    fn ask(&mut self, method: &str, pattern: &str, path: &str, body: &Value) -> Value {
        let operation = self.document["paths"][pattern][method.to_lowercase()].clone();
        let asked = &operation["requestBody"]["content"][JSON]["schema"];
        assert_eq!(asked.is_object(), !body.is_null(), "{method} {pattern}: a body is described or not sent");
        self.fits(&format!("{path}: asked"), body, asked);
        let Answer { status, media, body } = self.raw(method, path, body);
        let told = || String::from_utf8_lossy(&body).into_owned();
        let described = &operation["responses"][status.to_string()];
        assert!(described.is_object(), "{method} {path}: {status} {}", told());
        let content = &described["content"];
        assert!(
            media.is_empty() && content == &json!({}) || content[&media].is_object(),
            "{path}: {media}: {content}"
        );
        self.done.insert((method.to_lowercase(), pattern.to_owned()));
        if media != JSON {
            return Value::Null;
        }
        let answer: Value =
            serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{path}: {e}: {}", told()));
        self.fits(path, &answer, &content[JSON]["schema"]);
        answer
    }

    fn get(&mut self, pattern: &str, path: &str) -> Value {
        self.ask("GET", pattern, path, &Value::Null)
    }

    /// An order to `default/web`.
    fn order(&mut self, order: &str, body: &Value) -> Value {
        let [pattern, path] =
            ["{tenant}/{name}", "default/web"].map(|who| format!("/api/v1/workloads/{who}/{order}"));
        self.ask("POST", &pattern, &path, body)
    }

    fn fits(&self, place: &str, value: &Value, schema: &Value) {
        let found = differences(value, schema, &self.document["components"]["schemas"]);
        assert!(found.is_empty(), "{place}: {}\n{value}", found.join("\n"));
    }

    /// The first events of a stream that have this name.
    fn follow(&mut self, pattern: &str, path: &str, name: &str, count: usize) {
        let mut stream = UnixStream::connect(self.agent.runtime_dir.join(API_SOCKET)).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").expect("request");
        let schema =
            self.document["paths"][pattern]["get"]["responses"]["200"]["content"][EVENTS]["schema"].clone();
        assert!(schema.is_object(), "{pattern}");
        let (mut event, mut left, mut lines) = (String::new(), count, BufReader::new(stream).lines());
        while left > 0 {
            let line = lines.next().expect("the stream goes on").expect("a line");
            match line.split_once(": ") {
                Some(("content-type", media)) => assert_eq!(media, EVENTS),
                Some(("event", text)) => text.clone_into(&mut event),
                Some(("data", data)) if event == name => {
                    left -= 1;
                    self.fits(path, &serde_json::from_str(data).expect("json"), &schema);
                }
                _ => {}
            }
        }
        self.done.insert(("get".to_owned(), pattern.to_owned()));
    }
}

/// A workload with no more said of it than has to be.
fn least(name: &str, argv: &[&str]) -> Value {
    let identity =
        json!({ "tenant": "default", "name": name, "memory": { "floor": 16 << 20, "ceiling": 64 << 20 } });
    json!({ "spec": { "identity": identity, "argv": argv, "cwd": "/" } })
}

#[test]
fn answers_are_what_is_described() {
    let policies = Policies::new("described", "[tenant.acme]\nweight = 300\n");
    let agent = policies.agent();
    let mut journal = agent.follow();
    let answer = socket::ask(&agent.runtime_dir, "GET", "/openapi.json", "").expect("the description");
    let document: Value = serde_json::from_slice(&answer.body).expect("json");
    let mut author = Author { agent: &agent, document, done: BTreeSet::new() };

    let launch = "/api/v1/workloads";
    let short = author.ask("POST", launch, launch, &least("short", &["sh", "-c", "exit 7"]));
    let mut asked = least("web", &["sh", "-c", "echo here; exec sleep 600"]);
    asked["spec"]["identity"]["cpu"] = json!({ "floor": 100_000, "ceiling": 1_000_000 });
    asked["spec"]["env"] = json!(["PATH=/usr/bin:/bin"]);
    // Sizes by the piece are taken as people write them, too.
    asked["spec"]["identity"]["resources"] = json!({ "pids": 64, "swap": "64M", "hugetlb": { "2MB": "4M" } });
    author.ask("POST", launch, launch, &asked);
    let ended = journal.wait("default/short", is_ended).id;
    let code = author.get("/api/v1/exits/{id}", &format!("/api/v1/exits/{}", short["id"]))["code"].clone();
    assert_eq!(code, 7);
    // One that grows as far as it may: decisions, a denial, an incident with what it looked like inside.
    let load = crate::rig::program("bellows-load").display().to_string();
    author.ask("POST", launch, launch, &least("greedy", &[&load, "grow", "200"]));
    journal.wait("default/greedy", is_ended);
    eventually("the incident is told", || {
        let told = author.raw("GET", "/api/v1/incidents", &Value::Null).body;
        String::from_utf8_lossy(&told).contains("default/greedy")
    });

    for path in ["/healthz", "/readyz", "/metrics", "/", "/openapi.json", "/api/v1/node", "/api/v1/policies"]
    {
        author.get(path, path);
    }
    for path in ["/api/v1/doctor", "/api/v1/tenants", "/api/v1/events", "/api/v1/incidents", launch] {
        author.get(path, path);
    }
    author.get("/console/{file}", "/console/style.css");
    author.get("/api/v1/events", "/api/v1/events?limit=3&reason=ceiling_reached&workload=default/greedy");
    author.get("/api/v1/explain/{id}", &format!("/api/v1/explain/{ended}"));
    for name in ["web", "greedy"] {
        author.get("/api/v1/explain/{tenant}/{name}", &format!("/api/v1/explain/default/{name}"));
        author.get("/api/v1/workloads/{tenant}/{name}", &format!("/api/v1/workloads/default/{name}"));
        author.get(
            "/api/v1/workloads/{tenant}/{name}/logs",
            &format!("/api/v1/workloads/default/{name}/logs?tail=5"),
        );
    }
    author.follow("/api/v1/events", "/api/v1/events?follow=true&words=true", "", 5);
    author.follow("/api/v1/watch", "/api/v1/watch?since=0", "state", 1);

    let mut other = asked.clone();
    other["spec"]["env"] = json!([]);
    other["dry_run"] = true.into();
    author.ask("POST", "/api/v1/apply", "/api/v1/apply", &other);
    // In the words of a file: what differs is told by the same names.
    let words = json!({
        "name": "web", "memory": "16M..64M", "cpu": "0.1..1", "command": ["sh", "-c", "echo here; exec sleep 600"],
        "env": { "PATH": "/usr/bin:/bin" }, "resources": { "pids": 64, "swap": "64M", "hugetlb": { "2MB": "4M" } }, "grace": "1s",
    });
    let planned =
        author.ask("POST", "/api/v1/apply", "/api/v1/apply", &json!({ "workload": words, "dry_run": true }));
    let grace = json!([{ "field": "grace", "from": "10s", "to": "1s" }]);
    assert_eq!(planned, json!({ "action": "change", "differences": grace }));
    author.order(
        "set",
        &json!({ "memory": { "own": { "floor": 16 << 20, "ceiling": 48 << 20 } }, "pids": { "own": 99 } }),
    );
    author.order("set", &json!({ "pids": "class" }));
    let parts = json!({ "io_weight": { "own": 50 }, "cpuset_cpus": { "own": "0" }, "hugetlb": { "own": { "2MB": 0 } } });
    author.order("set", &parts);
    author.get("/api/v1/workloads/{tenant}/{name}", "/api/v1/workloads/default/web");
    author.order("pin", &json!({ "seconds": 60 }));
    author.get("/api/v1/workloads/{tenant}/{name}", "/api/v1/workloads/default/web");
    for order in ["unpin", "freeze", "thaw"] {
        author.order(order, &Value::Null);
    }
    author.order("signal", &json!({ "signal": 28 }));

    // A command, and a signal to it.
    let (_held, held) = token(&agent.runtime_dir).expect("a token");
    let command = json!({ "argv": ["/bin/sleep", "600"], "cwd": "/", "stdio": held });
    let signal = "/api/v1/execs/{token}/signal";
    let path = signal.replace("{token}", &held);
    let runtime_dir = agent.runtime_dir.clone();
    let signalled = thread::spawn(move || {
        let send = || socket::ask(&runtime_dir, "POST", &path, "{\"signal\":15}").expect("an answer");
        let mut answer = send();
        // Not before it runs.
        while answer.status == 404 {
            thread::sleep(Duration::from_millis(20));
            answer = send();
        }
        (answer.status, answer.media)
    });
    assert_eq!(author.order("exec", &command)["code"], 143);
    assert_eq!(signalled.join().expect("a signal"), (204, String::new()));
    author.done.insert(("post".to_owned(), signal.to_owned()));

    author.order("stop", &json!({ "grace_seconds": 0 }));
    journal.wait("default/web", is_ended);
    author.order("rm", &Value::Null);
    author.ask("POST", "/api/v1/release", "/api/v1/release", &Value::Null);

    let described = author.document["paths"].as_object().expect("paths").iter();
    let described = described.flat_map(|(path, methods)| {
        methods.as_object().expect("methods").keys().map(|method| (method.clone(), path.clone()))
    });
    assert_eq!(described.filter(|one| !author.done.contains(one)).collect::<Vec<_>>(), [], "not asked for");
}

#[test]
fn mistakes_are_problems() {
    let agent = Agent::start(&[]);
    let author = Author { agent: &agent, document: bellows::api::openapi(), done: BTreeSet::new() };
    let problem = author.document["components"]["schemas"]["Problem"].clone();
    let web = "/api/v1/workloads/default/web";
    let at = |order: &str| format!("{web}/{order}");
    for (method, path, body, expected) in [
        ("GET", "/nothing".to_owned(), Value::Null, 404),
        ("GET", "/api/v1/nothing".to_owned(), Value::Null, 404),
        ("GET", "/console/none".to_owned(), Value::Null, 404),
        ("PUT", "/api/v1/node".to_owned(), Value::Null, 405),
        ("GET", web.to_owned(), Value::Null, 404),
        ("GET", "/api/v1/workloads/.x/web".to_owned(), Value::Null, 400),
        ("GET", "/api/v1/workloads?limit=many".to_owned(), Value::Null, 400),
        ("GET", "/api/v1/explain/default/web".to_owned(), Value::Null, 404),
        ("GET", "/api/v1/explain/last".to_owned(), Value::Null, 400),
        ("GET", "/api/v1/explain/999999".to_owned(), Value::Null, 404),
        ("GET", "/api/v1/exits/last".to_owned(), Value::Null, 400),
        ("GET", "/api/v1/exits/1".to_owned(), Value::Null, 404),
        ("GET", "/api/v1/events?since=never".to_owned(), Value::Null, 422),
        ("GET", "/api/v1/events?reason=none".to_owned(), Value::Null, 400),
        ("GET", "/api/v1/watch?every_ms=1".to_owned(), Value::Null, 422),
        ("GET", "/metrics?collect[]=none".to_owned(), Value::Null, 400),
        ("GET", at("logs"), Value::Null, 404),
        ("GET", at("logs?tail=all"), Value::Null, 400),
        ("POST", "/api/v1/workloads".to_owned(), Value::Null, 400),
        ("POST", "/api/v1/workloads".to_owned(), json!({}), 422),
        ("POST", "/api/v1/workloads".to_owned(), least(".x", &["true"]), 422),
        ("POST", "/api/v1/apply".to_owned(), json!([]), 422),
        ("POST", at("set"), json!({ "memroy": "class" }), 422),
        ("POST", at("set"), json!({ "memory": "class" }), 404),
        ("POST", at("pin"), json!({ "seconds": "long" }), 422),
        ("POST", at("stop"), json!({ "signal": 99 }), 422),
        ("POST", at("signal"), json!({ "signal": 99 }), 422),
        ("POST", at("exec"), json!({ "argv": ["true"], "cwd": "/", "stdio": "none" }), 422),
        ("POST", "/api/v1/execs/none/signal".to_owned(), json!({ "signal": 15 }), 404),
        ("POST", at("freeze"), Value::Null, 404),
        ("POST", at("rm"), Value::Null, 404),
        ("POST", "/api/v1/workloads/.x/web/thaw".to_owned(), Value::Null, 400),
        ("POST", "/api/v1/workloads/.x/web/unpin".to_owned(), Value::Null, 400),
    ] {
        let Answer { status, media, body } = author.raw(method, &path, &body);
        let told = String::from_utf8_lossy(&body);
        assert_eq!(
            (status, media.as_str()),
            (expected, "application/problem+json"),
            "{method} {path}: {told}"
        );
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{path}: {e}: {told}"));
        author.fits(&path, &told, &problem);
        assert_eq!(told["status"], expected, "{path}");
    }
    // It may be answered before all of it was sent.
    let mut stream = UnixStream::connect(agent.runtime_dir.join(API_SOCKET)).expect("the socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let large = vec![b' '; (4 << 20) + 1];
    let head = format!(
        "POST /api/v1/workloads HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n",
        large.len()
    );
    stream.write_all(head.as_bytes()).expect("the head");
    let _ = stream.write_all(&large);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    assert!(line.contains(" 413 "), "{line}");
}

/// What changes something is on the control socket alone.
#[test]
fn nothing_is_changed_over_tcp() {
    let agent = Agent::start(&[]);
    let document = bellows::api::openapi();
    let paths = document["paths"].as_object().expect("paths");
    let changing: Vec<&String> =
        paths.iter().filter(|(_, path)| path["post"].is_object()).map(|(path, _)| path).collect();
    assert!(changing.len() > 12, "{changing:?}");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in &changing {
            let path = path.replace("{tenant}", "default").replace("{name}", "web").replace("{token}", "x");
            let mut stream = TcpStream::connect(&agent.address).expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            );
            stream.write_all(request.as_bytes()).expect("request");
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).expect("an answer");
            assert!(line.contains(" 404 ") || line.contains(" 405 "), "{method} {path}: {line}");
        }
    }
}
