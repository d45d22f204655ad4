//! The gate: every request passes it, and each that is refused is counted, and told in the journal with who asked.
//!
//! What a route needs is looked up by its pattern (`access::ROUTES`), so that no handler can forget to ask. What depends on what is in
//! a body, or on whose a record is, the handlers ask of the caller's `Rights`.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;
use super::routes::problem;
use super::types::Peer;
use crate::access::{Access, Accounts, Need, Rights, need};
use crate::journal::{Caller, Record, What};
use crate::kernel::clock;
use crate::workload::spec::{Asked, Name, Spec};

/// The largest request body: arguments and environment of a command, which the kernel bounds at 2 MiB.
const BODY: usize = 4 << 20;
/// That of a caller who is no operator, and may have many requests under way.
const LIMITED_BODY: usize = 1 << 20;

/// Who may do what, and how much of it they do just now.
#[derive(Debug)]
pub(super) struct Gate {
    access: Access,
    accounts: Accounts,
    /// Workloads, as `tenant/name`, whose launch by a tenant's caller is under way.
    launching: Mutex<HashSet<String>>,
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Arc<Gate>,
    user: Option<u32>,
}

/// A launch that is counted.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Arc<Gate>,
    name: String,
}

impl Gate {
    pub(super) fn new(access: Access) -> Self {
        Self { access, accounts: Accounts::default(), launching: Mutex::default() }
    }

    pub(super) fn rights(&self, caller: &Caller) -> Rights {
        self.access.rights(caller.uid, &caller.groups)
    }

    /// Takes a connection in; none is counted of an operator.
    pub(super) fn connect(self: &Arc<Self>, caller: &Caller) -> Result<Option<Ticket>, ()> {
        let rights = self.rights(caller);
        if rights.is_operator() {
            return Ok(None);
        }
        let user = account(caller, &rights);
        let ticket = || Ticket { gate: Arc::clone(self), user };
        self.accounts.connect(user, clock::now()).then(|| Some(ticket())).ok_or(())
    }

    fn launching(&self) -> MutexGuard<'_, HashSet<String>> {
        self.launching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.accounts.disconnect(self.user, clock::now());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gate.launching().remove(&self.name);
    }
}

/// Strangers share an account: there may be many of them.
fn account(caller: &Caller, rights: &Rights) -> Option<u32> {
    rights.is_named().then_some(caller.uid)
}

/// For requests of the control socket.
pub(super) async fn guard(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let Some(ConnectInfo(Peer(by))) = request.extensions().get::<ConnectInfo<Peer>>().cloned() else {
        return problem(StatusCode::FORBIDDEN, "who asks is not known");
    };
    if let Err(text) = by_a_page(&request) {
        shared.control.metrics.api_refused.inc();
        return problem(StatusCode::FORBIDDEN, text);
    }
    let rights = shared.gate.rights(&by);
    let pattern = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // What is no route is answered by nobody.
    let pattern = pattern.unwrap_or_default();
    let needed = if pattern.is_empty() { Need::Named } else { need(request.method().as_str(), &pattern) };
    let (tenant, name) = about(&pattern, request.uri().path());
    if !rights.is_operator() && !shared.gate.accounts.ask(account(&by, &rights), clock::now()) {
        shared.control.metrics.api_refused.inc();
        let text = "your user asks for more than the agent takes at a time: try again in a moment";
        return problem(StatusCode::TOO_MANY_REQUESTS, text);
    }
    if let Err(text) = rights.may(needed, tenant.as_deref()) {
        let workload = tenant.zip(name).map(|(tenant, name)| format!("{tenant}/{name}")).unwrap_or_default();
        return shared.refuse(&by, &rights, &workload, order(request.method().as_str(), &pattern), &text);
    }
    let most = if rights.is_operator() { BODY } else { LIMITED_BODY };
    DefaultBodyLimit::max(most).apply(&mut request);
    request.extensions_mut().insert(Arc::new(rights));
    next.run(request).await
}

