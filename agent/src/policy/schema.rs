//! The tables of fields once more: as a JSON Schema for editors, and as the reference for people.

use std::fmt::Write;

use bellows_policies::field::{Field, Kind, Value};
use bellows_policies::ruleset::{Base, Class, Defaults, Node, Rule, Tenant};
use serde_json::{Value as Json, json};

const SIZE: &str = "^[0-9.]+ *([kKmMgGtT]([iI][bB]?)?|[bB])?$";
const NAME: &str = "^[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,63}$";

/// The JSON Schema (2020-12) of a policy file.
#[must_use]
pub fn schema() -> Json {
    let named = |object: Json| json!({ "type": "object", "patternProperties": { NAME: object }, "additionalProperties": false });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bellows policies",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "node": object(&Node::fields()),
            "class": named(object(&Class::fields())),
            "tenant": named(object(&Tenant::fields())),
            "rule": { "type": "array", "items": object(&Rule::fields()) },
        },
    })
}

/// The reference of all fields, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Policy reference\n\nEvery key of a policy file, made from the tables that the agent reads it by (`bellows policy \
         reference`). How to write policies, by example: [policies.md](policies.md).\n",
    );
    let classes = Base::ALL.map(|base| Class::built_in(base, Defaults::default()));
    let [latency, standard, batch] = &classes;
    rows(&mut text, "[node]", &Node::fields(), &Node::default(), &[]);
    rows(&mut text, "[class.NAME]", &Class::fields(), standard, &[latency, batch]);
    rows(&mut text, "[tenant.NAME]", &Tenant::fields(), &Tenant::plain(), &[]);
    rows(&mut text, "[[rule]]", &Rule::fields(), &Rule::default(), &[]);
    text
}

/// One table. Where another class differs, its default is named too.
fn rows<T>(text: &mut String, header: &str, fields: &[Field<T>], whole: &T, others: &[&T]) {
    let _ = write!(text, "\n## `{header}`\n\n| key | value | default | what |\n|---|---|---|---|\n");
    for field in fields {
        let shown = |whole: &T| match (field.get)(whole) {
            Value::Unset => "-".to_owned(),
            Value::Word(word) if word.is_empty() => "-".to_owned(),
            value => value.to_string(),
        };
        let mut default = shown(whole);
        let others: Vec<String> = others.iter().map(|other| shown(other)).collect();
        if let [latency, batch] = &others[..]
            && (*latency != default || *batch != default)
        {
            let _ = write!(default, " (latency {latency}, batch {batch})");
        }
        let expected = field.kind.expected();
        let _ = writeln!(text, "| `{}` | {expected} | {default} | {} |", field.key, field.doc);
    }
}

/// An object of the fields, with the tables that their dots make.
fn object<T>(fields: &[Field<T>]) -> Json {
    let mut root = json!({ "type": "object", "additionalProperties": false, "properties": {} });
    for field in fields {
        let mut at = &mut root;
        let (tables, key) = field.key.rsplit_once('.').unwrap_or(("", &field.key));
        for table in tables.split('.').filter(|table| !table.is_empty()) {
            at = &mut at["properties"][table];
            if at.is_null() {
                *at = json!({ "type": "object", "additionalProperties": false, "properties": {} });
            }
        }
        let mut property = of_kind(field.kind);
        property["description"] = field.doc.into();
        at["properties"][key] = property;
    }
    root
}

fn of_kind(kind: Kind) -> Json {
    let size = |least: u64, pattern: &str| json!({ "type": ["string", "integer"], "minimum": least, "pattern": pattern });
    match kind {
        Kind::Size(least) => size(least, SIZE),
        Kind::Amount(least) => size(least, &format!("{SIZE}|^[0-9.]+ *%$")),
        Kind::SizeOrMax => size(0, &format!("{SIZE}|^(max|none)$")),
        Kind::Cores(least) => {
            json!({ "type": ["number", "string"], "minimum": least as f64 / 1000.0, "pattern": "^[0-9.]+m?$" })
        }
        Kind::Ratio(most) => json!({ "type": "number", "minimum": 0, "maximum": most }),
        Kind::Millis(least) => {
            json!({ "type": "integer", "minimum": least, "maximum": bellows_policies::field::LONGEST_MS })
        }
        Kind::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Choices(words) => json!({ "type": "array", "items": { "enum": words } }),
        Kind::Class => json!({ "type": "string", "pattern": NAME }),
        Kind::Pattern => json!({ "type": "string", "minLength": 1, "maxLength": 128 }),
        Kind::IoMax => json!({ "type": "array", "items": { "type": "string" } }),
    }
}
