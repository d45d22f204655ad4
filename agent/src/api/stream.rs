//! `GET /api/v1/events`: the journal, as a JSON array or, with `follow=true`, as server-sent events.
//!
//! `since=ID` (or the header `Last-Event-ID`) begins after that record; what is still kept is replayed first. A follower
//! that is too slow misses records and is told how many, in an event named `missed`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::Shared;
use crate::journal::Record;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    since: Option<u64>,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn events(
    State(shared): State<Shared>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let since = wanted.since.or(resumed).unwrap_or(0);
    let journal = &shared.control.journal;
    if !wanted.follow {
        return Json(journal.since(since)).into_response();
    }
    // First subscribe, then replay: what comes in between comes twice, and the second is dropped by its id.
    let live = BroadcastStream::new(journal.follow());
    let kept = journal.since(since);
    let last = kept.last().map_or(since, |r| r.id);
    let replay = tokio_stream::iter(kept).map(|record| Ok::<_, Infallible>(event(&record)));
    let live = live.filter_map(move |next| match next {
        Ok(record) => (record.id > last).then(|| Ok(event(&record))),
        Err(BroadcastStreamRecvError::Lagged(count)) => {
            Some(Ok(Event::default().event("missed").data(count.to_string())))
        }
    });
    Sse::new(replay.chain(live)).keep_alive(KeepAlive::default()).into_response()
}

fn event(record: &Arc<Record>) -> Event {
    let json = serde_json::to_string(&**record).unwrap_or_default();
    Event::default().id(record.id.to_string()).data(json)
}
