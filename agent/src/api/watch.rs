//! `GET /api/v1/watch`: how everything stands, as server-sent events. The first tells all, those after it what has changed, four times
//! a second at most; each brings what the journal was told meanwhile.
//!
//! An event's id is that of the newest record that was told. Whoever was cut off names it (`Last-Event-ID`, or `since`) and is told
//! what came in between, from the journal's ring; where that has forgotten some of it, `gap` says so. Records are read from the
//! ring in each round instead of being followed: so nobody can be too slow for a queue.
//!
//! A round is worked out when the reader has taken the one before, and a reader costs one twentieth of a cpu: what a round took of the
//! cpu, so that nobody is told later because others have it. Where that would keep a reader waiting too long, it costs more.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::extract::Wanted;
use super::gate::shown;
use super::routes::hinted;
use super::stream::{self, Told, resumed};
use crate::access::Rights;
use crate::journal::Filter;
use crate::kernel::clock;

/// Between two rounds, milliseconds.
const EVERY_MS: std::ops::RangeInclusive<u64> = 250..=60_000;
/// A round is followed by a rest of so many times what it took.
const REST: u32 = 19;
/// But of no more than this: after five seconds without a word the console says that the agent is silent.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Tell records after this one, too. Without it, those from now on.
    since: Option<u64>,
    /// Between two rounds.
    every_ms: Option<u64>,
}

pub(super) async fn watch(
    State(shared): State<Shared>,
    Extension(rights): Extension<Arc<Rights>>,
    headers: HeaderMap,
    Wanted(Query { since, every_ms }): Wanted<Query>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Response> {
    let every_ms = every_ms.unwrap_or(*EVERY_MS.start());
    if !EVERY_MS.contains(&every_ms) {
        let (least, most) = EVERY_MS.into_inner();
        let text = format!("every_ms = {every_ms} is out of range");
        let hint = format!("choose {least} to {most} milliseconds");
        return Err(hinted(StatusCode::UNPROCESSABLE_ENTITY, &text, &hint));
    }
    let place = shared.place()?;
    let newest = shared.control.journal.bounds().1;
    let told = resumed(&headers).or(since).unwrap_or(newest);
    let mut watcher = Watcher { shared, rights, told, known: HashMap::new(), tenants: String::new() };
    // One is enough: what is not taken is not worked out.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let mut name = "state";
        loop {
            // A seat in the queue first, so that what is told is what is so when it can be told.
            let Ok(permit) = sender.reserve().await else { break };
            let began = clock::of_thread();
            let data = watcher.round();
            let event = Event::default().event(name).id(watcher.told.to_string()).data(data);
            permit.send(Ok(event));
            name = "change";
            let rest = (clock::of_thread().saturating_sub(began) * REST).min(LONGEST_REST);
            tokio::select! {
                () = tokio::time::sleep(rest.max(Duration::from_millis(every_ms))) => {}
                () = sender.closed() => break,
            }
        }
    });
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()))
}

struct Watcher {
    shared: Shared,
    rights: Arc<Rights>,
    /// The newest record that was told.
    told: u64,
    /// Workloads as they were told last.
    known: HashMap<String, String>,
    tenants: String,
}

impl Watcher {
    /// What has changed since the last round, as JSON.
    fn round(&mut self) -> String {
        let (gap, records) = self.records();
        let sees_node = self.rights.sees(None);
        let node = if sees_node { json(&self.shared.view()) } else { "null".to_owned() };
        let tenants = json(&self.shared.tenant_rows(&self.rights));
        let tenants = if self.tenants == tenants {
            "null"
        } else {
            self.tenants = tenants;
            &self.tenants
        };
        let mut changed = Vec::new();
        let mut there = HashSet::new();
        for view in self.shared.views(&self.rights) {
            let name = format!("{}/{}", view.tenant, view.name);
            let text = json(&view);
            if self.known.get(&name) != Some(&text) {
                changed.push(text.clone());
                self.known.insert(name.clone(), text);
            }
            there.insert(name);
        }
        let gone: Vec<&String> = self.known.keys().filter(|name| !there.contains(*name)).collect();
        let gone_text = json(&gone);
        self.known.retain(|name, _| there.contains(name));
        format!(
            "{{\"node\":{node},\"tenants\":{tenants},\"workloads\":[{}],\"gone\":{gone_text},\"gap\":{},\"records\":{}}}",
            changed.join(","),
            json(&gap),
            json(&records)
        )
    }

    /// The records that were not told yet, and what is missing before them.
    fn records(&mut self) -> (Option<String>, Vec<Told>) {
        let journal = &self.shared.control.journal;
        let (oldest, newest) = journal.bounds();
        let gap = stream::gap(self.told, (oldest, newest));
        if self.told > newest {
            self.told = 0;
        }
        if self.told == newest {
            return (gap, Vec::new());
        }
        let filter = Filter { after: self.told, tenants: self.rights.scope(), ..Filter::default() };
        let records = journal.read(&filter);
        // What is not shown is told, too.
        self.told = records.last().map_or(newest, |record| record.id.max(newest));
        (gap, records.iter().map(|record| Told::new(shown(record, &self.rights))).collect())
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
