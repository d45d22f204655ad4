//! Whether a value is what a schema says: every field of it is described, and every field that has to be there is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// What is otherwise, a line each.
#[must_use]
pub fn differences(value: &Value, schema: &Value, schemas: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", value, schema, schemas, &mut found);
    found
}

fn compare(place: &str, value: &Value, schema: &Value, schemas: &Value, found: &mut Vec<String>) {
    let mut fields = Fields::default();
    gather(place, value, schema, schemas, &mut fields, found);
    for (name, field) in value.as_object().into_iter().flatten().filter(|_| fields.is_closed) {
        match fields.described.get(name.as_str()) {
            Some(schema) => compare(&format!("{place}.{name}"), field, schema, schemas, found),
            None => found.push(format!("{place}.{name} is not described")),
        }
    }
}

/// What a schema says of the fields of a value, all its parts together: what is flattened into it, and the variant that it is.
#[derive(Default)]
struct Fields<'a> {
    described: BTreeMap<&'a str, &'a Value>,
    /// Whether it names fields at all, and so others are none of its.
    is_closed: bool,
}

fn gather<'a>(
    place: &str,
    value: &'a Value,
    schema: &'a Value,
    schemas: &'a Value,
    fields: &mut Fields<'a>,
    found: &mut Vec<String>,
) {
    // By these a variant is told from others: what is another one is not looked at any further.
    let differs = |(name, field): (&String, &Value)| {
        field["const"] != Value::Null && value.get(name).is_some_and(|own| *own != field["const"])
    };
    if schema["properties"].as_object().into_iter().flatten().any(differs) {
        return found.push(format!("{place}: {value} is another one"));
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/components/schemas/")) {
        gather(place, value, &schemas[name], schemas, fields, found);
    }
    if schema["const"] != Value::Null && schema["const"] != *value {
        found.push(format!("{place}: {value} is not {}", schema["const"]));
    }
    if schema["enum"].is_array() && !list(&schema["enum"]).contains(value) {
        found.push(format!("{place}: {value} is none of the words"));
    }
    if !has_type(value, &schema["type"]) {
        found.push(format!("{place}: {value} is no {}", schema["type"]));
    }
    bounds(place, value, schema, found);
    for (index, item) in list(value).iter().enumerate() {
        compare(&format!("{place}[{index}]"), item, &schema["items"], schemas, found);
    }
    fields.is_closed |= schema["properties"].is_object();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        fields.described.insert(name, field);
        if let (Some(own), false) = (value.get(name), field["const"].is_null()) {
            compare(&format!("{place}.{name}"), own, field, schemas, found);
        }
    }
    if schema["additionalProperties"].is_object() {
        for (name, field) in value.as_object().into_iter().flatten() {
            compare(&format!("{place}.{name}"), field, &schema["additionalProperties"], schemas, found);
        }
    }
    let names = &schema["propertyNames"]["enum"];
    for name in value.as_object().into_iter().flat_map(Map::keys).filter(|_| names.is_array()) {
        if !list(names).iter().any(|known| known == name) {
            found.push(format!("{place}: {name} is none of the names"));
        }
    }
    // Of what is no object the type says so.
    for name in list(&schema["required"]).iter().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            found.push(format!("{place}.{name} is missing"));
        }
    }
    let variants: Vec<&Value> = list(&schema["anyOf"]).iter().chain(list(&schema["oneOf"])).collect();
    let fits = |variant: &&&'a Value| {
        let mut others = Vec::new();
        gather(place, value, variant, schemas, &mut Fields::default(), &mut others);
        others.is_empty()
    };
    match variants.iter().find(fits) {
        Some(variant) => gather(place, value, variant, schemas, fields, found),
        None if variants.is_empty() => {}
        None => found.push(format!("{place}: {value} is none of what it may be")),
    }
}

/// How large a number is, how long a text or a list.
fn bounds(place: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
    let (least, most, measure) = match value {
        Value::Number(number) => ("minimum", "maximum", number.as_f64()),
        Value::String(text) => ("minLength", "maxLength", Some(text.chars().count() as f64)),
        Value::Array(items) => ("minItems", "maxItems", Some(items.len() as f64)),
        Value::Null | Value::Bool(_) | Value::Object(_) => return,
    };
    let of_format = if schema["format"] == "uint32" { Some(f64::from(u32::MAX)) } else { None };
    let (least, most) = (schema[least].as_f64(), schema[most].as_f64().or(of_format));
    if least.zip(measure).is_some_and(|(least, measure)| measure < least)
        || most.zip(measure).is_some_and(|(most, measure)| measure > most)
    {
        found.push(format!("{place}: {value} is out of bounds"));
    }
}

fn has_type(value: &Value, kind: &Value) -> bool {
    match kind {
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            _ => value.is_object(),
        },
        Value::Array(several) => several.iter().any(|kind| has_type(value, kind)),
        _ => true,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether an object has exactly these keys.
#[must_use]
pub fn has_keys(value: &Value, keys: &[&str]) -> bool {
    let has = value.as_object().map(Map::len);
    has == Some(keys.len()) && keys.iter().all(|key| value.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_otherwise_is_seen() {
        let schemas = json!({
            "Size": { "type": "integer" },
            "Told": { "type": "object", "properties": { "word": { "type": "string" } }, "required": ["word"] },
        });
        let schema = json!({
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": { "type": "integer" },
                "size": { "anyOf": [{ "$ref": "#/components/schemas/Size" }, { "type": "null" }] },
                "words": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 },
                "share": { "type": ["integer", "string"], "minimum": 1, "maximum": 10, "minLength": 2 },
            },
            "oneOf": [
                { "properties": { "event": { "const": "grow" }, "to": { "type": "integer" } }, "required": ["event", "to"] },
                { "properties": { "event": { "const": "end" } }, "required": ["event"] },
                { "$ref": "#/components/schemas/Told", "properties": { "event": { "const": "told" } }, "required": ["event"] },
            ],
        });
        let check = |value: Value| differences(&value, &schema, &schemas);
        for good in [
            json!({ "id": 1, "event": "end" }),
            json!({ "id": 1, "event": "grow", "to": 3, "size": null, "words": ["b"] }),
            json!({ "id": 1, "event": "told", "word": "w" }),
            json!({ "id": 1, "event": "end", "share": 10, "words": ["a", "a"] }),
            json!({ "id": 1, "event": "end", "share": "50%" }),
        ] {
            assert_eq!(check(good.clone()), Vec::<String>::new(), "{good}");
        }
        for bad in [
            json!({ "event": "end" }),
            json!({ "id": "1", "event": "end" }),
            json!({ "id": 1, "event": "shrink" }),
            json!({ "id": 1, "event": "grow" }),
            json!({ "id": 1, "event": "told" }),
            json!({ "id": 1, "event": "end", "to": 3 }),
            json!({ "id": 1, "event": "end", "size": "1" }),
            json!({ "id": 1, "event": "end", "words": ["c"] }),
            json!({ "id": 1, "event": "end", "more": 1 }),
            json!({ "id": 1, "event": "end", "words": ["a", "a", "a"] }),
            json!({ "id": 1, "event": "end", "share": 0 }),
            json!({ "id": 1, "event": "end", "share": 11 }),
            json!({ "id": 1, "event": "end", "share": "x" }),
        ] {
            assert!(!check(bad.clone()).is_empty(), "{bad}");
        }
    }
}