/// For requests over TCP, of which nobody knows who asks: once it matters who does, the metrics alone are left.
pub(super) async fn guard_tcp(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let pattern = pattern.unwrap_or_default();
    let is_open = pattern == "/metrics" || need(request.method().as_str(), &pattern) == Need::Nothing;
    if shared.gate.access.has_lists() && !is_open {
        shared.control.metrics.api_refused.inc();
        let text = "who asks is not known here, and [api] names who may see what: ask on the control socket (curl --unix-socket)";
        return problem(StatusCode::FORBIDDEN, text);
    }
    if let (false, Err(text)) = (is_open, by_a_page(&request)) {
        shared.control.metrics.api_refused.inc();
        return problem(StatusCode::FORBIDDEN, text);
    }
    request.extensions_mut().insert(Arc::new(shared.gate.access.unknown()));
    next.run(request).await
}

/// A browser is lent to whatever page it shows. So no page may change anything here, and none may have its own name lead here, which
/// would make it one of ours: no public name is without a dot.
fn by_a_page(request: &Request) -> Result<(), &'static str> {
    if request.headers().contains_key(header::ORIGIN) && !request.method().is_safe() {
        return Err("a page in a browser may only read: use the command line");
    }
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("."));
    let is_ours = host.is_none_or(|host| {
        let name =
            host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
        !name.contains('.')
            || name.parse::<Ipv4Addr>().is_ok()
            || name.ends_with(".localhost")
            || is_own(name)
    });
    if is_ours {
        Ok(())
    } else {
        Err("this name may be anybody's: ask by the machine's address or by its own name")
    }
}

/// Whether this machine calls itself so.
fn is_own(name: &str) -> bool {
    nix::unistd::gethostname().is_ok_and(|own| own.to_str().is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

/// The tenant and the name in a path, by its pattern. As they are written: what is escaped is no name of ours, and nobody's.
fn about(pattern: &str, path: &str) -> (Option<String>, Option<String>) {
    let part = |wanted: &str| {
        let place = pattern.split('/').position(|part| part == wanted)?;
        path.split('/').nth(place)?.parse::<Name>().ok().map(String::from)
    };
    (part("{tenant}"), part("{name}"))
}

/// What is asked for, in the words of the journal.
fn order<'a>(method: &str, pattern: &'a str) -> &'a str {
    let mut words = pattern.rsplit('/').filter(|word| !word.starts_with('{'));
    match (method, words.next().unwrap_or_default()) {
        ("POST", "workloads") => "launch",
        (_, "") => "something",
        (_, word) => word,
    }
}

impl Shared {
    /// Refuses: counted, told, answered.
    pub(super) fn refuse(
        &self,
        by: &Arc<Caller>,
        rights: &Rights,
        workload: &str,
        order: &str,
        text: &str,
    ) -> Response {
        self.control.metrics.api_refused.inc();
        if self.gate.accounts.tell(account(by, rights), clock::now()) {
            self.control.tell_refused(workload, by, order, text);
        }
        problem(StatusCode::FORBIDDEN, text)
    }

