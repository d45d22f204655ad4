//! The client's side of the API: HTTP over the agent's Unix socket.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Failure, NOT_FOUND, REFUSED};
use crate::api::types::Problem;
use crate::api::{API_SOCKET, STDIO_REFUSAL, STDIO_SOCKET};

/// A way to the agent; each request has a connection of its own.
#[derive(Debug, Clone)]
pub(super) struct Client {
    directory: PathBuf,
}

impl Client {
    pub(super) fn new(runtime_dir: &Path) -> Self {
        Self { directory: runtime_dir.to_owned() }
    }

    /// The agent's runtime directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        parse(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        parse(self.send(Method::POST, path, serde_json::to_vec(body)?.into()).await?).await
    }

    /// A request whose answer has no body.
    pub(super) async fn order(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        self.send(Method::POST, path, serde_json::to_vec(body)?.into()).await.map(drop)
    }

    /// A request whose answer is read as it comes.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Incoming> {
        Ok(self.send(Method::GET, path, Bytes::new()).await?.into_body())
    }

    /// Passes this process' standard input, output and error to the agent, or what stands for all three. The token is good as
    /// long as the second value lives.
    #[expect(clippy::needless_pass_by_value, reason = "it is closed here: only the workload is to have it")]
    pub(super) fn pass_stdio(&self, instead: Option<OwnedFd>) -> anyhow::Result<(String, StdStream)> {
        let path = self.directory.join(STDIO_SOCKET);
        let mut stream = StdStream::connect(&path).map_err(|e| self.unreachable(&e))?;
        let numbers: [RawFd; 3] = instead.as_ref().map_or([0, 1, 2], |fd| [fd.as_raw_fd(); 3]);
        let rights = [ControlMessage::ScmRights(&numbers)];
        let sent =
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::MSG_NOSIGNAL, None);
        // Whoever may start nothing finds the connection closed, and is told so where the token would be.
        if !matches!(sent, Err(Errno::EPIPE | Errno::ECONNRESET)) {
            sent.context(
                "cannot pass standard input, output and error to the agent (is one of them closed?)",
            )?;
        }
        let mut token = [0_u8; 33];
        stream.read_exact(&mut token).context("the agent gave no token for standard input and output")?;
        if token == *STDIO_REFUSAL {
            let text = "the agent takes no standard input and output of you: who may start something is in [api] of its configuration";
            bail!(Failure { text: text.to_owned(), code: REFUSED, is_passing: false });
        }
        Ok((String::from_utf8_lossy(&token).trim_end().to_owned(), stream))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Response<Incoming>> {
        let socket = self.directory.join(API_SOCKET);
        let stream = UnixStream::connect(&socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bellows")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await.context("the agent closed the connection")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let detail =
            serde_json::from_slice::<Problem>(&body).map_or_else(|_| status.to_string(), |p| p.detail);
        Err(anyhow!(Failure {
            text: detail,
            code: exit_code(status),
            is_passing: [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status),
        }))
    }

    fn unreachable(&self, error: &std::io::Error) -> anyhow::Error {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            let text = format!(
                "you may not open the agent's sockets in {}: their owner, group and mode are api.owner, api.group and api.mode of \
                 its configuration, and its operator's to change",
                self.directory.display()
            );
            return anyhow!(Failure { text, code: REFUSED, is_passing: false });
        }
        anyhow!(
            "no agent answers in {}: {error} (start one with `bellows agent`, or name its directory with --runtime-dir)",
            self.directory.display()
        )
    }
}

async fn parse<T: DeserializeOwned>(response: Response<Incoming>) -> anyhow::Result<T> {
    let body = response.into_body().collect().await.context("the agent's answer broke off")?.to_bytes();
    serde_json::from_slice(&body).context("the agent's answer is not understood (another version?)")
}

fn exit_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::NOT_FOUND => NOT_FOUND,
        StatusCode::CONFLICT
        | StatusCode::FORBIDDEN
        | StatusCode::INSUFFICIENT_STORAGE
        | StatusCode::UNPROCESSABLE_ENTITY => REFUSED,
        _ => 1,
    }
}
