//! `GET /api/v1/workloads/{tenant}/{name}`: one workload, and what the kernel says of it: for how long its tasks have waited, what bounds
//! it, its namespaces. Read here and now, through the workload's directory; the control loop is not asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use bellows_policies::sample::Pressure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::extract::At;
use super::routes::hinted;
use super::types::WorkloadView;
use crate::access::Rights;
use crate::kernel::clock;
use crate::kernel::{Cgroup, CgroupError};
use crate::kernel::{parse, process};
use crate::workload::isolation::Isolation;
use crate::workload::lease::{self, Lease};
use crate::workload::life::Life;
use crate::workload::shelf::Kept;
use crate::workload::spec::{Name, Spec};

/// What bounds a workload, one way or another. What the kernel or the delegation does not have is left out.
const FILES: [&str; 22] = [
    "memory.min",
    "memory.low",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "memory.zswap.max",
    "memory.oom.group",
    "cpu.max",
    "cpu.max.burst",
    "cpu.weight",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "io.max",
    "io.weight",
    "pids.current",
    "pids.max",
    "hugetlb.2MB.max",
    "hugetlb.1GB.max",
    "cgroup.freeze",
    "cgroup.max.depth",
    "cgroup.max.descendants",
];

/// A workload, and what the kernel says of it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadDetail {
    /// As `ps` shows it.
    pub view: WorkloadView,
    /// When the pressure was read, in nanoseconds since the Unix epoch.
    pub now_unix_ns: u64,
    /// `memory.pressure`; `null` where the kernel does not tell.
    pub memory: Option<Waits>,
    /// `cpu.pressure`.
    pub cpu: Option<Waits>,
    /// `io.pressure`.
    pub io: Option<Waits>,
    /// The files of its cgroup that bound it, as the kernel has them now.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Its namespaces by kind, as `/proc` names them; empty when nobody lives in it.
    #[serde(default)]
    pub namespaces: BTreeMap<String, Kin>,
    /// The limits to go back to, where somebody has opened them.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// What a detached one was started with.
    #[serde(default)]
    pub asked: Option<AskedView>,
}

/// Whose a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kin {
    /// The agent's, which mostly is the host's.
    Host,
    /// Another one.
    Own,
}

/// What a detached workload was started with. Of its environment only the names: values may be secrets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct AskedView {
    /// Its working directory.
    pub cwd: String,
    /// The names in its environment.
    pub env: Vec<String>,
    /// What it sees of the machine, and what it may do there.
    pub isolation: Isolation,
    /// How it is told to end, when it is started again, its log.
    pub life: Life,
}

impl From<&Kept> for AskedView {
    fn from(kept: &Kept) -> Self {
        let Spec { env, cwd, isolation, life, .. } = (*kept.spec).clone();
        let name = |pair: String| pair.split('=').next().unwrap_or_default().to_owned();
        Self { cwd, env: env.into_iter().map(name).collect(), isolation, life }
    }
}

/// For how long tasks have waited in all, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Waits {
    /// Some of them.
    pub some_us: u64,
    /// All of them at once.
    pub full_us: u64,
}

pub(super) async fn workload(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    At((tenant, name)): At<(Name, Name)>,
) -> Result<Json<WorkloadDetail>, Response> {
    let is_it = |view: &WorkloadView| view.tenant == tenant.as_str() && view.name == name.as_str();
    let Some(view) = shared.views(&rights).into_iter().find(is_it) else {
        let text = format!("nothing is known of {tenant}/{name}");
        return Err(hinted(
            StatusCode::NOT_FOUND,
            &text,
            "`bellows ps`, or /api/v1/workloads, lists what there is",
        ));
    };
    let place = shared.node.ground.workloads.child(tenant.as_str());
    let place = place.and_then(|tenant| tenant.child(name.as_str())).ok();
    let waits = |file: &str| place.as_ref().and_then(|place| waits(place, file).ok());
    let file =
        |file: &&str| Some(((*file).to_owned(), place.as_ref()?.read(file).ok()?.trim_end().to_owned()));
    let kept = shared.control.kept.list();
    let is_kept = |kept: &&Arc<Kept>| {
        (kept.spec.identity.tenant.as_str(), kept.spec.identity.name.as_str())
            == (tenant.as_str(), name.as_str())
    };
    // Of one that somebody else made nobody has told the init.
    let lives_in = |place: &Cgroup| place.processes().ok()?.first().copied();
    let pid = Some(view.pid).filter(|pid| *pid > 0).or_else(|| place.as_ref().and_then(lives_in));
    let kin = |(kind, is_own)| (kind, if is_own { Kin::Own } else { Kin::Host });
    Ok(Json(WorkloadDetail {
        view,
        now_unix_ns: clock::unix_nanoseconds(),
        memory: waits("memory.pressure"),
        cpu: waits("cpu.pressure"),
        io: waits("io.pressure"),
        files: FILES.iter().filter_map(file).collect(),
        namespaces: pid.map(process::namespaces).unwrap_or_default().into_iter().map(kin).collect(),
        lease: place.as_ref().and_then(|place| lease::read(place).ok()).flatten(),
        asked: kept.iter().find(is_kept).map(|kept| (&**kept).into()),
    }))
}

/// The totals of a pressure file.
pub(super) fn waits(place: &Cgroup, file: &str) -> Result<Waits, CgroupError> {
    let Pressure { some_us, full_us } = parse::pressure(place.read(file)?.as_bytes());
    Ok(Waits { some_us, full_us })
}
