//! What is asked for, read from a path or a query. Mistakes are told as problems, as those of a body are.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;

use super::routes::hinted;

const HINT: &str = "/openapi.json names the parameters of each path";

/// The parameters of a path.
pub(super) struct At<T>(pub(super) T);

/// The parameters of a query.
pub(super) struct Wanted<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = Path::<T>::from_request_parts(parts, state).await;
        read.map(|Path(value)| Self(value)).map_err(|e| hinted(e.status(), &e.body_text(), HINT))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Wanted<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value)).map_err(|e| hinted(e.status(), &e.body_text(), HINT))
    }
}
