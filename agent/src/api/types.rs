//! The wire: everything that crosses the API, apart from the types that the journal and the control loop share with it.

use std::sync::Arc;

use bellows_policies::ruleset::Mode;
use bellows_policies::units::{Bounds, Bytes};
use bellows_policies::{AssignedBy, CpuBounds, Cpus, Pin, Resources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

pub use super::detached::DetachedView;
pub use super::detail::{AskedView, Kin, Waits, WorkloadDetail};
pub use super::manifest::ApplyRequest;
pub use super::node::NodeView;
use crate::control::LONGEST_PIN;
use crate::journal::{Caller, Laws, Record};
use crate::kernel::{clock, process};
pub use crate::metrics::Sizing;
use crate::metrics::{Published, PublishedTenant};
use crate::workload::life::{LONGEST_GRACE, SIGNALS};
use crate::workload::lifecycle::State;
use crate::workload::spec::{Asked, Spec};

/// `POST /api/v1/workloads`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// What to start.
    pub spec: Spec<Asked>,
    /// The token that `stdio.sock` gave for its standard input, output and error. Without one it is detached: its output goes to
    /// a log, and nobody but the agent waits for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdio: Option<String>,
}

/// `POST /api/v1/workloads/{tenant}/{name}/exec`, answered when the command has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command and its arguments.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// Its environment, `NAME=value` each.
    #[serde(default)]
    pub env: Vec<String>,
    /// Its working directory, as the workload sees it.
    pub cwd: String,
    /// The token that `stdio.sock` gave for its standard input, output and error. Signals are sent to it by that, too.
    pub stdio: String,
    /// Whether it gets a terminal. Its standard input is a SOCK_SEQPACKET socket then, by which the terminal's master comes.
    #[serde(default)]
    pub terminal: bool,
    /// Who it is, as the workload's `isolation.user`; when absent, who the workload's own command is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// How a command beside a workload has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Executed {
    /// As a shell would see it.
    pub code: i32,
}

/// `POST /api/v1/workloads/{tenant}/{name}/signal`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// The signal's number. 9 kills everything in the workload's cgroup, others go to its init.
    #[schemars(range(min = *SIGNALS.start(), max = *SIGNALS.end()))]
    pub signal: i32,
}

/// `POST /api/v1/workloads/{tenant}/{name}/stop`. What is absent is as the workload says itself.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// The signal's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = *SIGNALS.start(), max = *SIGNALS.end()))]
    pub signal: Option<i32>,
    /// How long it may take to end, in seconds, before everything in its cgroup is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = LONGEST_GRACE))]
    pub grace_seconds: Option<u64>,
}

/// `POST /api/v1/workloads/{tenant}/{name}/pin`. With neither value what there is is pinned where it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The `memory.high` to pin it at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Bytes>,
    /// The cpu quota to pin it at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpus>,
    /// For how long, seconds; an hour when absent.
    #[serde(default = "pin_seconds")]
    #[schemars(range(min = 1, max = LONGEST_PIN.as_secs()))]
    pub seconds: u64,
}

/// How long a pin stands that does not say it.
pub const PIN_SECONDS: u64 = 3600;

fn pin_seconds() -> u64 {
    PIN_SECONDS
}

/// A pin, as it is shown.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub struct PinView {
    /// Whether `memory.high` is pinned.
    pub memory: bool,
    /// Whether the cpu quota is.
    pub cpu: bool,
    /// When it ends, as the wall clock stands now, in nanoseconds since the Unix epoch.
    pub until_unix_ns: u64,
    /// The user who gave the word.
    pub uid: u32,
}

impl From<Pin> for PinView {
    fn from(Pin { memory, cpu, until, uid }: Pin) -> Self {
        Self { memory, cpu, until_unix_ns: clock::unix_nanoseconds_at(until), uid }
    }
}

/// The answer of `POST /api/v1/release`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Workloads whose limits stand open now.
    pub workloads: usize,
    /// Workloads that could not be opened.
    #[serde(default)]
    pub failed: usize,
}

/// One workload, as `ps` shows it. Sizes in bytes; `null` is `max`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and a field of the wire")]
pub struct WorkloadView {
    /// Its owner.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: String,
    /// What gave it that class.
    #[serde(default)]
    pub assigned: Option<AssignedBy>,
    /// Whether somebody else made it, and it was adopted.
    #[serde(default)]
    pub adopted: bool,
    /// Whether its decisions are carried out ("enforce"), or only told ("observe").
    pub mode: String,
    /// Where it is in its life.
    pub state: String,
    /// Pid of its init.
    pub pid: i32,
    /// `memory.current` at the last look.
    pub memory_current: Bytes,
    /// `memory.high`: what is granted.
    pub memory_high: Option<Bytes>,
    /// `memory.max`.
    pub memory_max: Option<Bytes>,
    /// Whether its limits are left to somebody else who wrote one (`foreign = "yield"`).
    #[serde(default)]
    pub yielded: bool,
    /// `memory.high` as it would be; `null` unless it is observed.
    #[serde(default)]
    pub would_high: Option<Bytes>,
    /// `memory.max` as it would be.
    #[serde(default)]
    pub would_max: Option<Bytes>,
    /// How often its limits would have been moved while it was observed.
    #[serde(default)]
    pub would_moves: u64,
    /// What was seen of it while it was observed.
    #[serde(default)]
    pub sizing: Option<Sizing>,
    /// What does not reclaim cheaply, at the last look into `memory.stat`.
    pub memory_need: Bytes,
    /// Between what the limit moves.
    pub memory: Bounds,
    /// How often its limits were moved.
    pub limit_moves: u64,
    /// OOM kills in it.
    pub oom_kills: u64,
    /// `cpu.max`, in millionths of a cpu.
    pub cpu_quota: Option<Cpus>,
    /// Between what the quota moves; `null` when it has none, and its weight decides.
    pub cpu: Option<CpuBounds>,
    /// Cpu time used at the last look, microseconds.
    pub cpu_usage_us: u64,
    /// How often its quota was moved.
    pub quota_moves: u64,
    /// What of it an operator has pinned.
    #[serde(default)]
    pub pin: Option<PinView>,
    /// What it has been given by the piece.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// When it was started, in nanoseconds since the Unix epoch.
    pub started_unix_ns: u64,
    /// Whether part of its quota is lent to somebody more important.
    #[serde(default)]
    pub lends_cpu: bool,
    /// Whether it is frozen for somebody more important.
    #[serde(default)]
    pub is_frozen: bool,
    /// What is remembered of it, if it is a detached one.
    #[serde(default)]
    pub detached: Option<DetachedView>,
}

