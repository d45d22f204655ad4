//! Orders over the agent's socket, of which it may not live to answer all.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bellows::api::types::LaunchRequest;
use bellows::workload::isolation::Isolation;
use bellows::workload::life::Life;
use bellows::workload::spec::{Asked, Spec};
use bellows_policies::Resources;
use bellows_tests::socket;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was carried out; the body.
    Done(String),
    /// It was not, and this is why.
    Refused(String),
    /// The agent was gone before it had answered.
    None,
}

/// One request.
pub(crate) fn ask(runtime_dir: &Path, method: &str, path: &str, body: &str) -> Answer {
    let Ok(socket::Answer { status, body, .. }) = socket::ask(runtime_dir, method, path, body) else {
        return Answer::None;
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    if status / 100 == 2 { Answer::Done(body) } else { Answer::Refused(body) }
}

/// What is to run: a command within bounds of memory.
pub(crate) fn spec(name: &str, memory: &str, isolation: Isolation, argv: &[&str]) -> Spec<Asked> {
    let memory = Some(memory.parse().expect("bounds"));
    let (tenant, name) = ("default".parse().expect("a name"), name.parse().expect("a name"));
    let identity = Asked { tenant, name, class: None, memory, cpu: None, resources: Resources::default() };
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    let env = vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    Spec { identity, argv, env, cwd: "/".to_owned(), isolation, life: Life::default() }
}

/// Asks for a launch; a detached one, or one with nothing to read and nobody who reads.
pub(crate) fn launch(runtime_dir: &Path, spec: Spec<Asked>, is_detached: bool) -> Answer {
    let held = if is_detached { None } else { token(runtime_dir).ok() };
    if held.is_none() && !is_detached {
        return Answer::None;
    }
    let stdio = held.as_ref().map(|(_, token)| token.clone());
    let body = serde_json::to_string(&LaunchRequest { spec, stdio }).expect("json");
    ask(runtime_dir, "POST", "/api/v1/workloads", &body)
}

/// Hands over `/dev/null` as standard input, output and error: a token, good for as long as the connection.
pub(crate) fn token(runtime_dir: &Path) -> io::Result<(UnixStream, String)> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    socket::hand_over(runtime_dir, [null.as_fd(); 3])
}
