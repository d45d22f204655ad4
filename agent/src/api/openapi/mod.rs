//! `GET /openapi.json`: what can be asked for, as OpenAPI 3.1. Made of the table that the gate looks routes up in, of what is said of each
//! here, and of the types that are sent: bodies are described field by field, by what their fields say of themselves.
//!
//! `docs/openapi.json` is what is promised: a test fails when something of it is taken away. What is added passes; `BELLOWS_BLESS=1` adds it.
//!
//! | file | holds |
//! |---|---|
//! | `bodies` | the type of each body, and their schemas |
//! | `promise` | what breaks who relies on an older one |

mod bodies;
#[cfg(test)]
mod promise;

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Value, json};

use crate::access::{Need, ROUTES};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const EVENTS: &str = "text/event-stream";
const OPEN_METRICS: &str = "application/openmetrics-text";
const HTML: &str = "text/html";

/// What is said of a route: method, pattern, summary, parameters of the query as (name, type, what it is), media types of the answer.
type Said = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
    &'static [&'static str],
);

const COLLECT: &[(&str, &str, &str)] =
    &[("collect[]", "string", "Only this group of them: agent, node, tenant, workload; repeatable.")];

const SAID: &[Said] = &[
    ("GET", "/healthz", "The process answers.", &[], &[TEXT]),
    ("GET", "/readyz", "The control loop turns.", &[], &[TEXT]),
    ("GET", "/metrics", "Metrics, as Prometheus reads them.", COLLECT, &[TEXT, OPEN_METRICS]),
    ("GET", "/", "The console.", &[], &[HTML]),
    (
        "GET",
        "/console/{file}",
        "A file of the console.",
        &[],
        &[HTML, "text/css", "text/javascript", "image/svg+xml"],
    ),
    ("GET", "/openapi.json", "This.", &[], &[JSON]),
    ("GET", "/api/v1/node", "The node, its budget, and the agent.", &[], &[JSON]),
    ("GET", "/api/v1/policies", "The policies in force, each value with its origin.", &[], &[JSON]),
    ("GET", "/api/v1/doctor", "Whether the machine is as it should be.", &[], &[JSON]),
    (
        "GET",
        "/api/v1/watch",
        "How everything stands (an event `state`), and what changes (`change`). Resumes after `Last-Event-ID`.",
        &[
            ("since", "integer", "Tell records after this one, too."),
            ("every_ms", "integer", "Between two rounds; 250 at least."),
        ],
        &[EVENTS],
    ),
    (
        "GET",
        "/api/v1/workloads",
        "Workloads; pages are linked by `Link`.",
        &[
            ("tenant", "string", "Only of this tenant."),
            ("limit", "integer", "So many at most, in the order of their names."),
            ("after", "string", "Those after this one, `tenant/name`."),
        ],
        &[JSON],
    ),
    (
        "GET",
        "/api/v1/workloads/{tenant}/{name}",
        "A workload, and for how long its tasks have waited.",
        &[],
        &[JSON],
    ),
    ("GET", "/api/v1/tenants", "Tenants: floors, grants, guarantee, cap, who waits.", &[], &[JSON]),
    (
        "GET",
        "/api/v1/events",
        "The journal; pages are linked by `Link`. As a stream it resumes after `Last-Event-ID`.",
        &[
            ("since", "string", "An id, `5m`, `14:03`, or an instant of RFC 3339."),
            ("before", "integer", "Only what is older than this record."),
            ("follow", "boolean", "Go on with what comes."),
            ("workload", "string", "Only of this one, `tenant/name`."),
            ("reason", "string", "Only for this reason."),
            ("limit", "integer", "So many at most, the newest."),
            ("words", "boolean", "Each with a sentence, in `words`."),
        ],
        &[JSON, EVENTS],
    ),
    (
        "GET",
        "/api/v1/incidents",
        "Incidents, each with what the workload looked like inside.",
        &[("workload", "string", "Only of this one, `tenant/name`.")],
        &[JSON],
    ),
    ("GET", "/api/v1/explain/{id}", "Why: a record with its evidence.", &[], &[JSON, TEXT]),
    ("GET", "/api/v1/explain/{tenant}/{name}", "How a workload fares, and why.", &[], &[JSON, TEXT]),
    (
        "GET",
        "/api/v1/workloads/{tenant}/{name}/logs",
        "What a detached workload has said. On the control socket alone.",
        &[
            ("follow", "boolean", "Go on until it has ended."),
            ("tail", "integer", "Only so many lines, the last ones."),
        ],
        &[TEXT],
    ),
    ("GET", "/api/v1/exits/{id}", "How a workload ended; answered when it has.", &[], &[JSON]),
    ("POST", "/api/v1/workloads", "Starts a workload.", &[], &[JSON]),
    ("POST", "/api/v1/apply", "Has a detached workload be as it is asked for.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/signal", "Sends a signal.", &[], &[]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/set", "Changes what it is governed by.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/stop", "Has it end.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/freeze", "Has it stand still.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/thaw", "Has it go on.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/rm", "Forgets one that has ended.", &[], &[JSON]),
    (
        "POST",
        "/api/v1/workloads/{tenant}/{name}/exec",
        "Runs a command beside it; answered when that has ended.",
        &[],
        &[JSON],
    ),
    ("POST", "/api/v1/execs/{token}/signal", "Sends a signal to such a command.", &[], &[]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/pin", "Has its limits stay.", &[], &[JSON]),
    ("POST", "/api/v1/workloads/{tenant}/{name}/unpin", "Gives them back to the laws.", &[], &[JSON]),
    ("POST", "/api/v1/release", "Opens all limits.", &[], &[JSON]),
];

pub(super) async fn openapi() -> Json<Value> {
    Json(document())
}

/// The whole of it.
#[must_use]
pub fn document() -> Value {
    let mut schemas = bodies::Schemas::new();
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (method, pattern, needs) in ROUTES {
        let said = SAID.iter().find(|(m, p, ..)| (m, p) == (method, pattern));
        let methods = paths.entry(pattern).or_default();
        methods.insert(method.to_lowercase(), operation(method, pattern, *needs, said, &mut schemas));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bellows",
            "version": "v1",
            "description": "GET is answered on loopback and on the control socket, everything else on the socket only.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas.components() },
    })
}

fn operation(
    method: &str,
    pattern: &str,
    needs: Need,
    said: Option<&Said>,
    schemas: &mut bodies::Schemas,
) -> Value {
    let (summary, query, media) = said.map_or(("", &[][..], &[][..]), |said| (said.2, said.3, said.4));
    let in_path =
        pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
            let kind = if name == "id" { "integer" } else { "string" };
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
        });
    let in_query = query.iter().map(|(name, kind, text)| {
        let schema = match *name {
            "reason" => json!({ "$ref": "#/components/schemas/Reason" }),
            // Once for each value, as it is without saying so.
            "collect[]" => json!({ "type": "array", "items": { "type": kind } }),
            _ => json!({ "type": kind }),
        };
        json!({ "name": name, "in": "query", "description": text, "schema": schema })
    });
    let resumes = media.contains(&EVENTS).then(|| {
        let text = "Of a stream: the id of the last event that was seen.";
        json!({ "name": "Last-Event-ID", "in": "header", "description": text, "schema": { "type": "integer" } })
    });
    let (asked, answered) = schemas.of(method, pattern);
    let event = schemas.event(pattern);
    let schema = |media: &str| match (media, &answered, &event) {
        (JSON, Some(schema), _) | (EVENTS, _, Some(schema)) => json!({ "schema": schema }),
        _ => json!({}),
    };
    let content: BTreeMap<&str, Value> = media.iter().map(|media| (*media, schema(media))).collect();
    let status = match (method, pattern) {
        ("POST", "/api/v1/workloads") => "201",
        _ if media.is_empty() => "204",
        _ => "200",
    };
    let problem =
        json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    let mut operation = json!({
        "summary": summary,
        "description": format!("Needs: {needs:?}, as docs/access.md has it."),
        "parameters": in_path.chain(in_query).chain(resumes).collect::<Vec<Value>>(),
        "responses": {
            status: { "description": "What was asked for.", "content": content },
            "default": { "description": "A problem (RFC 9457).", "content": problem },
        },
    });
    if let Some(schema) = asked {
        operation["requestBody"] = json!({ "required": true, "content": { JSON: { "schema": schema } } });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each route is described, and nothing else.
    #[test]
    fn all_routes_are_described() {
        let sorted = |mut rows: Vec<(&'static str, &'static str)>| {
            rows.sort_unstable();
            rows
        };
        let routes = ROUTES.iter().map(|(method, pattern, _)| (*method, *pattern)).collect();
        assert_eq!(sorted(SAID.iter().map(|said| (said.0, said.1)).collect()), sorted(routes));
    }

    /// What was promised once holds. BELLOWS_BLESS=1 adds what has been added to the promise.
    #[test]
    fn nothing_that_is_promised_is_taken_away() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let now = document();
        let promised: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let broken = promise::broken(&promised, &now);
        assert!(broken.is_empty(), "clients rely on this:\n{}", broken.join("\n"));
        if std::env::var_os("BELLOWS_BLESS").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
        }
    }

    /// Every body that is JSON has a schema, and each reference leads somewhere.
    #[test]
    fn all_bodies_are_described() {
        let document = document();
        for said in SAID.iter().filter(|said| said.4.contains(&JSON) && said.1 != "/openapi.json") {
            let operation = &document["paths"][said.1][said.0.to_lowercase()];
            let answers = operation["responses"].as_object().unwrap().values();
            let described = answers.filter(|answer| answer["content"][JSON]["schema"].is_object()).count();
            assert_eq!(described, 1, "{} {}", said.0, said.1);
        }
        let text = document.to_string();
        assert!(!text.contains("[`"), "a description links to what is known in the code only");
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
