//! What a file asks for against what there is: pure. What differs decides what is done; what does not is left alone.
//!
//! | differs | then |
//! |---|---|
//! | class, bounds, what it has by the piece | it is governed by the new ones while it runs |
//! | how it ends, when it is started again, how large its log is | from now on; a log from the next start on |
//! | whether it has a quota, or a terminal, the command, anything else | it is stopped and started again |
//!
//! The comparison goes over all fields of a spec as it is kept, so that one that is added is compared, and starts the workload anew
//! unless it is named here. They are told in the words of a file.

use std::collections::HashSet;

use bellows_policies::Resources;
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::{Change, Setting};
use super::lifecycle::State;
use super::spec::{Asked, Name, Spec};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is as it is asked for.
    Nothing,
    /// Start it: there is none of that name, or it has ended.
    Start,
    /// Govern it otherwise.
    Change,
    /// Stop it and start it as it is asked for.
    Restart,
}

/// A difference, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// The field, in the word of a file.
    pub field: String,
    /// What there is.
    pub from: String,
    /// What is asked for.
    pub to: String,
}

/// What comes of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[must_use]
pub struct ApplyPlan {
    /// What is to be done.
    pub action: Action,
    /// Why it is started, where it is there and has not changed: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// What there is.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// What was asked for.
    pub spec: &'a Spec<Asked>,
    /// Where it is in its life.
    pub state: State,
    /// How it ended, if it has.
    pub ended: Option<&'a str>,
    /// It is to be started again by its own rule.
    pub is_waiting: bool,
    /// An operator has told it to end.
    pub was_told: bool,
}

/// What is to be done for `wanted`. What has done all that it was to do is not done again, unless it has changed.
pub fn plan(present: Option<Present<'_>>, wanted: &Spec<Asked>) -> ApplyPlan {
    let Some(present) = present else {
        return ApplyPlan { action: Action::Start, because: None, differences: Vec::new() };
    };
    let differences = differences(present.spec, wanted);
    let starts_anew = differences.iter().any(|difference| !is_live(difference));
    let action = match present.state {
        State::Failed | State::Lost => Action::Start,
        State::Exited if !differences.is_empty() || !is_done(&present) => Action::Start,
        State::Exited => Action::Nothing,
        State::Created | State::Starting | State::Running | State::Frozen | State::Stopping => {
            match (differences.is_empty(), starts_anew) {
                (true, _) => Action::Nothing,
                (false, false) => Action::Change,
                (false, true) => Action::Restart,
            }
        }
    };
    let is_again = action == Action::Start && differences.is_empty();
    // Its rule starts it by itself, as it is asked for.
    let action = if is_again && present.is_waiting { Action::Nothing } else { action };
    let because = present.ended.filter(|_| action == Action::Start).map(str::to_owned);
    ApplyPlan { action, because, differences }
}

/// What has to be set of a workload that is to be as `wanted`, of the class that it then has.
#[must_use]
pub fn change(wanted: &Asked, class: Name) -> Change {
    let Resources { pids, swap, io_weight, io_max, cpuset_cpus, cpuset_mems, hugetlb } =
        wanted.resources.clone();
    Change {
        class: Some(class),
        memory: Some(own(wanted.memory)),
        cpu: wanted.cpu.map(Setting::Own),
        weight: None,
        pids: Some(own(pids)),
        swap: Some(own(swap)),
        io_weight: Some(own(io_weight)),
        io_max: Some(Setting::Own(io_max)),
        cpuset_cpus: Some(own(cpuset_cpus)),
        cpuset_mems: Some(own(cpuset_mems)),
        hugetlb: Some(Setting::Own(hugetlb)),
    }
}

fn own<T>(value: Option<T>) -> Setting<T> {
    value.map_or(Setting::Class, Setting::Own)
}

/// Whether it returned zero of itself: then there is nothing left to do.
fn is_done(present: &Present<'_>) -> bool {
    !present.was_told && present.ended.is_some_and(|text| text.ends_with("exited with code 0"))
}

/// Whether a field is one that [`change`] sets.
#[must_use]
pub fn is_set(field: &str) -> bool {
    matches!(field, "class" | "memory" | "cpu") || field.starts_with("resources.")
}

fn is_live(difference: &Difference) -> bool {
    let field = difference.field.as_str();
    let is_quota_kept = difference.from != NONE && difference.to != NONE;
    (is_set(field) && (field != "cpu" || is_quota_kept)) || LIVES_ON.contains(&field)
}

