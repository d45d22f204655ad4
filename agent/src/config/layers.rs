//! Where the configuration comes from: built-in < `/etc/bellows/config.toml` < `--config FILE` < `BELLOWS__SECTION__KEY` < flags.
//!
//! ```text
//! files, environment, flags --> values, each with its place --one by one--> mistakes, all of them
//!                                        \---------------together---------> Config, and what cannot work between values
//! ```
//! Unknown keys are errors, so that a misspelt one is not silently ignored. The crate `config` layers the values and makes of
//! each what its key wants; it stops at the first mistake and forgets places, so each value is tried by itself before. An
//! environment variable and a flag are told as a file of one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use config::{ConfigError, Map, Value as Setting};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, SYSTEM_FILE};
use crate::kernel::privilege;
use crate::policy::{self, Diagnostic, Place, Source, meant};

/// Keys whose value is a table, of keys that are not ours to name.
const TABLES: [&str; 1] = ["api.tenants"];
/// What an environment variable of ours begins with.
const PREFIX: &str = "BELLOWS__";

/// Flags that override the files.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Keys as in the file, the flags that set them, and values.
    pub values: Vec<(&'static str, &'static str, String)>,
}

/// The configuration as it was read.
#[derive(Debug)]
pub struct Reading {
    /// What it comes to; sound only if nothing is wrong.
    pub config: Config,
    /// All that is wrong, in the order of layers and places.
    pub diagnostics: Vec<Diagnostic>,
    /// Files, then environment variables and flags as files of one line.
    pub sources: Vec<Source>,
    files: usize,
    /// Where each value that is set was set last.
    places: BTreeMap<String, Place>,
}

/// The configuration is wrong: all that is, with places.
#[derive(Debug, thiserror::Error)]
pub struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "problems with the configuration: {count} (`bellows config check`)\n{}", self.0.join("\n"))
    }
}

/// Reads all layers; the configuration, or all that is wrong with it.
pub fn load(overrides: &Overrides) -> Result<Config, Mistakes> {
    let reading = read(overrides);
    if reading.diagnostics.is_empty() { Ok(reading.config) } else { Err(Mistakes(reading.told())) }
}

/// Reads all layers. The system-wide file is the system's agent's: what it names is not a user's to take.
#[must_use]
pub fn read(overrides: &Overrides) -> Reading {
    let system = Some(PathBuf::from(SYSTEM_FILE)).filter(|path| path.exists() && !privilege::is_rootless());
    let paths: Vec<PathBuf> = system.into_iter().chain(overrides.file.clone()).collect();
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.to_string_lossy().into_owned());
        let key = name.strip_prefix(PREFIX)?.to_lowercase().replace("__", ".");
        Some((key, name, value))
    });
    let mut variables: Vec<(String, String, String)> = variables.collect();
    variables.sort();
    let flags = overrides.values.iter();
    let flags = flags.map(|(key, flag, value)| ((*key).to_owned(), (*flag).to_owned(), value.clone()));
    let (files, diagnostics) = policy::read(&paths);
    Reader::new(files, diagnostics).read(variables.into_iter().chain(flags))
}

/// Reads one file's text alone.
#[must_use]
pub fn read_text(text: &str) -> Reading {
    let source = Source { name: "config.toml".to_owned(), text: text.to_owned() };
    Reader::new(vec![source], Vec::new()).read(std::iter::empty())
}

impl Reading {
    /// Where a value comes from: a file and its line, an environment variable, a flag, or `default`.
    #[must_use]
    pub fn origin(&self, key: &str) -> String {
        let Some(&place) = self.places.get(key) else { return "default".to_owned() };
        let source = &self.sources[place.file];
        if place.file < self.files { source.origin(place) } else { source.name.clone() }
    }

    /// All that is wrong, for people.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.diagnostics.iter().map(|diagnostic| diagnostic.render(&self.sources)).collect()
    }

    /// Every key with its value, in the order of sections; null where nothing is set.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Value)> {
        leaves(&self.config)
    }
}

