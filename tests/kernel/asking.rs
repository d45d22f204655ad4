//! Orders over the agent's socket without a process of its own for each: whoever wants to meet the moment of an order cannot wait
//! for a client to start.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bellows::api::types::LaunchRequest;
use bellows::workload::isolation::Isolation;
use bellows::workload::life::Life;
use bellows::workload::spec::{Asked, Spec};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::rig::PATIENCE;

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

/// One request on a connection of its own.
pub(crate) fn ask(runtime_dir: &Path, method: &str, path: &str, body: &str) -> Answer {
    let Ok(answer) = exchange(runtime_dir, method, path, body) else { return Answer::None };
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Answer::None };
    let length =
        head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    if length.is_some_and(|length| body.len() < length) {
        return Answer::None;
    }
    let is_done = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    if is_done { Answer::Done(body.to_owned()) } else { Answer::Refused(body.to_owned()) }
}

fn exchange(runtime_dir: &Path, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(runtime_dir.join("api.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: bellows\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    // Cut off in the middle: what has come tells.
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
}

/// What is to run: a command within bounds of memory.
pub(crate) fn spec(name: &str, memory: &str, isolation: Isolation, argv: &[&str]) -> Spec<Asked> {
    let memory = Some(memory.parse().expect("bounds"));
    let (tenant, name) = ("default".parse().expect("a name"), name.parse().expect("a name"));
    let identity = Asked { tenant, name, class: None, memory, cpu: None };
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
    let mut stream = UnixStream::connect(runtime_dir.join("stdio.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let numbers = [null.as_raw_fd(); 3];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"3")], &rights, MsgFlags::empty(), None)?;
    let mut token = [0; 33];
    stream.read_exact(&mut token)?;
    Ok((stream, String::from_utf8_lossy(&token).trim_end().to_owned()))
}
