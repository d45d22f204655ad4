//! What is of the node as a whole: its budget, the policies in force, and whether the machine is as it should be. Read from what is
//! published, from `/proc`, and from the composition root; the control loop is not asked.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Json, Router, routing::get};
use bellows_policies::units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use super::Shared;
use super::routes::hinted;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::clock;
use crate::kernel::pressure::MemoryFile;
use crate::kernel::support::{self, Check};
use crate::policy::Shown;

/// The checks are not repeated sooner: they open some twenty files.
const FRESH: Duration = Duration::from_secs(10);

/// What the API has to know besides the handle of the control loop.
#[derive(Debug)]
pub struct Ground {
    /// The delegated root.
    pub root: PathBuf,
    /// `<root>/workloads`.
    pub workloads: Cgroup,
    /// When the agent was started, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// The policies in force.
    pub policies: watch::Receiver<Arc<Shown>>,
}

/// What is kept between requests.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) ground: Ground,
    memory: Option<MemoryFile>,
    checked: Mutex<Option<(Instant, Vec<Check>)>>,
}

impl Node {
    pub(super) fn new(ground: Ground) -> Self {
        Self { ground, memory: MemoryFile::open().ok(), checked: Mutex::default() }
    }
}

/// The node, its budget, and the agent. Sizes in bytes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// The agent's version.
    pub version: String,
    /// The delegated root.
    pub root: String,
    /// When the agent was started, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// When this was put together.
    pub now_unix_ns: u64,
    /// What the node has to give, before the reserve.
    pub capacity: Bytes,
    /// What is never granted.
    pub reserve: Bytes,
    /// The sum of all grants: values of `memory.high`.
    pub granted: Bytes,
    /// What can be granted still.
    pub free: Bytes,
    /// What workloads use.
    pub used: Bytes,
    /// `MemTotal` of the machine.
    pub memory_total: Bytes,
    /// `MemAvailable`.
    pub memory_available: Bytes,
    /// `SwapTotal`.
    pub swap_total: Bytes,
    /// `SwapFree`.
    pub swap_free: Bytes,
    /// Cpus of the machine that the agent may use.
    pub cpus: usize,
    /// How many of them are in use, by `/proc/stat`.
    pub cpus_used: f64,
    /// Workloads that run.
    pub workloads: usize,
    /// Workloads that wait for a grant.
    pub waiting: u64,
    /// For how long the control loop has not turned, milliseconds. It turns at least five times a second.
    pub loop_idle_ms: u64,
    /// Whether the last reading of the policies was sound; else older ones are in force.
    pub policies_are_current: bool,
    /// The oldest record that is kept; 0 for none.
    pub journal_oldest: u64,
    /// The newest record.
    pub journal_newest: u64,
    /// Records that were lost because a queue was full.
    pub journal_lost: u64,
    /// Records that are not on disk because it did not take them.
    pub journal_unwritten: u64,
}

pub(super) fn routes(shared: Shared) -> Router<Shared> {
    Router::new()
        .route("/api/v1/node", get(node))
        .route("/api/v1/policies", get(policies))
        .route("/api/v1/doctor", get(doctor))
        .with_state(shared)
}

async fn node(State(shared): State<Shared>) -> Json<NodeView> {
    Json(shared.view())
}

async fn policies(State(shared): State<Shared>) -> Json<Shown> {
    Json((**shared.node.ground.policies.borrow()).clone())
}

/// As `bellows doctor`, from inside of the agent.
async fn doctor(State(shared): State<Shared>) -> Result<Json<Vec<Check>>, Response> {
    let mut checked = shared.node.checked.lock().await;
    if let Some((_, checks)) = checked.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok(Json(checks.clone()));
    }
    let root = shared.node.ground.root.clone();
    let checks = tokio::task::spawn_blocking(move || support::checks(Some(&root))).await;
    let checks = checks.map_err(|error| {
        let text = format!("the checks did not end: {error}");
        hinted(StatusCode::INTERNAL_SERVER_ERROR, &text, "run `bellows doctor` on the machine")
    })?;
    *checked = Some((Instant::now(), checks.clone()));
    Ok(Json(checks))
}

impl Shared {
    /// The node, now.
    pub(super) fn view(&self) -> NodeView {
        let control = &self.control;
        let [capacity, reserve, granted, free] = control.metrics.budget_view();
        let memory = self.node.memory.as_ref().and_then(|file| file.read().ok()).unwrap_or_default();
        let table = control.table.list();
        let used = table.iter().map(|published| published.view().current.0).sum();
        let waiting = control.tenants.list().iter().map(|tenant| tenant.view().waiting).sum();
        let (journal_oldest, journal_newest) = control.journal.bounds();
        NodeView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: self.node.ground.root.display().to_string(),
            started_unix_ns: self.node.ground.started_unix_ns,
            now_unix_ns: clock::unix_nanoseconds(),
            capacity,
            reserve,
            granted,
            free,
            used: Bytes(used),
            memory_total: memory.total,
            memory_available: memory.available,
            swap_total: memory.swap_total,
            swap_free: memory.swap_free,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpus_used: control.metrics.node_cpu.get(),
            workloads: table.len(),
            waiting,
            loop_idle_ms: u64::try_from(control.idle().as_millis()).unwrap_or(u64::MAX),
            policies_are_current: control.metrics.policies.are_current(),
            journal_oldest,
            journal_newest,
            journal_lost: control.journal.lost(),
            journal_unwritten: control.journal.unwritten(),
        }
    }
}
