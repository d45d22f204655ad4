//! Configuration: what there is to configure, and what it is unless somebody says otherwise.
//!
//! | file | holds |
//! |---|---|
//! | `layers` | where values come from, which of them counts, and all that is wrong with them |

mod layers;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bellows_policies::Law;
use bellows_policies::cpu::NodeLaw;
use bellows_policies::units::Bytes;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

pub use self::layers::{Mistakes, Overrides, Reading, load, read, read_text};
use crate::access::Api;
use crate::journal::Settings;
use crate::kernel::privilege;
use crate::kernel::watch::Hearing;
use crate::metrics::catalogue::Tier;
use crate::workload::ids::Pool;

/// Where the system-wide file is looked for, but by a rootless agent; it need not exist.
pub const SYSTEM_FILE: &str = "/etc/bellows/config.toml";
/// Where sockets and exit records of the system's agent live unless told otherwise.
pub const SYSTEM_RUNTIME_DIR: &str = "/run/bellows";
/// Where those of this process' user do: `/run/bellows`, or in the user's own such directory.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| privilege::is_rootless());
    of_user.map_or_else(|| SYSTEM_RUNTIME_DIR.into(), |directory| PathBuf::from(directory).join("bellows"))
}

/// Where policies are looked for unless told otherwise; it need not exist.
pub const POLICIES: &str = "/etc/bellows/policies.d";

/// The agent's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The delegated cgroup; the agent's own when absent.
    pub root: Option<PathBuf>,
    /// Sockets and exit records.
    pub runtime_dir: PathBuf,
    /// The directory of policies.
    pub policies: PathBuf,
    /// Who may do what on the control socket.
    pub api: Api,
    /// What is listened on.
    pub http: Http,
    /// What is told in numbers.
    pub metrics: Metrics,
    /// The node's budget.
    pub node: Node,
    /// What happened, on disk.
    pub journal: Journal,
    /// The agent itself.
    pub agent: Agent,
    /// What the built-in classes begin with.
    pub workload: WorkloadDefaults,
    /// The user ids of tenants.
    pub isolation: Pool,
    /// The constants of the memory law that the built-in classes begin with; sizes in bytes.
    pub memory: Law,
    /// The constants of the node's cpu guard.
    pub cpu: NodeLaw,
}

/// HTTP on TCP: metrics and reading, nothing that changes anything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port. There is no authentication yet: anything but loopback is refused.
    pub listen: SocketAddr,
}

/// Metrics.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// How much is told of each workload; of tenants, node and agent everything is.
    #[serde(deserialize_with = "one_of")]
    pub workloads: Tier,
}

/// The node's memory budget.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// What there is; the root's own `memory.max`, or the machine's memory, when absent.
    pub capacity: Option<Size>,
    /// What is never granted; a tenth of the capacity when absent.
    pub reserve: Option<Size>,
}

/// The journal on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {
    /// What becomes of workloads when the agent is told to end.
    #[serde(deserialize_with = "one_of")]
    pub on_exit: OnExit,
    /// How memory events are heard.
    #[serde(deserialize_with = "one_of")]
    pub hearing: Hearing,
    /// It is in a container, and what it governs is not: it leaves its cgroup namespace, and not its cgroup.
    pub in_container: bool,
    /// The mount namespace that workloads begin in, by its file; the agent's own when absent.
    pub host_mounts: Option<PathBuf>,
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
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkloadDefaults {
    /// `pids.max`.
    pub pids: u64,
}

/// A size as people write it, `512M`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub Bytes);

/// A word of several; with serde's own mistake, which names them, where that of `config` does not.
fn one_of<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    serde_json::from_value(String::deserialize(deserializer)?.into()).map_err(de::Error::custom)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: None,
            runtime_dir: runtime_dir(),
            policies: POLICIES.into(),
            api: Api::default(),
            http: Http::default(),
            metrics: Metrics::default(),
            node: Node::default(),
            journal: Journal::default(),
            agent: Agent::default(),
            workload: WorkloadDefaults::default(),
            isolation: Pool::default(),
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

impl Config {
    /// What cannot work, each with the keys that have a part in it.
    fn problems(&self) -> Vec<(Vec<String>, String)> {
        let mut found = Vec::new();
        let mut tell =
            |keys: &[&str], text: String| found.push((keys.iter().map(|&k| k.to_owned()).collect(), text));
        if !self.http.listen.ip().is_loopback() {
            let text = "only a loopback address is allowed, since there is no authentication yet";
            tell(&["http.listen"], format!("http.listen = {}: {text}", self.http.listen));
        }
        if let (Some(capacity), Some(reserve)) = (self.node.capacity, self.node.reserve)
            && reserve.0 >= capacity.0
        {
            let text =
                format!("node.reserve = {}: it must be less than node.capacity = {}", reserve.0, capacity.0);
            tell(&["node.reserve", "node.capacity"], text);
        }
        if self.journal.files == 0 {
            tell(&["journal.files"], "journal.files = 0: there has to be one file at least".to_owned());
        }
        if self.journal.max_file.0 < Bytes::MIB {
            let text = format!("journal.max_file = {}: it has to be 1 MiB at least", self.journal.max_file.0);
            tell(&["journal.max_file"], text);
        }
        for (key, text) in self.api.problems() {
            tell(&[&key], text);
        }
        if let Some(problem) = self.isolation.problem() {
            let key = problem.split(':').next().unwrap_or_default();
            tell(&[key], problem.to_owned());
        }
        for problem in self.memory.problems() {
            // As `KEY = VALUE: why`, or `LEAST = VALUE: is more than MOST = VALUE`.
            let words = || problem.split(' ').filter(|word| Law::fields().iter().any(|f| f.key == **word));
            let keys: Vec<String> = words().map(|key| format!("memory.{key}")).collect();
            found.push((keys, format!("memory.{problem}")));
        }
        found
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
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
