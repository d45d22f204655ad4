//! `docs/json.md`: what scripts can rely on. The shapes are those of the types that are printed, as `/openapi.json` has them too.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;

use serde_json::{Map, Value};

/// What a verb prints with `--json`: types of the API by name, or its keys.
pub enum Shape {
    /// One object of this type.
    One(&'static str),
    /// An array of them.
    Many(&'static str),
    /// One of them on each line.
    Lines(&'static str),
    /// An object with these keys.
    Keys(&'static [&'static str]),
    /// An array of objects with these keys.
    Rows(&'static [&'static str]),
    /// Whatever this says.
    Said(&'static str),
}

/// Verb, what it prints, and what there is to say.
pub const VERBS: &[(&str, Shape, &str)] = &[
    ("ps", Shape::Many("WorkloadView"), ""),
    ("tenants", Shape::Many("TenantRow"), ""),
    ("describe", Shape::One("Described"), ""),
    ("explain TENANT/NAME", Shape::One("WorkloadExplained"), ""),
    ("explain ID", Shape::One("RecordExplained"), ""),
    ("events", Shape::Lines("Record"), "with `-f`, too"),
    ("set, pin, unpin, freeze, thaw, rm", Shape::One("What"), "what the journal was told"),
    ("stop", Shape::One("Ended"), "with `--no-wait`, and of one that does not run, `What`"),
    ("run", Shape::One("Ended"), "on standard error, since standard output is the command's"),
    ("run --detach", Shape::Keys(&["tenant", "name", "pid"]), ""),
    ("kill", Shape::Keys(&["tenant", "name", "signal"]), ""),
    (
        "apply",
        Shape::Keys(&["workload", "dry_run", "plan"]),
        "a line for each workload; `plan` is an `ApplyPlan`",
    ),
    ("release", Shape::One("Released"), ""),
    ("doctor", Shape::Keys(&["ready", "checks"]), "`checks` are of the type `Check`"),
    ("config check", Shape::Keys(&["ok", "diagnostics"]), ""),
    (
        "config show",
        Shape::Said("an object with the keys of the configuration, written with dots"),
        "with `--origins` each an object of `value` and `origin`",
    ),
    (
        "policy check",
        Shape::Keys(&["ok", "version", "classes", "rules", "tenants", "files", "diagnostics"]),
        "",
    ),
    (
        "policy show",
        Shape::Said("an array of classes, of one class with `CLASS` or `--for`"),
        "its keys are those of [policy-reference.md](policy-reference.md)",
    ),
    ("policy test", Shape::Rows(&["file", "case", "ok", "differences"]), ""),
    ("policy simulate, diff", Shape::Said("figures by name"), "see [simulate.md](simulate.md)"),
    ("unpack", Shape::Keys(&["root", "entries", "bytes", "left_out"]), ""),
];

/// Verbs, and which exit codes they have besides 0, 1 (it failed) and 2 (the command line is wrong).
const EXITS: &[(&str, &str)] = &[
    (
        "run, exec",
        "those of the command: its code, or 128 and the signal that ended it; 137 when the kernel's OOM killer did. 5 when it was \
         refused, 4 (`exec`) when there is no such workload, 1 when no agent answers",
    ),
    (
        "describe, explain, set, pin, unpin, stop, freeze, thaw, kill, rm",
        "4 there is nothing of that name or number, 5 refused",
    ),
    ("logs, attach", "4 there is no such detached workload, 5 refused"),
    ("ps, top, tenants, events, record, apply, release", "5 refused"),
    ("release", "1 when one could not be opened"),
    ("doctor, config check, config show, policy check, policy show", "3 something is wrong, and was told"),
    ("policy simulate, diff, trace, test", "3 a file is wrong; `test`: 1 when a case came out otherwise"),
    (
        "agent",
        "3 it does not begin, and would not by being started again: the machine is not ready, or the configuration or the policies are \
         wrong; 1 anything else that may be otherwise the next time",
    ),
    ("unpack, completion, man", "none"),
];

/// Types that are constants of laws: told elsewhere.
const LAWS: [&str; 2] = ["Law", "CpuLaw"];

pub(super) fn text() -> String {
    let document = bellows::api::openapi();
    let schemas = &document["components"]["schemas"];
    let mut text = "# For scripts\n\n\
        Made by `make surfaces` from what is in the code; do not edit.\n\n\
        What is here is stable: fields are added, and none is removed, renamed or given another meaning within `/api/v1`. Whoever reads it \
        has to leave alone what it does not know. A test holds the types against [openapi.json](openapi.json), which has them too, and \
        another one what verbs print against this page.\n\n\
        ## Exit codes\n\n\
        0 it is done, 1 it failed, 2 the command line is wrong. Besides these:\n\n\
        | verbs | codes |\n|---|---|\n"
        .to_owned();
    for (verbs, codes) in EXITS {
        let _ = writeln!(text, "| `{}` | {codes} |", verbs.replace(", ", "`, `"));
    }
    text.push_str(
        "\nWhat is wrong is told on standard error, and what to do about it.\n\n## What `--json` prints\n\n\
         Sizes are bytes, cpus are millionths of one, times are nanoseconds since the Unix epoch (`_unix_ns`) or what the name says. A \
         limit that is `max` is `null`.\n\n| verb | prints |\n|---|---|\n",
    );
    let mut queue = VecDeque::new();
    for (verb, shape, more) in VERBS {
        let keys = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let prints = match shape {
            Shape::One(name) => format!("a {}", link(name)),
            Shape::Many(name) => format!("an array of {}", link(name)),
            Shape::Lines(name) => format!("a {} on each line", link(name)),
            Shape::Keys(names) => format!("an object of {}", keys(names)),
            Shape::Rows(names) => format!("an array of objects of {}", keys(names)),
            Shape::Said(words) => (*words).to_owned(),
        };
        if let Shape::One(name) | Shape::Many(name) | Shape::Lines(name) = shape {
            queue.push_back((*name).to_owned());
        }
        let more = if more.is_empty() { String::new() } else { format!(" ({more})") };
        let _ = writeln!(text, "| `{}` | {prints}{more} |", verb.replace(", ", "`, `"));
    }
    queue.extend(["ApplyPlan", "Check"].map(str::to_owned));
    text.push_str(
        "\n`top`, `logs`, `exec`, `attach`, `record`, `completion`, `man`, `policy schema`, `policy reference` and `policy trace` print what \
         they are for.\n\n## Types\n",
    );
    let mut told = BTreeSet::new();
    while let Some(name) = queue.pop_front() {
        if !told.insert(name.clone()) || LAWS.contains(&name.as_str()) {
            continue;
        }
        let schema = &schemas[&name];
        let _ = write!(text, "\n### {name}\n\n{}\n", described(schema));
        queue.extend(references(schema));
        text.push_str(&body(schema));
    }
    text
}

fn body(schema: &Value) -> String {
    let mut text = String::new();
    if object(schema).next().is_some() {
        text.push_str("\n| field | type | what |\n|---|---|---|\n");
        text.push_str(&fields(schema, ""));
    }
    let variants: Vec<&Value> = list(&schema["oneOf"]).iter().chain(list(&schema["anyOf"])).collect();
    let words: Vec<String> = list(&schema["enum"])
        .iter()
        .chain(variants.iter().map(|variant| &variant["const"]))
        .filter_map(Value::as_str)
        .map(|word| format!("`{word}`"))
        .collect();
    if !words.is_empty() {
        let _ = writeln!(text, "\nOne of {}.", words.join(", "));
    }
    let tagged: Vec<&&Value> = variants.iter().filter(|variant| object(variant).next().is_some()).collect();
    if !tagged.is_empty() {
        text.push_str("\n| one of | fields | what |\n|---|---|---|\n");
    }
    for variant in tagged {
        let constant = object(variant).find(|(_, field)| field["const"] != Value::Null);
        let (tag, own) = constant.map_or_else(
            || ("-".to_owned(), ""),
            |(key, field)| {
                (format!("`{key}`: `{}`", field["const"].as_str().unwrap_or_default()), key.as_str())
            },
        );
        let others: Vec<String> = object(variant)
            .filter(|(key, _)| *key != own)
            .map(|(key, field)| format!("`{key}` {}", kind(field)))
            .chain(reference(variant).map(|name| format!("those of {}", link(name))))
            .collect();
        let _ = writeln!(text, "| {tag} | {} | {} |", others.join(", "), described(variant));
    }
    text
}

fn fields(schema: &Value, prefix: &str) -> String {
    let required = list(&schema["required"]);
    let mut text = String::new();
    for (name, field) in object(schema) {
        let maybe = if required.contains(&Value::from(name.as_str())) { "" } else { ", may be absent" };
        let _ = writeln!(text, "| `{prefix}{name}` | {}{maybe} | {} |", kind(field), described(field));
    }
    text
}

/// The type of a field in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return link(name);
    }
    let several: Vec<&Value> = list(&schema["anyOf"]).iter().chain(list(&schema["oneOf"])).collect();
    if !several.is_empty() {
        let words: BTreeSet<String> = several.iter().map(|schema| kind(schema)).collect();
        return words.into_iter().collect::<Vec<_>>().join(" or ");
    }
    let word = |word: &str| match word {
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(one) => word(one),
        Value::Array(some) => {
            some.iter().filter_map(Value::as_str).map(word).collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    }
}

/// The words of a schema in one line, as a table can hold them.
fn described(schema: &Value) -> String {
    let words = schema["description"].as_str().unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn link(name: &str) -> String {
    if LAWS.contains(&name) {
        return format!("{name} ([its constants](policy-reference.md))");
    }
    format!("[{name}](#{})", name.to_lowercase())
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

/// All types that a schema names, in the order of their names.
fn references(schema: &Value) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        found.extend(reference(value).map(str::to_owned));
        left.extend(value.as_object().into_iter().flat_map(Map::values));
        left.extend(list(value));
    }
    found.into_iter().collect()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value["properties"].as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