/// The keys of a configuration with their values: first those without a section.
fn leaves(config: &Config) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: Value, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(members) if !TABLES.contains(&prefix) => {
                for (key, value) in members {
                    let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                    walk(&path, value, found);
                }
            }
            value => found.push((prefix.to_owned(), value)),
        }
    }
    let mut found = Vec::new();
    walk("", serde_json::to_value(config).unwrap_or_default(), &mut found);
    found.sort_by_key(|(key, _)| key.contains('.'));
    found
}

/// Takes values in, one by one.
struct Reader {
    known: BTreeSet<String>,
    reading: Reading,
    values: Vec<(String, Setting)>,
}

impl Reader {
    fn new(sources: Vec<Source>, diagnostics: Vec<Diagnostic>) -> Self {
        let config = Config::default();
        let known = leaves(&config).into_iter().map(|(key, _)| key).collect();
        let (files, places) = (sources.len(), BTreeMap::new());
        Self { known, reading: Reading { config, diagnostics, sources, files, places }, values: Vec::new() }
    }

    /// Reads the files, and then `lines`: keys, names, and values.
    fn read(mut self, lines: impl Iterator<Item = (String, String, String)>) -> Reading {
        for file in 0..self.reading.files {
            self.file(file);
        }
        for (key, name, text) in lines {
            let place = Place { file: self.reading.sources.len(), start: 0, end: text.len() };
            self.reading.sources.push(Source { name, text: text.clone() });
            if self.known.contains(&key) {
                self.take(key, text.into(), place);
            } else {
                self.unknown(&key, place);
            }
        }
        self.merge();
        self.reading.diagnostics.sort_by_key(Diagnostic::place);
        self.reading
    }

    fn file(&mut self, file: usize) {
        let text = self.reading.sources[file].text.clone();
        let (document, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            self.tell(Place { file, start: span.start, end: span.end }, error.message().to_owned());
        }
        // What the parser makes of the rest is not what was meant.
        if errors.is_empty() {
            self.table(file, "", document.get_ref());
        }
    }

    fn table(&mut self, file: usize, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            let inner = format!("{path}.");
            if self.known.contains(&path) {
                self.take(path, plain(value.get_ref()), place(file, value));
            } else if !self.known.iter().any(|known| known.starts_with(&inner)) {
                self.unknown(&path, place(file, key));
            } else if let DeValue::Table(table) = value.get_ref() {
                self.table(file, &inner, table);
            } else {
                self.tell(place(file, value), format!("{path}: expected a section"));
            }
        }
    }

    /// Takes in a value, if it is well by itself.
    fn take(&mut self, key: String, value: Setting, place: Place) {
        let value = (key, value);
        match build(std::slice::from_ref(&value)) {
            Ok(_) => {
                self.reading.places.insert(value.0.clone(), place);
                self.values.push(value);
            }
            Err(error) => self.tell(place, format!("{}: {}", value.0, in_words(&error))),
        }
    }

    /// Puts all values together, and looks for what cannot work between them.
    fn merge(&mut self) {
        match build(&self.values) {
            Ok(config) => self.reading.config = config,
            Err(error) => self.tell(Place { file: 0, start: 0, end: 0 }, in_words(&error)),
        }
        for (keys, text) in self.reading.config.problems() {
            let mut places = keys.iter().filter_map(|key| self.reading.places.get(key).copied());
            let Some(place) = places.next() else { continue };
            let other = places.next().map(|place| ("the other one is set here", place));
            let diagnostic = Diagnostic::error(place, text);
            self.reading.diagnostics.push(match other {
                Some((note, place)) => diagnostic.note(note, Some(place)),
                None => diagnostic,
            });
        }
    }

    fn unknown(&mut self, path: &str, place: Place) {
        let help = meant(path, self.known.iter().map(String::as_str));
        let diagnostic = Diagnostic::error(place, format!("unknown key `{path}`")).help(help);
        self.reading.diagnostics.push(diagnostic);
    }

    fn tell(&mut self, place: Place, text: String) {
        self.reading.diagnostics.push(Diagnostic::error(place, text));
    }
}

/// The defaults with some values, the last one of a key; or the first mistake. A text becomes what the key wants, since an
/// environment variable and a flag have no other type.
fn build(values: &[(String, Setting)]) -> Result<Config, ConfigError> {
    let builder = values.iter().try_fold(config::Config::builder(), |builder, (key, value)| {
        builder.set_override(key, value.clone())
    });
    builder?.build()?.try_deserialize()
}

