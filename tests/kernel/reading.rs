//! What is read over HTTP: pages, problems, the stream of what changes, and who may not have it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::rig::{Agent, MIB, PATIENCE, eventually, is_launched};

/// An answer: its head, and its body as JSON.
fn ask(agent: &Agent, path: &str) -> (String, Value) {
    let answer = agent.http(path);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}")))
}

/// Events as they come; a head that is no stream is all there is.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(agent: &Agent, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(&agent.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").expect("request");
        Self(BufReader::new(stream))
    }

    fn status(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a status");
        line
    }

    /// The next event's name, id and data.
    fn next(&mut self) -> (String, u64, Value) {
        let (mut name, mut id, mut data) = (String::new(), 0, Value::Null);
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("an event") > 0, "the stream ended");
            match line.trim_end().split_once(": ") {
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("id", text)) => id = text.parse().expect("a number"),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap_or_else(|_| text.into()),
                None if line.trim_end().is_empty() && data != Value::Null => return (name, id, data),
                _ => {}
            }
        }
    }
}

#[test]
fn long_answers_come_in_pages_and_mistakes_as_problems() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _runs = ["c", "a", "b"].map(|name| agent.run(name, "16M..64M", &["sleep", "300"]));
    for name in ["default/a", "default/b", "default/c"] {
        journal.wait(name, is_launched);
    }

    let (head, first) = ask(&agent, "/api/v1/workloads?limit=2");
    let names = |rows: &Value| -> Vec<String> {
        rows.as_array()
            .expect("rows")
            .iter()
            .map(|row| row["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    assert!(head.contains("link: </api/v1/workloads?limit=2&after=default/b>; rel=\"next\""), "{head}");
    let (head, last) = ask(&agent, "/api/v1/workloads?limit=2&after=default/b");
    assert_eq!(names(&last), ["c"]);
    assert!(!head.contains("link:"), "{head}");
    assert_eq!(names(&ask(&agent, "/api/v1/workloads?tenant=nobody").1).len(), 0);

    // All records, two at a time, are those that there are.
    let ids = |rows: &Value| -> Vec<u64> {
        rows.as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
    };
    let (mut path, mut paged) = ("/api/v1/events?limit=2&words=true".to_owned(), Vec::new());
    loop {
        let (head, rows) = ask(&agent, &path);
        assert!(rows[0]["words"].as_str().is_some_and(|words| words.len() > 5), "{rows}");
        paged.splice(0..0, ids(&rows));
        let Some(link) = head.lines().find_map(|line| line.strip_prefix("link: <")) else { break };
        path = link.split('>').next().expect("a path").to_owned();
    }
    assert_eq!(paged, ids(&ask(&agent, "/api/v1/events").1));
    assert!(paged.len() >= 4, "{paged:?}");

    for (path, status, part) in [
        ("/api/v1/events?limit=0", 422, "limit"),
        ("/api/v1/events?lmit=1", 400, "lmit"),
        ("/api/v1/watch?every_ms=1", 422, "every_ms"),
        ("/api/v1/explain/seven", 400, "seven"),
        ("/api/v1/workloads/default/nobody", 404, "default/nobody"),
        ("/nothing", 404, "nothing"),
    ] {
        let (head, problem) = ask(&agent, path);
        assert!(head.contains(&format!(" {status} ")) && head.contains("application/problem+json"), "{head}");
        assert_eq!(problem["status"], status, "{problem}");
        let text = |key: &str| problem[key].as_str().unwrap_or_else(|| panic!("{key}: {problem}"));
        assert!(
            text("hint").len() > 5 && format!("{} {}", text("detail"), text("hint")).contains(part),
            "{problem}"
        );
    }
}

#[test]
fn what_is_of_the_node_and_of_one_workload() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _run = agent.load("web", "32M..256M", &["grow", "100", "--hold-ms", "300000"]);
    let launched = journal.wait("default/web", is_launched);
    eventually("it is told what it uses and how long it has waited", || {
        let (_, detail) = ask(&agent, "/api/v1/workloads/default/web");
        detail["view"]["memory_current"].as_u64() > Some(100 * MIB)
            && detail["memory"]["some_us"].as_u64() > Some(0)
            && detail["cpu"]["some_us"].is_u64()
    });
    let (_, node) = ask(&agent, "/api/v1/node");
    let number = |key: &str| node[key].as_u64().unwrap_or_else(|| panic!("{key}: {node}"));
    assert_eq!(number("granted") + number("free") + number("reserve"), number("capacity"), "{node}");
    assert!(number("used") > 100 * MIB && number("memory_total") > number("memory_available"), "{node}");
    let (_, policies) = ask(&agent, "/api/v1/policies");
    assert!(policies["text"].as_str().expect("text").contains("[class.standard]"), "{policies}");
    let (_, checks) = ask(&agent, "/api/v1/doctor");
    assert!(checks.as_array().expect("checks").len() > 5 && checks[0]["status"] == "ok", "{checks}");

    let mut stream = Stream::open(
        &agent,
        &format!("/api/v1/explain/{}", launched.id),
        "Accept: text/plain\r\nConnection: close\r\n",
    );
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream.0, &mut text).expect("an answer");
    let printed = agent.output("explain", &[&launched.id.to_string()]).stdout;
    assert!(text.ends_with(&*String::from_utf8_lossy(&printed)) && text.contains("decided by"), "{text}");
}

