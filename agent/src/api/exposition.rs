//! `/metrics`: which format and which coding a scraper wants, and the exposition in pieces, as fast as it is read.
//!
//! A piece is written when the last one has been taken, so that a slow reader costs a snapshot of the values and no thread, and the
//! whole text is never there at once.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::extract::Wanted;
use super::routes::problem;
use super::{Shared, waits};
use crate::kernel::{clock, process};
use crate::metrics::catalogue::{Group, Tier};
use crate::metrics::{Exemplar, Exposition, Format, Metrics, Outside};

/// Scrapes at the same time. Each holds a snapshot: some 3 MB for 10 000 workloads.
const AT_ONCE: usize = 16;
/// After so long a scrape is cut off: whoever does not read must not keep others from it. Prometheus waits for a tenth of it.
const LONGEST: Duration = Duration::from_mins(2);

/// How many scrapes may begin.
#[derive(Debug, Clone)]
pub(super) struct Scrapes(Arc<Semaphore>);

impl Default for Scrapes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Answers a scrape.
pub(super) async fn serve(
    State(shared): State<Shared>,
    Wanted(query): Wanted<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let groups = match wanted(&query) {
        Ok(groups) => groups,
        Err(text) => return problem(StatusCode::BAD_REQUEST, &text),
    };
    let Ok(permit) = Arc::clone(&shared.scrapes.0).try_acquire_owned() else {
        let text = format!("{AT_ONCE} scrapes are under way already: are there readers that do not read?");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    let began = clock::now();
    let format = format_for(&list(&headers, &header::ACCEPT));
    let control = &shared.control;
    let (cpu_seconds, resident) = process::own_use();
    let started = control.metrics.started_unix_ns;
    let exemplars = match format {
        Format::Text => Vec::new(),
        Format::OpenMetrics => control.journal.reactions(started),
    };
    let outside = Outside {
        unix_ns: clock::unix_nanoseconds(),
        cpu_seconds,
        resident_bytes: resident.0,
        records_lost: control.journal.lost(),
        records_unwritten: control.journal.unwritten(),
        exemplars: exemplars
            .into_iter()
            .map(|(decision_id, took_us, unix_ns)| Exemplar { decision_id, took_us, unix_ns })
            .collect(),
    };
    let exposition =
        Exposition::new(&control.metrics, &control.table, &control.tenants, &outside, format, &groups);
    if groups.contains(&Group::Workload) && control.metrics.tier == Tier::Full {
        waits::read_behind(&shared);
    }
    let is_gzip = takes_gzip(&list(&headers, &header::ACCEPT_ENCODING));
    let pieces = Pieces {
        exposition,
        gzip: is_gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        metrics: Arc::clone(&control.metrics),
        spent: clock::now().since(began),
        _permit: permit,
    };
    let body = body(pieces, LONGEST);
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if is_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// The pieces as a body, which is cut off after `longest`.
fn body(pieces: Pieces, longest: Duration) -> Body {
    let scrape = Scrape(Arc::new(Mutex::new(Some(pieces))));
    let late = Arc::downgrade(&scrape.0);
    tokio::spawn(async move {
        tokio::time::sleep(longest).await;
        if let Some(scrape) = late.upgrade() {
            *scrape.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    });
    Body::from_stream(tokio_stream::iter(scrape))
}

/// A scrape that can be cut off.
struct Scrape(Arc<Mutex<Option<Pieces>>>);

impl Iterator for Scrape {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut scrape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A body that just ended would look whole.
        scrape
            .as_mut()
            .map_or_else(|| Some(Err(io::ErrorKind::TimedOut.into())), |pieces| pieces.next().map(Ok))
    }
}

/// An exposition on its way, and what it has cost.
struct Pieces {
    exposition: Exposition,
    gzip: Option<GzEncoder<Vec<u8>>>,
    metrics: Arc<Metrics>,
    spent: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Iterator for Pieces {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let began = clock::now();
        let piece = self.piece();
        self.spent += clock::now().since(began);
        if piece.is_none() {
            self.metrics.scrape.observe(self.spent.as_secs_f64());
        }
        piece
    }
}

impl Pieces {
    fn piece(&mut self) -> Option<Vec<u8>> {
        loop {
            let piece = self.exposition.next();
            let Some(gzip) = &mut self.gzip else { return piece };
            let Some(piece) = piece else {
                // Into memory it cannot fail.
                return self.gzip.take().and_then(|gzip| gzip.finish().ok());
            };
            let _ = gzip.write_all(&piece);
            // It writes when it has read enough.
            if !gzip.get_ref().is_empty() {
                return Some(mem::take(gzip.get_mut()));
            }
        }
    }
}

/// The groups that are asked for by `collect[]`; all of them without.
fn wanted(query: &[(String, String)]) -> Result<BTreeSet<Group>, String> {
    let named = |value: &str| Group::ALL.into_iter().find(|group| group.as_str() == value);
    let mut groups = BTreeSet::new();
    for (key, value) in query {
        if key != "collect[]" {
            return Err(format!("there is no parameter {key:?} here: collect[] names what to collect"));
        }
        let Some(group) = named(value) else {
            let all = Group::ALL.map(Group::as_str).join(", ");
            return Err(format!("collect[]={value}: there is no such group, there are {all}"));
        };
        groups.insert(group);
    }
    Ok(if groups.is_empty() { Group::ALL.into() } else { groups })
}

/// All values of a header, lower case, in one list.
fn list(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",").to_ascii_lowercase()
}

/// What is in such a list: names with their parameters, and how much each is wanted.
fn choices(list: &str) -> impl Iterator<Item = (&str, Vec<&str>, f64)> {
    list.split(',').map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters: Vec<&str> = parts.collect();
        let weight = parameters.iter().find_map(|p| p.strip_prefix("q="));
        (name, parameters, weight.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
    })
}

