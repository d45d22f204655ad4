//! HTTP over the agent's Unix socket, a connection for each request; and standard input and output over the other one.

use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{ClientError, Result};
use crate::api::types::Problem;
use crate::api::{API_SOCKET, STDIO_BUSY, STDIO_REFUSAL, STDIO_SOCKET};

/// A way to the agent.
#[derive(Debug, Clone)]
pub struct Client {
    directory: PathBuf,
}

impl Client {
    /// To the agent whose runtime directory this is.
    #[must_use]
    pub fn new(runtime_dir: &Path) -> Self {
        Self { directory: runtime_dir.to_owned() }
    }

    /// The agent's runtime directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Passes this process' standard input, output and error to the agent, or what stands for all three, and for a command beside a
    /// workload a line to who waits for it. The token is good as long as the second value lives.
    #[expect(clippy::needless_pass_by_value, reason = "they are closed here: nobody else is to have them")]
    pub fn pass_stdio(&self, instead: Option<OwnedFd>, line: Option<OwnedFd>) -> Result<(String, StdStream)> {
        let path = self.directory.join(STDIO_SOCKET);
        let mut stream = StdStream::connect(&path).map_err(|e| self.unreachable(e))?;
        let stdio: [RawFd; 3] = instead.as_ref().map_or([0, 1, 2], |fd| [fd.as_raw_fd(); 3]);
        let numbers: Vec<RawFd> = stdio.into_iter().chain(line.as_ref().map(AsRawFd::as_raw_fd)).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let sent =
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::MSG_NOSIGNAL, None);
        // Whoever may start nothing finds the connection closed, and is told so where the token would be.
        if !matches!(sent, Err(Errno::EPIPE | Errno::ECONNRESET)) {
            sent.map_err(broke_off(
                "cannot pass standard input, output and error to the agent (is one of them closed?)",
            ))?;
        }
        let mut token = [0_u8; 33];
        stream
            .read_exact(&mut token)
            .map_err(broke_off("the agent gave no token for standard input and output"))?;
        if token == *STDIO_REFUSAL {
            return Err(ClientError::StdioRefused);
        }
        if token == *STDIO_BUSY {
            return Err(ClientError::StdioBusy);
        }
        Ok((String::from_utf8_lossy(&token).trim_end().to_owned(), stream))
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        parse(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        parse(self.send(Method::POST, path, json(body)?).await?).await
    }

    /// A request whose answer has no body.
    pub(super) async fn post_only(&self, path: &str, body: &impl Serialize) -> Result<()> {
        self.send(Method::POST, path, json(body)?).await.map(drop)
    }

    /// A request whose answer is read as it comes.
    pub(super) async fn stream(&self, path: &str) -> Result<Incoming> {
        Ok(self.send(Method::GET, path, Bytes::new()).await?.into_body())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        const LOST: &str = "the agent closed the connection";
        let socket = self.directory.join(API_SOCKET);
        let stream = UnixStream::connect(&socket).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke_off(LOST))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bellows")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(broke_off("this cannot be asked for"))?;
        let response = sender.send_request(request).await.map_err(broke_off(LOST))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(broke_off(LOST))?.to_bytes();
        let (detail, hint) = serde_json::from_slice::<Problem>(&body)
            .map_or_else(|_| (status.to_string(), None), |problem| (problem.detail, problem.hint));
        Err(ClientError::Problem { status: status.as_u16(), detail, hint })
    }

    fn unreachable(&self, error: std::io::Error) -> ClientError {
        let directory = self.directory.clone();
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return ClientError::Forbidden(directory);
        }
        ClientError::Unreachable { directory, error }
    }
}

fn json(body: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(body).map(Bytes::from).map_err(broke_off("this cannot be asked for"))
}

async fn parse<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
    let body = response.into_body().collect().await.map_err(broke_off("the agent's answer broke off"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(ClientError::NotUnderstood)
}

fn broke_off<E>(doing: &'static str) -> impl FnOnce(E) -> ClientError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error: E| ClientError::BrokeOff { doing, error: error.into() }
}
