//! `GET /api/v1/workloads/{tenant}/{name}/logs`: what a detached workload has said, and with `follow` what it says until it has ended.
//! For those who may not open the files: on the control socket alone, since what programs say is often a secret of their owner's.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::extract::{At, Wanted as Asking};
use super::routes::{hinted, problem};
use crate::workload::said::{LOOK_EVERY, Said};
use crate::workload::spec::Name;

/// What of it is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Go on with what comes.
    #[serde(default)]
    follow: bool,
    /// Only so many lines of what there is, the last ones.
    tail: Option<u64>,
}

pub(super) async fn logs(
    State(shared): State<Shared>,
    At((tenant, name)): At<(Name, Name)>,
    Asking(Wanted { follow, tail }): Asking<Wanted>,
) -> Result<Response, Response> {
    let place = shared.place()?;
    let (runtime_dir, full) = (Arc::clone(&shared.runtime_dir), format!("{tenant}/{name}"));
    let said = blocking(move || Said::open(&runtime_dir, &tenant, &name, tail)).await;
    let mut said = said.map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            let text = format!("there is no detached workload {full}");
            let hint = "only what was started with --detach has a log; the output of others goes to who started them";
            hinted(StatusCode::NOT_FOUND, &text, hint)
        }
        ErrorKind::Unsupported => problem(StatusCode::CONFLICT, &format!("what {full} says: {error}")),
        _ => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("what {full} has said: {error}")),
    })?;
    // One piece is enough: what is not taken is not read.
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        while let Ok(permit) = sender.reserve().await {
            let read = blocking(move || {
                let is_over = !follow || said.is_over();
                said.next_piece().map(|piece| (said, is_over, piece))
            });
            match read.await {
                Ok((_, true, piece)) if piece.is_empty() => break,
                Ok((log, _, piece)) => {
                    said = log;
                    if piece.is_empty() {
                        drop(permit);
                        tokio::select! {
                            () = tokio::time::sleep(LOOK_EVERY) => {}
                            () = sender.closed() => break,
                        }
                    } else {
                        permit.send(Ok(piece));
                    }
                }
                Err(error) => {
                    // A body that just ended would look whole.
                    permit.send(Err(error));
                    break;
                }
            }
        }
    });
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((text, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// Reads files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}