/// A mistake without the key, which is named by who tells it.
fn in_words(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::Type { unexpected, expected, .. } => format!("{unexpected}, expected {expected}"),
        other => other.to_string(),
    };
    text.split_once(" for key `").map_or(text.as_str(), |(words, _)| words).to_owned()
}

fn place<T>(file: usize, spanned: &Spanned<T>) -> Place {
    let span = spanned.span();
    Place { file, start: span.start, end: span.end }
}

/// A value as it is to be layered. What no key can have is told by its text.
fn plain(value: &DeValue<'_>) -> Setting {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).map_or(digits.into(), Setting::from)
        }
        DeValue::Float(number) => {
            let digits = number.as_str().replace('_', "");
            digits.parse::<f64>().map_or(digits.into(), Setting::from)
        }
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect::<Vec<_>>().into(),
        DeValue::Table(table) => {
            let mut members = Map::<String, Setting>::new();
            for (key, value) in table {
                members.insert(key.get_ref().to_string(), plain(value.get_ref()));
            }
            members.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OnExit, Size};
    use crate::kernel::watch::Hearing;
    use bellows_policies::{Bytes, Law};

    /// A file and lines of the environment.
    fn reading(text: &str, lines: &[(&str, &str, &str)]) -> Reading {
        let source = Source { name: "config.toml".to_owned(), text: text.to_owned() };
        let own =
            |&(key, name, value): &(&str, &str, &str)| (key.to_owned(), name.to_owned(), value.to_owned());
        Reader::new(vec![source], Vec::new()).read(lines.iter().map(own))
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let read = reading("", &[]);
        assert_eq!(read.config.http.listen.port(), 9464);
        assert_eq!(read.config.agent.on_exit, OnExit::Keep);
        assert_eq!(read.config.memory, Law::default());
        assert_eq!(read.origin("http.listen"), "default");
        assert!(read.diagnostics.is_empty() && read.values().len() > 50);
    }

    #[test]
    fn everything_can_be_set_and_the_last_layer_counts() {
        let text = r#"
            root = "/sys/fs/cgroup/x"
            [node]
            capacity = "2G"
            reserve = 104_857_600
            [agent]
            on_exit = "stop"
            hearing = "pollpri"
            [memory]
            hot_poll_ms = 5
            step_factor = 1
        "#;
        let lines = [
            ("node.capacity", "BELLOWS__NODE__CAPACITY", "3G"),
            ("journal.files", "BELLOWS__JOURNAL__FILES", "4"),
            ("node.capacity", "--capacity", "4G"),
        ];
        let read = reading(text, &lines);
        assert_eq!(read.told(), Vec::<String>::new());
        let config = &read.config;
        assert_eq!(config.node.capacity, Some(Size(Bytes::mib(4096))));
        assert_eq!(config.node.reserve, Some(Size(Bytes::mib(100))));
        assert_eq!(config.agent.hearing, Hearing::Pollpri);
        assert_eq!((config.memory.hot_poll_ms, config.journal.files), (5, 4));
        for (key, origin) in [
            ("root", "config.toml:2"),
            ("node.capacity", "--capacity"),
            ("journal.files", "BELLOWS__JOURNAL__FILES"),
            ("memory.hot_poll_ms", "config.toml:10"),
            ("memory.stall_ms", "default"),
        ] {
            assert_eq!(read.origin(key), origin, "{key}");
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_places() {
        let text = "\
roots = \"/x\"
[agent]
on_exitt = \"stop\"
on_exit = \"never\"
[node]
capacity = \"1G\"
reserve = \"1G\"
[http]
listen = \"0.0.0.0:9464\"
[journal]
files = 0
[memory]
hot_poll_ms = 0
step_factor = 2.0
stall_ms = \"soon\"
cpu = 3
";
        let lines = [("node.capasity", "BELLOWS__NODE__CAPASITY", "3G"), ("node.reserve", "--reserve", "8Q")];
        let read = reading(text, &lines);
        insta::assert_snapshot!(read.told().join("\n"));
    }
}