#[test]
fn a_stream_tells_changes_four_times_a_second_and_a_gap() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let _first = agent.run("first", "16M..64M", &["sleep", "300"]);
    let seen = journal.wait("default/first", is_launched).id;

    let mut stream = Stream::open(&agent, "/api/v1/watch", "");
    let (name, id, state) = stream.next();
    assert_eq!((name.as_str(), state["workloads"][0]["name"].as_str()), ("state", Some("first")));
    assert!(id >= seen && state["records"].as_array().is_some_and(Vec::is_empty), "{state}");
    let _second = agent.run("second", "16M..64M", &["sleep", "300"]);
    let (mut last, mut is_told, mut is_there, mut rounds) = (Instant::now(), false, false, 0);
    while !(is_told && is_there) || rounds < 8 {
        let (name, told, change) = stream.next();
        assert!(name == "change" && told >= id, "{name} {told}");
        // What waits in the sockets comes at once; what is worked out does not. Two together are a quarter of a second.
        rounds += 1;
        let views = change["workloads"].as_array().expect("workloads");
        assert!(rounds < 4 || views.len() < 2, "who has not changed is not told: {change}");
        is_there |= views.iter().any(|view| view["name"] == "second" && view["state"] == "running");
        let records = change["records"].as_array().expect("records");
        is_told |= records
            .iter()
            .any(|record| record["workload"] == "default/second" && record["event"] == "launched");
        if rounds % 4 == 0 {
            assert!(last.elapsed() > Duration::from_millis(700), "four rounds in {:?}", last.elapsed());
            last = Instant::now();
        }
    }

    // Whoever comes back is told what came in between, and where there is a gap, that.
    let mut resumed = Stream::open(&agent, "/api/v1/watch", &format!("Last-Event-ID: {seen}\r\n"));
    let (_, _, state) = resumed.next();
    let records = state["records"].as_array().expect("records");
    assert!(
        state["gap"].is_null() && records.iter().all(|record| record["id"].as_u64() > Some(seen)),
        "{state}"
    );
    assert!(records.iter().any(|record| record["workload"] == "default/second"), "{state}");
    // A browser says once more what it had asked for.
    let resume = format!("Last-Event-ID: {seen}\r\n");
    let (_, next, _) = Stream::open(&agent, "/api/v1/events?follow=true&since=0", &resume).next();
    assert_eq!(next, seen + 1);
    for path in ["/api/v1/watch", "/api/v1/events?follow=true"] {
        let (name, _, told) = Stream::open(&agent, path, "Last-Event-ID: 99999\r\n").next();
        let is_told = told["gap"].as_str().or(told.as_str()).is_some_and(|gap| gap.contains("began anew"));
        assert!(is_told && (name == "state" || name == "missed"), "{path}: {name} {told}");
    }
}

#[test]
fn streams_are_bounded_and_pages_of_others_are_refused() {
    let agent = Agent::start(&[]);
    let mut open: Vec<Stream> = (0..32).map(|_| Stream::open(&agent, "/api/v1/watch", "")).collect();
    assert!(open.iter_mut().all(|stream| stream.status().contains(" 200 ")), "32 at once");
    assert!(Stream::open(&agent, "/api/v1/events?follow=true", "").status().contains(" 503 "), "the 33rd");
    // Who commands the machine is not kept out by who reads.
    let mut journal = agent.follow();
    assert_eq!(agent.run("one", "16M..64M", &["true"]).finish().code, 0);
    journal.wait("default/one", crate::rig::is_ended);
    drop(open);
    eventually("a place is free again", || {
        Stream::open(&agent, "/api/v1/watch", "").status().contains(" 200 ")
    });

    let rebound = |path: &str| {
        let mut stream = TcpStream::connect(&agent.address).expect("connect");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: rebound.example:9464\r\n\r\n").expect("request");
        Stream(BufReader::new(stream)).status()
    };
    assert!(rebound("/api/v1/workloads").contains(" 403 ") && rebound("/metrics").contains(" 200 "));
    let posted = std::os::unix::net::UnixStream::connect(agent.runtime_dir.join("api.sock")).map(|mut stream| {
        write!(stream, "POST /api/v1/release HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n")
            .expect("request");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a status");
        line
    });
    assert!(posted.expect("the socket").contains(" 403 "), "a page may change nothing");
    let page = agent.http("/");
    assert!(
        page.contains("content-security-policy: default-src 'self'") && page.contains("<!doctype html>"),
        "{page}"
    );
    assert!(agent.http("/console/../api").contains(" 404 "));
}
