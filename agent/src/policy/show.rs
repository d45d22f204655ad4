//! A rule set back as a policy file: every value, and as a comment where it came from. What is shown reads back as the same.

use std::fmt::Write;

use bellows_policies::field::{Field, Value};
use bellows_policies::ruleset::{Class, Node, Rule, Tenant};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compile::{Compiled, Origins};

/// The policies in force, for whoever looks at them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Shown {
    /// Their version.
    pub ruleset: String,
    /// All of them as a policy file, each value with its origin.
    pub text: String,
    /// What is wrong with those that were read last, and not taken; empty when these are the last.
    pub refused: Vec<String>,
}

impl Shown {
    /// As they were compiled; the older ones stay where these were refused.
    #[must_use]
    pub fn after(&self, compiled: &Compiled) -> Self {
        if compiled.refusal().is_none() {
            let (ruleset, text) = (compiled.rules.version.clone(), show_all(compiled));
            return Self { ruleset, text, refused: Vec::new() };
        }
        let refused = compiled.diagnostics.iter().map(|d| d.brief(&compiled.sources)).collect();
        Self { refused, ..self.clone() }
    }
}

/// One class.
#[must_use]
pub fn show_class(compiled: &Compiled, class: &Class) -> String {
    let origins = compiled.origins.get(&class.name);
    section(compiled, &format!("[class.{}]", class.name), &Class::fields(), class, origins)
}

/// Everything.
#[must_use]
pub fn show_all(compiled: &Compiled) -> String {
    let rules = &compiled.rules;
    let mut text = section(compiled, "[node]", &Node::fields(), &rules.node, Some(&compiled.node_origins));
    for class in rules.classes.values() {
        text += "\n";
        text += &show_class(compiled, class);
    }
    for (name, tenant) in &rules.tenants {
        let origins = compiled.tenant_origins.get(name);
        text += "\n";
        text += &section(compiled, &format!("[tenant.{name}]"), &Tenant::fields(), tenant, origins);
    }
    for rule in &rules.rules {
        let _ = writeln!(text, "\n[[rule]] # {}", rule.origin);
        for field in Rule::fields() {
            let _ = writeln!(text, "{} = {}", field.key, (field.get)(rule));
        }
    }
    text
}

/// One class for machines: each field with its value and its origin.
#[must_use]
pub fn class_json(compiled: &Compiled, class: &Class) -> serde_json::Value {
    let origins = compiled.origins.get(&class.name);
    let fields = Class::fields();
    let members = fields.iter().enumerate().map(|(at, field)| {
        let value = json(&(field.get)(class));
        let origin = origin(compiled, origins, at);
        (field.key.clone(), serde_json::json!({ "value": value, "origin": origin }))
    });
    let members: serde_json::Map<_, _> = members.collect();
    serde_json::json!({ "class": class.name, "base": class.base.as_str(), "fields": members })
}

fn section<T>(
    compiled: &Compiled,
    header: &str,
    fields: &[Field<T>],
    whole: &T,
    origins: Option<&Origins>,
) -> String {
    let mut text = format!("{header}\n");
    for (at, field) in fields.iter().enumerate() {
        let line = match (field.get)(whole) {
            Value::Unset => format!("# {} is not set", field.key),
            value => {
                format!("{:<40} # {}", format!("{} = {value}", field.key), origin(compiled, origins, at))
            }
        };
        let _ = writeln!(text, "{line}");
    }
    text
}

fn origin(compiled: &Compiled, origins: Option<&Origins>, at: usize) -> String {
    let place = origins.and_then(|origins| origins[at]);
    place.map_or_else(|| "built-in".to_owned(), |place| compiled.sources[place.file].origin(place))
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Unset => serde_json::Value::Null,
        Value::Count(n) => (*n).into(),
        Value::Ratio(ratio) => (*ratio).into(),
        Value::Cores(cpus) => cpus.as_f64().into(),
        Value::Flag(flag) => (*flag).into(),
        Value::Words(words) => words.clone().into(),
        Value::Size(_) | Value::Amount(_) | Value::Limit(_) | Value::Word(_) => value.plain().into(),
    }
}