impl From<&Published> for WorkloadView {
    fn from(published: &Published) -> Self {
        let (facts, view, terms) = (&published.facts, published.view(), published.terms());
        let would = published.would_be();
        let mode = if would.is_some() { Mode::Observe } else { Mode::Enforce };
        let limit = |bytes: Bytes| (bytes.0 != u64::MAX).then_some(bytes);
        Self {
            tenant: facts.tenant.clone(),
            name: facts.workload.clone(),
            class: terms.class.to_string(),
            assigned: terms.assigned,
            adopted: facts.adopted,
            mode: mode.as_str().to_owned(),
            state: State::ALL.get(usize::from(view.state)).map_or("unknown", |s| s.as_str()).to_owned(),
            pid: view.pid,
            memory_current: view.current,
            memory_high: limit(view.limits.high),
            memory_max: limit(view.limits.max),
            yielded: published.is_yielded(),
            would_high: would.map(|limits| limits.high),
            would_max: would.map(|limits| limits.max),
            would_moves: view.would_moves,
            sizing: published.watched.sizing(),
            memory_need: view.need,
            memory: published.memory(),
            limit_moves: view.moves,
            oom_kills: view.oom_kills,
            cpu_quota: view.quota,
            cpu: published.cpu_bounds(),
            cpu_usage_us: view.cpu_usage_us,
            quota_moves: view.quota_moves,
            pin: terms.pin.map(PinView::from),
            resources: terms.resources,
            started_unix_ns: facts.started_unix_ns,
            lends_cpu: view.lends_cpu,
            is_frozen: view.is_frozen,
            detached: None,
        }
    }
}

/// One tenant, as `tenants` shows it. Sizes in bytes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TenantRow {
    /// Its name.
    pub tenant: String,
    /// How many workloads it has.
    pub workloads: u64,
    /// The sum of their floors.
    pub floors: Bytes,
    /// The sum of their grants.
    pub granted: Bytes,
    /// What is kept for it, granted or not.
    pub guarantee: Bytes,
    /// What its grants never exceed; `null` when it has no cap.
    pub cap: Option<Bytes>,
    /// How many of its workloads wait for a grant.
    pub waiting: u64,
}

impl From<&PublishedTenant> for TenantRow {
    fn from(published: &PublishedTenant) -> Self {
        let view = published.view();
        Self {
            tenant: published.tenant.clone(),
            workloads: view.workloads,
            floors: view.floors,
            granted: view.granted,
            guarantee: view.guarantee,
            cap: view.cap,
            waiting: view.waiting,
        }
    }
}

/// The answer of `GET /api/v1/explain/{id}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RecordExplained {
    /// The record.
    pub record: Record,
    /// The laws that decided, where they are known.
    pub laws: Option<Laws>,
    /// The records that it follows, oldest first.
    pub before: Vec<Record>,
    /// The records that follow it: the next move, and what came of this one.
    pub after: Vec<Record>,
    /// The incidents of its workload.
    pub incidents: Vec<Record>,
    /// The largest grants now.
    pub holders: Vec<Holder>,
}

/// The answer of `GET /api/v1/explain/{tenant}/{name}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadExplained {
    /// `tenant/name`.
    pub workload: String,
    /// What it is now; absent when it has ended.
    pub view: Option<WorkloadView>,
    /// What happened to it last, oldest first.
    pub records: Vec<Record>,
    /// Why its limits stay, if there is a reason worth telling.
    pub held: Option<Record>,
    /// Its incidents.
    pub incidents: Vec<Record>,
    /// The largest grants now.
    pub holders: Vec<Holder>,
}

/// What `bellows describe` prints: two answers in one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Described {
    /// What it is now; absent when it has ended and is not remembered.
    pub detail: Option<WorkloadDetail>,
    /// How it fares, and what happened to it.
    pub explained: WorkloadExplained,
}

/// A workload that holds a grant.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Holder {
    /// `tenant/name`.
    pub workload: String,
    /// `memory.high`.
    pub granted: Bytes,
    /// Use.
    pub current: Bytes,
}

/// An error, as RFC 9457 problem+json has it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// What else might help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Who is at the other end of the control socket, as the kernel vouches for it.
#[derive(Debug, Clone)]
pub struct Peer(pub Arc<Caller>);

impl Peer {
    /// Whoever has connected.
    pub(super) fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        // Unknown is nobody, never root.
        let uid = credentials.map_or(u32::MAX, |known| known.uid());
        let pid = credentials.and_then(|known| known.pid()).unwrap_or(0);
        let own = credentials.map(|known| known.gid());
        let groups = process::peer_groups(stream).into_iter().chain(own).collect();
        // Asked now, while it is most likely still the one that connected.
        let command = process::name(pid).unwrap_or_else(|| "?".to_owned());
        Self(Arc::new(Caller { uid, groups, pid, command }))
    }
}
