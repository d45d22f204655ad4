//! The type of each body. What is answered is described once, among the components; what is asked for where it is asked for, since a field
//! that may be left out when asked may be certain in an answer.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::NodeView;
use crate::api::types::{
    ApplyRequest, Described, ExecRequest, Executed, LaunchRequest, PinRequest, Problem, RecordExplained,
    Released, SignalRequest, StopRequest, TenantRow, WorkloadDetail, WorkloadExplained, WorkloadView,
};
use crate::control::{Ended, Launched};
use crate::journal::{Record, What};
use crate::kernel::support::Check;
use crate::policy::Shown;
use crate::workload::apply::ApplyPlan;
use crate::workload::change::Change;

/// Describes types.
pub(super) struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let mut answers = SchemaSettings::draft2020_12();
        answers.definitions_path = "/components/schemas".into();
        answers.contract = Contract::Serialize;
        let mut requests = SchemaSettings::draft2020_12();
        requests.inline_subschemas = true;
        requests.contract = Contract::Deserialize;
        let mut schemas = Self { answers: answers.into(), requests: requests.into() };
        schemas.answer::<Problem>();
        // Of no route: `bellows describe` makes one of two answers.
        schemas.answer::<Described>();
        schemas
    }

    /// What is asked with, and what is answered, as JSON.
    pub(super) fn of(&mut self, method: &str, pattern: &str) -> (Option<Value>, Option<Value>) {
        let asked = match (method, pattern) {
            ("POST", "/api/v1/workloads") => Some(self.request::<LaunchRequest>()),
            ("POST", "/api/v1/apply") => Some(self.request::<ApplyRequest>()),
            ("POST", "/api/v1/workloads/{tenant}/{name}/signal" | "/api/v1/execs/{token}/signal") => {
                Some(self.request::<SignalRequest>())
            }
            ("POST", "/api/v1/workloads/{tenant}/{name}/set") => Some(self.request::<Change>()),
            ("POST", "/api/v1/workloads/{tenant}/{name}/stop") => Some(self.request::<StopRequest>()),
            ("POST", "/api/v1/workloads/{tenant}/{name}/exec") => Some(self.request::<ExecRequest>()),
            ("POST", "/api/v1/workloads/{tenant}/{name}/pin") => Some(self.request::<PinRequest>()),
            _ => None,
        };
        let answered = match (method, pattern) {
            ("GET", "/api/v1/node") => self.answer::<NodeView>(),
            ("GET", "/api/v1/policies") => self.answer::<Shown>(),
            ("GET", "/api/v1/doctor") => self.answer::<Vec<Check>>(),
            ("GET", "/api/v1/workloads") => self.answer::<Vec<WorkloadView>>(),
            ("GET", "/api/v1/workloads/{tenant}/{name}") => self.answer::<WorkloadDetail>(),
            ("GET", "/api/v1/tenants") => self.answer::<Vec<TenantRow>>(),
            ("GET", "/api/v1/events") => json!({ "type": "array", "items": self.told() }),
            ("GET", "/api/v1/incidents") => self.answer::<Vec<Record>>(),
            ("GET", "/api/v1/explain/{id}") => self.answer::<RecordExplained>(),
            ("GET", "/api/v1/explain/{tenant}/{name}") => self.answer::<WorkloadExplained>(),
            ("GET", "/api/v1/exits/{id}") => self.answer::<Ended>(),
            ("POST", "/api/v1/workloads") => self.answer::<Launched>(),
            ("POST", "/api/v1/apply") => self.answer::<ApplyPlan>(),
            ("POST", "/api/v1/workloads/{tenant}/{name}/exec") => self.answer::<Executed>(),
            ("POST", "/api/v1/release") => self.answer::<Released>(),
            ("POST", pattern) if !pattern.ends_with("/signal") => self.answer::<What>(),
            _ => return (asked, None),
        };
        (asked, Some(answered))
    }

    /// The data of an event of a stream, as JSON.
    pub(super) fn event(&mut self, pattern: &str) -> Option<Value> {
        match pattern {
            "/api/v1/events" => Some(self.told()),
            "/api/v1/watch" => Some(json!({
                "type": "object",
                "required": ["node", "tenants", "workloads", "gone", "gap", "records"],
                "properties": {
                    "node": { "anyOf": [self.answer::<NodeView>(), { "type": "null" }] },
                    "tenants": {
                        "description": "All of them; `null` when nothing of them has changed.",
                        "anyOf": [self.answer::<Vec<TenantRow>>(), { "type": "null" }],
                    },
                    "workloads": { "description": "Those that have changed.", "type": "array", "items": self.answer::<WorkloadView>() },
                    "gone": {
                        "description": "`tenant/name` of those that are there no more.",
                        "type": "array",
                        "items": { "type": "string" },
                    },
                    "gap": { "description": "What is missing before the records.", "type": ["string", "null"] },
                    "records": {
                        "description": "What the journal was told meanwhile, each with a sentence.",
                        "type": "array",
                        "items": self.told(),
                    },
                },
            })),
            _ => None,
        }
    }

    /// A record, which may have a sentence.
    fn told(&mut self) -> Value {
        let mut told = self.answer::<Record>();
        told["properties"] =
            json!({ "words": { "description": "What it says, as a sentence.", "type": "string" } });
        told
    }

    /// All types that were answered with.
    pub(super) fn components(mut self) -> Map<String, Value> {
        let mut all = self.answers.take_definitions(true);
        all.values_mut().for_each(never_null);
        all
    }

    fn answer<T: JsonSchema>(&mut self) -> Value {
        self.answers.subschema_for::<T>().to_value()
    }

    fn request<T: JsonSchema>(&mut self) -> Value {
        self.requests.subschema_for::<T>().to_value()
    }
}

/// What may be absent is absent where there is nothing to tell, and never null.
fn never_null(schema: &mut Value) {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let absent = fields.iter_mut().filter(|(name, _)| !required.contains(&Value::from(name.as_str())));
        absent.for_each(|(_, field)| strip_null(field));
    }
    if let Some(variants) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        variants.iter_mut().for_each(never_null);
    }
}

fn strip_null(field: &mut Value) {
    if let Some(kinds) = field.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = &kinds[..] {
            field["type"] = only.clone();
        }
    }
    let Some(several) = field.get_mut("anyOf").and_then(Value::as_array_mut) else { return };
    several.retain(|one| one["type"] != "null");
    if let [only] = &several[..] {
        let only = only.clone();
        let words = field.get("description").cloned();
        *field = only;
        if let Some(words) = words {
            field["description"] = words;
        }
    }
}
