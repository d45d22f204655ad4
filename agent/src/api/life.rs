//! The routes of a workload's life: to be as a file says, to end, to stand still, to run again, to be forgotten.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};

use super::Shared;
use super::extract::At;
use super::routes::{Body, problem, refused};
use super::types::{ApplyRequest, Peer, StopRequest};
use crate::access::Rights;
use crate::control::{Handle, Order, Refused, Telling};
use crate::journal::{Caller, Deed, What};
use crate::workload::apply::{self, Action, ApplyPlan};
use crate::workload::life::Life;
use crate::workload::spec::{Asked, Name, Spec};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/workloads/{tenant}/{name}/stop", post(stop))
        .route("/api/v1/workloads/{tenant}/{name}/freeze", post(freeze))
        .route("/api/v1/workloads/{tenant}/{name}/thaw", post(thaw))
        .route("/api/v1/workloads/{tenant}/{name}/rm", post(rm))
        .route("/api/v1/apply", post(apply))
}

/// What is to be done is decided by the control loop, and done step by step: each step is an order of its own, with its own
/// record, and is refused by its own rules. Whoever is cut off in between applies once more.
async fn apply(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    Extension(rights): Extension<Arc<Rights>>,
    Body(request): Body<ApplyRequest>,
) -> Result<Json<ApplyPlan>, Response> {
    let dry_run = request.dry_run;
    let spec = request.asked().map_err(|text| problem(StatusCode::UNPROCESSABLE_ENTITY, &text))?;
    let _seat = shared.admit(&spec, &by, &rights, "apply")?;
    let control = &shared.control;
    let (plan, class) = control.plan(&spec).await.map_err(refused)?;
    if !dry_run {
        carry_out(control, spec, &plan, class, by).await.map_err(refused)?;
    }
    Ok(Json(plan))
}

async fn carry_out(
    control: &Handle,
    spec: Spec<Asked>,
    plan: &ApplyPlan,
    class: Name,
    by: Arc<Caller>,
) -> Result<(), Refused> {
    let Asked { tenant, name, .. } = spec.identity.clone();
    match plan.action {
        Action::Nothing => return Ok(()),
        Action::Change => {
            if plan.differences.iter().any(|difference| apply::is_set(&difference.field)) {
                let change = apply::change(&spec.identity, class);
                control.operate(tenant, name, Order::Set(change), Arc::clone(&by)).await?;
            }
            let told = plan.differences.iter().map(|d| format!("{} {} -> {}", d.field, d.from, d.to));
            control.adjust(spec, told.collect(), by).await?;
            return Ok(());
        }
        Action::Restart => {
            let stop = Order::Stop(Telling::default());
            if let What::Life(Deed::StopOrdered { cgroup, .. }) =
                control.operate(tenant, name, stop, Arc::clone(&by)).await?
            {
                control.wait(cgroup).await?;
            }
        }
        Action::Start => {}
    }
    control.launch(spec, None, by).await.map(drop)
}

async fn rm(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
) -> Result<Json<What>, Response> {
    shared.control.operate(tenant, name, Order::Remove, by).await.map(Json).map_err(refused)
}

async fn stop(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
    Body(StopRequest { signal, grace_seconds }): Body<StopRequest>,
) -> Result<Json<What>, Response> {
    let usual = Life::default();
    let asked = Life {
        stop_signal: signal.unwrap_or(usual.stop_signal),
        grace_seconds: grace_seconds.unwrap_or(usual.grace_seconds),
        ..usual
    };
    if let Some(text) = asked.problem() {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
    }
    let telling = Telling { signal, grace: grace_seconds.map(Duration::from_secs) };
    shared.control.operate(tenant, name, Order::Stop(telling), by).await.map(Json).map_err(refused)
}

async fn freeze(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
) -> Result<Json<What>, Response> {
    shared.control.operate(tenant, name, Order::Freeze, by).await.map(Json).map_err(refused)
}

async fn thaw(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
) -> Result<Json<What>, Response> {
    shared.control.operate(tenant, name, Order::Thaw, by).await.map(Json).map_err(refused)
}