/// OpenMetrics where it is wanted at least as much as the text format; whoever does not say gets the text format.
fn format_for(accept: &str) -> Format {
    let (mut open, mut text) = (0.0_f64, 0.0_f64);
    for (name, parameters, weight) in choices(accept) {
        let version = parameters.iter().find_map(|p| p.strip_prefix("version="));
        match (name, version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => open = open.max(weight),
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = text.max(weight),
            _ => {}
        }
    }
    if open > 0.0 && open >= text { Format::OpenMetrics } else { Format::Text }
}

fn takes_gzip(accept: &str) -> bool {
    choices(accept).any(|(name, _, weight)| name == "gzip" && weight > 0.0)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::metrics::{Table, TenantTable};

    #[test]
    fn the_scraper_chooses_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, text/plain;q=0.9, application/openmetrics-text;q=0.1", Format::Text),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1, text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0, */*", Format::Text),
            ("application/openmetrics-text;q=nonsense", Format::Text),
        ] {
            assert_eq!(format_for(accept), expected, "{accept}");
        }
        assert!(takes_gzip("deflate, gzip;q=0.5") && !takes_gzip("gzip;q=0, br") && !takes_gzip(""));
    }

    fn pieces(scrapes: &Scrapes) -> Pieces {
        let metrics = Arc::new(Metrics::new(Tier::Full, 0).unwrap());
        let (table, tenants) = (Table::default(), TenantTable::default());
        let groups = Group::ALL.into();
        let outside = Outside::default();
        let exposition = Exposition::new(&metrics, &table, &tenants, &outside, Format::OpenMetrics, &groups);
        let permit = Arc::clone(&scrapes.0).try_acquire_owned().unwrap();
        Pieces { exposition, gzip: None, metrics, spent: Duration::ZERO, _permit: permit }
    }

    #[tokio::test]
    async fn a_scrape_that_is_read_is_whole_and_counted() {
        let scrapes = Scrapes::default();
        let pieces = pieces(&scrapes);
        let metrics = Arc::clone(&pieces.metrics);
        let text = body(pieces, LONGEST).collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"# HELP bellows_build_info") && text.ends_with(b"# EOF\n"));
        assert_eq!(metrics.scrape.get_sample_count(), 1);
        assert_eq!(scrapes.0.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn a_scrape_that_nobody_reads_is_cut_off_and_lets_others_begin() {
        let scrapes = Scrapes::default();
        let body = body(pieces(&scrapes), Duration::from_millis(1));
        assert_eq!(scrapes.0.available_permits(), AT_ONCE - 1);
        while scrapes.0.available_permits() < AT_ONCE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(body.collect().await.is_err(), "what is cut off must not look whole");
    }

    #[test]
    fn groups_are_named_or_all() {
        let query = |values: &[&str]| -> Vec<(String, String)> {
            values.iter().map(|&value| ("collect[]".to_owned(), value.to_owned())).collect()
        };
        assert_eq!(wanted(&[]).unwrap().len(), Group::ALL.len());
        let two = wanted(&query(&["node", "tenant", "node"])).unwrap();
        assert_eq!(two, BTreeSet::from([Group::Node, Group::Tenant]));
        assert!(wanted(&query(&["nodes"])).unwrap_err().contains("agent, node, tenant, workload"));
        assert!(wanted(&[("collect".to_owned(), "node".to_owned())]).unwrap_err().contains("collect[]"));
    }
}
