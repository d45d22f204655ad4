//! Policy tests, as promtool tests rules: what workloads want goes in, and what the policies are expected to decide is held
//! against what the simulated agent did. docs/simulate.md has the form of the file.

use std::fmt::Write;
use std::path::PathBuf;

use bellows_policies::{Bytes, Cpus, Reason, Ruleset};
use bellows_simulator::trace::{Life, Row, Trace};
use bellows_simulator::{Deed, Misfit, Options, Outcome, Place, Told, play};
use serde::{Deserialize, Deserializer};

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The policies under test, beside the file.
    pub policies: Vec<PathBuf>,
    /// What the node has to grant from, the reserve included.
    #[serde(deserialize_with = "parsed")]
    pub capacity: Bytes,
    /// Its cpus.
    #[serde(default = "eight")]
    pub cpus: u64,
    /// The tests.
    #[serde(rename = "case", default)]
    pub cases: Vec<Case>,
}

/// One test: workloads, and what is expected of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// How long it takes.
    lasts: Time,
    workload: Vec<Workload>,
    expect: Vec<Expect>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    /// `tenant/name`.
    name: String,
    class: Option<String>,
    memory: Option<Text>,
    cpu: Option<Text>,
    wants: Vec<Wants>,
    ends: Option<Time>,
}

/// What a workload wants from an instant on; what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wants {
    at: Time,
    need: Option<Text>,
    cache: Option<Text>,
    cores: Option<f64>,
}

/// What is expected of a workload at an instant, or in a stretch of time: of the whole case where neither is named.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    workload: String,
    at: Option<Time>,
    #[serde(default)]
    within: Vec<Time>,
    class: Option<String>,
    granted_at_least: Option<Text>,
    granted_at_most: Option<Text>,
    quota_at_least: Option<f64>,
    quota_at_most: Option<f64>,
    /// It was decided so at least once.
    reason: Option<Reason>,
    /// It was never decided so.
    never: Option<Reason>,
    writes_at_least: Option<usize>,
    writes_at_most: Option<usize>,
    kills: Option<usize>,
}

/// A text that is read as something else where it is used.
type Text = String;

/// `90s`, `5m`, `1.5h`: nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Time(u64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let unit = match unit {
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => f64::NAN,
        };
        let time = number.parse::<f64>().map_or(f64::NAN, |number| number * unit);
        if !(0.0..1e17).contains(&time) {
            let text = format!("`{text}` is not a time: write 90s, 5m or 1.5h");
            return Err(serde::de::Error::custom(text));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
        Ok(Self(time.round() as u64))
    }
}

const fn eight() -> u64 {
    8
}

fn parsed<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

/// Reads a file of tests; the error has its place.
pub fn read_suite(text: &str) -> Result<Suite, toml::de::Error> {
    toml::from_str(text)
}

impl Suite {
    /// The node, with the reserve that the policies leave.
    #[must_use]
    pub fn place(&self, rules: &Ruleset) -> Place {
        let reserve =
            rules.node.reserve.map_or_else(|| self.capacity.scale(0.1), |part| part.of(self.capacity));
        Place { capacity: self.capacity, reserve, cpus: self.cpus }
    }
}

impl Case {
    /// Runs it: how expectation and decisions differ, nothing where they do not. The error: it cannot be run.
    pub fn run(&self, rules: &Ruleset, place: Place) -> Result<Vec<String>, String> {
        let trace = self.trace()?;
        let options = Options { keep_records: true, check: true, ..Options::default() };
        let outcome = play(&trace, rules, place, options).map_err(|misfit: Misfit| misfit.to_string())?;
        let mut differences = Vec::new();
        if let Some((broken, last)) = &outcome.broken {
            differences.push(format!("a rule is broken: {}\n{last}", broken.text));
        }
        for expect in &self.expect {
            let life = trace.lives.iter().position(|life| life.full_name() == expect.workload);
            let life = life.ok_or_else(|| {
                let known: Vec<String> = trace.lives.iter().map(Life::full_name).collect();
                format!(
                    "expect: there is no workload `{}` in this case: there are {}",
                    expect.workload,
                    known.join(", ")
                )
            })?;
            let found = expect.differences(&outcome, life)?;
            if !found.is_empty() {
                differences.push(expect.tell(&outcome, life, &found));
            }
        }
        Ok(differences)
    }

