//! `GET /api/v1/events`: the journal, as a JSON array or, with `follow=true`, as server-sent events.
//!
//! `since` (or the header `Last-Event-ID`) says where to begin, `workload`, `reason` and `limit` what to leave out; what is still
//! kept is replayed first. A follower
//! that is too slow misses records and is told how many, in an event named `missed`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bellows_policies::Reason;
use serde::Deserialize;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::gate::{shown, tenant_of};
use super::routes::problem;
use super::since::{self, Since};
use super::{Shared, explain};
use crate::access::Rights;
use crate::journal::{Filter, Record};
use crate::kernel::clock;

/// What is asked for; everything that is kept when nothing is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// As [`since::parse`] reads it.
    since: Option<String>,
    #[serde(default)]
    follow: bool,
    /// `tenant/name`.
    workload: Option<String>,
    reason: Option<Reason>,
    /// So many of what is kept, the newest.
    limit: Option<usize>,
}

pub(super) async fn events(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let Query(wanted) = wanted.map_err(|e| problem(StatusCode::BAD_REQUEST, &e.body_text()))?;
    let journal = &shared.control.journal;
    let mut filter = Filter {
        workload: wanted.workload,
        reason: wanted.reason,
        tenants: rights.scope(),
        ..Filter::default()
    };
    match wanted.since.map(|text| since::parse(&text, clock::unix_nanoseconds())).transpose() {
        Ok(Some(Since::After(id))) if id > journal.bounds().1 => {
            return Err(explain::unknown(id, journal.bounds()));
        }
        Ok(Some(Since::After(id))) => filter.after = id,
        Ok(Some(Since::From(unix_ns))) => filter.from_unix_ns = unix_ns,
        Ok(None) => filter.after = resumed(&headers).filter(|id| *id <= journal.bounds().1).unwrap_or(0),
        Err(text) => return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text)),
    }
    // First subscribe, then replay: what comes in between comes twice, and the second is dropped by its id.
    let live = BroadcastStream::new(journal.follow());
    let mut kept = journal.read(&filter);
    filter.after = kept.last().map_or(filter.after, |record| record.id);
    if let Some(limit) = wanted.limit {
        kept.drain(..kept.len().saturating_sub(limit));
    }
    for record in &mut kept {
        *record = shown(record, &rights);
    }
    if !wanted.follow {
        return Ok(Json(kept).into_response());
    }
    let replay = tokio_stream::iter(kept).map(|record| Ok::<_, Infallible>(event(&record)));
    let live = live.filter_map(move |next| match next {
        Ok(record) => filter.wants(&record).then(|| Ok(event(&shown(&record, &rights)))),
        Err(BroadcastStreamRecvError::Lagged(count)) => {
            Some(Ok(Event::default().event("missed").data(count.to_string())))
        }
    });
    Ok(Sse::new(replay.chain(live)).keep_alive(KeepAlive::default()).into_response())
}

/// Where a follower was cut off. An id that is not known is of a journal that is gone: then everything is new.
fn resumed(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// Whose incidents are asked for; everybody's when it is not said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    /// `tenant/name`.
    workload: Option<String>,
}

/// `GET /api/v1/incidents`.
pub(super) async fn incidents(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Json<Vec<Arc<Record>>>, Response> {
    let Query(whose) = whose.map_err(|e| problem(StatusCode::BAD_REQUEST, &e.body_text()))?;
    let all = shared.control.journal.incidents(whose.workload.as_deref());
    let seen = all.iter().filter(|record| rights.sees(tenant_of(record)));
    Ok(Json(seen.map(|record| shown(record, &rights)).collect()))
}

fn event(record: &Arc<Record>) -> Event {
    let json = serde_json::to_string(&**record).unwrap_or_default();
    Event::default().id(record.id.to_string()).data(json)
}
