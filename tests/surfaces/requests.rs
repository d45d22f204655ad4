//! What is said of a request against what the agent takes: each field of it, with values of every kind. What is taken is described; and
//! what is described is taken, but for texts, which have forms, and pairs, which have an order.

use bellows::api::types::{ApplyRequest, ExecRequest, LaunchRequest, PinRequest, SignalRequest, StopRequest};
use bellows::workload::change::Change;
use bellows::workload::life::Life;
use bellows::workload::spec::{Asked, Spec};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::shape::differences;

/// Pairs that have to be in order, need each other or rule each other out, and so depend on more than the one value.
const PAIRS: [&str; 6] = ["floor", "ceiling", "soft", "hard", "rootfs", "log_journal"];

fn probes() -> Vec<Value> {
    let numbers =
        [0, 1, 7, 16, 64, 65, 100, 101, 3600, 3601, 4095, 4096, 10_000, 10_001, 86_400, 86_401, 1 << 20];
    let large = [4_194_304, 4_194_305, 1 << 30, (1 << 30) + 1, u64::MAX];
    let texts = [
        "",
        "0",
        "7",
        "64M",
        "lots",
        "class",
        "host",
        "new",
        &"x".repeat(64),
        &"x".repeat(65),
        &"x".repeat(300),
    ];
    let mut all: Vec<Value> = numbers.into_iter().chain(large).map(Value::from).collect();
    all.extend(texts.into_iter().map(Value::from));
    all.extend([json!(null), json!(true), json!(-1), json!(1.5), json!([]), json!(["0"]), json!({})]);
    all.push(json!({ "own": 7 }));
    all.push(json!({ "own": "64M" }));
    all
}

/// Where a value has values inside, itself included.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| places(field, &format!("{place}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| places(item, &format!("{place}/{at}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn has_text(value: &Value) -> bool {
    value.is_string() || value.as_array().is_some_and(|items| items.iter().any(Value::is_string))
}

/// All that is otherwise of a request. `whole` has every field; `is_taken` is the agent's word.
fn otherwise(path: &str, whole: &Value, is_taken: impl Fn(&Value) -> bool) -> Vec<String> {
    let document = bellows::api::openapi();
    let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let described = |value: &Value| differences(value, schema, &document["components"]["schemas"]);
    assert!(is_taken(whole), "{path}: {whole}");
    assert_eq!(described(whole), Vec::<String>::new(), "{path}");
    let (mut all, mut found) = (Vec::new(), Vec::new());
    places(whole, "", &mut all);
    for place in all {
        for probe in probes() {
            let mut asked = whole.clone();
            *asked.pointer_mut(&place).expect("a place of it") = probe.clone();
            let (taken, said) = (is_taken(&asked), described(&asked));
            // A list of its fields serves for an object, in serde: nobody is told so.
            if probe.is_array() && whole.pointer(&place).is_some_and(Value::is_object) {
                continue;
            }
            let depends = has_text(&probe) || PAIRS.iter().any(|pair| place.ends_with(pair));
            if taken && !said.is_empty() {
                found.push(format!("{path}{place} takes {probe}, and is described otherwise: {said:?}"));
            } else if !taken && said.is_empty() && !depends {
                found.push(format!("{path}{place} is said to take {probe}"));
            }
        }
    }
    found
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}

fn spec() -> Value {
    json!({
        "identity": {
            "tenant": "acme", "name": "web", "class": "standard",
            "memory": { "floor": 1 << 20, "ceiling": 64 << 20 },
            "cpu": { "floor": 100_000, "ceiling": 1_000_000 },
            "resources": {
                "pids": 9, "swap": "64M", "io_weight": 5, "io_max": ["8:0 rbps=1"], "cpuset_cpus": "0", "cpuset_mems": "0",
                "hugetlb": { "2MB": "4M", "1GB": 0 },
            },
        },
        "argv": ["true"], "env": ["A=1"], "cwd": "/",
        "isolation": {
            "root": { "directory": { "path": "/srv", "upper": 1 } },
            "mounts": [
                { "bind": { "source": "/a", "target": "/b", "writable": true } },
                { "tmpfs": { "target": "/t", "size": 1 } },
            ],
            "hostname": "h", "domainname": "d", "user": "u",
            "namespaces": { "user": "new", "net": "new", "ipc": "new", "uts": "new", "time": "new" },
            "no_new_privs": true, "capabilities": ["chown"], "seccomp": true, "nested": false,
            "rlimits": [{ "resource": "nofile", "soft": 1, "hard": 2 }],
        },
        "life": {
            "stop_signal": 15, "grace_seconds": 10, "restart": "never", "log": { "bytes": 4096, "files": 1 }, "terminal": true,
        },
    })
}

