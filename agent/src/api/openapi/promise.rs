//! What breaks who relies on an older description: something that can no longer be asked for, is no longer answered, or has to be asked
//! with that had not.

use serde_json::{Map, Value};

/// Where it is broken, a line each; empty while only something was added.
pub(super) fn broken(promised: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, methods) in object(&promised["paths"]) {
        for (method, operation) in object(methods) {
            let place = format!("{} {path}", method.to_uppercase());
            match now["paths"][path].get(method) {
                None => found.push(format!("{place} is gone")),
                Some(other) => operations(&place, operation, other, &mut found),
            }
        }
    }
    for (name, schema) in object(&promised["components"]["schemas"]) {
        match now["components"]["schemas"].get(name) {
            None => found.push(format!("type {name} is gone")),
            Some(other) => answers(name, schema, other, &mut found),
        }
    }
    found
}

fn operations(place: &str, promised: &Value, now: &Value, found: &mut Vec<String>) {
    let named = |operation: &Value, name: &Value| {
        list(&operation["parameters"]).iter().any(|parameter| &parameter["name"] == name)
    };
    for parameter in list(&promised["parameters"]).iter().filter(|p| !named(now, &p["name"])) {
        found.push(format!("{place}: parameter {} is gone", parameter["name"]));
    }
    for (status, response) in object(&promised["responses"]) {
        for (media, content) in object(&response["content"]) {
            match now["responses"][status]["content"].get(media) {
                None => found.push(format!("{place}: {status} is not answered as {media} any more")),
                Some(other) => {
                    answers(&format!("{place}: {status}"), &content["schema"], &other["schema"], found);
                }
            }
        }
    }
    let body = |operation: &Value| operation["requestBody"]["content"]["application/json"]["schema"].clone();
    requests(&format!("{place}: body"), &body(promised), &body(now), found);
}

/// What is answered may have more fields, and lack none. Nothing is promised of what is not described.
fn answers(place: &str, promised: &Value, now: &Value, found: &mut Vec<String>) {
    kinds(place, promised, now, |_, _| false, found);
    for (name, schema) in object(&promised["properties"]) {
        match now["properties"].get(name) {
            None => found.push(format!("{place}: field {name} is gone")),
            Some(other) => answers(&format!("{place}.{name}"), schema, other, found),
        }
    }
    for name in list(&promised["required"]).iter().filter(|name| !list(&now["required"]).contains(name)) {
        found.push(format!("{place}: field {name} may be absent now"));
    }
    if promised["items"].is_object() {
        answers(&format!("{place}[]"), &promised["items"], &now["items"], found);
    }
    for variant in list(&promised["oneOf"]) {
        match list(&now["oneOf"]).iter().find(|other| tag(other) == tag(variant)) {
            None => found.push(format!("{place}: {} is gone", tag(variant))),
            Some(other) => answers(&format!("{place} {}", tag(variant)), variant, other, found),
        }
    }
}

/// What is asked with may have more fields, need no more, and take what else it likes.
fn requests(place: &str, promised: &Value, now: &Value, found: &mut Vec<String>) {
    if promised.is_null() {
        return;
    }
    kinds(place, promised, now, is_wider, found);
    for part in ["items", "additionalProperties"].into_iter().filter(|part| promised[part].is_object()) {
        requests(&format!("{place}[]"), &promised[part], &now[part], found);
    }
    for (name, schema) in object(&promised["properties"]) {
        match now["properties"].get(name) {
            None => found.push(format!("{place}: {name} is not taken any more")),
            Some(other) => requests(&format!("{place}.{name}"), schema, other, found),
        }
    }
    for name in list(&now["required"]).iter().filter(|name| !list(&promised["required"]).contains(name)) {
        found.push(format!("{place}: {name} has to be there now"));
    }
    for variant in list(&promised["oneOf"]) {
        match list(&now["oneOf"]).iter().find(|other| tag(other) == tag(variant)) {
            None => found.push(format!("{place}: {} is not taken any more", tag(variant))),
            Some(other) => requests(&format!("{place} {}", tag(variant)), variant, other, found),
        }
    }
}

