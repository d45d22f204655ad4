//! The routes. Thin: each translates a request for the control loop, or reads what is published.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{ConnectInfo, Extension, FromRequest, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::Shared;
use super::console;
use super::detail;
use super::exec;
use super::explain;
use super::exposition;
use super::extract::{At, Wanted as Asking};
use super::gate;
use super::life;
use super::logs;
use super::node;
use super::openapi;
use super::page;
use super::stream::{events, incidents};
use super::types::{
    LaunchRequest, Peer, PinRequest, Problem, Released, SignalRequest, TenantRow, WorkloadView,
};
use super::watch;
use crate::access::Rights;
use crate::control::{Ended, Launched, Order, Refused, Wanted};
use crate::journal::What;
use crate::workload::change::Change;
use crate::workload::life::{Restart, signal_problem};
use crate::workload::spec::{Asked, Name};

/// Everything, for the control socket.
pub(super) fn control(shared: Shared) -> Router {
    let changing = Router::new()
        .route("/api/v1/workloads", post(launch))
        .route("/api/v1/workloads/{tenant}/{name}/signal", post(send_signal))
        .route("/api/v1/workloads/{tenant}/{name}/set", post(set))
        .merge(life::routes())
        .merge(exec::routes())
        .route("/api/v1/workloads/{tenant}/{name}/pin", post(pin))
        .route("/api/v1/workloads/{tenant}/{name}/unpin", post(unpin))
        .route("/api/v1/workloads/{tenant}/{name}/logs", get(logs::logs))
        .route("/api/v1/exits/{id}", get(exit))
        .route("/api/v1/release", post(release))
        .with_state(shared.clone());
    readable(shared.clone())
        .merge(changing)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(shared, gate::guard))
}

/// What only reads, for TCP too.
pub(super) fn reading(shared: Shared) -> Router {
    readable(shared.clone())
        .method_not_allowed_fallback(not_so)
        .layer(from_fn_with_state(shared, gate::guard_tcp))
}

fn readable(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(exposition::serve))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/api/v1/workloads", get(list))
        .route("/api/v1/tenants", get(tenants))
        .route("/api/v1/events", get(events))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/explain/{id}", get(explain::record))
        .route("/api/v1/explain/{tenant}/{name}", get(explain::workload))
        .route("/api/v1/workloads/{tenant}/{name}", get(detail::workload))
        .route("/openapi.json", get(openapi::openapi))
        .route("/api/v1/watch", get(watch::watch))
        .merge(node::routes(shared.clone()))
        .merge(console::routes())
        .fallback(async || {
            let hint = "see /metrics, /api/v1/workloads, or / in a browser";
            hinted(StatusCode::NOT_FOUND, "there is nothing here", hint)
        })
        .with_state(shared)
}

async fn not_so() -> Response {
    let hint = "what changes something is POST on the control socket, everything else is GET";
    hinted(StatusCode::METHOD_NOT_ALLOWED, "that is not done by this method", hint)
}

async fn launch(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    Extension(rights): Extension<Arc<Rights>>,
    Body(request): Body<LaunchRequest>,
) -> Result<(StatusCode, Json<Launched>), Response> {
    let LaunchRequest { spec, stdio } = request;
    if let Some(text) = spec.problem() {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
    }
    if stdio.is_some() && spec.life.restart != Restart::Never {
        let text = "only a detached workload is started again: the client of another one is there to do that";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    let _seat = shared.admit(&spec, &by, &rights, "launch")?;
    let claimed = stdio.map(|token| shared.stdio.claim(&token).map(|passed| passed.stdio).ok_or(()));
    let Ok(descriptors) = claimed.transpose() else {
        let text = "the stdio token is not known: it is valid while its connection to stdio.sock is open";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, text));
    };
    let launched = shared.control.launch(spec, descriptors, by).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(launched)))
}

async fn exit(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    At(id): At<u64>,
) -> Result<Json<Ended>, Response> {
    shared.control.wait_among(id, rights.scope()).await.map(Json).map_err(refused)
}

async fn send_signal(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
    Body(request): Body<SignalRequest>,
) -> Result<StatusCode, Response> {
    if let Some(text) = signal_problem(request.signal) {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
    }
    shared.control.operate(tenant, name, Order::Signal(request.signal), by).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    Extension(rights): Extension<Arc<Rights>>,
    At((tenant, name)): At<(Name, Name)>,
    Body(change): Body<Change>,
) -> Result<Json<What>, Response> {
    if let Err(text) = rights.may_change(&tenant, &change) {
        return Err(shared.refuse(&by, &rights, &format!("{tenant}/{name}"), "set", &text));
    }
    shared.control.operate(tenant, name, Order::Set(change), by).await.map(Json).map_err(refused)
}

async fn pin(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
    Body(PinRequest { high, cpu, seconds }): Body<PinRequest>,
) -> Result<Json<What>, Response> {
    let order = Order::Pin(Wanted { high, cpu, time: Duration::from_secs(seconds) });
    shared.control.operate(tenant, name, order, by).await.map(Json).map_err(refused)
}