/// What of its life is otherwise from now on.
const LIVES_ON: [&str; 5] = ["stop_signal", "grace", "restart", "log_size", "log_files"];

/// How an absent value is written.
const NONE: &str = "-";

fn differences(present: &Spec<Asked>, wanted: &Spec<Asked>) -> Vec<Difference> {
    let mut found = Vec::new();
    let (before, after) = (fields(present), fields(wanted));
    let names = before.iter().chain(&after).map(|(name, _)| name);
    let mut seen: Vec<&String> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let value = |of: &[(String, Value)]| {
            of.iter().find(|(other, _)| other == name).map_or(Value::Null, |(_, value)| value.clone())
        };
        let (from, to) = (value(&before), value(&after));
        if from == to {
            continue;
        }
        let (from, to) = match name.as_str() {
            "env" => variables(&from, &to),
            "memory" => bounds(present.identity.memory, wanted.identity.memory, (&from, &to)),
            "log_size" => bounds(Some(present.life.log.bytes), Some(wanted.life.log.bytes), (&from, &to)),
            "cpu" => bounds(present.identity.cpu, wanted.identity.cpu, (&from, &to)),
            _ => (text(&from), text(&to)),
        };
        found.push(Difference { field: name.clone(), from, to });
    }
    found
}

/// The fields of a spec in the words of a file: those of its identity, its box, its life, and of what it has by the piece one by one,
/// the others whole.
fn fields(spec: &Spec<Asked>) -> Vec<(String, Value)> {
    let Ok(Value::Object(whole)) = serde_json::to_value(spec) else { return Vec::new() };
    let mut fields = Vec::new();
    // The next one last.
    let mut rest: Vec<(String, Value)> = whole.into_iter().rev().collect();
    while let Some((name, value)) = rest.pop() {
        match (name.as_str(), value) {
            ("identity" | "life", Value::Object(inner)) => rest.extend(inner.into_iter().rev()),
            ("resources" | "isolation", Value::Object(inner)) => {
                fields.extend(inner.into_iter().map(|(part, value)| (format!("{name}.{part}"), value)));
            }
            ("log", Value::Object(inner)) => {
                rest.extend(inner.into_iter().rev().map(|(part, value)| (format!("log_{part}"), value)));
            }
            ("argv", value) => fields.push(("command".to_owned(), value)),
            ("grace_seconds", value) => fields.push(("grace".to_owned(), format!("{value}s").into())),
            ("log_bytes", value) => fields.push(("log_size".to_owned(), value)),
            ("journal", value) => fields.push(("log_journal".to_owned(), value)),
            ("stop_signal", _) => fields.push((name, signal_word(spec.life.stop_signal).into())),
            (_, value) => fields.push((name, value)),
        }
    }
    fields
}

/// A signal as a file names it.
fn signal_word(number: i32) -> String {
    let name = Signal::try_from(number).ok().and_then(|signal| signal.as_str().strip_prefix("SIG"));
    name.map_or_else(|| number.to_string(), str::to_owned)
}

/// Bounds as people write them, and exactly where that is rounded to the same.
fn bounds<T: ToString>(from: Option<T>, to: Option<T>, exact: (&Value, &Value)) -> (String, String) {
    let written = |bounds: Option<T>| bounds.map_or_else(|| NONE.to_owned(), |bounds| bounds.to_string());
    let (before, after) = (written(from), written(to));
    if before == after { (text(exact.0), text(exact.1)) } else { (before, after) }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Of an environment only the names that differ: values may be secrets.
fn variables(from: &Value, to: &Value) -> (String, String) {
    fn list(value: &Value) -> impl Iterator<Item = &str> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str)
    }
    // There may be thousands, and the control loop waits for this.
    let names = |of: &Value, others: &Value| {
        let others: HashSet<&str> = list(others).collect();
        let other = list(of).filter(|entry| !others.contains(entry));
        let names: Vec<&str> = other.filter_map(|entry| entry.split('=').next()).collect();
        if names.is_empty() { NONE.to_owned() } else { names.join(" ") }
    };
    (names(from, to), names(to, from))
}

#[cfg(test)]
mod tests {
    use bellows_policies::units::Bytes;

    use super::*;
    use crate::workload::isolation::Isolation;
    use crate::workload::life::Life;

