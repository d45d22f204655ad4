//! `GET /api/v1/workloads/{tenant}/{name}`: one workload, and for how long its tasks have waited. The pressure files are read here and
//! now, through the workload's directory; the control loop is not asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use bellows_policies::sample::Pressure;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::extract::At;
use super::routes::hinted;
use super::types::WorkloadView;
use crate::access::Rights;
use crate::kernel::cgroup::Cgroup;
use crate::kernel::clock;
use crate::kernel::parse;
use crate::workload::spec::Name;

/// A workload with its pressure.
#[derive(Debug, Serialize, Deserialize)]
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
}

/// For how long tasks have waited in all, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        return Err(hinted(StatusCode::NOT_FOUND, &text, "/api/v1/workloads lists what there is"));
    };
    let place = shared.node.ground.workloads.child(tenant.as_str());
    let place = place.and_then(|tenant| tenant.child(name.as_str())).ok();
    let waits = |file: &str| place.as_ref().and_then(|place| waits(place, file));
    Ok(Json(WorkloadDetail {
        view,
        now_unix_ns: clock::unix_nanoseconds(),
        memory: waits("memory.pressure"),
        cpu: waits("cpu.pressure"),
        io: waits("io.pressure"),
    }))
}

fn waits(place: &Cgroup, file: &str) -> Option<Waits> {
    let text = place.read(file).ok()?;
    let Pressure { some_us, full_us } = parse::pressure(text.as_bytes());
    Some(Waits { some_us, full_us })
}
