//! What can go wrong between a client and its agent. Each is told whole: what caused it is in its own words, and no source of it, so that
//! it is not told twice.

use std::io;
use std::path::PathBuf;

use hyper::StatusCode;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent has answered, and it is a problem.
    #[error("{detail}{}", .hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})")))]
    Problem {
        /// The HTTP status.
        status: u16,
        /// What is wrong and what to do.
        detail: String,
        /// What may help, where that is not said yet.
        hint: Option<String>,
    },
    /// The sockets are there, for others.
    #[error(
        "you may not open the agent's sockets in {0}: their owner, group and mode are api.owner, api.group and api.mode of its \
         configuration, and its operator's to change"
    )]
    Forbidden(PathBuf),
    /// Standard input and output are not taken.
    #[error(
        "the agent takes no standard input and output of you: who may start something is in [api] of its configuration"
    )]
    StdioRefused,
    /// Standard input and output are not taken now.
    #[error(
        "the agent has no room for standard input and output now: too many commands that you have started run, or wait to be started; end \
         some, or try again later"
    )]
    StdioBusy,
    /// Nobody answers.
    #[error(
        "no agent answers in {directory}: {error} (start one with `bellows agent`, or name its directory with --runtime-dir)",
        directory = .directory.display()
    )]
    Unreachable {
        /// The runtime directory.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The connection broke off.
    #[error("{doing}: {error}")]
    BrokeOff {
        /// What it was used for.
        doing: &'static str,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was answered, or was to be asked, has another shape.
    #[error("the agent's answer is not understood (another version?): {0}")]
    NotUnderstood(serde_json::Error),
}

impl ClientError {
    /// Whether the agent, or its socket's mode, has decided: trying otherwise would not help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Problem { .. } | Self::Forbidden(_) | Self::StdioRefused)
    }

    /// Whether the agent is there and cannot serve now: it is stopping, or has too much to do.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let passing = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        matches!(self, Self::Problem { status, .. } if passing.iter().any(|code| code.as_u16() == *status))
    }

    /// Whether what was asked about is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Problem { status, .. } if *status == StatusCode::NOT_FOUND.as_u16())
    }
}