/// `fits`: whether another type does what the promised one did.
fn kinds(
    place: &str,
    promised: &Value,
    now: &Value,
    fits: fn(&Value, &Value) -> bool,
    found: &mut Vec<String>,
) {
    for key in ["type", "$ref", "const"] {
        let is_kept = promised[key] == now[key] || (key == "type" && fits(&promised[key], &now[key]));
        if promised[key] != Value::Null && !is_kept {
            found.push(format!("{place}: {key} was {}, is {}", promised[key], now[key]));
        }
    }
    for word in list(&promised["enum"]).iter().filter(|word| !list(&now["enum"]).contains(word)) {
        found.push(format!("{place}: {word} is gone"));
    }
}

/// Whether one type, or list of them, has all of another.
fn is_wider(promised: &Value, now: &Value) -> bool {
    let now = if now.is_array() { list(now) } else { std::slice::from_ref(now) };
    let promised = if promised.is_array() { list(promised) } else { std::slice::from_ref(promised) };
    promised.iter().all(|kind| now.contains(kind))
}

/// By what a variant is told from others: its constants, or else its fields.
fn tag(variant: &Value) -> String {
    if variant["const"] != Value::Null {
        return variant["const"].to_string();
    }
    let constants: Vec<String> = object(&variant["properties"])
        .filter(|(_, schema)| schema["const"] != Value::Null)
        .map(|(name, schema)| format!("{name} {}", schema["const"]))
        .collect();
    if constants.is_empty() { variant["required"].to_string() } else { constants.join(", ") }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::document;

    /// A change of the document at a place that is there.
    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut changed = document();
        change(&mut changed);
        assert_ne!(changed, document());
        changed
    }

    fn remove(value: &mut Value, pointer: &str, key: &str) {
        value.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    }

    #[test]
    fn what_is_taken_away_is_seen() {
        let view = "/components/schemas/WorkloadView";
        let cases: [(&str, Value); 8] = [
            (
                "swap: type was",
                with(|d| d.pointer_mut(SWAP).unwrap()["type"] = vec!["string", "null"].into()),
            ),
            ("GET /api/v1/node is gone", with(|d| remove(d, "/paths", "/api/v1/node"))),
            ("field memory_high is gone", with(|d| remove(d, &format!("{view}/properties"), "memory_high"))),
            ("type WorkloadView is gone", with(|d| remove(d, "/components/schemas", "WorkloadView"))),
            (
                "field \"tenant\" may be absent",
                with(|d| d.pointer_mut(view).unwrap()["required"] = Value::Null),
            ),
            (
                "type was",
                with(|d| d.pointer_mut(view).unwrap()["properties"]["pid"]["type"] = "string".into()),
            ),
            (
                "parameter \"limit\" is gone",
                with(|d| d["paths"]["/api/v1/events"]["get"]["parameters"] = Value::Array(Vec::new())),
            ),
            (
                "\"extra\" has to be there now",
                with(|d| {
                    let pin = &mut d["paths"]["/api/v1/workloads/{tenant}/{name}/pin"]["post"]["requestBody"];
                    pin["content"]["application/json"]["schema"]["required"] = vec!["extra"].into();
                }),
            ),
        ];
        for (expected, changed) in cases {
            let found = broken(&document(), &changed);
            assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:?}");
        }
    }

    /// A size that is asked for, as a number or a text.
    const SWAP: &str = "/paths/~1api~1v1~1apply/post/requestBody/content/application~1json/schema/properties/spec/properties\
                        /identity/properties/resources/properties/swap";

    /// Each of these is taken away when it is looked at from the other side.
    #[test]
    fn what_is_added_passes() {
        let fewer = with(|d| {
            d.pointer_mut(SWAP).unwrap()["type"] = vec!["integer", "null"].into();
            remove(d, "/paths", "/api/v1/node");
            remove(d, "/components/schemas/WorkloadView/properties", "cpu_quota");
            let required = &mut d["components"]["schemas"]["WorkloadView"]["required"];
            required.as_array_mut().unwrap().retain(|name| name != "cpu_quota");
        });
        assert_eq!(broken(&fewer, &document()), Vec::<String>::new());
        assert_eq!(broken(&document(), &document()), Vec::<String>::new());
        assert!(!broken(&document(), &fewer).is_empty());
    }
}
