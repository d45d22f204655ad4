//! The API: HTTP on a Unix socket for control, on loopback TCP for reading, and a second Unix socket that only takes
//! descriptors.
//!
//! ```text
//! api.sock    launch, apply, exec, stop, freeze, rm, signal, set, pin, release, logs, and everything that can be read; who asks is recorded
//! stdio.sock  three descriptors in, a token out; a launch names the token
//! tcp         GET only: /metrics /healthz /readyz /api/v1/{workloads,tenants,events,incidents,explain,watch,node,policies,doctor} and
//!             the console at /
//! ```
//! Both sockets have the mode and the owners of `[api]`, and its lists say who may do what: see `gate` and the part `access`.
//! The agent hands descriptors on and keeps none: its death breaks no pipe of a workload.

mod bounded;
mod connection;
mod console;
mod detached;
mod detail;
mod door;
mod exec;
mod explain;
mod exposition;
mod extract;
mod gate;
mod life;
mod logs;
pub mod manifest;
mod node;
mod openapi;
mod page;
mod routes;
mod since;
mod stdio;
mod stream;
pub mod types;
mod waits;
mod watch;
pub(crate) mod words;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

pub use self::node::{Ground, NodeView};
pub use self::openapi::document as openapi;
pub use self::since::{grace_of, seconds_of};
pub use self::stdio::{BUSY as STDIO_BUSY, REFUSAL as STDIO_REFUSAL};
use crate::access::{Access, Api};
use crate::control::Handle;

/// The control socket's file name in the runtime directory.
pub const API_SOCKET: &str = "api.sock";
/// The descriptor socket's file name in the runtime directory.
pub const STDIO_SOCKET: &str = "stdio.sock";

/// Streams that may be open at once over TCP, and on the control socket: each is worked out for its reader.
const STREAMS: [usize; 2] = [32, 256];

/// What is being served.
#[derive(Debug)]
pub struct Server {
    /// The TCP address, with the port that was really taken.
    pub address: SocketAddr,
    ending: tokio::sync::watch::Sender<bool>,
    tasks: Vec<JoinHandle<std::io::Result<()>>>,
    executing: exec::Executing,
}

impl Server {
    /// Takes no more requests and lets those under way have their answers, for a moment: followers of events never end, and commands beside
    /// workloads go on.
    pub async fn finish(self) {
        const MOMENT: Duration = Duration::from_millis(500);
        self.executing.leave();
        let _ = self.ending.send(true);
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(MOMENT, all).await;
    }
}

/// State shared by all requests.
#[derive(Debug, Clone)]
struct Shared {
    control: Handle,
    stdio: Arc<stdio::Tokens>,
    executing: exec::Executing,
    gate: Arc<gate::Gate>,
    scrapes: exposition::Scrapes,
    reading: waits::Reading,
    node: Arc<node::Node>,
    runtime_dir: Arc<Path>,
    /// Places for streams.
    streams: Arc<Semaphore>,
}

impl Shared {
    /// A place for a stream, for as long as it is held.
    #[expect(clippy::result_large_err, reason = "the answer, as handlers give it")]
    fn place(&self) -> Result<OwnedSemaphorePermit, Response> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let text = "as many streams as the agent keeps open are open";
            routes::hinted(StatusCode::SERVICE_UNAVAILABLE, text, "close another one, or try again later")
        })
    }
}

/// Opens all three listeners and serves them on the current runtime.
pub async fn serve(
    control: &Handle,
    runtime_dir: &Path,
    listen: SocketAddr,
    lists: &Api,
    ground: Ground,
) -> anyhow::Result<Server> {
    let access = Access::new(lists).map_err(|(key, text)| anyhow::anyhow!("{key}: {text}"))?;
    let gate = Arc::new(gate::Gate::new(access));
    let (executing, stdio, scrapes) =
        (exec::Executing::default(), Arc::default(), exposition::Scrapes::default());
    let (node, [tcp_streams, streams]) =
        (Arc::new(node::Node::new(ground)), STREAMS.map(Semaphore::new).map(Arc::new));
    let shared = Shared {
        control: control.clone(),
        stdio,
        executing,
        gate: Arc::clone(&gate),
        scrapes,
        reading: waits::Reading::default(),
        node,
        runtime_dir: runtime_dir.into(),
        streams,
    };
    let api = door::Door::new(bind(&runtime_dir.join(API_SOCKET), lists)?, Arc::clone(&gate));
    let descriptors = bind(&runtime_dir.join(STDIO_SOCKET), lists)?;
    let tcp = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (another agent? choose one with --listen)"))?;
    let address = tcp.local_addr()?;

    let (ending, _) = tokio::sync::watch::channel(false);
    let ended = || {
        let mut told = ending.subscribe();
        async move {
            let _ = told.wait_for(|ends| *ends).await;
        }
    };
    let executing = shared.executing.clone();
    let router = routes::control(shared.clone()).into_make_service_with_connect_info::<types::Peer>();
    let control = axum::serve(api, router).with_graceful_shutdown(ended());
    let tcp = bounded::Bounded::new(tcp);
    let reading = axum::serve(tcp, routes::reading(Shared { streams: tcp_streams, ..shared.clone() }))
        .with_graceful_shutdown(ended());
    let tasks = vec![tokio::spawn(control.into_future()), tokio::spawn(reading.into_future())];
    tokio::spawn(stdio::serve(descriptors, shared.stdio, gate));
    Ok(Server { address, ending, tasks, executing })
}

/// Binds a Unix socket, over a leftover of a dead agent. That none lives is certain: the tree is locked.
fn bind(path: &PathBuf, lists: &Api) -> anyhow::Result<UnixListener> {
    if path.exists() {
        fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    let (owner, group) = lists.owners().map_err(anyhow::Error::msg)?;
    // Its owner first: it is opened to nobody before that.
    chown(path, owner, group)
        .with_context(|| format!("cannot give {} to api.owner and api.group", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(lists.mode.0))?;
    Ok(listener)
}
