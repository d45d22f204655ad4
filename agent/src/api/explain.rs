//! `GET /api/v1/explain/{id}` and `/api/v1/explain/{tenant}/{name}`: everything that is known about a record, or about a workload,
//! in one answer, as JSON or in words. Read from the journal and from what is published; the control loop is not asked.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Shared;
use super::extract::At;
use super::gate::{shown, tenant_of};
use super::routes::problem;
use super::types::{Holder, RecordExplained, WorkloadExplained, WorkloadView};
use super::words;
use crate::access::{Need, Rights};
use crate::journal::{Filter, Record, What};
use crate::workload::spec::Name;

/// Records before the one that is explained.
const BEFORE: usize = 4;
/// Moves and holds of a workload.
const RECENT: usize = 12;
/// Largest grants.
const HOLDERS: usize = 4;

pub(super) async fn record(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    At(id): At<u64>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let journal = &shared.control.journal;
    let kept = journal.read(&Filter::default());
    let find = |id: u64| kept.binary_search_by_key(&id, |record| record.id).ok().map(|index| &kept[index]);
    let record = find(id).ok_or_else(|| unknown(id, journal.bounds()))?;
    if !rights.sees(tenant_of(record)) {
        // Without whose it is.
        let text = rights.may(Need::SeeAll, None).err().unwrap_or_default();
        return Err(problem(StatusCode::FORBIDDEN, &format!("record {id} is none of yours: {text}")));
    }
    let own = |record: &Arc<Record>| (*shown(record, &rights)).clone();

    let mut before: Vec<Record> = Vec::new();
    let mut at = record.prior;
    while let Some(prior) = at.and_then(find).filter(|_| before.len() < BEFORE) {
        before.push(own(prior));
        at = prior.prior;
    }
    before.reverse();
    let follows = |other: &Arc<Record>| other.prior == Some(id) && other.workload == record.workload;
    let after = kept.iter().filter(|other| follows(other)).map(own).collect();
    let incidents = journal.incidents(Some(&record.workload)).iter().map(own).collect();
    let explained = RecordExplained {
        laws: record.version.as_deref().and_then(|version| journal.laws(version)).map(|laws| (*laws).clone()),
        record: own(record),
        before,
        after,
        incidents,
        holders: holders(&shared, &rights),
    };
    Ok(answer(&headers, &explained, words::record::text))
}

pub(super) async fn workload(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    At((tenant, name)): At<(Name, Name)>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let journal = &shared.control.journal;
    let full = format!("{tenant}/{name}");
    let published = shared.control.table.list();
    let view = published
        .iter()
        .find(|p| p.facts.tenant == tenant.as_str() && p.facts.workload == name.as_str())
        .map(|p| WorkloadView::from(&**p));
    let of = journal.read(&Filter { workload: Some(full.clone()), ..Filter::default() });
    if view.is_none() && of.is_empty() {
        let text = format!("nothing is known of {full}: `bellows ps` lists what runs");
        return Err(problem(StatusCode::NOT_FOUND, &text));
    }
    let own = |record: &Arc<Record>| (*shown(record, &rights)).clone();
    let acts = |what: &What| !matches!(what, What::OutcomeSeen { .. } | What::Incident(_));
    let mut records: Vec<Record> = of.iter().rev().filter(|r| acts(&r.what)).take(RECENT).map(own).collect();
    records.reverse();
    // The reason why nothing is done stands until something is.
    let last = of
        .iter()
        .rev()
        .find(|r| matches!(r.what, What::Held { .. } | What::LimitsMoved { .. } | What::WouldHave { .. }));
    let held = last.filter(|r| matches!(r.what, What::Held { .. })).map(own);
    let explained = WorkloadExplained {
        workload: full.clone(),
        view,
        records,
        held,
        incidents: journal.incidents(Some(&full)).iter().map(own).collect(),
        holders: holders(&shared, &rights),
    };
    Ok(answer(&headers, &explained, words::workload::text))
}

/// As JSON, or in the words of `bellows explain` for whoever asks for plain text.
fn answer<T: Serialize>(headers: &HeaderMap, explained: &T, words: fn(&T) -> String) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.starts_with("text/plain") {
        words(explained).into_response()
    } else {
        Json(explained).into_response()
    }
}

/// The workloads that hold the largest grants now, the largest first; of those that the caller sees.
fn holders(shared: &Shared, rights: &Rights) -> Vec<Holder> {
    let mut all: Vec<Holder> = shared
        .control
        .table
        .list()
        .iter()
        .map(|p| WorkloadView::from(&**p))
        .filter(|view| rights.sees(Some(&view.tenant)))
        .filter_map(|view| {
            let workload = format!("{}/{}", view.tenant, view.name);
            Some(Holder {
                workload,
                granted: view.would_high.or(view.memory_high)?,
                current: view.memory_current,
            })
        })
        .collect();
    all.sort_by_key(|holder| std::cmp::Reverse(holder.granted));
    all.truncate(HOLDERS);
    all
}

/// Why a record is not there.
pub(super) fn unknown(id: u64, (oldest, newest): (u64, u64)) -> Response {
    let text = if id > newest {
        format!("there is no record {id} yet: the newest is {newest}")
    } else {
        format!(
            "record {id} is not kept any more: the oldest is {oldest}; older ones may be in the journal's files"
        )
    };
    problem(StatusCode::NOT_FOUND, &text)
}
