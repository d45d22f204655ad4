//! Configuration, layered: built-in < `/etc/bellows/config.toml` < `--config FILE` < `BELLOWS__SECTION__KEY` < flags.
//!
//! Unknown keys are errors, so that a misspelt one is not silently ignored.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bellows_policies::Law;
use bellows_policies::cpu::NodeLaw;
use bellows_policies::units::Bytes;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::journal::Settings;
use crate::kernel::watch::Hearing;

/// Where the system-wide file is looked for; it need not exist.
pub const SYSTEM_FILE: &str = "/etc/bellows/config.toml";
/// Where sockets and exit records live unless told otherwise.
pub const RUNTIME_DIR: &str = "/run/bellows";

/// Where policies are looked for unless told otherwise; it need not exist.
pub const POLICIES: &str = "/etc/bellows/policies.d";

/// The agent's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The delegated cgroup; the agent's own when absent.
    pub root: Option<PathBuf>,
    /// Sockets and exit records.
    pub runtime_dir: PathBuf,
    /// The directory of policies.
    pub policies: PathBuf,
    /// What is listened on.
    pub http: Http,
    /// The node's budget.
    pub node: Node,
    /// What happened, on disk.
    pub journal: Journal,
    /// The agent itself.
    pub agent: Agent,
    /// What the built-in classes begin with.
    pub workload: WorkloadDefaults,
    /// The constants of the memory law that the built-in classes begin with; sizes in bytes.
    pub memory: Law,
    /// The constants of the node's cpu guard.
    pub cpu: NodeLaw,
}

/// HTTP on TCP: metrics and reading, nothing that changes anything.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port. There is no authentication yet: anything but loopback is refused.
    pub listen: SocketAddr,
}

/// The node's memory budget.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// What there is; the root's own `memory.max`, or the machine's memory, when absent.
    pub capacity: Option<Size>,
    /// What is never granted; a tenth of the capacity when absent.
    pub reserve: Option<Size>,
}

/// The journal on disk.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Its directory; `journal` in the runtime directory when absent, which does not outlive a reboot.
    pub dir: Option<PathBuf>,
    /// The size from which a file is followed by the next.
    pub max_file: Size,
    /// Files kept.
    pub files: usize,
}

/// The agent itself.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// What becomes of workloads when the agent is told to end.
    pub on_exit: OnExit,
    /// How memory events are heard.
    pub hearing: Hearing,
}

/// What becomes of workloads when the agent is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They go on, with their limits opened.
    #[default]
    Keep,
    /// They are ended.
    Stop,
}

/// Defaults of workloads.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadDefaults {
    /// `pids.max`.
    pub pids: u64,
}

/// A size as people write it, `512M`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub Bytes);

/// Flags that override the files.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Keys and values, as in the file.
    pub values: Vec<(&'static str, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: None,
            runtime_dir: RUNTIME_DIR.into(),
            policies: POLICIES.into(),
            http: Http::default(),
            node: Node::default(),
            journal: Journal::default(),
            agent: Agent::default(),
            workload: WorkloadDefaults::default(),
            memory: Law::default(),
            cpu: NodeLaw::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { dir: None, max_file: Size(Bytes::mib(8)), files: 8 }
    }
}

impl Journal {
    /// What the journal is opened with.
    #[must_use]
    pub fn settings(&self, runtime_dir: &Path) -> Settings {
        Settings {
            directory: self.dir.clone().unwrap_or_else(|| runtime_dir.join("journal")),
            max_file: self.max_file.0.0,
            files: self.files,
        }
    }
}

impl Default for WorkloadDefaults {
    fn default() -> Self {
        Self { pids: 4096 }
    }
}

/// Reads all layers.
pub fn load(overrides: &Overrides) -> Result<Config, config::ConfigError> {
    let file =
        |path: &Path, required| config::File::from(path).format(config::FileFormat::Toml).required(required);
    let mut builder = config::Config::builder().add_source(file(Path::new(SYSTEM_FILE), false));
    if let Some(path) = &overrides.file {
        builder = builder.add_source(file(path, true));
    }
    let environment = config::Environment::with_prefix("BELLOWS").prefix_separator("__").separator("__");
    builder = builder.add_source(environment.try_parsing(true));
    for (key, value) in &overrides.values {
        builder = builder.set_override(*key, value.as_str())?;
    }
    let config: Config = builder.build()?.try_deserialize()?;
    config.check()?;
    Ok(config)
}

impl Config {
    fn check(&self) -> Result<(), config::ConfigError> {
        if !self.http.listen.ip().is_loopback() {
            return Err(config::ConfigError::Message(format!(
                "http.listen = {}: only a loopback address is allowed, since there is no authentication yet",
                self.http.listen
            )));
        }
        if let (Some(capacity), Some(reserve)) = (self.node.capacity, self.node.reserve)
            && reserve.0 >= capacity.0
        {
            return Err(config::ConfigError::Message(format!(
                "node.reserve = {}: it must be less than node.capacity = {}",
                reserve.0, capacity.0
            )));
        }
        if self.journal.files == 0 || self.journal.max_file.0 < Bytes::mib(1) {
            return Err(config::ConfigError::Message(format!(
                "journal.files = {}, journal.max_file = {}: there has to be one file, of 1 MiB, at least",
                self.journal.files, self.journal.max_file.0
            )));
        }
        match self.memory.problem() {
            Some(problem) => Err(config::ConfigError::Message(format!("memory.{problem}"))),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"512M\" or a number of bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map(Size).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(Bytes(bytes)))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(|b| Size(Bytes(b))).map_err(|_| E::custom("a size cannot be negative"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, config::ConfigError> {
        let source = config::File::from_str(text, config::FileFormat::Toml);
        let config: Config = config::Config::builder().add_source(source).build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = read("").unwrap();
        assert_eq!(config.http.listen.port(), 9464);
        assert_eq!(config.agent.on_exit, OnExit::Keep);
        assert_eq!(config.memory, Law::default());
    }

    #[test]
    fn everything_can_be_set() {
        let text = r#"
            root = "/sys/fs/cgroup/x"
            [node]
            capacity = "2G"
            reserve = 104857600
            [agent]
            on_exit = "stop"
            hearing = "pollpri"
            [memory]
            hot_poll_ms = 5
        "#;
        let config = read(text).unwrap();
        assert_eq!(config.node.capacity, Some(Size(Bytes::mib(2048))));
        assert_eq!(config.node.reserve, Some(Size(Bytes::mib(100))));
        assert_eq!(config.agent.hearing, Hearing::Pollpri);
        assert_eq!(config.memory.hot_poll_ms, 5);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("[agent]\non_exitt = \"stop\"", "on_exitt"),
            ("[node]\ncapacity = \"2Q\"", "2Q"),
            ("[http]\nlisten = \"0.0.0.0:9464\"", "loopback"),
            ("[journal]\nfiles = 0", "one file"),
            ("[node]\ncapacity = \"1G\"\nreserve = \"1G\"", "less than"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