    fn spec(memory: &str, argv: &str) -> Spec<Asked> {
        let name = |text: &str| text.parse().unwrap();
        let identity = Asked {
            tenant: name("acme"),
            name: name("web"),
            class: None,
            memory: Some(memory.parse().unwrap()),
            cpu: None,
            resources: Resources::default(),
        };
        let env = vec!["A=1".to_owned(), "SECRET=x".to_owned()];
        let (isolation, life) = (Isolation::default(), Life::default());
        Spec { identity, argv: vec![argv.to_owned()], env, cwd: "/".to_owned(), isolation, life }
    }

    fn told(present: &Spec<Asked>, state: State, ended: Option<&str>, wanted: &Spec<Asked>) -> String {
        let present = Present { spec: present, state, ended, is_waiting: false, was_told: false };
        let ApplyPlan { action, differences, .. } = plan(Some(present), wanted);
        let told: Vec<String> =
            differences.iter().map(|d| format!("{} {} -> {}", d.field, d.from, d.to)).collect();
        format!("{action:?} {}", told.join(", ")).trim_end().to_owned()
    }

    #[test]
    fn what_differs_decides_what_is_done() {
        let (base, run) = (spec("64M..1G", "a"), State::Running);
        assert_eq!(plan(None, &base).action, Action::Start);
        assert_eq!(told(&base, run, None, &base), "Nothing");
        let wide = spec("64M..2G", "a");
        assert_eq!(told(&base, run, None, &wide), "Change memory 64 MiB..1 GiB -> 64 MiB..2 GiB");
        let close = told(&spec("64M..1500M", "a"), run, None, &spec("64M..1536M", "a"));
        assert!(close.starts_with("Change memory ") && close.contains("1572864000"), "{close}");
        assert!(close.contains("1610612736"), "{close}");
        assert_eq!(told(&base, run, None, &spec("64M..1G", "b")), r#"Restart command ["a"] -> ["b"]"#);
        let mut patient = base.clone();
        patient.life.grace_seconds = 60;
        assert_eq!(told(&base, run, None, &patient), "Change grace 10s -> 60s");
        let mut spoken = base.clone();
        (spoken.life.stop_signal, spoken.life.log.bytes) = (1, Bytes::mib(4));
        assert_eq!(
            told(&base, run, None, &spoken),
            "Change log_size 1 MiB -> 4 MiB, stop_signal TERM -> HUP"
        );
        spoken.life.journal = true;
        assert!(told(&base, run, None, &spoken).starts_with("Restart "), "its output goes elsewhere");
        let mut named = base.clone();
        named.isolation.hostname = Some("h".to_owned());
        assert_eq!(told(&base, run, None, &named), "Restart isolation.hostname - -> h");
        let mut bounded = base.clone();
        bounded.identity.cpu = Some("0.1..1".parse().unwrap());
        assert_eq!(told(&base, run, None, &bounded), "Restart cpu - -> 0.1..1");
        let mut fewer = base.clone();
        fewer.identity.resources.pids = Some(9);
        assert_eq!(told(&base, run, None, &fewer), "Change resources.pids - -> 9");
        let mut moved = base.clone();
        moved.identity.resources.cpuset_cpus = Some("0".to_owned());
        assert_eq!(told(&base, run, None, &moved), "Change resources.cpuset_cpus - -> 0");
        let set = change(&moved.identity, "standard".parse().unwrap());
        assert_eq!(
            (set.cpuset_cpus, set.cpuset_mems),
            (Some(Setting::Own("0".to_owned())), Some(Setting::Class))
        );
        let mut secret = base.clone();
        secret.env = vec!["A=1".to_owned(), "SECRET=y".to_owned(), "B=2".to_owned()];
        assert_eq!(told(&base, run, None, &secret), "Restart env SECRET -> SECRET B", "names only");
    }

    #[test]
    fn what_has_ended_is_started_unless_it_is_done() {
        let base = spec("64M..1G", "a");
        let done = Some("exited with code 0");
        assert_eq!(told(&base, State::Exited, done, &base), "Nothing");
        assert_eq!(told(&base, State::Exited, Some("ended by signal 15 (SIGTERM)"), &base), "Start");
        assert_eq!(told(&base, State::Failed, Some("exited with code 3"), &base), "Start");
        assert!(told(&base, State::Exited, done, &spec("64M..1G", "b")).starts_with("Start command"));
        let present =
            Present { spec: &base, state: State::Failed, ended: done, is_waiting: true, was_told: false };
        assert_eq!(plan(Some(present), &base).action, Action::Nothing, "its rule starts it");
        let stopped = Present { state: State::Exited, is_waiting: false, was_told: true, ..present };
        assert_eq!(plan(Some(stopped), &base).action, Action::Start, "it did not end of itself");
    }
}