    fn trace(&self) -> Result<Trace, String> {
        let lives = self.workload.iter().map(|workload| {
            let wrong = |problem: String| format!("{}: {problem}", workload.name);
            let (tenant, name) =
                workload.name.split_once('/').ok_or_else(|| wrong("is not TENANT/NAME".to_owned()))?;
            let mut row = Row::default();
            let mut rows = Vec::new();
            for wants in &workload.wants {
                let size = |text: &Option<Text>, before: Bytes| {
                    text.as_ref()
                        .map_or(Ok(before), |text| text.parse::<Bytes>().map_err(|e| wrong(e.to_string())))
                };
                row = Row {
                    at: wants.at.0,
                    need: size(&wants.need, row.need)?,
                    cache: size(&wants.cache, row.cache)?,
                    cores: wants.cores.map_or(row.cores, cores),
                    piece_us: 0,
                };
                rows.push(row);
            }
            if rows.is_empty() || !rows.is_sorted_by_key(|row| row.at) {
                return Err(wrong("`wants` needs an entry, and has them in the order of time".to_owned()));
            }
            let memory = workload.memory.as_ref().map(|text| text.parse()).transpose();
            let cpu = workload.cpu.as_ref().map(|text| text.parse()).transpose();
            Ok(Life {
                tenant: tenant.to_owned(),
                name: name.to_owned(),
                class: workload.class.clone(),
                memory: memory.map_err(|e: bellows_policies::UnitError| wrong(e.to_string()))?,
                cpu: cpu.map_err(|e: bellows_policies::cpu::units::CpuUnitError| wrong(e.to_string()))?,
                rows: rows.into(),
                ends: workload.ends.map(|time| time.0),
            })
        });
        Ok(Trace { lives: lives.collect::<Result<_, String>>()?, ends: self.lasts.0 })
    }
}

impl Expect {
    fn stretch(&self) -> (u64, u64) {
        match (self.at, &self.within[..]) {
            (Some(at), _) => (at.0, at.0),
            (None, [from, to, ..]) => (from.0, to.0),
            (None, _) => (0, u64::MAX),
        }
    }

    /// What was told of it in the stretch.
    fn told<'o>(&self, outcome: &'o Outcome, life: usize) -> impl Iterator<Item = &'o Told> {
        let (from, to) = self.stretch();
        outcome.told.iter().filter(move |told| told.life == life && (from..=to).contains(&told.at))
    }

    /// Lines of `what, expected, found`.
    fn differences(&self, outcome: &Outcome, life: usize) -> Result<Vec<String>, String> {
        let story = &outcome.stories[life];
        let (from, to) = self.stretch();
        let mut found = Vec::new();
        let mut hold = |what: &str, expected: String, seen: Option<String>, holds: bool| {
            if !holds {
                let seen = seen.unwrap_or_else(|| "nothing: it does not run".to_owned());
                found.push(format!("{what:<18} expected {expected:<14} found {seen}"));
            }
        };
        // At an instant what stood then; in a stretch, all that stood in it.
        let stood: Vec<_> = match self.at {
            Some(_) => story.points.iter().rfind(|point| point.at <= to).into_iter().collect(),
            None => story.points.iter().filter(|point| (from..=to).contains(&point.at)).collect(),
        };
        if let Some(class) = &self.class {
            hold("class", class.clone(), Some(story.class.clone()), *class == story.class);
        }
        let size = |text: &Text| text.parse::<Bytes>().map_err(|error| format!("{}: {error}", self.workload));
        let granted = || stood.iter().map(|point| point.granted());
        if let Some(least) = &self.granted_at_least {
            let (least, low) = (size(least)?, granted().min());
            let holds = low.is_some_and(|low| low >= least.0);
            hold("granted_at_least", least.to_string(), low.map(|low| Bytes(low).to_string()), holds);
        }
        if let Some(most) = &self.granted_at_most {
            let (most, high) = (size(most)?, granted().max());
            let holds = high.is_some_and(|high| high <= most.0);
            hold("granted_at_most", most.to_string(), high.map(|high| Bytes(high).to_string()), holds);
        }
        let quotas = || stood.iter().filter_map(|point| point.quota);
        if let Some(least) = self.quota_at_least {
            let low = quotas().min();
            let holds = low.is_some_and(|low| low >= cores(least));
            hold("quota_at_least", least.to_string(), low.map(|low| low.to_string()), holds);
        }
        if let Some(most) = self.quota_at_most {
            let high = quotas().max();
            let holds = high.is_some_and(|high| high <= cores(most));
            hold("quota_at_most", most.to_string(), high.map(|high| high.to_string()), holds);
        }
        let decided =
            |reason: Reason| self.told(outcome, life).any(|told| reason_of(&told.deed) == Some(reason));
        if let Some(reason) = self.reason {
            hold("reason", reason.as_str().to_owned(), Some("not once".to_owned()), decided(reason));
        }
        if let Some(reason) = self.never {
            hold("never", reason.as_str().to_owned(), Some("it".to_owned()), !decided(reason));
        }
        let is_write = |told: &&Told| matches!(told.deed, Deed::Memory { .. } | Deed::Quota { .. });
        let writes = self.told(outcome, life).filter(is_write).count();
        if let Some(least) = self.writes_at_least {
            hold("writes_at_least", least.to_string(), Some(writes.to_string()), writes >= least);
        }
        if let Some(most) = self.writes_at_most {
            hold("writes_at_most", most.to_string(), Some(writes.to_string()), writes <= most);
        }
        if let Some(kills) = self.kills {
            let seen = self.told(outcome, life).filter(|told| told.deed == Deed::Killed).count();
            hold("kills", kills.to_string(), Some(seen.to_string()), seen == kills);
        }
        Ok(found)
    }

    /// For people: what differs, and what was decided meanwhile.
    fn tell(&self, outcome: &Outcome, life: usize, found: &[String]) -> String {
        let (from, to) = self.stretch();
        let seconds = |ns: u64| ns as f64 / 1e9;
        let when = match (from, to) {
            (0, u64::MAX) => String::new(),
            (from, to) if from == to => format!(" at {} s", seconds(from)),
            (from, to) => format!(" from {} s to {} s", seconds(from), seconds(to)),
        };
        let mut text = format!("{}{when}\n", self.workload);
        for line in found {
            let _ = writeln!(text, "  {line}");
        }
        let before: Vec<&Told> =
            outcome.told.iter().filter(|told| told.life == life && told.at <= to).collect();
        let _ = writeln!(text, "  the last decisions up to then:");
        for told in &before[before.len().saturating_sub(LINES)..] {
            let _ = writeln!(text, "  {:>9.3} s  {}", seconds(told.at), sentence(&told.deed));
        }
        text
    }
}

