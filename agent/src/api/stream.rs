//! `GET /api/v1/events`: the journal, as a JSON array or, with `follow=true`, as server-sent events.
//!
//! `since` (or the header `Last-Event-ID`) says where to begin, `workload`, `reason`, `before` and `limit` what to leave out; what is
//! still kept is replayed first. A follower that is too slow, or comes back too late, misses records and is told so in an event
//! named `missed`. Without `follow`, `limit` makes pages, the newest first.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bellows_policies::Reason;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::extract::Wanted;
use super::gate::{shown, tenant_of};
use super::page;
use super::routes::problem;
use super::since::{self, Since};
use super::words::text::deed;
use super::{Shared, explain};
use crate::access::Rights;
use crate::journal::{Filter, Record};
use crate::kernel::clock;

/// What is asked for; everything that is kept when nothing is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// As [`since::parse`] reads it.
    since: Option<String>,
    /// Only what is older than this record: the next page.
    before: Option<u64>,
    #[serde(default)]
    follow: bool,
    /// `tenant/name`.
    workload: Option<String>,
    reason: Option<Reason>,
    /// So many of what is kept, the newest.
    limit: Option<usize>,
    /// Each with a sentence, as `bellows events` prints it.
    #[serde(default)]
    words: bool,
}

/// A record, and what it says.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    #[serde(flatten)]
    record: Arc<Record>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<String>,
}

impl Told {
    /// With its sentence.
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { words: Some(deed(&record)), record }
    }
}

pub(super) async fn events(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    headers: HeaderMap,
    uri: Uri,
    Wanted(wanted): Wanted<Query>,
) -> Result<Response, Response> {
    let journal = &shared.control.journal;
    let bounds = journal.bounds();
    let limit = page::rows(wanted.limit)?;
    let mut filter = Filter {
        workload: wanted.workload,
        before: wanted.before,
        reason: wanted.reason,
        tenants: rights.scope(),
        ..Filter::default()
    };
    let mut missing = None;
    let since = wanted.since.map(|text| since::parse(&text, clock::unix_nanoseconds())).transpose();
    // Whoever was cut off asks for the same once more, and says besides how far it had come.
    match (since, resumed(&headers)) {
        (Err(text), _) => return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text)),
        (Ok(_), Some(id)) => {
            missing = gap(id, bounds);
            filter.after = Some(id).filter(|id| *id <= bounds.1).unwrap_or(0);
        }
        (Ok(Some(Since::After(id))), None) if id > bounds.1 => return Err(explain::unknown(id, bounds)),
        (Ok(Some(Since::After(id))), None) => filter.after = id,
        (Ok(Some(Since::From(unix_ns))), None) => filter.from_unix_ns = unix_ns,
        (Ok(None), None) => {}
    }
    let told = move |record: &Arc<Record>| {
        let record = shown(record, &rights);
        if wanted.words { Told::new(record) } else { Told { record, words: None } }
    };
    if !wanted.follow {
        let mut kept = journal.read(&filter);
        let cut = kept.len().saturating_sub(limit.unwrap_or(usize::MAX));
        kept.drain(..cut);
        let next = kept.first().filter(|_| cut > 0).map(|record| ("before", record.id.to_string()));
        let rows: Vec<Told> = kept.iter().map(told).collect();
        return Ok(page::page(&uri, &rows, next));
    }
    let place = shared.place()?;
    // First subscribe, then replay: what comes in between comes twice, and the second is dropped by its id.
    let live = BroadcastStream::new(journal.follow());
    let mut kept = journal.read(&filter);
    filter.after = kept.last().map_or(filter.after, |record| record.id);
    kept.drain(..kept.len().saturating_sub(limit.unwrap_or(usize::MAX)));
    let missing = missing.map(|text| Ok::<_, Infallible>(Event::default().event("missed").data(text)));
    let replay: Vec<_> =
        missing.into_iter().chain(kept.iter().map(|record| Ok(event(&told(record))))).collect();
    let live = live.filter_map(move |next| {
        let _place = &place;
        match next {
            Ok(record) => filter.wants(&record).then(|| Ok(event(&told(&record)))),
            Err(BroadcastStreamRecvError::Lagged(count)) => {
                Some(Ok(Event::default().event("missed").data(count.to_string())))
            }
        }
    });
    Ok(Sse::new(tokio_stream::iter(replay).chain(live)).keep_alive(KeepAlive::default()).into_response())
}

/// Where a follower was cut off.
pub(super) fn resumed(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// What somebody who was told everything up to `told` will not be told. An id that is not known is of a journal that is gone: then
/// everything is new.
pub(super) fn gap(told: u64, (oldest, newest): (u64, u64)) -> Option<String> {
    if told > newest {
        return Some(format!("the journal began anew: record {told} is not known, the newest is {newest}"));
    }
    let missed = oldest.saturating_sub(told).saturating_sub(1);
    (missed > 0).then(|| {
        format!(
            "{missed} records from {} on are not kept any more; the journal's files may have them",
            told + 1
        )
    })
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
    Wanted(whose): Wanted<Whose>,
) -> Json<Vec<Arc<Record>>> {
    let all = shared.control.journal.incidents(whose.workload.as_deref());
    let seen = all.iter().filter(|record| rights.sees(tenant_of(record)));
    Json(seen.map(|record| shown(record, &rights)).collect())
}

fn event(told: &Told) -> Event {
    let json = serde_json::to_string(told).unwrap_or_default();
    Event::default().id(told.record.id.to_string()).data(json)
}

#[cfg(test)]
mod tests {
    use super::gap;

    #[test]
    fn a_gap_is_told() {
        assert_eq!(
            (gap(0, (0, 0)), gap(0, (1, 9)), gap(4, (5, 9)), gap(9, (5, 9))),
            (None, None, None, None)
        );
        assert!(gap(3, (5, 9)).unwrap().starts_with("1 records from 4 on"));
        assert!(gap(10, (5, 9)).unwrap().contains("began anew"));
        assert!(gap(1, (0, 0)).is_some(), "an empty journal is another one");
    }
}