    /// Whether this caller may have this started. The seat is to be held until it is in the table, or has failed.
    #[expect(clippy::result_large_err, reason = "the answer, as handlers give it")]
    pub(super) fn admit(
        &self,
        spec: &Spec<Asked>,
        by: &Arc<Caller>,
        rights: &Rights,
        order: &str,
    ) -> Result<Option<Seat>, Response> {
        let Asked { tenant, name, .. } = &spec.identity;
        let full = format!("{tenant}/{name}");
        rights.may_launch(spec).map_err(|text| self.refuse(by, rights, &full, order, &text))?;
        let Some(most) = rights.most_workloads(tenant.as_str()) else { return Ok(None) };
        let mut launching = self.gate.launching();
        let mut all: HashSet<String> =
            launching.iter().filter(|name| is_of(name, tenant.as_str())).cloned().collect();
        let table = self.control.table.list();
        all.extend(
            table
                .iter()
                .filter(|p| p.facts.tenant == tenant.as_str())
                .map(|p| format!("{tenant}/{}", p.facts.workload)),
        );
        let kept = self.control.kept.list();
        all.extend(
            kept.iter()
                .map(|kept| &kept.spec.identity)
                .filter(|identity| identity.tenant == *tenant)
                .map(|identity| format!("{tenant}/{}", identity.name)),
        );
        if !all.contains(&full) && all.len() >= most {
            drop(launching);
            let text = format!(
                "{tenant} has {most} workloads already, which is what its callers may have: forget some by `bellows rm`"
            );
            return Err(self.refuse(by, rights, &full, order, &text));
        }
        launching.insert(full.clone());
        Ok(Some(Seat { gate: Arc::clone(&self.gate), name: full }))
    }
}

/// Whether `tenant/name` is of this tenant.
pub(super) fn is_of(workload: &str, tenant: &str) -> bool {
    workload.split_once('/').is_some_and(|(of, _)| of == tenant)
}

/// The tenant of a record; none when it is about the node.
pub(super) fn tenant_of(record: &Record) -> Option<&str> {
    record.workload.split_once('/').map(|(tenant, _)| tenant)
}

/// A record as this caller may see it, whose tenant it sees: without the names of others.
pub(super) fn shown(record: &Arc<Record>, rights: &Rights) -> Arc<Record> {
    match &record.what {
        What::Squeezed { grip, waiter, hold_ms, evidence }
            if waiter.split_once('/').is_some_and(|(tenant, _)| !rights.sees(Some(tenant))) =>
        {
            let (grip, hold_ms, evidence) = (*grip, *hold_ms, *evidence);
            let what = What::Squeezed { grip, waiter: "another tenant".into(), hold_ms, evidence };
            Arc::new(Record { what, ..(**record).clone() })
        }
        _ => Arc::clone(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others() {
        let asked = |method: &str, host: &str, origin: &str| {
            let mut request = axum::http::Request::builder().method(method).uri("/api/v1/node");
            for (name, value) in
                [("host", host), ("origin", origin)].into_iter().filter(|(_, v)| !v.is_empty())
            {
                request = request.header(name, value);
            }
            by_a_page(&request.body(axum::body::Body::empty()).unwrap()).is_ok()
        };
        for host in [
            "",
            "bellows",
            "localhost:9464",
            "127.0.0.1:9464",
            "[::1]:9464",
            "[::1]",
            "node1",
            "a.localhost:1",
        ] {
            assert!(asked("GET", host, "") && asked("POST", host, ""), "{host}");
        }
        for host in ["rebound.example:9464", "127.0.0.1.example", "x.y", "."] {
            assert!(!asked("GET", host, "") && !asked("POST", host, ""), "{host}");
        }
        assert!(asked("GET", "localhost", "http://localhost:9464"));
        assert!(!asked("POST", "localhost", "http://localhost:9464"), "also the console's own");
        assert!(!asked("POST", "localhost", "null"));
    }

    #[test]
    fn what_a_request_is_about() {
        let pattern = "/api/v1/workloads/{tenant}/{name}/set";
        let said = |path: &str| about(pattern, path);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(said("/api/v1/workloads/acme/web/set"), (some("acme"), some("web")));
        assert_eq!(said("/api/v1/workloads/ac%6De/web/set").0, None, "nobody's");
        assert_eq!(about("/api/v1/explain/{id}", "/api/v1/explain/7"), (None, None));
        assert_eq!((order("POST", pattern), order("GET", "/api/v1/explain/{id}")), ("set", "explain"));
        assert_eq!((order("POST", "/api/v1/workloads"), order("GET", "")), ("launch", "something"));
        assert!(is_of("acme/web", "acme") && !is_of("acme2/web", "acme") && !is_of("", ""));
    }
}
