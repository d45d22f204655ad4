//! What people and machines see while it runs.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{Agent, MIB, is_grow, is_launched, number};

#[test]
fn metrics_health_and_listing_tell_the_same() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let _run = agent.run_with(
        "web",
        "32M..256M",
        &["--tenant", "acme", "--class", "latency"],
        &[&load, "grow", "100", "--hold-ms", "300000"],
    );
    journal.wait("acme/web", is_launched);
    journal.wait("acme/web", is_grow);
    let cgroup = agent.tree.root.join("workloads/acme/web");
    crate::rig::eventually("it has grown", || crate::rig::held(&cgroup) > 100 * MIB);
    assert_eq!(number(&cgroup.join("memory.min")), 32 * MIB, "the floor of the latency class is protected");
    assert_eq!(number(&cgroup.join("cpu.weight")), 500);

    let high = || number(&cgroup.join("memory.high"));
    let text = || agent.http("/metrics");
    crate::rig::eventually("the published limit is the kernel's", || {
        text().contains(&format!(
            "bellows_workload_memory_high_bytes{{tenant=\"acme\",workload=\"web\"}} {}\n",
            high()
        ))
    });
    let metrics = text();
    for part in [
        "HTTP/1.1 200",
        "text/plain; version=0.0.4",
        "bellows_workload_info{tenant=\"acme\",workload=\"web\",class=\"latency\",mode=\"enforce\",policy=\"asked\"} 1\n",
        "bellows_workload_memory_ceiling_bytes{tenant=\"acme\",workload=\"web\"} 268435456\n",
        "# TYPE bellows_reaction_seconds histogram\n",
        "bellows_workloads 1\n",
        "bellows_journal_records_lost_total 0\n",
        "bellows_event_queue_overflows_total 0\n",
        "bellows_foreign_writes_total 0\n",
    ] {
        assert!(metrics.contains(part), "{part:?} is not in\n{metrics}");
    }
    assert!(!metrics.contains("bellows_reaction_seconds_count 0\n"), "{metrics}");
    let granted = metrics
        .lines()
        .find_map(|l| l.strip_prefix("bellows_budget_bytes{state=\"granted\"} "))
        .expect("granted");
    assert_eq!(
        granted.parse::<u64>().expect("a whole number of bytes"),
        high(),
        "the budget counts what the kernel was told"
    );

    assert!(agent.http("/healthz").ends_with("ok\n"));
    assert!(agent.http("/readyz").ends_with("ready\n"));
    assert!(agent.http("/nothing").starts_with("HTTP/1.1 404"));
    let posted = agent.http("/api/v1/release");
    assert!(posted.starts_with("HTTP/1.1 404"), "nothing that changes anything is on TCP: {posted}");

    let listed = agent.output("ps", &["--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("json");
    assert_eq!(listed[0]["name"], "web");
    assert_eq!(listed[0]["memory_high"], high());
    assert_eq!(listed[0]["state"], "running");
}

/// Each scrape has `cpu.pressure` read for the next one: what waits for its quota rises as the kernel's does, and who rests has
/// waited for nothing to speak of.
#[test]
fn waiting_for_a_cpu_is_told() {
    let agent = Agent::start(&[]);
    let mut journal = agent.follow();
    let load = crate::rig::program("bellows-load").display().to_string();
    let scrape = |name: &str, what: &str| {
        let series =
            format!("bellows_workload_{what}_seconds_total{{tenant=\"default\",workload=\"{name}\"}} ");
        let text = agent.http("/metrics");
        text.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok())
    };
    let _busy =
        agent.run_with("busy", "16M..64M", &["--cpu", "0.1..0.1"], &[&load, "burn", "--threads", "2"]);
    let _free = agent.run("free", "16M..64M", &[&load, "burn", "--threads", "1"]);
    let _calm = agent.run("calm", "16M..64M", &["sleep", "300"]);
    journal.wait("default/busy", is_launched);
    journal.wait("default/calm", is_launched);
    let pressure = agent.tree.root.join("workloads/default/busy/cpu.pressure");
    let kernel = |line: &str| {
        let text = crate::rig::read(&pressure);
        let total = text.lines().find(|l| l.starts_with(line)).and_then(|l| l.split("total=").nth(1));
        total.and_then(|us| us.parse::<f64>().ok()).expect("a total") / 1e6
    };
    for (what, line) in [("pressure_cpu_waiting", "some"), ("pressure_cpu_stalled", "full")] {
        let first = kernel(line);
        crate::rig::eventually("what the kernel had is told", || scrape("busy", what) >= Some(first));
        let told = scrape("busy", what).expect("told");
        assert!(told > 0.0 && told <= kernel(line), "{what}: {told} of {}", kernel(line));
    }
    let waited = |name| scrape(name, "pressure_cpu_waiting");
    let (busy, calm) = (waited("busy"), waited("calm"));
    assert!(busy > Some(1.0) && calm.is_some() && calm < busy, "{calm:?}, {busy:?}");
    // So is what is used without a quota, which no loop looks at.
    journal.wait("default/free", is_launched);
    crate::rig::eventually("its use is told", || scrape("free", "cpu_usage") > Some(1.0));
    let told = scrape("free", "cpu_usage").expect("told") * 1e6;
    let stat = agent.tree.root.join("workloads/default/free/cpu.stat");
    assert!(told <= crate::rig::field(&stat, "usage_usec") as f64, "{told}");
}