async fn unpin(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    At((tenant, name)): At<(Name, Name)>,
) -> Result<Json<What>, Response> {
    shared.control.operate(tenant, name, Order::Unpin, by).await.map(Json).map_err(refused)
}

async fn release(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
) -> Result<Json<Released>, Response> {
    let opened = shared.control.release(by).await.map_err(refused)?;
    Ok(Json(Released { workloads: opened.workloads, failed: opened.failed }))
}

/// Which workloads are wanted: all, in the order of their start, or with `limit` a page in the order of their names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    /// Only of this tenant.
    tenant: Option<String>,
    /// So many at most.
    limit: Option<usize>,
    /// Those after this one, `tenant/name`.
    after: Option<String>,
}

async fn list(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    uri: Uri,
    Asking(Listed { tenant, limit, after }): Asking<Listed>,
) -> Result<Response, Response> {
    let limit = page::rows(limit)?;
    let mut views = shared.views(&rights);
    views.retain(|view| tenant.as_ref().is_none_or(|tenant| view.tenant == *tenant));
    let name = |view: &WorkloadView| format!("{}/{}", view.tenant, view.name);
    if limit.is_some() || after.is_some() {
        views.sort_by_cached_key(name);
        views.retain(|view| after.as_ref().is_none_or(|after| name(view) > *after));
    }
    let is_cut = limit.is_some_and(|limit| views.len() > limit);
    views.truncate(limit.unwrap_or(usize::MAX));
    let next = views.last().filter(|_| is_cut).map(|view| ("after", name(view)));
    Ok(page::page(&uri, &views, next))
}

async fn tenants(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
) -> Json<Vec<TenantRow>> {
    Json(shared.tenant_rows(&rights))
}

impl Shared {
    /// All workloads that a caller sees; detached ones that have ended, too.
    pub(super) fn views(&self, rights: &Rights) -> Vec<WorkloadView> {
        let table = self.control.table.list();
        let mut views: Vec<WorkloadView> = table.iter().map(|p| WorkloadView::from(&**p)).collect();
        let kept = self.control.kept.list();
        if !kept.is_empty() {
            let place = |(at, view): (usize, &WorkloadView)| ((view.tenant.clone(), view.name.clone()), at);
            let places: HashMap<_, _> = views.iter().enumerate().map(place).collect();
            for kept in kept.iter() {
                let Asked { tenant, name, .. } = &kept.spec.identity;
                match places.get(&(tenant.to_string(), name.to_string())) {
                    Some(at) => views[*at].detached = Some((&**kept).into()),
                    None => views.push((&**kept).into()),
                }
            }
        }
        views.retain(|view| rights.sees(Some(&view.tenant)));
        views
    }

    /// All tenants that a caller sees.
    pub(super) fn tenant_rows(&self, rights: &Rights) -> Vec<TenantRow> {
        let all = self.control.tenants.list();
        let seen = all.iter().filter(|p| rights.sees(Some(&p.tenant)));
        seen.map(|p| TenantRow::from(&**p)).collect()
    }
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready is: the control loop turns. Looked at, not asked: this is open to anybody on the machine.
async fn ready(State(shared): State<Shared>) -> Response {
    // Idle, it turns ten times a second.
    if shared.control.idle() < Duration::from_secs(1) {
        let stale = "ready, by old policies: the last reload was refused (`bellows policy check`)\n";
        if shared.control.metrics.policies.are_current() { "ready\n" } else { stale }.into_response()
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, "the control loop does not turn")
    }
}

/// A JSON body whose mistakes are told as a problem.
pub(super) struct Body<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        Json::<T>::from_request(request, state)
            .await
            .map(|Json(value)| Self(value))
            .map_err(|rejection| problem(rejection.status(), &rejection.body_text()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function of a map_err")]
pub(super) fn refused(refusal: Refused) -> Response {
    let status = match &refusal {
        Refused::Exists(_) => StatusCode::CONFLICT,
        Refused::NotFound(_) => StatusCode::NOT_FOUND,
        Refused::NoRoomNow(_) | Refused::NoRoomEver(_) => StatusCode::INSUFFICIENT_STORAGE,
        Refused::NotAllowed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Busy | Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    problem(status, &refusal.to_string())
}

pub(super) fn problem(status: StatusCode, detail: &str) -> Response {
    told(status, detail, None)
}

/// A problem with a hint.
pub(super) fn hinted(status: StatusCode, detail: &str, hint: &str) -> Response {
    told(status, detail, Some(hint.to_owned()))
}

fn told(status: StatusCode, detail: &str, hint: Option<String>) -> Response {
    let title = status.canonical_reason().unwrap_or("error").to_owned();
    let body = Problem { title, status: status.as_u16(), detail: detail.to_owned(), hint };
    (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
}
