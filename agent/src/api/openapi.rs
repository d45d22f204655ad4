//! `GET /openapi.json`: what can be asked for, as OpenAPI 3.1. Made of the table that the gate looks routes up in, and of what is said of
//! each here. Parameters and media types are complete; of the bodies only that of a problem is described field by field.
//!
//! `docs/openapi.json` is a copy, so that a change of the API is seen where changes are seen; a test compares them.

use std::collections::BTreeMap;

use axum::Json;
use serde_json::{Value, json};

use crate::access::{Need, ROUTES};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const EVENTS: &str = "text/event-stream";
const HTML: &str = "text/html";

/// What is said of a route: method, pattern, summary, parameters of the query as (name, type, what it is), media types of the answer.
type Said = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, &'static str)],
    &'static [&'static str],
);

const SAID: &[Said] = &[
    ("GET", "/healthz", "The process answers.", &[], &[TEXT]),
    ("GET", "/readyz", "The control loop turns.", &[], &[TEXT]),
    ("GET", "/metrics", "Metrics, as Prometheus reads them.", &[], &[TEXT]),
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
        "How everything stands, and what changes. Resumes after `Last-Event-ID`.",
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
            ("words", "boolean", "Each with a sentence."),
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

fn document() -> Value {
    let mut paths: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (method, pattern, needs) in ROUTES {
        let said = SAID.iter().find(|(m, p, ..)| (m, p) == (method, pattern));
        let methods = paths.entry(pattern).or_default();
        methods.insert(method.to_lowercase(), operation(method, pattern, *needs, said));
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
        "components": { "schemas": { "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": { "type": "string", "description": "The HTTP status in words." },
                "status": { "type": "integer" },
                "detail": { "type": "string", "description": "What is wrong and what to do." },
                "hint": { "type": "string", "description": "What else might help." },
            },
        } } },
    })
}

fn operation(method: &str, pattern: &str, needs: Need, said: Option<&Said>) -> Value {
    let (summary, query, media) = said.map_or(("", &[][..], &[][..]), |said| (said.2, said.3, said.4));
    let in_path =
        pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
            let kind = if name == "id" { "integer" } else { "string" };
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
        });
    let in_query = query.iter().map(|(name, kind, text)| {
        json!({ "name": name, "in": "query", "description": text, "schema": { "type": kind } })
    });
    let content: BTreeMap<&str, Value> = media.iter().map(|media| (*media, json!({}))).collect();
    let status = match (method, pattern) {
        ("POST", "/api/v1/workloads") => "201",
        _ if media.is_empty() => "204",
        _ => "200",
    };
    let problem =
        json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    json!({
        "summary": summary,
        "description": format!("Needs: {needs:?}, as docs/access.md has it."),
        "parameters": in_path.chain(in_query).collect::<Vec<Value>>(),
        "responses": {
            status: { "description": "What was asked for.", "content": content },
            "default": { "description": "A problem (RFC 9457).", "content": problem },
        },
    })
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

    /// The copy is the same. BELLOWS_BLESS=1 writes it: look at what has changed before.
    #[test]
    fn the_copy_is_the_same() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("BELLOWS_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "BELLOWS_BLESS=1 writes the copy");
    }
}