/// What could not be read is counted, and has no series that says that nobody has waited since.
#[test]
fn what_cannot_be_read_is_counted_and_not_shown() {
    let agent = Agent::start(&[]);
    let _run = agent.run("web", "16M..64M", &["sleep", "300"]);
    agent.follow().wait("default/web", is_launched);
    // One connection, made before the agent can open nothing more.
    let stream = RefCell::new(TcpStream::connect(&agent.address).expect("connect"));
    let scrape = || {
        let mut stream = stream.borrow_mut();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("request");
        let (mut text, mut piece) = (Vec::new(), [0; 4096]);
        while !text.ends_with(b"\r\n0\r\n\r\n") {
            let length = stream.read(&mut piece).expect("answer");
            assert!(length > 0, "cut off");
            text.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let series = "bellows_workload_pressure_cpu_waiting_seconds_total{tenant=\"default\",workload=\"web\"}";
    let is_counted = |text: &str| {
        let count = text.lines().find_map(|line| line.strip_prefix("bellows_pressure_unread_total "));
        count.expect("a count") != "0"
    };
    let open_files = |most: &str| {
        let pid = agent.child.id().to_string();
        let limit = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:")]).status();
        assert!(limit.expect("prlimit").success());
    };
    crate::rig::eventually("it is read", || scrape().contains(series));
    assert!(!is_counted(&scrape()));
    open_files("3");
    crate::rig::eventually("that it could not be is counted", || is_counted(&scrape()));
    assert!(!scrape().contains(series), "nothing is told of it");
    open_files("1024");
    crate::rig::eventually("it is read again", || scrape().contains(series));
}

/// `bellows events` without `-f` ends, and resumes after an id.
#[test]
fn events_can_be_read_in_parts() {
    let agent = Agent::start(&[]);
    assert_eq!(agent.run("one", "16M..64M", &["true"]).finish().code, 0);
    let mut journal = agent.follow();
    let ended = journal.wait("default/one", crate::rig::is_ended);
    let all = String::from_utf8(agent.output("events", &["--json"]).stdout).expect("utf-8");
    assert!(all.lines().count() >= 3, "{all}");
    let rest = agent.output("events", &["--json", "--since", &ended.id.to_string()]);
    assert_eq!(String::from_utf8_lossy(&rest.stdout), "");
}

/// Who follows an agent ends with it, in words; who needs none goes on.
#[test]
fn followers_end_with_the_agent_and_say_so() {
    let mut agent = Agent::start(&[]);
    assert_eq!(
        agent
            .output("run", &["-d", "--name", "web", "--memory", "16M..64M", "--", "sleep", "300"])
            .status
            .code(),
        Some(0)
    );
    let trace = agent.runtime_dir.join("trace.csv").display().to_string();
    let started = [
        ("events", &["-f"][..], "the agent ended; when another one is there, --since "),
        ("top", &["--plain", "--count", "999999", "--interval-ms", "100"], "no agent answers in "),
        ("record", &[trace.as_str()], "no agent answers in "),
    ]
    .map(|(verb, arguments, told)| {
        let mut command = agent.command(verb);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (verb, command.spawn().expect(verb), told)
    });
    // Each is there: two have said something, and the third writes.
    let mut started = started.map(|(verb, mut child, told)| {
        if verb != "record" {
            let read = child.stdout.as_mut().expect("its output").read(&mut [0; 1]);
            assert_eq!(read.expect("its output"), 1, "{verb}");
        }
        (verb, child, told)
    });
    crate::rig::eventually("the trace has begun", || crate::rig::read(Path::new(&trace)).lines().count() > 1);
    agent.kill();
    for (verb, child, told) in &mut started {
        // It must not wait to be read.
        std::io::copy(child.stdout.as_mut().expect("its output"), &mut std::io::sink()).expect("its output");
        let mut text = String::new();
        child.stderr.as_mut().expect("its errors").read_to_string(&mut text).expect("its errors");
        assert_eq!(child.wait().expect("its end").code(), Some(1), "{verb}: {text}");
        let is_said =
            text.contains(*told) || *verb != "events" && text.contains("the agent closed the connection");
        assert!(is_said, "{verb}: {text}");
    }
    assert_eq!(agent.output("logs", &["web"]).status.code(), Some(0), "the log is a file");
    agent.restart();
    assert_eq!(agent.output("stop", &["web", "--grace", "0s"]).status.code(), Some(0));
}
