//! `POST /api/v1/workloads/{tenant}/{name}/exec`: a command beside a workload. The answer comes when it has ended; a client that
//! goes away before takes its command along; an agent that ends does not.

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
use crate::control::Attended;
use crate::kernel::enter::Beside;
use crate::kernel::spawn::{self, Ended};
use crate::workload::isolation::Isolation;
use crate::workload::life::signal_problem;
use crate::workload::spec::{Name, command_problem};

/// Commands under way, by the token of their standard input and output.
#[derive(Debug, Clone, Default)]
pub(super) struct Executing(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    processes: HashMap<String, Arc<OwnedFd>>,
    /// The agent ends, and they go on.
    are_left: bool,
}

impl Executing {
    /// Leaves all of them to their clients, as an agent does that is killed.
    pub(super) fn leave(&self) {
        self.lock().are_left = true;
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
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
    let attended =
        shared.control.exec(tenant, name, command, !rights.is_operator(), by).await.map_err(refused)?;
    let listed = Listed::new(attended, stdio, shared.executing.clone());
    let code = listed.wait().await.map_err(|error| {
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
    let Some(process) = shared.executing.lock().processes.get(&token).map(Arc::clone) else {
        return Err(problem(StatusCode::NOT_FOUND, "no command with this token runs"));
    };
    spawn::signal(&process, request.signal)
        .map_err(|error| problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A command that is waited for, and found by its token meanwhile.
struct Listed {
    attended: Attended,
    token: String,
    executing: Executing,
}

impl Listed {
    fn new(attended: Attended, token: String, executing: Executing) -> Self {
        executing.lock().processes.insert(token.clone(), attended.process());
        Self { attended, token, executing }
    }

    async fn wait(mut self) -> std::io::Result<i32> {
        match self.attended.wait().await? {
            Some(Ended::Exited(code)) => Ok(code),
            Some(Ended::Signaled(signal)) => Ok(128 + signal),
            None => Err(std::io::Error::other("somebody else has waited for it")),
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut under_way = self.executing.lock();
        under_way.processes.remove(&self.token);
        if under_way.are_left {
            self.attended.leave();
        }
    }
}
