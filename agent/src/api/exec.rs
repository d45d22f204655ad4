//! `POST /api/v1/workloads/{tenant}/{name}/exec`: a command beside a workload. The answer comes when it has ended; a client that
//! goes away before takes its command along.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{ConnectInfo, Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};

use super::Shared;
use super::extract::At;
use super::routes::{Body, problem, refused};
use super::stdio::Passed;
use super::types::{ExecRequest, Executed, Peer, SignalRequest};
use crate::access::Rights;
use crate::kernel::enter::Beside;
use crate::kernel::spawn::{self, Ended, Process};
use crate::workload::isolation::Isolation;
use crate::workload::life::signal_problem;
use crate::workload::spec::{Name, command_problem};

/// Commands under way, by the token of their standard input and output.
#[derive(Debug, Clone, Default)]
pub(super) struct Executing(Arc<Mutex<HashMap<String, Arc<OwnedFd>>>>);

impl Executing {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<OwnedFd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/workloads/{tenant}/{name}/exec", post(exec))
        .route("/api/v1/execs/{token}/signal", post(send_signal))
}

async fn exec(
    State(shared): State<Shared>,
    ConnectInfo(Peer(by)): ConnectInfo<Peer>,
    Extension(rights): Extension<Arc<Rights>>,
    At((tenant, name)): At<(Name, Name)>,
    Body(request): Body<ExecRequest>,
) -> Result<Json<Executed>, Response> {
    let ExecRequest { argv, env, cwd, stdio, terminal, user } = request;
    let isolation_problem = || Isolation { user: user.clone(), ..Isolation::default() }.problem();
    if let Some(text) = command_problem(&argv, &env, &cwd).or_else(isolation_problem) {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
    }
    let Some(Passed { stdio: descriptors, line }) = shared.stdio.claim(&stdio) else {
        let text = "the stdio token is not known: it is valid while its connection to stdio.sock is open";
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, text));
    };
    let isolation = Vec::new();
    let command = Beside { argv, env, cwd, isolation, terminal, user, stdio: descriptors, line };
    let process =
        shared.control.exec(tenant, name, command, !rights.is_operator(), by).await.map_err(refused)?;
    let guard = Guard::new(process, stdio, shared.executing.clone());
    let code = guard.wait().await.map_err(|error| {
        problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("how it ended is not known: {error}"))
    })?;
    Ok(Json(Executed { code }))
}

async fn send_signal(
    State(shared): State<Shared>,
    At(token): At<String>,
    Body(request): Body<SignalRequest>,
) -> Result<StatusCode, Response> {
    if let Some(text) = signal_problem(request.signal) {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, &text));
    }
    let Some(process) = shared.executing.lock().get(&token).map(Arc::clone) else {
        return Err(problem(StatusCode::NOT_FOUND, "no command with this token runs"));
    };
    spawn::signal(&process, request.signal)
        .map_err(|error| problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A command that is waited for. Dropped before its end, it is ended: nobody is there any more for what it says.
struct Guard {
    process: Arc<OwnedFd>,
    token: String,
    executing: Executing,
    has_ended: bool,
}

impl Guard {
    fn new(process: Process, token: String, executing: Executing) -> Self {
        let process = Arc::new(process.pidfd);
        executing.lock().insert(token.clone(), Arc::clone(&process));
        Self { process, token, executing, has_ended: false }
    }

    /// Waits for its end, on a thread of the runtime's pool for what blocks: that bounds how many are waited for at a time.
    async fn wait(mut self) -> std::io::Result<i32> {
        let process = Arc::clone(&self.process);
        let ended = tokio::task::spawn_blocking(move || spawn::wait(&process)).await;
        self.has_ended = true;
        match ended.map_err(std::io::Error::other)?? {
            Some(Ended::Exited(code)) => Ok(code),
            Some(Ended::Signaled(signal)) => Ok(128 + signal),
            None => Err(std::io::Error::other("somebody else has waited for it")),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.executing.lock().remove(&self.token);
        if !self.has_ended {
            // Who waits for it in the pool goes on, and reaps it.
            let _ = spawn::signal(&self.process, libc::SIGKILL);
        }
    }
}
