//! The client's side of the API: whoever talks to an agent does it by this, verb by verb. No other file knows a path.
//!
//! | file | holds |
//! |---|---|
//! | `transport` | HTTP over the agent's Unix socket, and the way for standard input and output |
//! | `error` | what can go wrong, told so that it says what to do |

mod error;
mod transport;

use std::fmt::Write;

use hyper::body::Incoming;
use serde::Serialize;

pub use self::error::ClientError;
pub use self::transport::Client;
use crate::api::NodeView;
use crate::api::types::{
    ApplyRequest, ExecRequest, Executed, LaunchRequest, RecordExplained, Released, SignalRequest, TenantRow,
    WorkloadDetail, WorkloadExplained, WorkloadView,
};
use crate::control::{Ended, Launched};
use crate::journal::{Record, What};
use crate::workload::apply::ApplyPlan;

type Result<T> = std::result::Result<T, ClientError>;

/// Which records are wanted; all that is absent is not asked about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// An id, `5m`, `14:03`, or an instant of RFC 3339.
    pub since: Option<&'a str>,
    /// `tenant/name`.
    pub workload: Option<&'a str>,
    /// As the metrics spell it.
    pub reason: Option<&'a str>,
    /// So many, the newest.
    pub limit: Option<usize>,
}

impl Client {
    /// The node and its budget.
    pub async fn node(&self) -> Result<NodeView> {
        self.get("/api/v1/node").await
    }

    /// All workloads that may be seen.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>> {
        self.get("/api/v1/workloads").await
    }

    /// One of them, with what the kernel says of it now.
    pub async fn workload(&self, tenant: &str, name: &str) -> Result<WorkloadDetail> {
        self.get(&format!("/api/v1/workloads/{tenant}/{name}")).await
    }

    /// What a detached one has said, from its last `tail` lines or from its begin on, and with `follow` what it says until it has ended.
    pub async fn logs(&self, tenant: &str, name: &str, follow: bool, tail: Option<u64>) -> Result<Incoming> {
        let tail = tail.map(|lines| format!("&tail={lines}")).unwrap_or_default();
        self.stream(&format!("/api/v1/workloads/{tenant}/{name}/logs?follow={follow}{tail}")).await
    }

    /// All tenants that may be seen.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>> {
        self.get("/api/v1/tenants").await
    }

    /// What is kept of the journal.
    pub async fn events(&self, wanted: Wanted<'_>) -> Result<Vec<Record>> {
        self.get(&wanted.path(false)).await
    }

    /// The same, and what comes: server-sent events.
    pub async fn follow(&self, wanted: Wanted<'_>) -> Result<Incoming> {
        self.stream(&wanted.path(true)).await
    }

    /// Why a record is what it is.
    pub async fn explain_record(&self, id: u64) -> Result<RecordExplained> {
        self.get(&format!("/api/v1/explain/{id}")).await
    }

    /// How a workload fares, and why.
    pub async fn explain_workload(&self, tenant: &str, name: &str) -> Result<WorkloadExplained> {
        self.get(&format!("/api/v1/explain/{tenant}/{name}")).await
    }

    /// Starts a workload.
    pub async fn launch(&self, request: &LaunchRequest) -> Result<Launched> {
        self.post("/api/v1/workloads", request).await
    }

    /// Has a detached workload be as it is asked for.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<ApplyPlan> {
        self.post("/api/v1/apply", request).await
    }

    /// How the workload with this cgroup ended; answered when it has.
    pub async fn exit(&self, id: u64) -> Result<Ended> {
        self.get(&format!("/api/v1/exits/{id}")).await
    }

    /// An order to one workload that is told in the journal: `set`, `pin`, `unpin`, `stop`, `freeze`, `thaw`, `rm`.
    pub async fn order(&self, tenant: &str, name: &str, order: &str, what: &impl Serialize) -> Result<What> {
        self.post(&format!("/api/v1/workloads/{tenant}/{name}/{order}"), what).await
    }

    /// Sends a workload a signal.
    pub async fn signal(&self, tenant: &str, name: &str, signal: i32) -> Result<()> {
        let path = format!("/api/v1/workloads/{tenant}/{name}/signal");
        self.post_only(&path, &SignalRequest { signal }).await
    }

    /// Runs a command beside a workload; answered when it has ended.
    pub async fn exec(&self, tenant: &str, name: &str, request: &ExecRequest) -> Result<Executed> {
        self.post(&format!("/api/v1/workloads/{tenant}/{name}/exec"), request).await
    }

    /// Sends such a command a signal, by the token of its standard input and output.
    pub async fn signal_exec(&self, token: &str, signal: i32) -> Result<()> {
        self.post_only(&format!("/api/v1/execs/{token}/signal"), &SignalRequest { signal }).await
    }

    /// Opens all limits.
    pub async fn release(&self) -> Result<Released> {
        self.post("/api/v1/release", &()).await
    }
}

impl Wanted<'_> {
    fn path(self, follow: bool) -> String {
        let limit = self.limit.map(|limit| limit.to_string());
        let wanted = [
            ("since", self.since),
            ("workload", self.workload),
            ("reason", self.reason),
            ("limit", limit.as_deref()),
        ];
        let mut path = format!("/api/v1/events?follow={follow}");
        for (key, value) in wanted {
            if let Some(value) = value {
                let _ = write!(path, "&{key}={}", escape(value));
            }
        }
        path
    }
}

/// For a query: everything that might mean something there is escaped.
fn escape(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn values_are_escaped() {
        assert_eq!(escape("acme/web-1"), "acme/web-1");
        assert_eq!(escape("2026-07-01T14:03:07+02:00"), "2026-07-01T14:03:07%2B02:00");
        assert_eq!(escape("a&b=c"), "a%26b%3Dc");
    }
}