/// The same in the words of a file.
fn manifest() -> Value {
    let Value::Object(mut boxed) = spec()["isolation"].take() else { unreachable!("it is one") };
    let Value::Object(flags) = json!({
        "preset": "host", "rootfs": "/srv", "overlay": "1M", "bind": ["/c:/d:rw"], "tmpfs": ["/e:1M"], "net": "new", "ipc": "new",
        "uts": "new", "userns": "new", "pid": "new", "mount": "new", "cgroup": "new", "time": "new", "cap_add": ["chown"],
        "cap_drop": ["kill"], "ulimit": ["nproc=1:2"],
    }) else {
        unreachable!("it is one")
    };
    // `rootfs` says the same.
    boxed.remove("root");
    boxed.extend(flags);
    json!({
        "tenant": "acme", "name": "web", "class": "standard", "memory": "1M..64M", "cpu": "0.1..1", "command": ["true"],
        "env": { "A": "1" }, "cwd": "/", "resources": spec()["identity"]["resources"], "isolation": boxed, "stop_signal": "INT",
        "grace": "3s", "restart": "never", "terminal": true, "log_size": "4M", "log_files": 2, "log_journal": false,
    })
}

#[test]
fn what_is_described_is_what_is_taken() {
    let workload = |order: &str| format!("/api/v1/workloads/{{tenant}}/{{name}}/{order}");
    let is_sound = |spec: &Spec<Asked>| spec.problem().is_none();
    let launch = json!({ "spec": spec(), "stdio": "token" });
    let mut found = otherwise("/api/v1/workloads", &launch, |v| {
        read::<LaunchRequest>(v).is_some_and(|r| is_sound(&r.spec))
    });
    for (way, what) in [("spec", spec()), ("workload", manifest())] {
        let apply = json!({ way: what, "dry_run": true });
        found.extend(otherwise("/api/v1/apply", &apply, |v| {
            read::<ApplyRequest>(v).is_some_and(|request| request.asked().is_ok())
        }));
    }

    let bounds = json!({ "own": { "floor": 1 << 20, "ceiling": 2 << 20 } });
    let cpu = json!({ "own": { "floor": 100_000, "ceiling": 200_000 } });
    let change = json!({
        "class": "batch", "memory": bounds, "cpu": cpu, "weight": { "own": 7 }, "pids": { "own": 7 }, "swap": "class",
        "io_weight": { "own": 7 }, "io_max": { "own": ["8:0 rbps=1"] }, "cpuset_cpus": { "own": "0" }, "cpuset_mems": "class",
        "hugetlb": { "own": { "2MB": 0 } },
    });
    found.extend(otherwise(&workload("set"), &change, |v| read::<Change>(v).is_some()));

    let stop = json!({ "signal": 15, "grace_seconds": 10 });
    found.extend(otherwise(&workload("stop"), &stop, |v| {
        read::<StopRequest>(v).is_some_and(|StopRequest { signal, grace_seconds }| {
            let life = Life::default();
            let stop_signal = signal.unwrap_or(life.stop_signal);
            Life { stop_signal, grace_seconds: grace_seconds.unwrap_or(0), ..life }.problem().is_none()
        })
    }));
    let signal =
        |v: &Value| read::<SignalRequest>(v).is_some_and(|request| (1..=64).contains(&request.signal));
    found.extend(otherwise(&workload("signal"), &json!({ "signal": 15 }), signal));
    let is_time = |seconds: u64| (1..=86_400).contains(&seconds);
    let pin = json!({ "high": 7, "cpu": 7, "seconds": 7 });
    found.extend(otherwise(&workload("pin"), &pin, |v| {
        read::<PinRequest>(v).is_some_and(|r| is_time(r.seconds))
    }));
    let exec = json!({ "argv": ["true"], "env": ["A=1"], "cwd": "/", "stdio": "token", "terminal": true, "user": "u" });
    found.extend(otherwise(&workload("exec"), &exec, |v| {
        read::<ExecRequest>(v).is_some_and(|r| !r.argv.is_empty())
    }));
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