/// Decisions that are shown beside a difference.
const LINES: usize = 8;

fn cores(number: f64) -> Cpus {
    // Rounded, since 0.1 is not a binary fraction.
    Cpus(1).scale((number * 1e6).round())
}

const fn reason_of(deed: &Deed) -> Option<Reason> {
    match deed {
        Deed::Memory { reason, .. }
        | Deed::Quota { reason, .. }
        | Deed::Refused(reason)
        | Deed::Held(reason) => Some(*reason),
        Deed::Reclaimed | Deed::Launched(_) | Deed::Killed | Deed::Gripped(_) | Deed::Eased(_) => None,
    }
}

fn sentence(deed: &Deed) -> String {
    match deed {
        Deed::Memory { verb, reason, from, to } => format!("{verb}: {from} -> {to}: {}", reason.as_str()),
        Deed::Quota { verb, reason, from, to } => {
            format!("{verb}: quota {from} -> {to}: {}", reason.as_str())
        }
        Deed::Refused(reason) => format!("refused: {}", reason.as_str()),
        Deed::Held(reason) => format!("held: {}", reason.as_str()),
        Deed::Reclaimed => "cold memory reclaimed".to_owned(),
        Deed::Launched(limits) => format!("launched: {limits}"),
        Deed::Killed => "killed by the kernel".to_owned(),
        Deed::Gripped(grip) => format!("held by the ladder: {}", grip.as_str()),
        Deed::Eased(grip) => format!("let go by the ladder: {}", grip.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellows_policies::ruleset::Defaults;

    const SUITE: &str = r#"
        policies = []
        capacity = "1GiB"
        [[case]]
        name = "a grower"
        lasts = "20s"
        [[case.workload]]
        name = "acme/app"
        memory = "32M..512M"
        wants = [{ at = "0s", need = "16M" }, { at = "5s", need = "200M" }]
        [[case.expect]]
        workload = "acme/app"
        at = "10s"
        class = "latency"
        granted_at_least = "1G"
        granted_at_most = "64M"
        [[case.expect]]
        workload = "acme/app"
        within = ["4s", "10s"]
        reason = "tripwire_hit"
        never = "budget_deferred"
        writes_at_least = 2
        kills = 0
    "#;

    #[test]
    fn what_differs_is_shown_and_what_holds_is_not() {
        let suite = read_suite(SUITE).expect("it is sound");
        let rules = Ruleset::built_in(Defaults::default());
        let differences = suite.cases[0].run(&rules, suite.place(&rules)).expect("it runs");
        insta::assert_snapshot!(differences.join("\n"));
    }

    #[test]
    fn what_is_wrong_with_a_file_has_its_place() {
        let told: Vec<String> = [
            SUITE.replace("granted_at_least", "granted_at_last"),
            SUITE.replace("\"20s\"", "\"20 parsecs\""),
            SUITE.replace("tripwire_hit", "tripwire_hot"),
        ]
        .iter()
        .map(|text| read_suite(text).expect_err("it is wrong").to_string())
        .collect();
        insta::assert_snapshot!(told.join("\n"));
        let suite = read_suite(&SUITE.replace("workload = \"acme/app\"", "workload = \"acme/ap\""))
            .expect("well-formed");
        let rules = Ruleset::built_in(Defaults::default());
        let error = suite.cases[0].run(&rules, suite.place(&rules)).expect_err("nobody is called so");
        insta::assert_snapshot!(error, @"expect: there is no workload `acme/ap` in this case: there are acme/app");
    }
}
