//! The console: one page and what belongs to it, out of this binary. Without a build step, and without anything from elsewhere.
//!
//! The files hold no data, so anybody may have them; what they show they ask of the API, which asks who that is.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::extract::At;
use super::routes::hinted;

/// Nothing is loaded from elsewhere, run inline, framed, or sent.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($(($name:literal, $kind:expr),)*) => {
        &[$(($name, $kind, include_str!(concat!("../../console/", $name))),)*]
    };
}

/// Name, type, content.
const FILES: &[(&str, &str, &str)] = files![
    ("index.html", HTML),
    ("icon.svg", SVG),
    ("style.css", CSS),
    ("layout.css", CSS),
    ("main.js", JS),
    ("store.js", JS),
    ("dom.js", JS),
    ("units.js", JS),
    ("rows.js", JS),
    ("chart.js", JS),
    ("explain.js", JS),
    ("node.js", JS),
    ("workloads.js", JS),
    ("workload.js", JS),
    ("journal.js", JS),
    ("policies.js", JS),
    ("doctor.js", JS),
];

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file("index.html")))
        .route("/console/{file}", get(async |At(name): At<String>| file(&name)))
}

fn file(name: &str) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return hinted(StatusCode::NOT_FOUND, "the console has no such file", "open / in a browser");
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // An upgraded agent has other ones.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, *text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every file of the directory is served, and asks for nothing that is not there.
    #[test]
    fn the_files_are_whole() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("console");
        let mut there: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut served: Vec<String> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
        for (name, _, text) in FILES {
            for part in ["https://", "style=\"", "onclick=", "<script>", "innerHTML"] {
                assert!(!text.contains(part), "{name} has {part}");
            }
            for asked in text.split("/console/").skip(1).chain(text.split(" from \"./").skip(1)) {
                let asked = asked.split(['"', '\'']).next().unwrap_or_default();
                assert!(served.iter().any(|known| known == asked), "{name} asks for {asked}");
            }
        }
    }
}
