//! Long answers in pages: at most so many rows, and a `Link` to the next ones (RFC 8288).

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::routes::hinted;

/// Rows of a page at most: as many records as are kept.
pub(super) const MOST: usize = 8192;

/// How many rows are wanted, if that is said.
#[expect(clippy::result_large_err, reason = "the answer, as handlers give it")]
pub(super) fn rows(limit: Option<usize>) -> Result<Option<usize>, Response> {
    match limit {
        Some(limit) if !(1..=MOST).contains(&limit) => Err(hinted(
            StatusCode::UNPROCESSABLE_ENTITY,
            &format!("a page has no {limit} rows"),
            &format!("ask for 1 to {MOST} with limit, and follow the answer's Link to the next page"),
        )),
        limit => Ok(limit),
    }
}

/// A page; `next` is the parameter by which the one after it is asked for, if there is one.
pub(super) fn page(uri: &Uri, rows: &impl Serialize, next: Option<(&str, String)>) -> Response {
    let mut headers = HeaderMap::new();
    let link = next.and_then(|(key, value)| HeaderValue::try_from(link(uri, key, &value)).ok());
    if let Some(link) = link {
        headers.insert(header::LINK, link);
    }
    (headers, Json(rows)).into_response()
}

/// What was asked for, with another place to begin at. Names and numbers need no escape.
fn link(uri: &Uri, key: &str, value: &str) -> String {
    let is_other = |pair: &&str| pair.split('=').next() != Some(key);
    let query = uri.query().unwrap_or_default();
    let kept = query.split('&').filter(|pair| !pair.is_empty()).filter(is_other);
    let pairs: Vec<String> = kept.map(str::to_owned).chain([format!("{key}={value}")]).collect();
    format!("<{}?{}>; rel=\"next\"", uri.path(), pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_was_asked_for() {
        let link = |uri: &str| link(&uri.parse().unwrap(), "before", "7");
        assert_eq!(link("/api/v1/events"), "</api/v1/events?before=7>; rel=\"next\"");
        assert_eq!(
            link("/api/v1/events?limit=5&before=12&workload=a/b"),
            "</api/v1/events?limit=5&workload=a/b&before=7>; rel=\"next\""
        );
        assert!(rows(Some(0)).is_err() && rows(Some(MOST + 1)).is_err());
        assert_eq!(rows(Some(MOST)).unwrap(), Some(MOST));
        assert_eq!(rows(None).unwrap(), None);
    }
}
